"""Clips that many tests share, and the rule that no test may log an error unseen."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

# Numeric libraries take all cores, in each of the test processes: they ask for their number when they are imported.
if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import clips
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image

from deepscan.runtimes import NetworkSpec, openvino_runtime
from deepscan.runtimes.cache import cache_folder
from deepscan.runtimes.processor import thread_limit

_MOST_LOADED = 24

# The same examples on every run and machine; a slow machine is no failure.
settings.register_profile("deepscan", derandomize=True, deadline=None)
settings.load_profile("deepscan")


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture(autouse=True)
def no_error_logged() -> Iterator[None]:
    """Fails a test during which `deepscan` logs at ERROR: what it says on purpose, it raises.

    A command sets the logger up for its own stderr; the next test must not write into that.
    """
    logger = logging.getLogger("deepscan")
    before = list(logger.handlers), logger.level, logger.propagate
    collector = _Collector()
    logger.addHandler(collector)
    yield
    logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]
    assert not collector.messages, f"logged at ERROR: {collector.messages}"


@pytest.fixture(autouse=True)
def ordinary_priority() -> Iterator[None]:
    """SVT-AV1, run by root, leaves its caller under real-time scheduling, and programs that are started inherit it: two
    browsers then take both cores from everything else (findings/svt-av1-real-time.sh)."""
    yield
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        for thread in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Ctrl-C is tested; a shell that starts the tests in the background has it ignored, and programs inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def network_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Networks that tests convert are kept for this session, and not among the user's; processes inherit it."""
    base = tmp_path_factory.getbasetemp()
    # One folder for all test processes: each would convert the same networks again.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPSCAN_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def networks_stay_loaded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that was read from the session's cache is not read again by the next test of this process.

    That takes most of a short run. Tests that watch how networks are loaded carry the mark ``loads_networks``.
    """
    if request.node.get_closest_marker("loads_networks") is None:
        monkeypatch.setattr(openvino_runtime, "load", _load_once)


@pytest.fixture
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 bits also on a processor with bf16, and in the processes that a test starts."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")


_load = openvino_runtime.load
_loaded: dict[tuple[object, ...], openvino_runtime.OpenVinoNetwork] = {}


def _load_once(spec: NetworkSpec, build: Callable[[], Any]) -> openvino_runtime.OpenVinoNetwork:
    key = cache_folder(), thread_limit(), spec
    if not openvino_runtime.is_kept(spec):
        return _load(spec, build)
    if key not in _loaded:
        _loaded[key] = _load(spec, build)
        if len(_loaded) > _MOST_LOADED:
            del _loaded[next(iter(_loaded))]
    return _loaded[key]


@pytest.fixture(scope="session")
def portrait() -> NDArray[np.uint8]:
    """One person, RGB uint8 [512, 512, 3], read-only."""
    image = clips.portrait()
    image.setflags(write=False)
    return image


@pytest.fixture(scope="session")
def portrait_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portrait as a JPEG."""
    path = tmp_path_factory.mktemp("stills") / "portrait.jpg"
    Image.fromarray(clips.portrait()).save(path, quality=92)
    return path


@pytest.fixture(scope="session")
def face_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2.4 s, 320x240 at 25 frames/s with sound: one face moving slowly."""
    path = tmp_path_factory.mktemp("clips") / "face.mp4"
    return clips.write_video(path, clips.moving_portrait(60), audio=True)


@pytest.fixture(scope="session")
def two_people_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 s, 480x240 at 25 frames/s: two faces side by side throughout."""
    path = tmp_path_factory.mktemp("clips") / "two_people.mp4"
    return clips.write_video(path, clips.two_people_frames(50))


@pytest.fixture(scope="session")
def cut_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 s, 320x240 at 25 frames/s: one person, a hard cut at 1 s, another person."""
    path = tmp_path_factory.mktemp("clips") / "cut.mp4"
    frames = [*clips.moving_portrait(25), *clips.moving_portrait(25, image=clips.other_person())]
    return clips.write_video(path, frames)


@pytest.fixture(scope="session")
def no_face_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 s, 320x240 at 25 frames/s: moving colours, nobody in it."""
    path = tmp_path_factory.mktemp("clips") / "no_face.mp4"
    return clips.write_video(path, clips.texture_frames(50))
