"""Calibration fitted to samples: by the end of a training, and anew to a user's own labelled data.

One half of the groups is fitted on, the other is measured, and of several methods each half has its own: a promise that
was seen to hold for generators that calibration never met is worth more than one that was not.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepscan.config import CalibrationSettings
from deepscan.datasets.dataset import Sample, SampleSet
from deepscan.datasets.readers.base import FAKE, UNKNOWN_METHOD
from deepscan.detector import Detector
from deepscan.errors import ConfigError, OutputError
from deepscan.evaluate.calibration.calibrate import FittedCalibration, fit_calibration
from deepscan.evaluate.card_figures import condensed
from deepscan.evaluate.evaluation import Evaluation, evaluate
from deepscan.evaluate.score_dataset import ScoreFunction, score_samples
from deepscan.evaluate.training_groups import group_hash, read_groups
from deepscan.files import write_atomically
from deepscan.models.card import Calibration, Card
from deepscan.models.checkpoint import CARD_FILE, card_bytes
from deepscan.models.ensemble import open_detector

FEWEST_FILES = 200  # of a class, below which nothing is promised
# Groups from which there are two halves, and methods from which each half has its own.
ENOUGH_GROUPS = 40
_ENOUGH_METHODS = 4


@dataclass(frozen=True, slots=True)
class Halves:
    """What calibration is fitted on, and what is measured; the same samples where they are too few to be halved."""

    fit: SampleSet
    measure: SampleSet
    same: bool
    by_method: bool = False


@dataclass(frozen=True, slots=True)
class Refitted:
    """A detector with a calibration of its own: the card as written, the figures of the measured half, and warnings."""

    card: Card
    evaluation: Evaluation
    warnings: tuple[str, ...]


def halved(samples: SampleSet, *, by_method: bool = False) -> Halves:
    """The two halves, by the names of groups alone: the same for every detector.

    Args:
        samples: to be divided.
        by_method: give each half methods of its own where there are four or more; a fake whose group falls to one half
            and its method to the other is left out.
    """
    groups = {f"{sample.dataset}\0{sample.group}" for sample in samples.samples}
    if len(groups) < ENOUGH_GROUPS:
        return Halves(samples, samples, same=True)
    counts = Counter(sample.method for sample in samples.samples if sample.label == FAKE)
    named = sorted(set(counts) - {UNKNOWN_METHOD, ""}, key=lambda name: (-counts[name], name))
    by_method = by_method and len(named) >= _ENOUGH_METHODS
    first_methods = set(named[::2])

    def in_fit(sample: Sample) -> bool:
        return in_first_half(f"{sample.dataset}\0{sample.group}")

    def kept(sample: Sample) -> bool:
        """Whether the group and the method of a sample fall to the same half."""
        divided = by_method and sample.label == FAKE and sample.method in named
        return not divided or in_fit(sample) == (sample.method in first_methods)

    fit = samples.where(lambda sample: in_fit(sample) and kept(sample))
    measure = samples.where(lambda sample: not in_fit(sample) and kept(sample))
    return Halves(fit, measure, same=False, by_method=by_method)


def fit_scored(
    people: Sequence[Sample],
    logits: NDArray[np.float64],
    frame_logits: Sequence[NDArray[np.float64]],
    settings: CalibrationSettings,
    shares: dict[str, float] | None = None,
) -> FittedCalibration:
    """The calibration of people who were scored.

    Args:
        people: n of them.
        logits: ``[n]``, of their tracks.
        frame_logits: of each ``[T]``.
        settings: what is promised.
        shares: as for :func:`~.calibrate.fit_calibration`.
    """
    sizes = [len(of_person) for of_person in frame_logits]
    labels = np.array([person.label for person in people], np.int64)
    groups = np.array([f"{person.dataset}/{person.group}" for person in people], dtype=str)
    sources = np.array([person.source for person in people], dtype=str)
    return fit_calibration(
        logits,
        labels,
        sources,
        groups=groups,
        frame_logits=np.concatenate([np.empty(0), *frame_logits]),
        frame_labels=np.repeat(labels, sizes),
        frame_groups=np.repeat(groups, sizes),
        frame_sources=np.repeat(sources, sizes),
        alpha=settings.error_rate,
        target_fpr=settings.threshold_fpr,
        shares=shares,
    )


def fit_samples(
    score: ScoreFunction,
    size_px: int,
    samples: SampleSet,
    settings: CalibrationSettings,
    shares: dict[str, float] | None = None,
    *,
    frames: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FittedCalibration:
    """Score samples and fit their calibration; arguments as for :func:`fit_scored` and :func:`score_samples`."""
    scored = score_samples(score, size_px, samples, frames=frames, on_progress=on_progress)
    pairs = [pair for video in scored for pair in zip(video.scored, video.scores, strict=True)]
    logits = np.array([score.video_logit for _, score in pairs], np.float64)
    frame_logits = [np.asarray(score.frame_logits, np.float64) for _, score in pairs]
    return fit_scored([person for person, _ in pairs], logits, frame_logits, settings, shares)


def refit(
    detector: Detector,
    source: Path,
    folder: Path,
    samples: SampleSet,
    *,
    data: Sequence[str] = (),
    settings: CalibrationSettings | None = None,
    frames: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Refitted:
    """Write a copy of a detector whose calibration and uncertain band are fitted to these samples.

    The network and what it must see of a face stay as they are; the limits of the check for attacks, which are changes
    of the log-odds, are scaled with them. The card has the figures of the half that was not fitted on, and no others.

    Args:
        detector: loaded, for its scores.
        source: its folder.
        folder: of the new detector; empty or not there.
        samples: labelled, that trained nothing.
        data: their names.
        settings: what is promised.
        frames: at most so many of each video.
        resamples, seed: of the bootstrap of the figures.
        on_progress: called with the videos done and their number, first of the fit, then of the measuring.

    Raises:
        ConfigError: one class is missing.
        OutputError: the folder holds something, or cannot be written.
    """
    settings = settings or CalibrationSettings()
    labels = {(sample.dataset, sample.video_id): sample.label for sample in samples.samples}
    counts = Counter(labels.values())
    if len(counts) < 2:
        raise ConfigError("A calibration needs reals and fakes", f"the data has {len(samples)} of one class")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} cannot be written", "it is there already", "Give a new or empty --out.")
    halves = halved(samples, by_method=True)
    card = detector.card
    fitted = fit_samples(
        detector.score, card.crop.size_px, halves.fit, settings, frames=frames, on_progress=on_progress
    )
    warnings = (*_too_few(counts), *_leak(source, samples), *_unseen(halves), *fitted.warnings)
    changed = _recalibrated(card, fitted.calibration, ", ".join(data), settings, warnings)
    changed = changed.model_copy(update={"name": folder.resolve().name})
    _copy(source, folder, changed)
    new = Detector(open_detector(folder), detector.settings, isolation=detector.isolation)
    evaluation = evaluate(
        new, halves.measure, data=data, frames=frames, resamples=resamples, seed=seed, on_progress=on_progress
    )
    part = "what calibration was fitted on" if halves.same else "the half that calibration did not see"
    changed = changed.model_copy(update={"evaluations": [condensed(evaluation, f"{', '.join(data)}: {part}")]})
    write_atomically(folder / CARD_FILE, card_bytes(changed))
    return Refitted(changed, evaluation, warnings)


def _recalibrated(
    card: Card, calibration: Calibration, data: str, settings: CalibrationSettings, warnings: Sequence[str]
) -> Card:
    check = card.attack_check
    if check is not None:
        ratio = calibration.scale / card.calibration.scale
        check = check.model_copy(update={"limits": {name: ratio * limit for name, limit in check.limits.items()}})
    training = {
        **card.training,
        "recalibrated_on": data,
        "error_rate": settings.error_rate,
        "calibration_notes": list(warnings),
    }
    return card.model_copy(
        update={
            "calibration": calibration,
            "attack_check": check,
            "training": training,
            "metrics": {},
            "evaluations": [],
        }
    )


def _copy(source: Path, folder: Path, card: Card) -> None:
    """The files of a detector with another card, which comes last: what a kill leaves is no detector."""
    try:
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=lambda at, names: _left_out(source, at, names))
    except (OSError, shutil.Error) as error:
        raise OutputError(f"{folder} cannot be written", str(error)) from error
    write_atomically(folder / CARD_FILE, card_bytes(card))


def _left_out(source: Path, at: str, names: Sequence[str]) -> list[str]:
    """The card, and the figures that a run keeps beside it, which are of the old calibration; hidden files."""
    top = Path(at) == source
    return [name for name in names if name.startswith(".") or (top and (name == CARD_FILE or name.startswith("evalu")))]


def _too_few(counts: Counter[int]) -> list[str]:
    return [
        f"{counts[label]} {name} files are too few to promise anything, {FEWEST_FILES} of a class are needed: take the "
        "error rate for a guess."
        for label, name in ((0, "real"), (1, "fake"))
        if counts[label] < FEWEST_FILES
    ]


def _leak(source: Path, samples: SampleSet) -> list[str]:
    hashes = {group_hash(sample.dataset, sample.group) for sample in samples.samples}
    shared = len(hashes & read_groups(source))
    note = f"The detector was trained on {shared} of the {len(hashes)} groups of this data: its promise may not hold."
    return [note] if shared else []


def _unseen(halves: Halves) -> list[str]:
    if halves.same:
        return [f"With fewer than {ENOUGH_GROUPS} groups the figures are of the data that calibration was fitted on."]
    if not halves.by_method:
        return ["With fewer than four named methods the figures are of generators that calibration has seen."]
    return []


def in_first_half(name: str) -> bool:
    """Whether a group's name alone puts it into the first of two halves."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[0] % 2 == 0
