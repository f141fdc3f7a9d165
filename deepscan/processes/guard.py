"""One guarded worker process: runs one task at a time and survives whatever a task does to it."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace

from deepscan.errors import DeepscanError
from deepscan.processes import Lost
from deepscan.processes.supervisor import FEW_ARENAS, ChildDied, ChildProcess
from deepscan.processes.worker import (
    MESSAGE_HEAD_BYTES,
    Outcome,
    WorkerSettings,
    as_message,
    main_module,
    message_length,
    stopped,
)

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
# glibc keeps what large arrays leave behind; given back at once, a worker's peak is some 60 MB lower. OpenMP threads
# that wait without spinning leave the core to the other workers. What the user has set counts.
_VARIABLES = {
    **FEW_ARENAS,
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
}
_MAX_STARTS = 3

_environment_lock = threading.Lock()


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
    with _environment_lock:
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


class Guard:
    """One worker process, started for the first task and again for the first after a loss. For one thread at a time.

    Args:
        settings: of the worker.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        # A worker that is killed leaves its temporary files behind.
        self._temporary = ""
        self._is_stopped = False

    def run(self, function: bytes, task: bytes, time_limit_s: float | None) -> Outcome | Lost:
        """Run a pickled function on a pickled task; the time limit does not count the start of the worker.

        Raises:
            DeepscanError: no worker can be started.
            GuardStopped: another thread stopped the guard.
        """
        request = as_message(pickle.dumps((function, task)))
        try:
            for _ in range(_MAX_STARTS):
                child = self._started()
                child.send(request)
                try:
                    child.read(1, None)
                except ChildDied:  # before the task was begun
                    self._discard()
                    continue
                try:
                    length = message_length(child.read(MESSAGE_HEAD_BYTES, time_limit_s))
                    outcome: Outcome = pickle.loads(child.read(length, None))  # noqa: S301 - from our own worker
                except ChildDied as death:
                    self._discard()
                    return _lost(death, time_limit_s)
                return outcome
        except BaseException:
            self._end()  # nobody reads what comes of the task
            raise
        return Lost("worker_died", "its worker processes died before they could begin it")

    def kill(self) -> None:
        """End the worker at once, for good, without waiting for that."""
        with self._lock:
            self._is_stopped = True
            if self._child is not None:
                self._child.kill()

    def stop(self) -> None:
        """The same, and clear up after it."""
        self.kill()
        self._end()

    def _started(self) -> ChildProcess:
        """A worker that is up."""
        reason = ""
        for _ in range(_MAX_STARTS):
            try:
                child = self._child_or_new()
                # Whether a worker can start is asked apart from any task: a task is lost once it was given to one.
                child.wait_until_ready(None)
            except ChildDied as death:
                reason = death.ending if death.kind == "broken" else f"its worker process {death.ending}"
                self._discard()
            except OSError as error:
                reason = str(error)
                break
            else:
                return child
        raise DeepscanError(
            "worker processes cannot be started",
            reason,
            'A script that starts them needs `if __name__ == "__main__":` around what it runs.',
            reason="no_worker",
        )

    def _child_or_new(self) -> ChildProcess:
        with self._lock:
            if self._is_stopped:
                raise GuardStopped
            if self._child is None:
                self._temporary = tempfile.mkdtemp(prefix="deepscan-worker-")
                settings = asdict(replace(self.settings, temporary=self._temporary))
                variables = {name: os.environ.get(name, value) for name, value in _VARIABLES.items()}
                self._child = ChildProcess(
                    "deepscan.processes.worker:main",
                    {"worker": settings, "main_module": main_module() if self.settings.keeps_main else {}},
                    variables=variables | dict.fromkeys(_THREAD_VARIABLES, str(self.settings.threads)),
                    flags=("-P",),
                )
            return self._child

    def _discard(self) -> None:
        """Give the worker up.

        Raises:
            GuardStopped: that is why it died.
        """
        self._end()
        if self._is_stopped:
            raise GuardStopped

    def _end(self) -> None:
        with self._lock:
            child, self._child = self._child, None
            temporary, self._temporary = self._temporary, ""
        if child is not None:
            child.end()
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _lost(death: ChildDied, time_limit_s: float | None) -> Lost:
    if death.kind == "timeout":
        return Lost("timeout", f"not done within the time limit of {time_limit_s:g} s")
    hint = ", fewer jobs need less" if death.exit_code == -9 else ""  # SIGKILL
    return Lost("worker_died", f"its worker process {death.ending}{hint}")


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
