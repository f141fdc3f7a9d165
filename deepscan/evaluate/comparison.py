"""The comparison of detectors: what each is, what it reaches on each data set, what it costs."""

from __future__ import annotations

import json
import logging
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from deepscan.config import CropSettings
from deepscan.datasets.data import Preparation, open_data, widest_like
from deepscan.datasets.dataset import SampleSet
from deepscan.datasets.readers import Split
from deepscan.datasets.readers.base import SPLITS
from deepscan.detector import Detector
from deepscan.errors import DeepscanError
from deepscan.evaluate.evaluation import Evaluation, evaluate
from deepscan.evaluate.metrics import MetricValue
from deepscan.evaluate.tables import short_names
from deepscan.models.card import Card, EnsembleCard
from deepscan.models.checkpoint import WEIGHTS_FILE, load_card
from deepscan.models.scorer import torch_scorer
from deepscan.version import __version__

log = logging.getLogger(__name__)

SCHEMA_ID = "deepscan.comparison/1"
# A run's own figures, if it wrote any: the JSON of `deepscan evaluate` for each split.
SAVED_EVALUATION = "evaluation-{split}.json"

_WARM_UP = 3
_CARD_METRIC = re.compile(r"(?P<figure>AUC|Accuracy), (?P<where>.*\b(?P<split>train|val|test)\b.*)")
_OF_EVALUATION = ("frame", "video", "counts", "verdicts", "coverage", "warnings")


