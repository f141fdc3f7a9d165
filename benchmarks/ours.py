"""deepscan's side of the benchmarks: what runs in a worker process. Imports nothing heavy before it is asked to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from measure import peak_memory_bytes, timed

from deepscan.errors import DeepscanError

if TYPE_CHECKING:
    from reference import ReferenceResult


@dataclass(frozen=True, slots=True)
class Job:
    """One video to be preprocessed.

    Attributes:
        clip: the video.
        n_frames: sampled from it.
    """

    clip: Path
    n_frames: int


@dataclass(frozen=True, slots=True)
class Done:
    """One video preprocessed.

    Attributes:
        people: tracks in the store; 0 where there was nobody.
        loaded_bytes: peak memory of the process before the video: Python, libraries, networks.
        peak_bytes: after it.
        wall_s: seconds from the file to its place in the store.
    """

    people: int
    loaded_bytes: int | None
    peak_bytes: int | None
    wall_s: float


def preprocess_clip(job: Job) -> Done:
    """What a worker of ``deepscan preprocess`` does for one video, into a folder that is thrown away.

    Raises:
        DeepscanError: the video cannot be read.
    """
    from deepscan.config import FaceSettings
    from deepscan.datasets.preprocess import Task, process
    from deepscan.datasets.readers.base import CorpusItem
    from deepscan.datasets.store.store import StoreSettings
    from deepscan.extract.faces.detect import FaceFinder

    if not _loaded:
        FaceFinder(FaceSettings())
        _loaded.append(peak_memory_bytes())
    name = job.clip.stem
    item = CorpusItem(name, job.clip, 0, "benchmark", "real", name, None)
    with tempfile.TemporaryDirectory(prefix="deepscan-") as folder:
        run = timed(process, Task(item, Path(folder), StoreSettings(frames=job.n_frames)))
    entry = run.value
    if entry.failure is not None:
        raise DeepscanError(entry.message)
    return Done(entry.row.n_tracks, _loaded[0], peak_memory_bytes(), run.wall_s)


# Peak memory of this process once everything was loaded.
_loaded: list[int | None] = []


def make_ours() -> Callable[[Job], Done]:
    """For :class:`measure.Worker`."""
    return preprocess_clip


def make_reference(n_frames: int) -> Callable[[Path], ReferenceResult]:
    """The reference pipeline, for :class:`measure.Worker`."""
    from reference import ReferencePipeline

    return ReferencePipeline(n_frames).run


@dataclass(frozen=True, slots=True)
class Predicted:
    """One video judged.

    Attributes:
        timing_s: seconds by stage, as the report has them; stages overlap, so their sum may exceed ``total``.
        people: tracks.
        peak_bytes: peak memory of the process so far, and of those that decode for it.
    """

    timing_s: dict[str, float]
    people: int
    peak_bytes: int | None


def make_detector(n_frames: int, runtime: str = "auto") -> Callable[[Path], Predicted]:
    """The default detector with default settings, for :class:`measure.Worker`."""
    from deepscan.config import PredictSettings
    from deepscan.detector import load_detector
    from deepscan.extract.isolation.pool import decoders

    detector = load_detector(settings=PredictSettings.model_validate({"frames": n_frames, "runtime": runtime}))

    def predict(path: Path) -> Predicted:
        result = detector.predict(path)
        own = peak_memory_bytes()
        others = (peak_memory_bytes(process.pid) or 0 for process in decoders.processes)
        return Predicted(result.timing_s, len(result.tracks), None if own is None else own + sum(others))

    return predict
