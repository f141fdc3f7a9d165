"""Evaluation: any detector on any samples, with the figures, tables and warnings that make it worth something.

Videos are judged by ``Detector.answer``, as ``deepscan predict`` does; nothing is calibrated or decided here.
**Video level**: a video's probability is that of its most suspicious person. **Frame level**: the calibrated
probability of every face of every person. A video without a usable face has no score: it counts against coverage and
is in no other figure.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepscan.config import CalibrationSettings
from deepscan.datasets.data import check_rule
from deepscan.datasets.dataset import SampleSet
from deepscan.datasets.readers.base import writable
from deepscan.detector import Detector
from deepscan.evaluate.bootstrap import answers_of
from deepscan.evaluate.metrics import MetricValue, count_inputs, evaluate_scores, find_warnings, to_json
from deepscan.evaluate.score_dataset import ScoredPeople, score_samples
from deepscan.evaluate.slices import BUILT_IN, SliceRow, differences, groupings, slice_rows
from deepscan.evaluate.training_groups import group_hash
from deepscan.models.card import Card
from deepscan.types import ModelInfo, VerdictLabel
from deepscan.verdict import unjudged_label
from deepscan.version import __version__

log = logging.getLogger(__name__)

SCHEMA_ID = "deepscan.evaluation/1"
CSV_COLUMNS = (
    "dataset", "video_id", "label", "method", "group", "split", "verdict", "reason", "probability", "people", "frames",
    "frame_mean", "frame_max", "face_px", "luma", "height_px", "compression",
)  # fmt: skip
_NAMES = ("dataset", "video_id", "method", "group", "split", "verdict", "reason", "compression")

# Figures of the answers that a person gets; single frames get none.
_ANSWERS = (
    "scored", "coverage", "real_called_fake", "fake_called_real", "error_answered_real", "error_answered_fake",
)  # fmt: skip
_HEIGHTS_PX = (360, 480, 720, 1080)
_LABELS = {0: "real", 1: "fake"}
_FEW_SCORED = 0.9


@dataclass(frozen=True, slots=True)
class ScoredVideo:
    """One video and what the detector says of it.

    Attributes:
        video_id, dataset, label, method, group, split: from the manifest.
        verdict, reason, probability: as ``deepscan predict`` gives them; no probability where nobody could be judged.
        people: who were judged.
        frames: calibrated P(fake) of every face of everybody, ``float64 [F]``.
        face_px, luma: median size and brightness of the face of the person who decided; of the first where nobody
            could be judged.
        height_px: of the video.
        compression: where the corpus tells it.
        source: what the tables count it under: the dataset, unless a recipe or the data itself names its sources.
        family: kind of manipulation; empty where it is not known.
        file_type: ending of the file.
        columns: what else the data says of it, by name.
    """

    video_id: str
    dataset: str
    label: int
    method: str
    group: str
    split: str | None
    verdict: VerdictLabel
    reason: str | None
    probability: float | None
    people: int
    frames: NDArray[np.float64]
    face_px: float
    luma: float
    height_px: int
    compression: str | None
    source: str
    family: str = ""
    file_type: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def group_name(self) -> str:
        """Group with its dataset: what is resampled together."""
        return f"{self.dataset}/{self.group}"

    @property
    def quality(self) -> str:
        """The compression where the corpus tells it, else the height."""
        if self.compression is not None:
            return self.compression
        if not self.height_px:
            return ""
        low = max((edge for edge in _HEIGHTS_PX if edge <= self.height_px), default=None)
        return f"under {_HEIGHTS_PX[0]} lines" if low is None else f"from {low} lines"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A detector measured on data.

    Attributes:
        model: which detector, with which settings.
        data: names of the data as they were given.
        split: which was asked for; None took everything.
        frames_limit: at most so many frames of each video; None took all that were kept.
        videos: every video of a store, judged or not, sorted by dataset and name.
        without: videos that gave no face at all, by split, label and reason.
        frame, video: figures by name.
        slices: figures at video level for parts of the data; of videos in a store alone, as nothing is known of others.
        warnings: sentences that belong to the figures.
        differences: sentences of parts of the data that fare worse than chance explains.
    """

    model: ModelInfo
    data: tuple[str, ...]
    split: str | None
    frames_limit: int | None
    videos: tuple[ScoredVideo, ...]
    without: Counter[tuple[str, int, str]]
    frame: dict[str, MetricValue]
    video: dict[str, MetricValue]
    slices: tuple[SliceRow, ...]
    warnings: tuple[str, ...]
    differences: tuple[str, ...] = ()

    def video_level(self) -> dict[str, Any]:
        """One row a video, those without a face included.

        Returns:
            As :func:`deepscan.evaluate.metrics.evaluate_scores` takes them, all ``[n]``: ``labels``, ``probabilities``
            (NaN without a usable face), ``not_applicable``, ``answers`` and ``groups``.
        """
        unknown = [label for (_, label, _), count in sorted(self.without.items()) for _ in range(count)]
        known = [np.nan if video.probability is None else video.probability for video in self.videos]
        probabilities = np.array(known + [np.nan] * len(unknown), np.float64)
        names = [*(video.group_name for video in self.videos), *(f"\0{row}" for row in range(len(unknown)))]
        return {
            "labels": np.array([*(video.label for video in self.videos), *unknown], np.int64),
            "probabilities": probabilities,
            "not_applicable": np.isnan(probabilities),
            "answers": answers_of([*(video.verdict for video in self.videos), *[None] * len(unknown)]),
            "groups": _numbers(names),
        }

    def frame_level(self) -> dict[str, Any]:
        """One row a face of a judged video; as :meth:`video_level`, but single frames get no answers."""
        sizes = [len(video.frames) for video in self.videos]
        return {
            "labels": np.repeat(np.array([video.label for video in self.videos], np.int64), sizes),
            "probabilities": np.concatenate([np.empty(0), *(video.frames for video in self.videos)]),
            "not_applicable": np.zeros(sum(sizes), bool),
            "groups": np.repeat(_numbers(video.group_name for video in self.videos), sizes),
        }

    def coverage(self) -> dict[str, Any]:
        """How many videos there are, how many have a score, and why the others have none."""
        reasons = Counter({(label, reason): 0 for _, label, reason in self.without})
        for (_, label, reason), count in self.without.items():
            reasons[label, reason] += count
        for video in self.videos:
            if video.probability is None:
                reasons[video.label, str(video.reason)] += 1
        total = len(self.videos) + sum(self.without.values())
        rows = [{"label": _LABELS[label], "reason": why, "n": n} for (label, why), n in sorted(reasons.items())]
        return {"videos": total, "scored": total - sum(reasons.values()), "not_scored": rows}

    def verdicts(self) -> dict[str, dict[str, int]]:
        """The answers by class, as ``deepscan predict`` gives them."""
        counts = {name: dict.fromkeys(map(str, VerdictLabel), 0) for name in _LABELS.values()}
        for video in self.videos:
            counts[_LABELS[video.label]][str(video.verdict)] += 1
        for (_, label, reason), count in self.without.items():
            counts[_LABELS[label]][str(unjudged_label(reason))] += count
        return counts

    def to_dict(self) -> dict[str, Any]:
        """As plain values, the JSON of ``deepscan evaluate``."""
        levels = {"frame": self.frame_level(), "video": self.video_level()}
        return {
            "schema": SCHEMA_ID,
            "version": __version__,
            "model": model_to_dict(self.model),
            "data": list(self.data),
            "split": self.split,
            "frames_limit": self.frames_limit,
            "frame": to_json(self.frame),
            "video": to_json(self.video),
            "counts": {name: count_inputs(**level, threshold=self.model.threshold) for name, level in levels.items()},
            "verdicts": self.verdicts(),
            "coverage": self.coverage(),
            "tables": [row.to_dict() for row in self.slices],
            "differences": list(self.differences),
            "warnings": list(self.warnings),
        }

    def to_csv(self) -> str:
        """One line a video of a store, with a header."""
        rows = []
        for video in self.videos:
            seen = len(video.frames) > 0
            rows.append(
                {name: writable(str(getattr(video, name) or "")) for name in _NAMES}
                | {
                    "label": video.label,
                    "probability": video.probability,
                    "people": video.people,
                    "frames": len(video.frames),
                    "frame_mean": video.frames.mean() if seen else None,
                    "frame_max": video.frames.max() if seen else None,
                    "face_px": "" if np.isnan(video.face_px) else f"{video.face_px:.0f}",
                    "luma": "" if np.isnan(video.luma) else f"{video.luma:.0f}",
                    "height_px": video.height_px,
                }
            )
        table = pd.DataFrame(rows, columns=list(CSV_COLUMNS))
        return str(table.to_csv(index=False, lineterminator="\n", float_format="%.6f"))