@dataclass(frozen=True, slots=True)
class Contender:
    """A detector of a comparison.

    Attributes:
        name: in the table, different from the others'.
        folder: None for random weights, which have neither file nor figures.
        detector: loaded.
        train_groups: hashes of :func:`deepscan.evaluate.training_groups.read_groups`.
    """

    name: str
    folder: Path | None
    detector: Detector
    train_groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SplitFigures:
    """What a detector reaches on one part of the data, at the level of videos.

    Attributes:
        source: what it was measured on.
        auc, accuracy: None where they are not known.
        evaluation: None where the figures were saved with the detector.
    """

    source: str
    auc: MetricValue | None = None
    accuracy: MetricValue | None = None
    evaluation: Evaluation | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values; what was measured here with the other figures of its evaluation."""
        figures = {name: value and value.to_dict() for name, value in (("auc", self.auc), ("accuracy", self.accuracy))}
        whole = {} if self.evaluation is None else self.evaluation.to_dict()
        return {"source": self.source, **figures, **{name: whole[name] for name in _OF_EVALUATION if name in whole}}


@dataclass(frozen=True, slots=True)
class Speed:
    """How long one image takes, once it is cropped: the median of ``runs`` runs."""

    ms_per_image: float
    runs: int
    device: str
    threads: int


@dataclass(frozen=True, slots=True)
class ComparedDetector:
    """One row of the table.

    Attributes:
        figures: by split; where several data sets were given, by the name of the data and the split.
        errors: why there are none, by the name of the data.
    """

    name: str
    backbone: str
    head: str
    size_px: int
    parameters: int
    file_bytes: int
    sha256: str | None
    speed: Speed
    figures: Mapping[str, SplitFigures] = field(default_factory=dict)
    errors: Mapping[str, DeepscanError] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "backbone": self.backbone,
            "head": self.head,
            "input_px": self.size_px,
            "parameters": self.parameters,
            "file_bytes": self.file_bytes,
            "sha256": self.sha256,
            "ms_per_image": round(self.speed.ms_per_image, 3),
            "runs": self.speed.runs,
            "device": self.speed.device,
            "threads": self.speed.threads,
            "figures": {part: figures.to_dict() for part, figures in self.figures.items()},
            "errors": {name: str(error) for name, error in self.errors.items()},
        }

    def to_record(self) -> dict[str, Any]:
        """For the tables of :mod:`deepscan.evaluate.tables`."""
        record: dict[str, Any] = {
            "model": f"{self.name} ({self.backbone}, {self.head}, {self.size_px} px)",
            "parameters_m": self.parameters / 1e6,
            "file_mb": self.file_bytes / 1e6 if self.file_bytes else None,
            "ms_per_image": self.speed.ms_per_image,
        }
        for part, figures in self.figures.items():
            record |= {f"{part}_auc": figures.auc, f"{part}_accuracy": figures.accuracy}
        return record


class Comparison:
    """Detectors side by side; :meth:`measure` may be interrupted, what is done counts.

    Args:
        contenders: the detectors, each described at once with the figures that are saved with it.
    """

    def __init__(self, contenders: Sequence[Contender]) -> None:
        self._contenders = list(contenders)
        self.rows = [describe(one.name, one.folder, one.detector) for one in contenders]

    def measure(
        self,
        data: Sequence[Path],
        *,
        split: Split | None = None,
        preparation: Preparation | None = None,
        on_progress: Callable[[str, int, int], None] | None = None,
        **options: Any,
    ) -> None:
        """Measure every detector on every data set; a pair that fails costs only itself.

        What is no store is preprocessed once for all detectors with the same crop rule, at the largest of their sizes.

        Args:
            data: stores or corpora, each for itself.
            split: only this one.
            preparation: of what is no store.
            on_progress: called with the detector's and the data's name, the videos done and their number.
            options: ``frames``, ``resamples``, ``seed`` of :func:`deepscan.evaluate.evaluation.evaluate`.
        """
        if len(data) > 1:  # saved figures are of other data, and would stand beside these as if they were not
            self.rows = [replace(row, figures={}) for row in self.rows]
        crops = [one.detector.card.crop for one in self._contenders]
        for path, name in zip(data, short_names(data), strict=True):
            opened: dict[CropSettings, SampleSet | DeepscanError] = {}
            for number, contender in enumerate(self._contenders):
                crop = widest_like(contender.detector.card.crop, crops)
                if crop not in opened:
                    opened[crop] = _opened(path, crop, contender.detector, split, preparation)

                def progress(done: int, total: int, label: str = f"{contender.name} on {name}"[:40]) -> None:
                    if on_progress is not None:
                        on_progress(label, done, total)

                row = self.rows[number]
                try:
                    figures = _measured(contender, opened[crop], name, split, on_progress=progress, **options)
                except DeepscanError as error:
                    log.warning("%s on %s: %s", contender.name, name, error)
                    self.rows[number] = replace(row, errors={**row.errors, name: error})
                    continue
                parts = {part if len(data) == 1 else f"{name} {part}": value for part, value in figures.items()}
                self.rows[number] = replace(row, figures={**row.figures, **parts})

    @property
    def warnings(self) -> list[str]:
        """What is to be known of the figures, and why some are missing."""
        warnings = []
        for row in self.rows:
            for figures in row.figures.values():
                warned = figures.evaluation.warnings if figures.evaluation else ()
                warnings += [f"{row.name} on {figures.source}: {warning}" for warning in warned]
            warnings += [f"{row.name} on {name}: {error}" for name, error in row.errors.items()]
        return warnings

    def caption(self) -> str:
        """What belongs under the table."""
        speeds = {(row.speed.device, row.speed.threads) for row in self.rows}
        where = "; ".join(f"{device}, {threads} thread{'s' * (threads != 1)}" for device, threads in sorted(speeds))
        sources = sorted({figures.source for row in self.rows for figures in row.figures.values()})
        measured = f" Measured on: {'; '.join(sources)}." if sources else ""
        return f"Figures are of whole videos.{measured} Time: network alone, one image at a time, median, on {where}."

    def to_json(self) -> str:
        """The table as JSON text, ending in a newline."""
        content = {"schema": SCHEMA_ID, "version": __version__, "models": [row.to_dict() for row in self.rows]}
        return json.dumps(content, indent=1, allow_nan=False) + "\n"


def describe(name: str, folder: Path | None, detector: Detector) -> ComparedDetector:
    """A detector's row, with the figures that are saved with it; arguments as for :class:`Contender`."""
    card = detector.card
    return ComparedDetector(
        name=name,
        backbone=card.backbone,
        head=card.head,
        size_px=card.crop.size_px,
        parameters=detector.networks.n_parameters,
        file_bytes=0 if folder is None else weights_bytes(folder),
        sha256=card.weights_sha256 or None,
        speed=measure_speed(detector),
        figures={} if folder is None else saved_figures(folder, card),
    )


