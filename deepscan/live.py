"""A running verdict on a camera or stream: the last seconds are judged again and again, as a clip of them would be."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from deepscan.detector import Detector
from deepscan.errors import DeepscanError
from deepscan.extract.in_memory import InMemory
from deepscan.extract.isolation.client import live_frames
from deepscan.types import Frame, Result

WINDOW_S = 10.0
_STOP_S = 2.0


class LiveResult(NamedTuple):
    """The answer at a moment.

    Attributes:
        time_s: since the first frame.
        result: on the window that ends there.
    """

    time_s: float
    result: Result


def watch(
    detector: Detector, source: str, *, every_s: float = 1.0, window_s: float = WINDOW_S, seconds: float | None = None
) -> Iterator[LiveResult]:
    """Judge a camera, stream or looped file as it runs; close the iterator to end it.

    Of the window ``detector.settings.frames`` frames are kept, spread evenly; no more is held, however long it runs.

    Args:
        detector: that judges; it abstains as it does with files.
        source: see :func:`deepscan.extract.video.live.live_frames`.
        every_s: between two answers; more where this machine is slower.
        window_s: what an answer is on.
        seconds: after which it ends; None goes on until the source ends.

    Raises:
        MediaError: the source cannot be opened, or is lost; the answers before have come.
    """
    n_frames = detector.settings.frames
    frames = live_frames(source, window_s / n_frames, detector.settings.limits, detector.isolation)
    window = _Window(frames, n_frames)
    judge = detector.remembering()
    start = time.monotonic()
    due = start + every_s
    last = -1
    try:
        while seconds is None or time.monotonic() - start < seconds:
            window.wait(due - time.monotonic())
            due = max(due + every_s, time.monotonic())
            kept = window.frames(window_s)
            if kept and kept[-1].index != last:
                last = kept[-1].index
                yield LiveResult(kept[-1].time_s, _judged(judge, source, kept))
            elif window.is_over:
                break
        if window.error is not None:
            raise window.error
    finally:
        window.close()


def _judged(detector: Detector, source: str, frames: list[Frame]) -> Result:
    numbered = tuple(replace(frame, index=i) for i, frame in enumerate(frames))
    clip = InMemory(source, "video", numbered, frames[-1].time_s - frames[0].time_s)
    return next(detector.analyze_many([(clip, None)])).result


class _Window:
    """The last frames, which a thread takes as they come: judging must not hold up a stream."""

    def __init__(self, frames: Iterator[Frame], most: int) -> None:
        self._kept: deque[Frame] = deque(maxlen=most)
        self._frames, self._lock = frames, threading.Lock()
        self._over, self._is_closed = threading.Event(), False
        self.error: DeepscanError | None = None
        self._thread = threading.Thread(target=self._read, name="live", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def wait(self, seconds: float) -> None:
        """Wait so long, less where the source ends."""
        self._over.wait(max(0.0, seconds))

    def frames(self, window_s: float) -> list[Frame]:
        with self._lock:
            kept = list(self._kept)
        return [frame for frame in kept if kept[-1].time_s - frame.time_s <= window_s]

    def close(self) -> None:
        self._is_closed = True
        self._thread.join(_STOP_S)

    def _read(self) -> None:
        try:
            for frame in self._frames:
                if self._is_closed:
                    break
                with self._lock:
                    self._kept.append(frame)
        except DeepscanError as error:
            self.error = error
        finally:
            getattr(self._frames, "close", lambda: None)()
            self._over.set()
