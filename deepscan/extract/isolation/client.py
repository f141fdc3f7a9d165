"""Decoding at arm's length: :func:`probe`, :func:`sample_frames` and :func:`file_facts` in a process of their own.

Decoders are large native libraries and the files come from anybody. In a process with limits on time and memory a
decoder that crashes, hangs or takes all memory costs its file and nothing else: that is a
:class:`deepscan.errors.MediaError` with the reason ``decoder_crashed``, ``timeout`` or ``out_of_memory``.

The process is started for the first file and used for many. Each call that is being served has one to itself: several
threads that decode at the same time have one each, of which a few are kept.
"""

from __future__ import annotations

import atexit
import os
import threading
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from deepscan.config import DEFAULT_LIMITS, MediaLimits
from deepscan.errors import MediaError
from deepscan.extract.isolation.decoder_process import DecoderDied, DecoderProcess
from deepscan.extract.video import frames
from deepscan.extract.video.container import checked_kind
from deepscan.types import Coverage, Frame, MediaInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from deepscan.extract.file_facts.metadata import FileFacts

__all__ = ["DEFAULT_ISOLATION", "IsolationLimits", "file_facts", "prepare", "probe", "sample_frames"]

_MOST_IDLE = 2
_BASE_MEMORY_BYTES = 4 * 2**30
# FFmpeg decodes on all cores, 16 at most, and each holds frames: 8K in 10 bits is 100 MB a frame.
_THREAD_MEMORY_BYTES = 256 * 2**20
_MOST_DECODER_THREADS = 16


def _default_memory_bytes() -> int:
    return _BASE_MEMORY_BYTES + _THREAD_MEMORY_BYTES * min(os.cpu_count() or 1, _MOST_DECODER_THREADS)


@dataclass(frozen=True, slots=True)
class IsolationLimits:
    """What the process that decodes may take. None of it changes a frame.

    Attributes:
        stall_s: seconds in which it must get on: read a packet, or decode a picture. A long file may take long.
        total_s: seconds that may be waited for one file in all; None for any.
        memory_bytes: of addresses, above those it starts with. By default 4 GiB and 256 MiB for every core that
            decodes (Linux only: elsewhere there is no such limit).
        files_per_process: after so many files it is replaced.
    """

    stall_s: float = 60.0
    total_s: float | None = None
    memory_bytes: int = _default_memory_bytes()
    files_per_process: int = 200

    def __post_init__(self) -> None:
        if not (self.stall_s > 0 and (self.total_s is None or self.total_s > 0)):
            raise ValueError(f"Invalid time limit ({self.stall_s}, {self.total_s}). Supported is what is above 0.")
        if self.memory_bytes < 1 or self.files_per_process < 1:
            raise ValueError("Invalid limit on memory or files. Supported are whole numbers from 1.")


DEFAULT_ISOLATION = IsolationLimits()


def probe(
    path: Path, limits: MediaLimits = DEFAULT_LIMITS, isolation: IsolationLimits | None = DEFAULT_ISOLATION
) -> MediaInfo:
    """:func:`deepscan.extract.video.frames.probe` in another process; None for ``isolation`` does it in this one.

    Raises:
        MediaError: also with the reason ``decoder_crashed``, ``timeout`` or ``out_of_memory``.
        DeepscanError: no process can be started.
    """
    if isolation is None:
        return frames.probe(path, limits)
    checked_kind(path, limits)  # what is no file at all needs no process
    with closing(_answers(path, {"do": "probe"}, limits, isolation)) as answers:
        return cast("MediaInfo", next(answers))


def sample_frames(
    path: Path,
    n_frames: int,
    limits: MediaLimits = DEFAULT_LIMITS,
    isolation: IsolationLimits | None = DEFAULT_ISOLATION,
    *,
    examined: Callable[[Coverage], None] | None = None,
) -> Iterator[Frame]:
    """:func:`deepscan.extract.video.frames.sample_frames` in another process; without ``isolation`` in this one.

    The other process decodes up to four frames ahead. Close the iterator if it is not read to its end.

    Raises:
        ValueError, MediaError, DeepscanError: as above, at the same points.
    """
    # This checks the number, and starts when it is iterated.
    here = frames.sample_frames(path, n_frames, limits, examined=examined)
    return here if isolation is None else _sampled(path, n_frames, limits, isolation, examined)


