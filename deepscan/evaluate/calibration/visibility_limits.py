"""Fitting what a detector must see of a face: validation crops are made worse until it tells nothing of them.

A limit is the lowest below which too few crops are left to do harm, at every strength of the changes that it is fitted
on: of all reals at most the promised share is called fake, and reals and fakes are told apart, as far as any are seen.
Darkness, blur and compression are fitted one after the other, each on what the ones before have left.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from deepscan.datasets.dataset import Sample, SampleSet
from deepscan.evaluate.bootstrap import checked_inputs, resampled_figures
from deepscan.evaluate.robustness.corruptions import CHANGES, change_crops
from deepscan.evaluate.robustness.sweep import subject_seed
from deepscan.evaluate.score_dataset import ScoreFunction
from deepscan.extract.crops import brightness
from deepscan.extract.people import TOO_DARK_LUMA, Person
from deepscan.extract.visibility import Visibility, visibility
from deepscan.models.card import Card, VisibilityLimits
from deepscan.models.probability import calibrated
from deepscan.types import Face, Sighting, Track
from deepscan.verdict import below_limits, decisions

log = logging.getLogger(__name__)

AUC_FLOOR = 0.6
# What each limit is fitted on; the others are applied already as far as they are fitted.
STEPS: dict[str, tuple[tuple[str, tuple[float, ...]], ...]] = {
    "luma": (("low-light", (0.1, 0.05, 0.02)),),
    "sharpness": (("blur", (1, 1.5, 2, 3)), ("rescale", (0.5, 0.35, 0.25, 0.15)), ("hevc-rate", (0.025,))),
    "detail": (("h264-crf", (38, 43)), ("jpeg", (5,))),
    "face_px": (("rescale", (0.5, 0.35, 0.25, 0.15)),),
}
FEWEST = 50  # people of a class
MOST = 200  # people
# A limit may cost this share of the crops as they were: it is for what is worse than these, not for them.
_MOST_LOST = 0.05
# So many of a step's crops must be visible that what is told of them counts.
_FEW, _FEW_SHARE = 20, 0.1
_CANDIDATES = 60
_RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class MeasuredCrops:
    """One crop of each person under one condition.

    Attributes:
        name: of the condition.
        seen: what can be seen of them.
        probabilities: ``float64 [n]``.
    """

    name: str
    seen: Visibility
    probabilities: NDArray[np.float64]

    def visible(self, limits: VisibilityLimits) -> NDArray[np.bool_]:
        """Who is below no limit, ``bool [n]``."""
        return np.asarray(~below_limits(self.seen, limits).any(axis=0))


def fit_visibility(
    score: ScoreFunction, card: Card, samples: SampleSet, *, rate: float, seed: int = 0
) -> tuple[VisibilityLimits | None, list[str]]:
    """The limits of a detector.

    Args:
        score: scores sequences of crops: ``Detector.score``, or that of a scorer.
        card: of the same, with its calibration.
        samples: that trained nothing; of each of at most :data:`MOST` people the middle crop is taken.
        rate: of the reals at a step, at most this share is to be called fake.
        seed: of the choice and of everything random.

    Returns:
        The limits, or None where there are too few people; and what is to be told of them.
    """
    people = chosen_people(samples, seed)
    labels = np.array([sample.label for sample in people], np.int64)
    counts = np.bincount(labels, minlength=2)
    if counts.min() < FEWEST:
        return None, [f"{counts.min()} people of a class cannot tell what is seen too badly, {FEWEST} are needed."]
    log.info("What the detector must see of a face is fitted.")
    size_px = card.crop.size_px
    crops = [sample.crops([len(sample) // 2], size_px) for sample in people]
    as_it_was = measured(score, card, people, crops, None, seed)
    cases = _Cases(labels, np.array([f"{p.dataset}/{p.group}" for p in people]), card, rate, seed)
    limits, notes = VisibilityLimits(luma=TOO_DARK_LUMA), []
    done: dict[str, MeasuredCrops] = {}
    for name, changes in STEPS.items():
        for change, strengths in changes:
            for strength in strengths:
                if (key := f"{change}={strength:g}") not in done:
                    done[key] = measured(score, card, people, crops, (change, strength), seed)
        steps = [done[f"{change}={strength:g}"] for change, strengths in changes for strength in strengths]
        limits, why = cases.fitted(limits, name, as_it_was, steps)
        notes += why
    return limits, notes


@dataclass(frozen=True, slots=True)
class _Cases:
    """The people that limits are fitted on, and what is asked of the answers."""

    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    card: Card
    rate: float
    seed: int

    def fitted(
        self, limits: VisibilityLimits, name: str, as_it_was: MeasuredCrops, steps: Sequence[MeasuredCrops]
    ) -> tuple[VisibilityLimits, list[str]]:
        """The limits with one of them raised as far as these steps need it, and where that was not far enough."""
        lowest = getattr(limits, name)
        highest = max(lowest, float(np.quantile(getattr(as_it_was.seen, name), _MOST_LOST)))
        values = np.concatenate([getattr(step.seen, name) for step in steps])
        between = values[(values > lowest) & (values < highest)]
        tried = (
            [lowest, *np.unique(np.quantile(between, np.linspace(0, 1, _CANDIDATES))), highest]
            if len(between)
            else [lowest, highest]
        )
        # Where none is enough, the lowest of those that leave the fewest steps.
        best: tuple[VisibilityLimits, list[str]] | None = None
        for value in tried:
            now = limits.model_copy(update={name: round(float(value), 4)})
            bad = [step.name for step in steps if not self._harmless(step, now)]
            if best is None or len(bad) < len(best[1]):
                best = now, bad
            if not bad:
                break
        assert best is not None  # noqa: S101 - something is always tried
        now, bad = best
        if not bad:
            return now, []
        why = f"Visibility: no limit of {name} that spares the crops as they were is enough for {', '.join(bad)}."
        return now, [why]

    def _harmless(self, step: MeasuredCrops, limits: VisibilityLimits) -> bool:
        visible = step.visible(limits)
        real = self.labels == 0
        calibration = self.card.calibration
        called_fake = visible & (decisions(step.probabilities, calibration.threshold, calibration.band) == 1)
        if called_fake[real].mean() > self.rate:
            return False
        n = int(visible.sum())
        if n < max(_FEW, _FEW_SHARE * len(visible)) or len(set(self.labels[visible])) < 2:
            return True
        inputs = checked_inputs(
            self.labels[visible],
            step.probabilities[visible],
            self.groups[visible],
            None,
            calibration.threshold,
        )
        drawn = resampled_figures(inputs, _RESAMPLES, self.seed)["auc"]
        return bool(np.nanquantile(drawn, 0.025) >= AUC_FLOOR)


def chosen_people(samples: SampleSet, seed: int = 0) -> list[Sample]:
    """At most :data:`MOST` people, half of them of each class: whole groups in a drawn order, as far as that allows."""
    by_group: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples.samples:
        by_group.setdefault((sample.dataset, sample.group), []).append(sample)
    names = sorted(by_group)
    chosen: list[Sample] = []
    room = [MOST // 2, MOST // 2]
    for index in np.random.default_rng(seed).permutation(len(names)):
        for sample in by_group[names[index]]:
            if room[sample.label]:
                room[sample.label] -= 1
                chosen.append(sample)
    return chosen


def measured(
    score: ScoreFunction,
    card: Card,
    people: Sequence[Sample],
    crops: Sequence[NDArray[np.uint8]],
    condition: tuple[str, float] | None,
    seed: int,
) -> MeasuredCrops:
    """Everybody's crop, changed and scored.

    Args:
        score, card: of the detector.
        people: as many as crops.
        crops: of each ``uint8 [1, S, S, 3]``.
        condition: name of a change and its strength; None for the crops as they are.
        seed: of everything random.
    """
    name, share = "unchanged", 1.0
    if condition is not None:
        change, strength = condition
        name, share = f"{change}={strength:g}", strength if change == "rescale" else 1.0
        crops = [
            change_crops(CHANGES[change], strength, person_crops, seed=subject_seed(seed, sample.id))[0]
            for sample, person_crops in zip(people, crops, strict=True)
        ]
    # A crop shows no more pixels of the face than it has itself.
    shown_px = card.crop.size_px / (1 + card.crop.margin)
    seen = [
        visibility(_person(sample, person_crops, share * min(sample.facts.face_px, shown_px)))
        for sample, person_crops in zip(people, crops, strict=True)
    ]
    logits = [one.video_logit for one in score(crops)]
    columns = {one.name: np.concatenate([getattr(facts, one.name) for facts in seen]) for one in fields(Visibility)}
    return MeasuredCrops(name, Visibility(**columns), calibrated(logits, card.calibration.scale, card.calibration.bias))


def _person(sample: Sample, crops: NDArray[np.uint8], face_px: float) -> Person:
    """Somebody seen once, in a face of this size."""
    seen = sample.track.track.sightings[len(sample) // 2]
    face = Face((0.0, 0.0, face_px, face_px), seen.face.confidence, seen.face.landmarks)
    return Person(Track(1, (Sighting(0, 0.0, face, brightness(crops[0])),)), crops)
