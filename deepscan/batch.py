"""Many inputs: judged one after the other here or by worker processes, counted, kept or written line by line."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from deepscan.config import PredictSettings
from deepscan.detector import Detector, load_detector, lost_result, refused_result
from deepscan.errors import DeepscanError
from deepscan.processes import Engine, Lost
from deepscan.report.result_log import ResultLines, Stamp
from deepscan.types import ModelInfo, Report, Result, VerdictLabel
from deepscan.version import __version__


@dataclass(frozen=True, slots=True)
class Task:
    """One input, as it is sent to a worker.

    Attributes:
        place: among the inputs, from 0.
        path: of the file, as it was given.
        file: its absolute path: a worker may run in another folder.
        stamp: of the file before it is read; None if results are not written as lines.
        model: for :func:`deepscan.detector.load_detector`, the same in every folder.
        settings: of the prediction.
    """

    place: int
    path: Path
    file: Path
    stamp: Stamp | None
    model: str
    settings: PredictSettings


def judge(task: Task) -> Result:
    """Judge one input, in whatever process this runs.

    Raises:
        DeepscanError: the detector cannot be loaded; all that is wrong with the file is in the result.
    """
    result = _detector(task.model, task.settings).predict_or_error(task.file)
    return replace(result, path=str(task.path))


@lru_cache(maxsize=1)
def _detector(model: str, settings: PredictSettings) -> Detector:
    """One a process: its networks are loaded once."""
    return load_detector(model, settings)


class Batch:
    """A run over many inputs. However it ends, what was done until then is in here and in the lines.

    Args:
        model: that judges.
        lines: where each result is written at once, and where results of earlier runs are taken from.
        keep: keep the results in memory, for :meth:`report`.
        on_done: called after every input, with this batch and the input's path.

    Attributes:
        counts: inputs by verdict.
        reasons: errors by reason.
        n_recalled: inputs whose result was there already.
    """

    def __init__(
        self,
        model: ModelInfo,
        *,
        lines: ResultLines | None = None,
        keep: bool = True,
        on_done: Callable[[Batch, Path], None] | None = None,
    ) -> None:
        self.model = model
        self.counts: Counter[VerdictLabel] = Counter()
        self.reasons: Counter[str] = Counter()
        self.n_recalled = 0
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
            for place, path, stamp in self._todo(inputs):
                begun.append((place, stamp))
                yield path

        for result in detector.predict_files(paths()):
            place, stamp = begun.popleft()
            self._done(place, result, stamp)

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

        def tasks() -> Iterator[Task]:
            try:
                for place, path, stamp in self._todo(inputs):
                    yield Task(place, path, path.absolute(), stamp, name, settings)
            except DeepscanError as error:  # what the workers have begun is still worth its end
                failures.append(error)

        for task, result in engine.map(judge, tasks()):
            if isinstance(result, Lost):
                self._done(task.place, lost_result(task.path, result.reason, result.message), task.stamp)
            else:
                self._done(task.place, result, task.stamp)
        if failures:
            raise failures[0]

    def report(self, passed_over: Mapping[str, int] | None = None) -> Report:
        """The results that were kept, in the order of the inputs.

        Args:
            passed_over: for the report's, see :func:`deepscan.extract.inputs.expand_inputs`.
        """
        results = tuple(self._results[place] for place in sorted(self._results))
        return Report(__version__, self.model, results, dict(sorted((passed_over or {}).items())))

    def _todo(self, inputs: Iterable[tuple[Path, DeepscanError | None]]) -> Iterator[tuple[int, Path, Stamp | None]]:
        """The inputs that are to be judged; the others are done in passing."""
        for place, (path, error) in enumerate(inputs):
            if error is not None:
                self._done(place, refused_result(path, error), None)
                continue
            stamp = known = None
            if self._lines is not None:
                stamp = Stamp.of(path)
                with self._lock:
                    known = self._lines.recall(path, stamp)
            if known is None:
                yield place, path, stamp
            else:
                with self._lock:
                    self.n_recalled += 1
                    self._count(place, known)

    def _done(self, place: int, result: Result, stamp: Stamp | None) -> None:
        with self._lock:
            if self._lines is not None:
                self._lines.append(result, stamp)
            self._count(place, result)

    def _count(self, place: int, result: Result) -> None:
        with self._lock:
            self.counts[result.verdict] += 1
            if result.verdict is VerdictLabel.ERROR:
                self.reasons[str(result.reason)] += 1
            if self._keep:
                self._results[place] = result
            if self._on_done is not None:
                self._on_done(self, Path(result.path))
