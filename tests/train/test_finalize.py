"""The end of a run: what is measured of a detector, and kept on its card."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
from madedetectors import network
from madestores import SIDE, pairs_store

from deepscan.datasets.dataset import read_samples
from deepscan.evaluate.calibration import visibility_limits as visibility
from deepscan.evaluate.robustness.attack_check import fit_attack_check
from deepscan.models.checkpoint import load_card
from deepscan.report.model_card import model_card_markdown
from deepscan.train import finalize as finish
from deepscan.train.finalize import finalize_detector
from deepscan.train.recipe import parse_recipe


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Two sources in every split: one with fakes, one without."""
    folder = tmp_path_factory.mktemp("made")
    mixed = read_samples(pairs_store(folder / "mixed", n=60)).samples
    reals = read_samples(pairs_store(folder / "reals", n=20, seed=1)).samples
    named = [replace(sample, source="mixed") for sample in mixed]
    named += [replace(sample, source="reals", id=f"other/{sample.id}") for sample in reals if not sample.label]
    whole = read_samples([folder / "mixed", folder / "reals"])
    return replace(whole, samples=tuple(named))


def test_a_source_with_fakes_is_measured_by_itself(samples, tmp_path):
    made = network()
    recipe = parse_recipe({"name": "made", "model": made.settings.model_dump(), "crop": {"size_px": SIDE}})
    finalize_detector(recipe, made, samples, tmp_path / "run")
    card = load_card(tmp_path / "run")
    parts = [evaluation["part"] for evaluation in card.evaluations]
    assert parts == ["val", "mixed: val, files with a usable face", "test", "mixed: test, files with a usable face"]
    pooled, alone = card.evaluations[:2]
    assert {row["source"] for row in pooled["answers"]} == {"mixed", "reals"}
    assert {row["source"] for row in alone["answers"]} == {"mixed"}
    assert {"AUC, mixed, reals val", "AUC, mixed val", "AUC, mixed test"} <= set(card.metrics)
    assert card.metrics["AUC, mixed val"].n < card.metrics["AUC, mixed, reals val"].n
    assert not any(", reals " in name.replace("mixed, reals", "") for name in card.metrics)


def test_files_without_a_face_count_where_it_is_known(samples, tmp_path):
    made = network()
    recipe = parse_recipe({"name": "made", "model": made.settings.model_dump(), "crop": {"size_px": SIDE}})
    missing = Counter({("val", 0, "no_face"): 5, ("test", 1, "no_face"): 7, ("train", 1, "no_face"): 1000})
    finalize_detector(recipe, made, replace(samples, without=missing), tmp_path / "run")
    pooled, alone, test, _ = load_card(tmp_path / "run").evaluations
    n = pooled["figures"]["auc"]["n"]
    assert pooled["figures"]["scored"]["value"] == pytest.approx(n / (n + 5), abs=1e-4)
    assert "scored" not in alone["figures"]
    n = test["figures"]["auc"]["n"]
    assert test["figures"]["scored"]["value"] == pytest.approx(n / (n + 7), abs=1e-4)


def test_what_a_detector_must_see_is_fitted_and_on_its_card(samples, tmp_path, monkeypatch):
    made = network()
    recipe = parse_recipe({"name": "made", "model": made.settings.model_dump(), "crop": {"size_px": SIDE}})
    finalize_detector(recipe, made, samples, tmp_path / "few")
    card = load_card(tmp_path / "few")
    assert card.visibility is None
    assert any("seen too badly" in note for note in card.training["calibration_notes"])
    monkeypatch.setattr(visibility, "FEWEST", 5)
    monkeypatch.setattr(visibility, "STEPS", {"luma": (("darken", (0.05,)),)})
    finalize_detector(recipe, made, samples, tmp_path / "run")
    card = load_card(tmp_path / "run")
    assert card.visibility.luma >= 16
    assert "`too_dark`" in model_card_markdown(card)


@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_a_check_for_attacks_is_fitted_where_there_are_enough_people(samples, tmp_path, monkeypatch, rate):
    made = network()
    recipe = parse_recipe({"name": "made", "model": made.settings.model_dump(), "crop": {"size_px": SIDE}})
    monkeypatch.setattr(finish, "fit_attack_check", partial(fit_attack_check, rate=rate))
    finalize_detector(recipe, made, samples, tmp_path / "run")
    card = load_card(tmp_path / "run")
    notes = [note for note in card.training["calibration_notes"] if "check for attacked input" in note]
    if rate == 0.02:  # 28 people are too few
        assert card.attack_check is None
        assert len(notes) == 1
    else:
        assert min(card.attack_check.limits.values()) > 0
        assert card.attack_check.false_positive_rate == rate
        assert notes == []
