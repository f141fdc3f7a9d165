"""Making an ensemble from validation data: shares on one half of the groups, calibration on the other."""

from __future__ import annotations

import numpy as np
import pytest
from madedetectors import save, stripe_logits
from madestores import pairs_store

from deepscan.config import CalibrationSettings, CropSettings, PredictSettings
from deepscan.datasets.dataset import read_samples
from deepscan.detector import load_detector
from deepscan.errors import ConfigError, OutputError
from deepscan.evaluate.calibration import fit_ensemble as combine
from deepscan.evaluate.calibration import visibility_limits as visibility
from deepscan.evaluate.calibration.fit_ensemble import Fitting, combine_detectors, fit_weights
from deepscan.evaluate.evaluation import evaluate
from deepscan.evaluate.robustness.attack_check import squeeze_changes
from deepscan.evaluate.training_groups import write_groups
from deepscan.models.checkpoint import load_card
from deepscan.models.ensemble import open_detector
from deepscan.models.feature_squeezing import disagreements
from deepscan.models.runtime_scorer import make_scorer
from deepscan.models.scorer import torch_scorer
from deepscan.types import Score


@pytest.fixture(autouse=True)
def no_limits_of_visibility(monkeypatch):
    """Their fitting takes thousands of encodes, and is tested by itself."""
    monkeypatch.setattr(visibility, "FEWEST", 1000)


# Shares


def drawn(n=400, seed=0):
    rng = np.random.default_rng(seed)
    return rng, np.arange(n) % 2


def test_the_better_of_two_gets_the_larger_share():
    rng, y = drawn()
    logits = np.stack([2 * y - 1 + rng.normal(0, 0.5, len(y)), 2 * y - 1 + rng.normal(0, 2, len(y))], axis=1)
    shares = fit_weights(logits, y)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] > 0.75 > shares[1] > 0


def test_members_that_are_wrong_get_nothing_and_none_is_turned_around():
    rng, y = drawn()
    good = 2 * y - 1 + rng.normal(0, 1, len(y))
    shares = fit_weights(np.stack([good, -3 * good + rng.normal(0, 1, len(y))], axis=1), y)
    np.testing.assert_allclose(shares, [1, 0], atol=1e-6)


def test_alike_members_share_alike_and_few_inputs_single_out_none():
    rng, y = drawn()
    signal = rng.normal(0, 1, (len(y), 2)) + (2 * y - 1)[:, None]
    logits = np.concatenate([signal, signal[:, ::-1]])  # symmetric in the two members
    labels = np.concatenate([y, y])
    np.testing.assert_allclose(fit_weights(logits, labels), [0.5, 0.5], atol=1e-3)
    few = np.array([[3.0, 1.0], [-3.0, 1.0]])
    once, often = fit_weights(few, [1, 0])[0], fit_weights(np.repeat(few, 200, axis=0), np.repeat([1, 0], 200))[0]
    assert 0.5 < once < 0.7 < often


def test_useless_members_share_equally(caplog):
    rng, y = drawn()
    logits = -(2.0 * y - 1)[:, None] + rng.normal(0, 0.1, (len(y), 3))
    np.testing.assert_allclose(fit_weights(logits, y), [1 / 3] * 3)
    assert "equal" in caplog.text


@pytest.mark.parametrize("labels", [[], [1, 1], [0, 0]])
def test_one_class_cannot_be_fitted(labels):
    with pytest.raises(ConfigError, match="both reals and fakes"):
        fit_weights(np.zeros((len(labels), 2)), labels)


# From detectors and data to a detector


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return read_samples(pairs_store(tmp_path_factory.mktemp("made"), n=80, split="val"))


@pytest.fixture
def members(tmp_path):
    return [save(tmp_path / "good"), save(tmp_path / "poor", backbone="meso4", seed=1)]


class Stripes:
    """A member that sees the artefact."""

    def score(self, sequences):
        return [Score(float(stripe_logits(crops).mean()), stripe_logits(crops)) for crops in sequences]


