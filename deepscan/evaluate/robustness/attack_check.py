"""Fitting the check for attacked input on clean people: how far squeezing moves their scores."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepscan.datasets.dataset import Sample, SampleSet
from deepscan.evaluate.score_dataset import score_samples
from deepscan.models.card import AttackCheck, Card, Squeeze
from deepscan.models.feature_squeezing import changes
from deepscan.models.scorer import Scorer
from deepscan.types import Score

log = logging.getLogger(__name__)

FALSE_POSITIVE_RATE = 0.02
# How much of the false alarms each squeeze may use up: the first two were seen to tell little, see docs/adversarial.md.
SHARES: dict[Squeeze, float] = {"bits": 0.25, "median": 0.25, "denoise": 1.0}


def fit_attack_check(
    scorer: Scorer, card: Card, samples: SampleSet, rate: float = FALSE_POSITIVE_RATE
) -> tuple[AttackCheck | None, str | None]:
    """The check of a detector, with the lowest limits that keep the rate.

    Alone, each squeeze would take its share of the rate for attacked; then all limits are raised by the same factor,
    until together they keep the rate.

    Args:
        scorer: of the detector.
        card: of the same, with its calibration.
        samples: clean ones that trained nothing.
        rate: of the clean people, at most this share is to be taken for attacked.

    Returns:
        The check, or None and why there is none.
    """
    each = AttackCheck(limits=dict.fromkeys(SHARES, 1.0), false_positive_rate=rate)
    log.info("The check for attacked input is fitted.")
    moved = np.array([change for _, change in squeeze_changes(scorer, card, each, samples)]).T
    n = moved.shape[-1]
    if threshold_for(np.zeros(n), rate) is None:
        needed = math.ceil(1 / rate) - 1
        return None, f"{n} people cannot carry a check for attacked input, {needed} are needed: it has none."
    quantiles = [np.quantile(row, 1 - rate * share) for row, share in zip(moved, SHARES.values(), strict=True)]
    scales = np.maximum(quantiles, 1e-6)
    factor = threshold_for((moved / scales[:, None]).max(axis=0), rate)
    assert factor is not None  # noqa: S101 - there are as many people as before
    limits = {name: float(factor * scale) for name, scale in zip(SHARES, scales, strict=True)}
    return each.model_copy(update={"limits": limits}), None


def squeeze_changes(
    scorer: Scorer, card: Card, check: AttackCheck, samples: SampleSet
) -> list[tuple[Sample, NDArray[np.float64]]]:
    """Everybody who can be judged, with the change of their log-odds under each squeeze, in the order of the limits."""

    def score(sequences: Sequence[NDArray[np.uint8]]) -> list[Score]:
        # What is asked of each sequence is a few numbers: they travel where the frames' logits would.
        movements = changes(scorer, sequences, card.calibration, check)
        return [Score(0.0, np.array(list(moved.values()), np.float64)) for moved in movements]

    return [
        (sample, changed.frame_logits)
        for people in score_samples(score, card.crop.size_px, samples, limits=card.visibility)
        for sample, changed in zip(people.scored, people.scores, strict=True)
    ]


def threshold_for(moved: Sequence[float] | NDArray[np.float64], rate: float) -> float | None:
    """The lowest threshold that a new clean score reaches with at most this probability (split conformal).

    Args:
        moved: of clean people.
        rate: of false alarms.

    Returns:
        None where there are too few of them for any.
    """
    rank = math.ceil((len(moved) + 1) * (1 - rate))
    if rank > len(moved):
        return None
    return max(float(np.nextafter(np.sort(moved)[rank - 1], math.inf)), 1e-6)
