"""Detectors for a server: the real one, a slow one, and one that takes no time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path

from madereports import MODEL, card

from deepscan.analysis import Analysis, failed_analysis
from deepscan.config import PredictSettings
from deepscan.detector import Detector, load_detector
from deepscan.errors import MediaError
from deepscan.models.checkpoint import DEFAULT_DETECTOR
from deepscan.types import Report, Result
from deepscan.version import __version__


def real_detector() -> Detector:
    """The default detector, four frames a clip."""
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


class StandInDetector:
    """One that answers at once that a file cannot be read, without a network and without a decoder.

    Args:
        waits: for ``go`` before each answer.
        fails: instead of answering.
    """

    def __init__(self, *, waits: bool = False, fails: bool = False) -> None:
        self.card, self.settings, self.isolation = card(), PredictSettings(), None
        self.go, self.entered, self._fails = threading.Event(), 0, fails
        if not waits:
            self.go.set()

    def analyze(self, path: Path, error: Exception | None = None, *, keep: object = None) -> Analysis:
        self.entered += 1
        assert self.go.wait(30)
        if self._fails:
            raise RuntimeError(f"{path} is too much")
        return failed_analysis(path, error or MediaError(f"{path.name}: cannot be read"))

    def report(self, results: Iterable[Result]) -> Report:
        return Report(__version__, MODEL, tuple(results))


def wait_until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


__all__ = ["SlowDetector", "StandInDetector", "real_detector", "wait_until"]