@pytest.fixture
def knowing(monkeypatch):
    """The member called "good" sees the artefact while shares are fitted."""
    create = combine.torch_scorer

    def scorer(networks, **options):
        return Stripes() if networks.card.name == "good" else create(networks, **options)

    monkeypatch.setattr(combine, "torch_scorer", scorer)


def test_the_better_member_gets_the_larger_share(tmp_path, members, samples, knowing):
    told = []
    made = combine_detectors(
        tmp_path / "all",
        members,
        name="both",
        fitting=Fitting(samples, name="made val", tta=False, on_progress=lambda *at: told.append(at)),
    )
    assert made.card == load_card(tmp_path / "all")
    good, poor = (member.weight for member in made.card.members)
    assert good > 0.8 > poor
    assert good + poor == pytest.approx(1)
    assert made.card.training["shares"].startswith("fitted on half of the groups of made val")
    halves = [int(made.card.training[key].split()[-2]) for key in ("shares", "calibrated_on")]
    assert sum(halves) == 160
    assert min(halves) > 40
    assert {name for name, _, _ in told} == {"good", "poor"}
    assert told[-1][1:] == (160, 160)
    calibration = made.card.calibration
    assert 0 < calibration.uncertain_low <= calibration.threshold <= calibration.uncertain_high < 1
    # What was fitted is what it answers with.
    networks = open_detector(tmp_path / "all")
    assert networks.card.calibration == calibration
    assert len(networks.parts) == 2


def test_a_check_for_attacks_is_fitted_on_what_calibrates(tmp_path, members, samples):
    made = combine_detectors(tmp_path / "all", members, name="x", fitting=Fitting(samples, tta=False), equal=True)
    check = made.card.attack_check
    assert check is not None
    assert load_card(tmp_path / "all").attack_check == check
    # By its own scores: the rate is that of the ensemble, with or without a neighbour.
    networks = open_detector(tmp_path / "all")
    card = networks.card
    moved = squeeze_changes(torch_scorer(networks, tta=False), card, check, samples)
    assert len(moved) == 160
    fired = [(changes >= list(check.limits.values())).any() for _, changes in moved]
    assert sum(fired) <= check.false_positive_rate * 160
    # And it is made when videos are judged, with the features of all members.
    detector = load_detector(tmp_path / "all", PredictSettings(tta=False, attack_check=True))
    size_px = card.crop.size_px
    crops = np.random.default_rng(0).integers(0, 256, (3, size_px, size_px, 3), np.uint8)
    assert detector.disagreements([crops])[0] > 0
    scorer, _ = make_scorer(networks, detector.settings)
    (moves,) = disagreements(scorer, [crops], card.calibration, check)
    known = disagreements(scorer, [crops], card.calibration, check, [scorer.features(crops)])
    assert known == pytest.approx([moves], rel=1e-3)


def test_what_an_ensemble_must_see_is_fitted_by_its_own_scores(tmp_path, members, samples, monkeypatch):
    monkeypatch.setattr(visibility, "FEWEST", 50)
    monkeypatch.setattr(visibility, "STEPS", {"luma": (("darken", (0.05,)),)})
    made = combine_detectors(tmp_path / "all", members, name="x", fitting=Fitting(samples, tta=False), equal=True)
    assert made.card.visibility.luma >= 16
    assert load_card(tmp_path / "all").visibility == made.card.visibility


def test_few_people_give_no_check(tmp_path, members, samples):
    few = samples.where(lambda sample: sample.group < "p010")
    made = combine_detectors(tmp_path / "all", members, name="x", fitting=Fitting(few, tta=False), equal=True)
    assert made.card.attack_check is None
    assert any("cannot carry a check for attacked input" in warning for warning in made.warnings)