def evaluate(
    detector: Detector,
    samples: SampleSet,
    *,
    data: Sequence[str] = (),
    split: str | None = None,
    frames: int | None = None,
    train_groups: frozenset[str] = frozenset(),
    by: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a detector.

    Args:
        detector: with its settings: test-time augmentation, threshold.
        samples: of the split that is to be measured.
        data, split: what the samples are of, for the report.
        frames: at most so many of each video; None takes all that are kept.
        train_groups: hashes of :func:`deepscan.evaluate.training_groups.read_groups`; empty where they are not known.
        by: what the tables divide by, see :func:`deepscan.evaluate.slices.groupings`.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        on_progress: called with the videos done and their number.

    Raises:
        ConfigError: the samples were cut by another rule than the detector needs, or lack a column of ``by``.
        ModelError: the detector gives no numbers.
    """
    names = groupings(by, {name for sample in samples.samples for name in sample.columns})
    for crop in {sample.crop for sample in samples.samples}:
        check_rule(crop, detector.card.crop, ", ".join(data) or "The data")
    size_px = detector.card.crop.size_px
    most = detector.settings.limits.max_tracks
    scored = score_samples(
        detector.score,
        size_px,
        samples,
        limits=detector.card.visibility,
        frames=frames,
        max_tracks=most,
        on_progress=on_progress,
    )
    return evaluate_videos(
        detector.info,
        [_judged(detector, people) for people in scored],
        samples.without,
        data=data,
        split=split,
        frames=frames,
        train_groups=train_groups,
        by=names,
        promised=promised_error(detector.card),
        resamples=resamples,
        seed=seed,
    )


def evaluate_videos(
    model: ModelInfo,
    videos: Sequence[ScoredVideo],
    without: Counter[tuple[str, int, str]] | None = None,
    *,
    data: Sequence[str] = (),
    split: str | None = None,
    frames: int | None = None,
    train_groups: frozenset[str] = frozenset(),
    by: Sequence[str] = BUILT_IN,
    promised: float = 1.0,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """The figures of videos that were judged.

    Args:
        model: that judged them.
        videos: with its answers.
        without: as :class:`Evaluation` has it.
        data, split, frames, train_groups, by, resamples, seed: as for :func:`evaluate`.
        promised: the share of reals that the model promises to call fake at most.
    """
    ordered = tuple(sorted(videos, key=lambda video: (video.dataset, video.video_id)))
    named = tuple(map(writable, data))
    blank = Evaluation(model, named, split, frames, ordered, without or Counter(), {}, {}, (), ())
    return _measured(blank, train_groups, by, promised, resamples, seed)


def promised_error(card: Card) -> float:
    """The share of reals that a detector promises to call fake at most, as it was calibrated for."""
    recipe = card.training.get("recipe")
    calibration = recipe.get("calibration") if isinstance(recipe, Mapping) else None
    of_recipe = calibration.get("error_rate") if isinstance(calibration, Mapping) else None
    rate = card.training.get("error_rate", of_recipe)
    return rate if isinstance(rate, float) and 0 < rate < 1 else CalibrationSettings().error_rate


def model_to_dict(model: ModelInfo) -> dict[str, Any]:
    """Which detector it was."""
    return {
        "name": model.name,
        "version": model.version,
        "sha256": model.sha256,
        "trained": model.trained,
        "backbone": model.backbone,
        "head": model.head,
        "threshold": model.threshold,
        "uncertain_band": list(model.uncertain_band),
        "settings": model.settings,
    }


def _judged(detector: Detector, people: ScoredPeople) -> ScoredVideo:
    first = people.samples[0]
    names = ("video_id", "dataset", "label", "method", "group", "split", "family", "columns")
    facts = {name: getattr(first, name) for name in names}
    # Where nobody else named the source, the data may.
    of_data = first.columns.get("source") if first.source == first.dataset else None
    facts |= {"source": of_data or first.source, "file_type": first.facts.file_type}
    facts |= {"height_px": first.facts.height_px, "compression": first.facts.compression, "people": len(people.scored)}
    if not people.scored:
        return ScoredVideo(
            **facts,
            verdict=unjudged_label(people.reason),
            reason=people.reason,
            probability=None,
            frames=np.empty(0),
            face_px=first.facts.face_px,
            luma=first.facts.brightness,
        )
    verdict = detector.answer(people.people, people.scores, n_left_out=people.left_out)
    tracks = verdict.tracks
    # With people left out the verdict may be that of nobody, its probability is always somebody's.
    decider = max(
        range(len(tracks)),
        key=lambda i: (tracks[i].probability == verdict.probability, tracks[i].verdict == verdict.label),
    )
    return ScoredVideo(
        **facts,
        verdict=verdict.label,
        reason=verdict.reason,
        probability=verdict.probability,
        frames=np.array([frame.probability for track in verdict.tracks for frame in track.frames]),
        face_px=people.scored[decider].facts.face_px,
        luma=people.scored[decider].facts.brightness,
    )


def _measured(
    blank: Evaluation, train_groups: frozenset[str], by: Sequence[str], promised: float, resamples: int, seed: int
) -> Evaluation:
    drawn: Any = {"resamples": resamples, "seed": seed}
    threshold = blank.model.threshold
    videos, frames = (
        evaluate_scores(**level, **drawn, threshold=threshold) for level in (blank.video_level(), blank.frame_level())
    )
    frames = {name: value for name, value in frames.items() if name not in _ANSWERS}
    table = _table(blank)
    slices = slice_rows(table, by, threshold=threshold, **drawn)
    return replace(
        blank,
        frame=frames,
        video=videos,
        slices=tuple(slices),
        warnings=tuple(_warnings(blank, train_groups)),
        differences=tuple(differences(table, slices, promised=promised, **drawn)),
    )


def _table(blank: Evaluation) -> pd.DataFrame:
    """What the slices divide by, of videos that are in a store."""
    videos = blank.videos
    columns = {
        "label": [video.label for video in videos],
        "probability": np.array([np.nan if v.probability is None else v.probability for v in videos], np.float64),
        "answer": answers_of(video.verdict for video in videos),
        "group": _numbers(video.group_name for video in videos),
        "source": [writable(video.source) for video in videos],
        "method": [writable(video.method) for video in videos],
        "family": [writable(video.family) for video in videos],
        "quality": [video.quality for video in videos],
        "file type": [video.file_type for video in videos],
        "face_px": [video.face_px for video in videos],
        "luma": [video.luma for video in videos],
    }
    further = sorted({name for video in videos for name in video.columns} - set(columns))
    return pd.DataFrame(columns | {name: [video.columns.get(name, "") for video in videos] for name in further})


def _warnings(blank: Evaluation, train_groups: frozenset[str]) -> list[str]:
    level = blank.video_level()
    names = [video.group_name for video in blank.videos]
    level["groups"] = [*names, *(f"\0{row}" for row in range(len(level["labels"]) - len(names)))]
    groups = {(video.dataset, video.group) for video in blank.videos}
    warnings = model_warnings(blank.model, level, groups, train_groups)
    training = sum(video.split == "train" for video in blank.videos)
    if blank.split is None and 0 < training < len(blank.videos):
        warnings.append(
            f"{training} of {len(blank.videos)} videos are of the split 'train': give --split val or test for others."
        )
    coverage = blank.coverage()
    if coverage["scored"] < _FEW_SCORED * coverage["videos"]:
        warnings.append(
            f"Only {coverage['scored']} of {coverage['videos']} videos have a score: the figures are of these alone."
        )
    return [writable(warning) for warning in warnings]


def model_warnings(
    model: ModelInfo, level: Mapping[str, Any], groups: Iterable[tuple[str, str]], train_groups: frozenset[str]
) -> list[str]:
    """What is to be known of figures of a detector, whatever was done to its inputs.

    Args:
        model: that was measured.
        level: as of :meth:`Evaluation.video_level`, with groups called ``DATASET/GROUP``.
        groups: their datasets and names.
        train_groups: as for :func:`evaluate`.
    """
    warnings = [] if model.trained else ["Random weights were used: these figures say nothing."]
    trained_on = {f"{dataset}/{group}" for dataset, group in groups if group_hash(dataset, group) in train_groups}
    inputs = {name: values for name, values in level.items() if name != "answers"}  # no warning is about them
    warnings += find_warnings(**inputs, threshold=model.threshold, train_groups=trained_on)
    if not train_groups and model.trained:
        warnings.append(
            "The model does not say which groups it was trained on: whether these were among them is unknown."
        )
    return warnings


def _numbers(names: Iterable[str]) -> NDArray[np.int64]:
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)
