"""The processes that decode for this one, what they may take, and when they are replaced."""

from __future__ import annotations

import atexit
import os
import threading
from dataclasses import dataclass

from deepscan.extract.isolation.decoder_process import DecoderProcess

MAX_IDLE = 2
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


class DecoderPool:
    """The processes that decode for this one. Every thread may use it.

    Attributes:
        idle: those that wait for a file.
        processes: all that live.
        n_started: so far; more than one where some were replaced.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.idle: list[DecoderProcess] = []
        self.processes: set[DecoderProcess] = set()
        self._registered = False
        self.n_started = 0

    def prepare(self, isolation: IsolationLimits) -> None:
        with self._lock:
            if not self.idle:
                self.idle.append(self._started(isolation))

    def take(self, isolation: IsolationLimits) -> DecoderProcess:
        while True:
            with self._lock:
                if not self.idle:
                    return self._started(isolation)
                process = self.idle.pop()
            if process.is_usable and process.memory_bytes == isolation.memory_bytes:
                return process
            self._end(process)

    def give_back(self, process: DecoderProcess, isolation: IsolationLimits) -> None:
        if process.is_usable and process.n_files < isolation.files_per_process:
            with self._lock:
                if len(self.idle) < MAX_IDLE:
                    self.idle.append(process)
                    return
        self._end(process)

    def _end(self, process: DecoderProcess) -> None:
        process.end()
        with self._lock:
            self.processes.discard(process)

    def end(self) -> None:
        """End all processes; the next file gets a new one."""
        with self._lock:
            processes, self.processes, self.idle = self.processes, set(), []
        for process in processes:
            process.end()

    def _started(self, isolation: IsolationLimits) -> DecoderProcess:
        if not self._registered:
            self._registered = True
            atexit.register(self.end)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=self._leave_to_parent)
        process = DecoderProcess(isolation.memory_bytes)
        self.processes.add(process)
        self.n_started += 1
        return process

    def _leave_to_parent(self) -> None:
        for process in self.processes:
            process.disown()
        # Another thread of the parent's, which is not here, may have held the lock.
        self._lock = threading.Lock()
        self.idle, self.processes, self.n_started = [], set(), 0


decoders = DecoderPool()