def saved_figures(folder: Path, card: Card) -> dict[str, SplitFigures]:
    """The figures that a run or a detector's card holds, by split.

    ``evaluation-SPLIT.json`` (the JSON of ``deepscan evaluate``) comes first, if it is of these very weights; then the
    card's metrics whose names are "AUC, ... SPLIT ..." and "Accuracy, ... SPLIT ...", the first of each split.
    """
    from_folder: dict[str, SplitFigures] = {}
    for split in SPLITS:
        if (saved := _saved_evaluation(folder, split, card.weights_sha256)) is not None:
            from_folder[split] = saved
    from_card: dict[str, SplitFigures] = {}
    for name, metric in card.metrics.items():
        match = _CARD_METRIC.fullmatch(name)
        if match is None or match["split"] in from_folder:
            continue
        figures = from_card.setdefault(match["split"], SplitFigures(match["where"]))
        if figures.source == match["where"]:
            value = MetricValue(metric.value, metric.low, metric.high, metric.n)
            changed = replace(figures, auc=value) if match["figure"] == "AUC" else replace(figures, accuracy=value)
            from_card[match["split"]] = changed
    return from_folder | from_card


def weights_bytes(folder: Path) -> int:
    """Size of all the weights of a detector."""
    card = load_card(folder)
    if isinstance(card, EnsembleCard):
        return sum(weights_bytes(folder / member.folder) for member in card.members)
    return (folder / WEIGHTS_FILE).stat().st_size


def measure_speed(detector: Detector, runs: int = 25, most_s: float = 5.0) -> Speed:
    """Time one image as its only input, without test-time augmentation, from crop to score.

    Args:
        detector: to be timed.
        runs: at most so many, after three that are not counted.
        most_s: no further run is begun after this time.
    """
    import torch

    scorer = torch_scorer(detector.networks, device=detector.device, tta=False)
    side = detector.card.crop.size_px
    crops = [np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)]
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < _WARM_UP + runs and (len(times) <= _WARM_UP or time.perf_counter() - began < most_s):
        start = time.perf_counter()
        scorer.score(crops)
        times.append(time.perf_counter() - start)
    counted = times[_WARM_UP:]
    return Speed(1000 * statistics.median(counted), len(counted), detector.device, torch.get_num_threads())


def _opened(
    path: Path, crop: CropSettings, detector: Detector, split: Split | None, preparation: Preparation | None
) -> SampleSet | DeepscanError:
    try:
        # A store is checked for each detector: one whose crops are too small for another may do for this one.
        return open_data([path], crop, detector.settings, split=split, preparation=preparation, check=False)
    except DeepscanError as error:
        return error


def _measured(
    contender: Contender, samples: SampleSet | DeepscanError, name: str, split: Split | None, **options: Any
) -> dict[str, SplitFigures]:
    """Figures of each split that the samples have, or of one; without any, all are taken for ``test``."""
    if isinstance(samples, DeepscanError):
        raise samples
    have = {sample.split for sample in samples.samples}
    parts: dict[str, SampleSet] = {"test": samples}
    if split is not None or have != {None}:
        parts = {part: samples.split(part) for part in SPLITS if (part == split if split else part in have)}
    figures = {}
    for part, of_part in parts.items():
        evaluation = evaluate(
            contender.detector, of_part, data=[name], split=part, train_groups=contender.train_groups, **options
        )
        figures[part] = SplitFigures(
            f"{name} {part}", evaluation.video["auc"], evaluation.video["accuracy"], evaluation
        )
    return figures


def _saved_evaluation(folder: Path, split: str, sha256: str) -> SplitFigures | None:
    file = folder / SAVED_EVALUATION.format(split=split)
    if not file.is_file():
        return None
    try:
        saved = json.loads(file.read_bytes())
        if saved["model"]["sha256"] != sha256:
            log.warning("%s is of other weights than the model beside it; it is left out", file)
            return None
        source = f"{', '.join(map(str, saved['data']))} {split}"
        return SplitFigures(source, _value(saved["video"]["auc"]), _value(saved["video"]["accuracy"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read: %s", file, error)
        return None


def _value(saved: Mapping[str, Any]) -> MetricValue:
    return MetricValue(saved["value"], saved["low"], saved["high"], int(saved["n"]))
