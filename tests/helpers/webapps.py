"""A server over a detector that takes no time: the tests of the web parts share it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from deepscan.detector import Detector, load_detector
from deepscan.models.checkpoint import DEFAULT_DETECTOR


def real_detector() -> Detector:
    """The default detector, four frames a clip."""
    from deepscan.config import PredictSettings

    return load_detector(DEFAULT_DETECTOR, PredictSettings(frames=4))


class SlowDetector:
    """The real one, which waits for leave before each answer.

    Attributes:
        go: set it to let judgements through.
        entered: counts those that began.
    """

    def __init__(self, real: Detector) -> None:
        self._real = real
        self.go = threading.Event()
        self.entered = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def analyze(self, path: Path, error: object = None, *, keep: object = None) -> object:
        self.entered += 1
        assert self.go.wait(30)
        return self._real.analyze(path, error, keep=keep)


def wait_until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


__all__ = ["SlowDetector", "real_detector", "wait_until"]
