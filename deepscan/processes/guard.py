"""One guarded worker process: runs one task at a time and survives whatever a task does to it.

It is a pool of pebble with a single worker. Pools with several share one pipe and its lock between them: a worker that
is killed while it holds the lock would stop the others too. A pool is given up with its worker: what that one left in
the pipe is unknown.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import ModuleType
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

from deepscan.errors import DeepscanError
from deepscan.processes import Lost
from deepscan.processes.worker import (
    FEW_ARENAS,
    Outcome,
    WorkerSettings,
    end_of_process,
    execute,
    ready,
    start_worker,
    stopped,
    unexpected,
)

log = logging.getLogger(__name__)

R = TypeVar("R")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
# glibc keeps what large arrays leave behind; given back at once, a worker's peak is some 60 MB lower. OpenMP threads
# that wait without spinning leave the core to the other workers. What the user has set counts.
_MEMORY_VARIABLES = {**FEW_ARENAS, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
_WAIT_VARIABLES = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
_WATCH_S = 0.2  # between two looks at a worker that runs a task
_GRACE_S = 1.0  # in which pebble is to report a death; it misses some
_STOP_S = 5.0  # to wait for the threads of a pool that is given up
_MAX_STARTS = 3

_process_state = threading.Lock()


class GuardStopped(Exception):  # noqa: N818 - an event, not an error
    """The guard was stopped while a task ran, or before."""


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_per_worker(n_workers: int) -> int:
    """A worker's share of the cores, or less if ``OMP_NUM_THREADS`` asks for less."""
    share = max(1, available_cores() // n_workers)
    wish = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(wish)) if wish.isdecimal() and int(wish) > 0 else share


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for what is started meanwhile; restored afterwards. One at a time in a process."""
    with _process_state:
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


class _WorkerProcess(SpawnProcess):
    """Starts in the environment of a worker and is ended at once."""

    settings: WorkerSettings

    def start(self) -> None:
        variables = dict.fromkeys(_THREAD_VARIABLES, str(self.settings.threads))
        variables |= {k: os.environ.get(k, v) for k, v in (_MEMORY_VARIABLES | _WAIT_VARIABLES).items()}
        with environment(variables), _interrupts_held(), _main_module(self.settings.keeps_main):
            super().start()

    def terminate(self) -> None:
        # SIGTERM waits until a running task comes back to Python; everything a task writes is whole or not there.
        self.kill()


class _Lock:
    """Stands in for the lock between the workers of a pool where there is one: nothing outlives a killed process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[type[_Lock], tuple[()]]:
        return _Lock, ()

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        return self._lock.acquire(block, -1 if timeout is None or not block else timeout)

    def release(self) -> None:
        self._lock.release()


class _Context:
    """The multiprocessing context that a pool starts its workers with; knows them all."""

    def __init__(self, settings: WorkerSettings) -> None:
        # A worker that is killed leaves its temporary files behind.
        self.temporary = tempfile.mkdtemp(prefix="deepscan-worker-")
        self.settings = replace(settings, temporary=self.temporary)
        self._spawn = get_context("spawn")
        self.started: list[_WorkerProcess] = []

    def Process(self, **options: Any) -> _WorkerProcess:  # noqa: N802 - pebble calls it so
        process = _WorkerProcess(**options)
        process.settings = self.settings
        self.started.append(process)
        return process

    def Pipe(self, duplex: bool = True) -> tuple[Connection[Any, Any], Connection[Any, Any]]:  # noqa: N802
        return self._spawn.Pipe(duplex)

    def RLock(self) -> Any:  # noqa: N802
        return _Lock()

    def get_start_method(self) -> str:
        return "spawn"

    def exit_code(self, wait_s: float = 0.0) -> int | None:
        """Of the first worker that ended, None while all live; waits for one to end."""
        until = time.monotonic() + wait_s
        while True:
            codes = [code for process in tuple(self.started) if (code := process.exitcode) is not None]
            if codes or time.monotonic() >= until:
                return codes[0] if codes else None
            time.sleep(0.01)

    def kill(self) -> None:
        for process in tuple(self.started):
            if process.pid is not None:
                process.kill()


