"""Many inputs: judged one after the other here or by worker processes, counted, kept or written line by line."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from deepscan.analysis import Analysis, lost_result, refused_result
from deepscan.config import PredictSettings
from deepscan.detector import Detector, load_detector
from deepscan.errors import DeepscanError
from deepscan.processes import Engine, Lost
from deepscan.report.result_log import ResultLines, Stamp
from deepscan.types import ModelInfo, Report, Result, VerdictLabel
from deepscan.version import __version__

if TYPE_CHECKING:
    from deepscan.extract.fetch import Fetcher
    from deepscan.extract.pictures import KeepPictures
    from deepscan.report.html import Material

# Inputs whose pictures are kept for a page: they share one file.
MOST_MATERIALS = 100

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PagePictures:
    """What a report page shows of each input: with heat maps or without, and why there are none."""

    heat: bool
    not_explained: str | None = None

    @property
    def keep(self) -> KeepPictures:
        """What an analysis has to keep for it."""
        from deepscan.report.html import pictures_to_keep

        return pictures_to_keep()

    def material(self, detector: Detector, analysis: Analysis) -> Material | None:
        """What the page shows; the answer stands without its pictures."""
        from deepscan.report.html import Material, make_material

        try:
            return make_material(detector, analysis, heat=self.heat, not_explained=self.not_explained)
        except Exception as error:  # noqa: BLE001 - a defect must not cost the results
            log.warning("%s; its report has no pictures and no file facts", error)
            return Material()


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """One input, as it is sent to a worker.

    Attributes:
        position: among the inputs, from 0.
        path: of the file, as it was given.
        file: its absolute path: a worker may run in another folder.
        stamp: of the file before it is read; None if results are not written as lines.
        model: for :func:`deepscan.detector.load_detector`, the same in every folder.
        settings: of the prediction.
        pictures: for a page; None for none.
    """

    position: int
    path: Path
    file: Path
    stamp: Stamp | None
    model: str
    settings: PredictSettings
    pictures: PagePictures | None = None


def judge(task: JudgeTask) -> tuple[Result, Material | None]:
    """Judge one input, in whatever process this runs, and take the pictures for a page where they are wanted.

    Raises:
        DeepscanError: the detector cannot be loaded; all that is wrong with the file is in the result.
    """
    detector, material = worker_detector(task.model, task.settings), None
    if task.pictures is None:
        result = detector.predict_or_error(task.file)
    else:
        analysis = detector.analyze(task.file, keep=task.pictures.keep)
        result, material = analysis.result, task.pictures.material(detector, analysis)
    return replace(result, path=str(task.path)), material


@lru_cache(maxsize=1)
def worker_detector(model: str, settings: PredictSettings) -> Detector:
    """One a process: its networks are loaded once."""
    return load_detector(model, settings)


class InputBatch:
    """A run over many inputs. However it ends, what was done until then is in here and in the lines.

    Args:
        model: that judges.
        lines: where each result is written at once, and where results of earlier runs are taken from.
        keep: keep the results in memory, for :meth:`report`.
        pictures: for a page; None for none.
        on_done: called after every input, with this batch and the input's path.
        fetcher: that makes some of the inputs; their results bear the address that was given. Without pictures for a
            page its files are removed once they are judged.

    Attributes:
        counts: inputs by verdict.
        reasons: errors by reason.
        n_recalled: inputs whose result was there already.
        pictures: for a page.
        materials: pictures by the result's path, of the first inputs: memory does not grow with their number.
    """

    def __init__(
        self,
        model: ModelInfo,
        *,
        lines: ResultLines | None = None,
        keep: bool = True,
        pictures: PagePictures | None = None,
        on_done: Callable[[InputBatch, Path], None] | None = None,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._fetcher = fetcher
        self.model = model
        self.counts: Counter[VerdictLabel] = Counter()
        self.reasons: Counter[str] = Counter()
        self.n_recalled = 0
        self.materials: dict[str, Material] = {}
        self.pictures = pictures
        self._lines, self._keep, self._on_done = lines, keep, on_done
        self._results: dict[int, Result] = {}
        self._start = time.monotonic()
        self._lock = threading.RLock()  # inputs are taken in another thread than that in which results come

    @property
    def n_done(self) -> int:
        """Inputs with a result."""
        return self.counts.total()

    @property
    def n_failed(self) -> int:
        """Inputs that could not be read or scored."""
        return self.counts[VerdictLabel.ERROR]

    @property
    def n_fake(self) -> int:
        """Inputs that are called fake."""
        return self.counts[VerdictLabel.FAKE]

    @property
    def elapsed_s(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start

    @property
    def per_second(self) -> float:
        """Inputs judged per second; those of earlier runs do not count."""
        return (self.n_done - self.n_recalled) / max(1e-6, self.elapsed_s)

    def run(self, detector: Detector, inputs: Iterable[tuple[Path, DeepscanError | None]]) -> None:
        """Judge the inputs in this process; each is searched while the one before is scored.

        Args:
            detector: the model.
            inputs: files, or what is wrong with them already; see :func:`deepscan.extract.inputs.expand_inputs`.

        Raises:
            DeepscanError: the inputs cannot be read on, or the lines cannot be written.
        """
        begun: deque[tuple[int, Stamp | None]] = deque()

        def paths() -> Iterator[Path]:
            for position, path, stamp in self._todo(inputs):
                begun.append((position, stamp))
                yield path

        for result, material in self._scored(detector, paths()):
            position, stamp = begun.popleft()
            self._record(position, result, stamp, material)

    def _scored(self, detector: Detector, paths: Iterable[Path]) -> Iterator[tuple[Result, Material | None]]:
        pictures = self.pictures
        if pictures is None:
            yield from ((result, None) for result in detector.predict_files(paths))
            return
        for analysis in detector.analyze_many(((path, None) for path in paths), keep=pictures.keep):
            keeps_material = len(self.materials) < MOST_MATERIALS
            yield analysis.result, pictures.material(detector, analysis) if keeps_material else None

    def run_on(
        self,
        engine: Engine,
        name: str,
        settings: PredictSettings,
        inputs: Iterable[tuple[Path, DeepscanError | None]],
    ) -> None:
        """Judge the inputs in an engine's workers; those that no worker finished are errors.

        Args:
            engine: runs :func:`judge`.
            name: of the model, from :func:`deepscan.detector.describe_detector`.
            settings: of the prediction.
            inputs: as for :meth:`run`.

        Raises:
            DeepscanError: as for :meth:`run`, or the workers cannot load the model.
        """
        failures: list[DeepscanError] = []

        def tasks() -> Iterator[JudgeTask]:
            try:
                for position, path, stamp in self._todo(inputs):
                    pictures = self.pictures if len(self.materials) < MOST_MATERIALS else None
                    yield JudgeTask(position, path, path.absolute(), stamp, name, settings, pictures)
            except DeepscanError as error:  # what the workers have begun is still worth its end
                failures.append(error)

        for task, outcome in engine.map(judge, tasks()):
            if isinstance(outcome, Lost):
                self._record(task.position, lost_result(task.path, outcome.reason, outcome.message), task.stamp)
            else:
                result, material = outcome
                self._record(task.position, result, task.stamp, material)
        if failures:
            raise failures[0]

    def report(self, passed_over: Mapping[str, int] | None = None) -> Report:
        """The results that were kept, in the order of the inputs.

        Args:
            passed_over: for the report's, see :func:`deepscan.extract.inputs.expand_inputs`.
        """
        results = tuple(self._results[position] for position in sorted(self._results))
        return Report(__version__, self.model, results, dict(sorted((passed_over or {}).items())))

    def _todo(self, inputs: Iterable[tuple[Path, DeepscanError | None]]) -> Iterator[tuple[int, Path, Stamp | None]]:
        """The inputs that are to be judged; the others are done in passing."""
        for position, (path, error) in enumerate(inputs):
            if error is not None:
                self._record(position, refused_result(path, error), None)
                continue
            stamp = known = None
            if self._lines is not None:
                stamp = Stamp.of(path)
                with self._lock:
                    known = self._lines.recall(path, stamp)
            if known is None:
                yield position, path, stamp
            else:
                with self._lock:
                    self.n_recalled += 1
                    self._count(position, known)

    def _record(self, position: int, result: Result, stamp: Stamp | None, material: Material | None = None) -> None:
        with self._lock:
            if self._fetcher is not None:
                file, result = result.path, replace(result, path=self._fetcher.given(result.path))
                if self.pictures is None:
                    self._fetcher.remove(file)
            if material is not None and len(self.materials) < MOST_MATERIALS:
                self.materials[result.path] = material
            if self._lines is not None:
                self._lines.append(result, stamp)
            self._count(position, result)

    def _count(self, position: int, result: Result) -> None:
        with self._lock:
            self.counts[result.verdict] += 1
            if result.verdict is VerdictLabel.ERROR:
                self.reasons[str(result.reason)] += 1
            if self._keep:
                self._results[position] = result
            if self._on_done is not None:
                self._on_done(self, Path(result.path))