def file_facts(
    path: Path, limits: MediaLimits = DEFAULT_LIMITS, isolation: IsolationLimits | None = DEFAULT_ISOLATION
) -> FileFacts:
    """:func:`deepscan.extract.file_facts.facts.file_facts` in another process; without ``isolation`` in this one.

    Raises:
        MediaError, DeepscanError: as :func:`probe`.
    """
    if isolation is None:
        from deepscan.extract.file_facts import facts

        return facts.file_facts(path, limits)
    checked_kind(path, limits)
    with closing(_answers(path, {"do": "facts"}, limits, isolation)) as answers:
        return cast("FileFacts", next(answers))


def prepare(isolation: IsolationLimits | None = DEFAULT_ISOLATION) -> None:
    """Start the process now, without waiting for it, so that it is there for the first file.

    Raises:
        DeepscanError: it cannot be started.
    """
    if isolation is not None:
        _pool.prepare(isolation)


def _sampled(
    path: Path,
    n_frames: int,
    limits: MediaLimits,
    isolation: IsolationLimits,
    examined: Callable[[Coverage], None] | None,
) -> Iterator[Frame]:
    checked_kind(path, limits)
    with closing(_answers(path, {"do": "sample", "n_frames": n_frames}, limits, isolation)) as answers:
        for answer in answers:
            if isinstance(answer, Coverage):
                if examined is not None:
                    examined(answer)
            else:
                yield cast("Frame", answer)


def _answers(
    path: Path, request: dict[str, Any], limits: MediaLimits, isolation: IsolationLimits
) -> Generator[Frame | Coverage | MediaInfo | FileFacts, None, None]:
    """The answers to a request. A crash in a process that had other files before may be theirs: it is tried again."""
    n_given = 0
    while True:
        process = _pool.take(isolation)
        fresh = process.n_files == 0
        try:
            asked = {**request, "first": n_given}
            with closing(process.run(path, asked, limits, isolation.stall_s, isolation.total_s)) as answers:
                for answer in answers:
                    n_given += 1
                    yield answer
        except DecoderDied as death:
            if fresh or death.kind == "timeout":
                raise _media_error(path, death, isolation) from None
        else:
            return
        finally:
            _pool.give_back(process, isolation)


def _media_error(path: Path, death: DecoderDied, isolation: IsolationLimits) -> MediaError:
    if death.kind == "timeout":
        seconds = isolation.stall_s if isolation.total_s is None else min(isolation.stall_s, isolation.total_s)
        return MediaError(
            f"{path.name}: takes too long",
            f"its decoder did not get on for {seconds:g} s",
            "The file may be damaged or made to do harm; convert it to mp4 with another program.",
            reason="timeout",
        )
    return MediaError(
        f"{path.name}: cannot be read",
        f"its decoder {death.how}",
        "The file may be damaged or made to do harm; get it again, or convert it to mp4 with another program.",
        reason="decoder_crashed",
    )


class _Pool:
    """The processes that decode for this one. Every thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[DecoderProcess] = []
        self._all: set[DecoderProcess] = set()
        self._registered = False
        self.n_started = 0

    def prepare(self, isolation: IsolationLimits) -> None:
        with self._lock:
            if not self._idle:
                self._idle.append(self._started(isolation))

    def take(self, isolation: IsolationLimits) -> DecoderProcess:
        while True:
            with self._lock:
                if not self._idle:
                    return self._started(isolation)
                process = self._idle.pop()
            if process.is_usable and process.memory_bytes == isolation.memory_bytes:
                return process
            self._end(process)

    def give_back(self, process: DecoderProcess, isolation: IsolationLimits) -> None:
        if process.is_usable and process.n_files < isolation.files_per_process:
            with self._lock:
                if len(self._idle) < _MOST_IDLE:
                    self._idle.append(process)
                    return
        self._end(process)

    def _end(self, process: DecoderProcess) -> None:
        process.end()
        with self._lock:
            self._all.discard(process)

    def end(self) -> None:
        """End all processes; the next file gets a new one."""
        with self._lock:
            processes, self._all, self._idle = self._all, set(), []
        for process in processes:
            process.end()

    def _started(self, isolation: IsolationLimits) -> DecoderProcess:
        if not self._registered:
            self._registered = True
            atexit.register(self.end)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=self._leave_to_parent)
        process = DecoderProcess(isolation.memory_bytes)
        self._all.add(process)
        self.n_started += 1
        return process

    def _leave_to_parent(self) -> None:
        for process in self._all:
            process.disown()
        # Another thread of the parent's, which is not here, may have held the lock.
        self._lock = threading.Lock()
        self._idle, self._all, self.n_started = [], set(), 0


_pool = _Pool()


def processes_started() -> int:
    """How many processes this one has started to decode: more than one where some were replaced."""
    return _pool.n_started
