"""The comparison table: what each detector is, what it reaches, what it costs."""

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

from deepscan.datasets.dataset import SampleSet
from deepscan.datasets.readers import Split
from deepscan.datasets.readers.base import SPLITS
from deepscan.detector import Detector
from deepscan.evaluate.evaluation import evaluate
from deepscan.evaluate.metrics import MetricValue
from deepscan.models.card import Card, EnsembleCard
from deepscan.models.checkpoint import WEIGHTS_FILE, load_card
from deepscan.models.scorer import torch_scorer
from deepscan.version import __version__

log = logging.getLogger(__name__)

SCHEMA_ID = "deepscan.comparison/1"
# A run's own figures, if it wrote any: the JSON of `deepscan evaluate` for each split.
SAVED_EVALUATION = "evaluation-{split}.json"

_WARM_UP, _RUNS, _MOST_SECONDS = 3, 25, 5.0
_CARD_METRIC = re.compile(r"(?P<figure>AUC|Accuracy), (?P<where>.*\b(?P<split>train|val|test)\b.*)")


@dataclass(frozen=True, slots=True)
class Figures:
    """What a detector reaches on one split, at the level of videos; ``source`` says what it was measured on."""

    source: str
    auc: MetricValue | None = None
    accuracy: MetricValue | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        told = {"auc": self.auc, "accuracy": self.accuracy}
        return {"source": self.source, **{name: value and value.to_dict() for name, value in told.items()}}


@dataclass(frozen=True, slots=True)
class Speed:
    """How long one image takes, once it is cropped: the median of ``runs`` runs."""

    ms_per_image: float
    runs: int
    device: str
    threads: int


@dataclass(frozen=True, slots=True)
class Row:
    """One detector of the table; ``figures`` by split, only those that are known."""

    name: str
    backbone: str
    head: str
    size_px: int
    parameters: int
    file_bytes: int
    sha256: str | None
    speed: Speed
    figures: Mapping[str, Figures] = field(default_factory=dict)

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
            "figures": {split: figures.to_dict() for split, figures in self.figures.items()},
        }

    def to_record(self) -> dict[str, Any]:
        """For the tables of :mod:`deepscan.evaluate.tables`."""
        record: dict[str, Any] = {
            "model": f"{self.name} ({self.backbone}, {self.head}, {self.size_px} px)",
            "parameters_m": self.parameters / 1e6,
            "file_mb": self.file_bytes / 1e6 if self.file_bytes else None,
            "ms_per_image": self.speed.ms_per_image,
        }
        for split, figures in self.figures.items():
            record |= {f"{split}_auc": figures.auc, f"{split}_accuracy": figures.accuracy}
        return record


def describe(name: str, folder: Path | None, detector: Detector) -> Row:
    """A detector's row, with the figures that are saved with it.

    Args:
        name: in the table.
        folder: of the detector; None for random weights, which have neither file nor figures.
        detector: loaded.
    """
    card = detector.card
    return Row(
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


def measure(
    detector: Detector,
    samples: SampleSet,
    source: str,
    *,
    split: Split | None = None,
    frames: int | None = None,
    resamples: int = 1000,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Figures]:
    """Figures of each split that the samples have, or of one.

    Args:
        detector: to be measured.
        samples: of any splits; where there are none, all are taken for ``test``.
        source: name of the data.
        split: only this one.
        frames, resamples, on_progress: as for :func:`deepscan.evaluate.evaluation.evaluate`.

    Raises:
        ConfigError: the samples do not fit the detector, or there are none in the split.
    """
    have = {sample.split for sample in samples.samples}
    if split is None and have == {None}:
        parts: dict[str, SampleSet] = {"test": samples}
    else:
        parts = {name: samples.split(name) for name in SPLITS if (name == split if split else name in have)}
    found = {}
    for name, part in parts.items():
        evaluation = evaluate(
            detector, part, data=[source], split=name, frames=frames, resamples=resamples, on_progress=on_progress
        )
        found[name] = Figures(f"{source} {name}", evaluation.video["auc"], evaluation.video["accuracy"])
    return found


def saved_figures(folder: Path, card: Card) -> dict[str, Figures]:
    """The figures that a run or a detector's card tells, by split.

    ``evaluation-SPLIT.json`` (the JSON of ``deepscan evaluate``) comes first, if it is of these very weights; then the
    card's metrics whose names are "AUC, ... SPLIT ..." and "Accuracy, ... SPLIT ...", the first of each split.
    """
    found: dict[str, Figures] = {}
    for split in SPLITS:
        if (saved := _saved_evaluation(folder, split, card.weights_sha256)) is not None:
            found[split] = saved
    told: dict[str, Figures] = {}
    for name, metric in card.metrics.items():
        match = _CARD_METRIC.fullmatch(name)
        if match is None or match["split"] in found:
            continue
        figures = told.setdefault(match["split"], Figures(match["where"]))
        if figures.source == match["where"]:
            value = MetricValue(metric.value, metric.low, metric.high, metric.n)
            changed = replace(figures, auc=value) if match["figure"] == "AUC" else replace(figures, accuracy=value)
            told[match["split"]] = changed
    return found | told


def weights_bytes(folder: Path) -> int:
    """Size of all the weights of a detector."""
    card = load_card(folder)
    if isinstance(card, EnsembleCard):
        return sum(weights_bytes(folder / member.folder) for member in card.members)
    return (folder / WEIGHTS_FILE).stat().st_size


def measure_speed(detector: Detector) -> Speed:
    """Time one image as its only input, without test-time augmentation, from crop to score."""
    import torch

    scorer = torch_scorer(detector.networks, device=detector.device, tta=False)
    side = detector.card.crop.size_px
    crops = [np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)]
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < _WARM_UP + _RUNS and (len(times) <= _WARM_UP or time.perf_counter() - began < _MOST_SECONDS):
        start = time.perf_counter()
        scorer.score(crops)
        times.append(time.perf_counter() - start)
    taken = times[_WARM_UP:]
    return Speed(1000 * statistics.median(taken), len(taken), detector.device, torch.get_num_threads())


def caption(rows: Sequence[Row]) -> str:
    """What belongs under the table."""
    speeds = {(row.speed.device, row.speed.threads) for row in rows}
    where = "; ".join(f"{device}, {threads} thread{'s' * (threads != 1)}" for device, threads in sorted(speeds))
    sources = sorted({figures.source for row in rows for figures in row.figures.values()})
    measured = f" Measured on: {'; '.join(sources)}." if sources else ""
    return f"Figures are of whole videos.{measured} Time: network alone, one image at a time, median, on {where}."


def to_json(rows: Sequence[Row]) -> str:
    """The table as JSON text, ending in a newline."""
    content = {"schema": SCHEMA_ID, "version": __version__, "models": [row.to_dict() for row in rows]}
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _saved_evaluation(folder: Path, split: str, sha256: str) -> Figures | None:
    file = folder / SAVED_EVALUATION.format(split=split)
    if not file.is_file():
        return None
    try:
        told = json.loads(file.read_bytes())
        if told["model"]["sha256"] != sha256:
            log.warning("%s is of other weights than the model beside it; it is left out", file)
            return None
        source = f"{', '.join(map(str, told['data']))} {split}"
        return Figures(source, _value(told["video"]["auc"]), _value(told["video"]["accuracy"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read: %s", file, error)
        return None


def _value(told: Mapping[str, Any]) -> MetricValue:
    return MetricValue(told["value"], told["low"], told["high"], int(told["n"]))
