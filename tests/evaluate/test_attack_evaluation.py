"""What attacks do to a detector, measured: figures, defences, the check, transfer, and the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from madedetectors import NO_TTA, card, network, save
from madestores import pairs_store
from typer.testing import CliRunner

from deepscan.cli import app
from deepscan.config import CropSettings
from deepscan.datasets.dataset import read_samples
from deepscan.detector import Detector, load_detector
from deepscan.errors import ConfigError
from deepscan.evaluate.robustness.attack_check import fit_attack_check, has_fired, squeeze_changes, threshold_for
from deepscan.evaluate.robustness.attack_evaluation import AttackMeasure, rescaled
from deepscan.evaluate.robustness.attack_tables import draw_curves, to_markdown
from deepscan.evaluate.robustness.attacks import Attack
from deepscan.models.card import AttackCheck, Calibration
from deepscan.models.checkpoint import load_card
from deepscan.models.ensemble import Networks
from deepscan.models.ensemble_folder import save_ensemble
from deepscan.models.scorer import torch_scorer

CHECK = AttackCheck(limits={"bits": 0.5, "median": 0.5})
TWO = [Attack(name="fgsm", budget=1), Attack(name="fgsm", budget=16)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pairs_store(tmp_path_factory.mktemp("made") / "store", n=20, length=2)


@pytest.fixture(scope="module")
def samples(folder):
    return read_samples(folder)


def needs_toolbox():
    pytest.importorskip("art", reason="the Adversarial Robustness Toolbox is optional")


@pytest.fixture(scope="module")
def seeing(samples):
    """A detector that tells the made fakes from the reals: random weights that happen to do the opposite, turned."""
    made = network()
    last = made.classifier[-1]
    with torch.no_grad():
        last.weight.neg_()
        last.bias.neg_()
    scorer = torch_scorer(Networks.of(made, card()), tta=False)
    middle = np.median([scorer.score([sample.crops([0, 1], 32)])[0].video_logit for sample in samples.samples])
    calibration = Calibration(scale=1.0, bias=-float(middle), uncertain_low=0.45, uncertain_high=0.55)
    return lambda **changes: Detector(Networks.of(made, card(calibration=calibration, **changes)), NO_TTA)


def detector(**changes):
    return Detector(Networks.of(network(), card(**changes)), NO_TTA)


def measured(judge, samples, attacks=TWO, **options):
    measure = AttackMeasure(judge, samples, attacks, **options)
    for _ in measure.run():
        pass
    return measure.evaluation(["made"], resamples=50)


def figures(found, which, defence="tta"):
    rows = [row for row in found.rows if row.defence == defence]
    return rows[which].figures


# The check is fitted


def test_the_threshold_keeps_the_rate_and_no_more():
    moved = np.random.default_rng(0).permutation(np.arange(1.0, 201.0))
    threshold = threshold_for(moved, 0.02)
    assert sum(value >= threshold for value in moved) == 3
    assert threshold_for(moved[:48], 0.02) is None
    assert threshold_for(moved[:49], 0.02) is not None


def test_a_detector_gets_a_check_from_clean_people(samples):
    made = network()
    scorer = torch_scorer(Networks.of(made, card()))
    check, why = fit_attack_check(scorer, card(), samples, rate=0.1)
    assert why is None
    moved = [own for _, own in squeeze_changes(scorer, card(), check, samples)]
    assert len(moved) == len(samples)
    assert sum(has_fired(own, check) for own in moved) == 3
    assert set(check.limits) == {"bits", "median", "denoise"}
    assert check.false_positive_rate == 0.1
    none, why = fit_attack_check(scorer, card(), samples, rate=0.001)
    assert none is None
    assert "999 are needed" in why


# Figures


def test_more_budget_deceives_more_and_the_check_is_counted(samples, seeing):
    needs_toolbox()
    found = measured(seeing(attack_check=CHECK), samples, seed=3)
    assert (found.people, found.planned, found.groups) == (40, 40, 20)
    clean, weak, strong = (figures(found, which, "none") for which in range(3))
    assert clean["auc"].value > weak["auc"].value >= strong["auc"].value
    assert 0 < weak["success"].value <= strong["success"].value
    assert "success" not in clean
    assert clean["auc"].n == 40
    assert {"flagged", "wrong_unflagged"} <= set(figures(found, 0))
    assert {"flagged", "flagged_successes", "wrong_unflagged"} <= set(figures(found, 2))
    assert "flagged" not in strong
    for row in found.rows:
        wrong, left = row.figures["wrong"].value, row.figures.get("wrong_unflagged")
        assert left is None or left.value <= wrong


@pytest.mark.usefixtures("full_precision")
def test_the_clean_rows_are_those_of_an_evaluation(samples, seeing):
    from deepscan.evaluate.evaluation import evaluate

    needs_toolbox()
    judge = seeing()
    ours = figures(measured(judge, samples), 0, "none")
    theirs = evaluate(judge, samples, resamples=50).video
    for name in ("auc", "fpr", "fnr", "coverage"):
        assert ours[name].value == pytest.approx(theirs[name].value, abs=1e-6)


def test_without_a_check_none_is_told(samples):
    needs_toolbox()
    found = measured(detector(), samples, TWO[:1], limit=8)
    assert found.people == 8
    assert "flagged" not in figures(found, 1)
    assert "no check for attacked input" in to_markdown(found)


def test_the_same_seed_gives_the_same_figures(samples):
    needs_toolbox()
    attacks = [Attack(name="pgd", budget=2, steps=2)]
    one, same, other = (measured(detector(), samples, attacks, limit=12, seed=seed) for seed in (1, 1, 2))
    assert one.to_dict() == same.to_dict()
    assert one.to_dict()["rows"] != other.to_dict()["rows"]


def test_attacks_are_carried_over(samples, seeing):
    needs_toolbox()
    source = Detector(Networks.of(network(seed=1), card(name="other")), NO_TTA)
    found = measured(seeing(), samples, TWO[1:], transfer_from=source, limit=16)
    assert [str(row.condition) for row in found.rows[::3]] == ["clean", "fgsm 16", "fgsm 16, made on other"]
    assert found.to_dict()["made_on"]["name"] == "other"
    assert figures(found, 1, "none")["success"].value > figures(found, 2, "none")["success"].value


def test_interrupted_it_tells_of_those_who_are_done(samples):
    needs_toolbox()
    measure = AttackMeasure(detector(), samples, TWO[:1])
    next(measure.run())
    found = measure.evaluation(resamples=0)
    assert 0 < found.people < found.planned == 40
    assert "Interrupted: 40 people were planned." in to_markdown(found)


def test_ensembles_are_attacked_through_a_member_alone(samples, tmp_path):
    needs_toolbox()
    parts = [save(tmp_path / name, seed=seed) for seed, name in enumerate(("a", "b"))]
    save_ensemble(tmp_path / "both", parts, name="both")
    both = load_detector(tmp_path / "both", NO_TTA)
    with pytest.raises(ConfigError, match="--transfer-from"):
        AttackMeasure(both, samples, TWO)
    found = measured(both, samples, TWO[1:], transfer_from=load_detector(parts[0], NO_TTA), limit=16)
    assert [row.condition.made_on for row in found.rows[::3]] == [None, "a"]
    with pytest.raises(ConfigError, match="is an ensemble"):
        AttackMeasure(detector(), samples, TWO, transfer_from=both)


def test_crops_of_another_rule_are_refused(samples):
    with pytest.raises(ConfigError, match="another rule"):
        AttackMeasure(detector(crop=CropSettings(size_px=32, margin=0.5)), samples, TWO)


def test_rescaled_crops_are_nearly_the_same():
    crops = np.full((2, 3, 32, 32, 3), 100, np.uint8)
    crops[..., 8:24, 8:24, :] = 200
    rng = np.random.default_rng(0)
    found = rescaled(crops, rng)
    assert (found.shape, found.dtype) == (crops.shape, crops.dtype)
    assert np.abs(found.astype(int) - crops).mean() < 8
    assert (found != rescaled(crops, rng)).any()


# The command


def run(*arguments):
    return CliRunner().invoke(app, ["attack", *map(str, arguments)])


def test_the_command_writes_figures_table_and_curves(folder, tmp_path):
    needs_toolbox()
    made = save(tmp_path / "made", attack_check=CHECK)
    other = save(tmp_path / "other", seed=1)
    out = tmp_path / "out"
    result = run(
        "--model", made, "--data", folder, "--split", "val", "--budgets", "1,4", "--steps", "2",
        "--transfer-from", other, "--limit", "6", "--resamples", "20", "--device", "cpu", "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    content = json.loads((out / "attack.json").read_text())
    assert content["schema"] == "deepscan.attack/1"
    assert content["people"] == 6
    assert len(content["rows"]) == 3 * (1 + 2 * 4)
    assert (out / "attack.md").read_text() == result.stdout
    assert "| pgd 4, made on other |" in result.stdout
    assert (out / "attack.png").read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_leaves_what_was_measured(folder, tmp_path, monkeypatch):
    needs_toolbox()
    whole = AttackMeasure.run

    def interrupted(self):
        yield next(whole(self))
        raise KeyboardInterrupt

    monkeypatch.setattr(AttackMeasure, "run", interrupted)
    made = save(tmp_path / "made")
    result = run(
        "--model", made, "--data", folder, "--attacks", "fgsm", "--budgets", "4", "--resamples", "0",
        "--device", "cpu", "--out", tmp_path / "out",
    )  # fmt: skip
    assert result.exit_code == 130
    content = json.loads((tmp_path / "out" / "attack.json").read_text())
    assert 0 < content["people"] < content["planned"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--attacks", "cw"), ("--attacks", ""), ("--budgets", "0,4"), ("--budgets", "a"), ("--knows", "everything")],
)
def test_wrong_lists_are_told(folder, tmp_path, option, value):
    result = run("--data", folder, "--out", tmp_path / "out", option, value)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_a_picture_of_nothing_but_clean_people(samples, tmp_path):
    needs_toolbox()
    found = measured(detector(), samples, [], limit=4)
    draw_curves(found, tmp_path / "x.png")
    assert (tmp_path / "x.png").exists()


def test_a_card_keeps_its_check(tmp_path):
    made = save(tmp_path / "made", attack_check=CHECK)
    assert load_card(made).attack_check == CHECK