@pytest.mark.parametrize(("options", "shares"), [({"equal": True}, [0.5, 0.5]), ({"weights": [1, 3]}, [0.25, 0.75])])
def test_shares_that_are_not_fitted_leave_all_data_for_the_calibration(tmp_path, members, samples, options, shares):
    made = combine_detectors(tmp_path / "all", members, name="x", fitting=Fitting(samples, tta=False), **options)
    assert [member.weight for member in made.card.members] == pytest.approx(shares)
    assert made.card.training["calibrated_on"] == "the data, 160 people"
    found = evaluate(load_detector(tmp_path / "all"), samples, resamples=0)
    assert found.coverage()["scored"] == 160


def test_the_promise_is_kept_on_the_data_it_was_fitted_on(tmp_path, members, samples, knowing):
    promise = CalibrationSettings(error_rate=0.1)
    made = combine_detectors(
        tmp_path / "all", members, name="x", fitting=Fitting(samples, calibration=promise), equal=True
    )
    figures = made.card.training["calibration"]["figures"]
    assert figures["real_called_fake"] <= 0.1
    assert figures["fake_called_real"] <= 0.1


def test_without_data_nothing_is_fitted(tmp_path, members):
    made = combine_detectors(tmp_path / "all", members, name="x")
    assert [member.weight for member in made.card.members] == [0.5, 0.5]
    assert (made.card.training["shares"], made.card.training["calibration"]) == ("equal", "none")
    given = combine_detectors(tmp_path / "given", members, name="x", weights=[1, 0])
    assert [member.weight for member in given.card.members] == [1, 0]


def test_a_member_without_a_share_changes_nothing(tmp_path, members, samples):
    combine_detectors(tmp_path / "all", members, name="x", weights=[1, 0])
    part = samples.where(lambda sample: sample.group < "p003")
    one, both = (evaluate(load_detector(f), part, resamples=0) for f in (members[0], tmp_path / "all"))
    assert [v.probability for v in both.videos] == pytest.approx([v.probability for v in one.videos], abs=1e-6)


def test_too_little_data_promises_nothing(tmp_path, members, samples):
    few = samples.where(lambda sample: sample.group < "p010")
    made = combine_detectors(tmp_path / "all", members, name="x", fitting=Fitting(few), equal=True)
    assert (made.card.calibration.uncertain_low, made.card.calibration.uncertain_high) == (0, 1)
    assert any("cannot carry the promise" in warning for warning in made.warnings)


def test_data_that_trained_a_member_is_told(tmp_path, members, samples):
    write_groups(members[1], [("made", "p001"), ("made", "p002"), ("made", "elsewhere")])
    part = samples.where(lambda sample: sample.group < "p010")
    made = combine_detectors(tmp_path / "all", members, name="x", fitting=Fitting(part), equal=True)
    assert any("poor was trained on 2 of the 10 groups" in warning for warning in made.warnings)


def test_refusals_come_before_the_work(tmp_path, members, samples, monkeypatch):
    monkeypatch.setattr(combine, "score_samples", lambda *_, **__: pytest.fail("scored"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match="something else"):
        combine_detectors(tmp_path / "full", members, name="x", fitting=Fitting(samples))
    with pytest.raises(ConfigError, match="Invalid weights"):
        combine_detectors(tmp_path / "all", members, name="x", fitting=Fitting(samples), weights=[1])
    other = save(tmp_path / "other", seed=7, crop=CropSettings(size_px=32, margin=0.4))
    with pytest.raises(ConfigError, match="different rules"):
        combine_detectors(tmp_path / "all", [members[0], other], name="x", fitting=Fitting(samples))
    large = [save(tmp_path / f"large{n}", seed=n, crop=CropSettings(size_px=64)) for n in (5, 6)]
    with pytest.raises(ConfigError, match="too small"):
        combine_detectors(tmp_path / "all", large, name="x", fitting=Fitting(samples))
    assert not (tmp_path / "all").exists()


def test_one_class_alone_cannot_be_fitted(tmp_path, members, samples):
    reals = samples.where(lambda sample: sample.label == 0 and sample.group < "p010")
    with pytest.raises(ConfigError, match="both reals and fakes"):
        combine_detectors(tmp_path / "all", members, name="x", fitting=Fitting(reals))
    assert not (tmp_path / "all").exists()
