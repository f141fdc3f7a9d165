"""The cross-dataset protocol: every detector on every data set, in one table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepscan.config import CropSettings
from deepscan.datasets.data import Preparation, open_data, widest_like
from deepscan.datasets.dataset import SampleSet
from deepscan.datasets.readers.base import writable
from deepscan.detector import Detector
from deepscan.errors import DeepscanError
from deepscan.evaluate.evaluation import Evaluation, evaluate, model_to_dict
from deepscan.version import __version__

if TYPE_CHECKING:
    from deepscan.datasets.readers import Split

log = logging.getLogger(__name__)

SCHEMA_ID = "deepscan.cross/1"


@dataclass(frozen=True, slots=True)
class Contender:
    """A detector of a comparison.

    Attributes:
        name: in the table, different from the others'.
        detector: loaded.
        train_groups: hashes of :func:`deepscan.evaluate.training_groups.read_groups`.
    """

    name: str
    detector: Detector
    train_groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Cell:
    """One detector on one data set: measured, or why not."""

    model: str
    data: str
    evaluation: Evaluation | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        out: dict[str, Any] = {"model": self.model, "data": self.data}
        if self.evaluation is None:
            return out | {"error": self.error}
        told = self.evaluation.to_dict()
        return out | {name: told[name] for name in ("frame", "video", "counts", "verdicts", "coverage", "warnings")}


def cross_evaluate(
    contenders: Sequence[Contender],
    data: Sequence[Path],
    *,
    split: Split | None = None,
    frames: int | None = None,
    preparation: Preparation | None = None,
    resamples: int = 1000,
    seed: int = 0,
    on_progress: Callable[[str, str, int, int], None] | None = None,
) -> Iterator[Cell]:
    """Measure every detector on every data set; a pair that fails costs only itself.

    What is no store is preprocessed once for all detectors with the same crop rule, at the largest of their sizes.

    Args:
        contenders: the detectors.
        data: stores or corpora, each for itself.
        split, frames, resamples, seed: as for :func:`deepscan.evaluate.evaluation.evaluate`.
        preparation: of what is no store.
        on_progress: called with the model's and the data's name, the videos done and their number.

    Yields:
        A cell as soon as it is there: all detectors on the first data set, then on the next.
    """
    names = short_names(data)
    for path, name in zip(data, names, strict=True):
        opened: dict[CropSettings, SampleSet | DeepscanError] = {}
        for contender in contenders:
            crop = widest_like(contender.detector.card.crop, [other.detector.card.crop for other in contenders])
            if crop not in opened:
                opened[crop] = _opened(path, crop, contender.detector, split, preparation)
            yield _cell(contender, name, opened[crop], split, frames, resamples, seed, on_progress)


def to_dict(cells: Sequence[Cell], contenders: Sequence[Contender], data: Sequence[Path], split: str | None) -> Any:
    """The JSON of ``deepscan evaluate --cross``."""
    return {
        "schema": SCHEMA_ID,
        "version": __version__,
        "split": split,
        "models": [{"label": c.name, **model_to_dict(c.detector.info)} for c in contenders],
        "data": [
            {"label": name, "path": writable(path.as_posix())}
            for name, path in zip(short_names(data), data, strict=True)
        ],
        "results": [cell.to_dict() for cell in cells],
    }


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names for tables: the last part of a path, and the whole where that is not enough to tell them apart."""
    short = [_name(path) for path in paths]
    return [
        name if short.count(name) == 1 else writable(path.as_posix()) for name, path in zip(short, paths, strict=True)
    ]


def _name(path: Path) -> str:
    place = path.parent if path.suffix.lower() == ".csv" else path
    return writable(place.name or place.resolve().name)


def _opened(
    path: Path, crop: CropSettings, detector: Detector, split: Split | None, preparation: Preparation | None
) -> SampleSet | DeepscanError:
    try:
        # A store is judged by each detector itself: one whose crops are too small for another may do for this one.
        return open_data([path], crop, detector.settings, split=split, preparation=preparation, check=False)
    except DeepscanError as error:
        return error


def _cell(
    contender: Contender,
    data: str,
    samples: SampleSet | DeepscanError,
    split: str | None,
    frames: int | None,
    resamples: int,
    seed: int,
    on_progress: Callable[[str, str, int, int], None] | None,
) -> Cell:
    def progress(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(contender.name, data, done, total)

    try:
        if isinstance(samples, DeepscanError):
            raise samples
        evaluation = evaluate(
            contender.detector,
            samples,
            data=[data],
            split=split,
            frames=frames,
            train_groups=contender.train_groups,
            resamples=resamples,
            seed=seed,
            on_progress=progress,
        )
    except DeepscanError as error:
        log.warning("%s on %s: %s", contender.name, data, error)
        return Cell(contender.name, data, error=str(error))
    return Cell(contender.name, data, evaluation)
