"""Fitting what a detector must see: limits come from where it errs, spare what is as it was, and are on the card."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from madedetectors import StripeDetector, card, stripe_logits
from madestores import pairs_store

from deepscan.config import PredictSettings
from deepscan.datasets.dataset import read_samples
from deepscan.evaluate.calibration import visibility_limits as visibility
from deepscan.evaluate.calibration.visibility_limits import fit_visibility
from deepscan.models.card import Calibration
from deepscan.types import Score

SHARP = Calibration(threshold=0.5, uncertain_low=0.4, uncertain_high=0.6)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return read_samples(pairs_store(tmp_path_factory.mktemp("made"), n=60, split="val"))


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    steps = {"luma": (("darken", (0.05,)),), "sharpness": (("blur", (0.5, 8)),), "face_px": (("rescale", (0.25,)),)}
    monkeypatch.setattr(visibility, "STEPS", steps)


class Fooled(StripeDetector):
    """Calls everything fake that is softer than the made faces are."""

    def score(self, sequences):
        soft = [np.median(np.abs(np.diff(crops[:, :4].astype(float), axis=2))) < 2 for crops in sequences]
        logits = [stripe_logits(crops) for crops in sequences]
        return [Score(9.0 if one else float(own.mean()), own) for one, own in zip(soft, logits, strict=True)]


def fitted(detector, samples, **options):
    return fit_visibility(detector.score, card(calibration=SHARP), samples, **{"rate": 0.05, **options})


def test_where_blur_makes_reals_fake_there_is_a_limit_of_sharpness(samples):
    limits, notes = fitted(Fooled(), samples)
    assert notes == []
    assert limits.sharpness > 0
    people = visibility.chosen_people(samples)
    crops = [sample.crops([0], 32) for sample in people]
    scorer, model = Fooled(), card(calibration=SHARP)
    as_it_was = visibility.measured(scorer.score, model, people, crops, None, 0)
    blurred = visibility.measured(scorer.score, model, people, crops, ("blur", 8), 0)
    assert as_it_was.visible(limits).mean() >= 0.95
    real = np.array([sample.label == 0 for sample in people])
    assert (blurred.probabilities[real] > 0.6).mean() > 0.9  # without a limit these would be called fake
    assert (blurred.visible(limits) & real).sum() <= 0.05 * real.sum()


def test_what_tells_reals_from_fakes_no_longer_is_hidden_even_if_nobody_is_called_fake(samples):
    # Blurred fakes have no stripes left: all are called real, and the two look the same.
    limits, _ = fitted(StripeDetector(), samples)
    assert limits.sharpness > 0


def test_a_detector_that_blur_does_not_harm_has_no_limit_of_it(samples, monkeypatch):
    monkeypatch.setattr(visibility, "STEPS", {"sharpness": (("blur", (0.3,)),)})
    limits, notes = fitted(StripeDetector(), samples)
    assert (limits.sharpness, limits.luma, notes) == (0, 16, [])


def test_a_limit_spares_what_is_as_it_was_and_says_what_that_leaves(samples, monkeypatch):
    monkeypatch.setattr(visibility, "STEPS", {"detail": (("gamma-down", (0.9,)),)})

    class Always(StripeDetector):
        def score(self, sequences):
            return [Score(9.0, np.full(len(crops), 9.0)) for crops in sequences]

    limits, (note,) = fitted(Always(), samples)
    people = visibility.chosen_people(samples)
    as_it_was = visibility.measured(Always().score, card(), people, [s.crops([0], 32) for s in people], None, 0)
    assert as_it_was.visible(limits).mean() >= 0.94
    assert "detail" in note
    assert "gamma-down=0.9" in note


def test_few_people_give_no_limits(samples):
    limits, (note,) = fitted(StripeDetector(), samples.where(lambda sample: sample.group < "p020"))
    assert limits is None
    assert "20 people" in note


def test_the_script_sets_the_answers_without_limits_beside_those_with_them(samples, face_clip, monkeypatch):
    script = Path(__file__).parents[2] / "benchmarks" / "visibility.py"
    loaded = importlib.util.spec_from_file_location("visibility_script", script)
    module = importlib.util.module_from_spec(loaded)
    monkeypatch.setitem(sys.modules, loaded.name, module)
    loaded.loader.exec_module(module)
    monkeypatch.setattr(module, "ON_CROPS", {"blur": (8,)})
    monkeypatch.setattr(module, "ON_CLIPS", {"darken": (0.5,)})
    limits, _ = fitted(Fooled(), samples)
    detector = Fooled(visibility=limits, calibration=SHARP)
    as_it_was, blurred = module.crop_rows(detector, samples)
    assert (as_it_was.before >= 0).mean() > 0.9
    real = blurred.labels == 0
    assert (blurred.before[real] == 1).mean() > 0.9
    assert (blurred.after[real] == 1).mean() <= 0.05
    assert blurred.cells()[:3] == ("crops", "blur", "8")
    clip, darker = module.clip_rows(Fooled(PredictSettings(frames=2, tta=False), calibration=SHARP), [face_clip])
    assert (len(clip.before), len(darker.after)) == (1, 1)
    assert clip.before.tolist() == clip.after.tolist()