class Guard:
    """One worker process, started for the first task and again for the first after a loss.

    Args:
        settings: of the worker.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._pool: tuple[ProcessPool, _Context] | None = None
        self._stopped = False

    def run(self, function: bytes, task: bytes, time_limit_s: float | None) -> Outcome | Lost:
        """Run a pickled function on a pickled task; the time limit does not count the start of the worker.

        Raises:
            DeepscanError: no worker can be started.
            GuardStopped: another thread stopped the guard.
        """
        for _ in range(_MAX_STARTS):
            pool, context = self._started_pool()
            try:
                future = pool.schedule(execute, args=(function, task, self.settings.threads), timeout=time_limit_s)
                result = self._wait(future, context, time_limit_s)
            except (BrokenProcessPool, RuntimeError):  # its idle worker died at this moment, before the task was begun
                self._discard()
                continue
            if isinstance(result, Lost):
                self._discard()
            return result
        return Lost("worker_died", "its worker processes died before they could begin it")

    def stop(self) -> threading.Thread | None:
        """End the worker at once, for good; gives the thread that clears up, if there is something to."""
        with self._lock:
            self._stopped = True
            pool, self._pool = self._pool, None
        return None if pool is None else _end(*pool)

    def _started_pool(self) -> tuple[ProcessPool, _Context]:
        """A pool whose worker is up and lives."""
        reason = ""
        for _ in range(_MAX_STARTS):
            with self._lock:
                if self._stopped:
                    raise GuardStopped
                kept = self._pool
                if kept is None:
                    context = _Context(self.settings)
                    pool = ProcessPool(1, initializer=start_worker, initargs=(context.settings,), context=context)
                    self._pool = (pool, context)
            if kept is None:
                # Whether a worker can start is asked apart from any task: a task is lost once it was given to one.
                try:
                    up: Lost | int = self._wait(pool.schedule(ready), context, None)
                except (RuntimeError, OSError) as error:
                    up = Lost("worker_died", unexpected(error))
                if not isinstance(up, Lost):
                    return pool, context
                reason = up.message
            elif kept[1].exit_code() is None:
                return kept
            self._discard()
        raise DeepscanError(
            "worker processes cannot be started",
            reason,
            'A script that starts them needs `if __name__ == "__main__":` around what it runs.',
            reason="no_worker",
        )

    def _wait(self, future: Future[R], context: _Context, time_limit_s: float | None) -> R | Lost:
        died_at = None
        while not wait([future], timeout=_WATCH_S).done:
            if self._stopped:
                raise GuardStopped
            if context.exit_code() is not None:
                died_at = died_at or time.monotonic()
                if time.monotonic() - died_at > _GRACE_S:
                    return Lost("worker_died", _death(context.exit_code()))
        error = future.exception()
        if error is None:
            return future.result()
        if self._stopped:
            raise GuardStopped
        if isinstance(error, TimeoutError):
            return Lost("timeout", f"not done within the time limit of {time_limit_s:g} s")
        if isinstance(error, BrokenProcessPool):
            raise error
        if isinstance(error, ProcessExpired):
            return Lost("worker_died", _death(context.exit_code(_GRACE_S)))
        return Lost("internal", unexpected(error))

    def _discard(self) -> None:
        """Give the pool up."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            _end(*pool).join(_STOP_S)


def _end(pool: ProcessPool, context: _Context) -> threading.Thread:
    """Kill a pool's workers; its threads end in the one that is given back."""

    def join() -> None:
        try:
            pool.join()
        except (RuntimeError, OSError) as error:
            log.debug("A worker pool did not end well: %s", error)
        shutil.rmtree(context.temporary, ignore_errors=True)

    pool.stop()  # type: ignore[no-untyped-call]
    context.kill()
    # It takes a tenth of a second, for many pools together no more if all are stopped before any is joined.
    thread = threading.Thread(target=join, name="pool-end", daemon=True)
    thread.start()
    return thread


def _death(code: int | None) -> str:
    """One line about a worker process that ended with this code."""
    if code is None:
        return "its worker process died"
    hint = ", fewer jobs need less" if code == -9 else ""  # SIGKILL
    return f"its worker process {end_of_process(code)}{hint}"


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process started meanwhile is not interrupted before it ignores interrupts itself."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _main_module(kept: bool) -> Iterator[None]:
    """A process started meanwhile imports this one's main module only if that is to be kept."""
    main = sys.modules["__main__"]
    if not kept:
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


_kept: Guard | None = None


def run_kept(function: bytes, task: bytes, time_limit_s: float | None, settings: WorkerSettings) -> Outcome | Lost:
    """Run a task in the one guarded worker that this process keeps, with all that it has loaded."""
    global _kept  # noqa: PLW0603 - lives as long as the process, like the worker
    if _kept is None or _kept.settings != settings:
        if _kept is not None:
            _kept.stop()
        _kept = Guard(settings)
    try:
        return _kept.run(function, task, time_limit_s)
    except DeepscanError as error:
        return stopped(error)
