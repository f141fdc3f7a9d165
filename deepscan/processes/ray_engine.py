"""The engine of a Ray cluster: Ray schedules, each of its processes keeps one guarded worker.

A task that hangs, dies or fails does so in the guarded worker: Ray does not lose a process over it, and the loss reads
as on one machine. What Ray itself retries, a few times, is the loss of a process or a node.

Nodes need the same version of deepscan installed, and see the files under the same paths.
"""

from __future__ import annotations

import logging
import pickle
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from deepscan.errors import ConfigError
from deepscan.processes import Lost
from deepscan.processes.guard import available_cores, environment, run_kept, threads_per_worker
from deepscan.processes.supervisor import one_line
from deepscan.processes.worker import Outcome, WorkerSettings, result_of, unexpected
from deepscan.version import install_command

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_IN_FLIGHT = 2  # tasks in Ray's hands for each of the cluster's cores
_RETRIES = 3
_RESIZE_S = 5.0  # between two looks at the cluster's size
_FILL_S = 0.1  # to submit tasks before looking for results
_WAIT_S = 1.0
_CONNECT_S = 5.0

_JOIN_HINT = (
    "This machine must be one of the cluster's; the address is the host:port that `ray start --head` printed, or auto. "
    "A cluster that asks for a token needs RAY_AUTH_MODE=token here too."
)

# Ray reads some of these when it is imported, others when it starts or joins a cluster.
_ENVIRONMENT = {
    # No usage statistics over the network.
    "RAY_USAGE_STATS_ENABLED": "0",
    # A cluster that is started here listens on loopback only; on Linux too, whatever the name says.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # A task that asks for no GPU sees those of its machine, as in a local worker.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Without it Ray tries again and again, for minutes, where something listens that is no cluster.
    "RAY_NUM_REDIS_GET_RETRIES": "2",
    # Without it Ray retries a task for ever whose process it ended for want of memory.
    "RAY_task_oom_retries": str(_RETRIES),
}


class RayEngine:
    """Workers of a Ray cluster; see :class:`deepscan.processes.Engine`.

    Args:
        jobs: cores of the cluster that is started here, or tasks at a time on the one at ``address``.
        time_limit_s: a task that runs longer is lost; None waits for ever.
        address: ``host:port`` of a cluster that this machine is part of, or ``auto``; without it one is started on
            this machine, on loopback, and ended with the context. A connection that the caller made is used and kept.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers or can be started.
    """

    def __init__(self, jobs: int | None = None, time_limit_s: float | None = None, address: str | None = None) -> None:
        self._ray = _import_ray()
        self._time_limit_s = time_limit_s
        self._jobs = jobs
        self._connected = not self._ray.is_initialized()
        self._started = self._connected and address is None
        if self._connected:
            _connect(self._ray, jobs or available_cores(), address)
        else:
            log.info("Ray is connected already, to %s.", self._ray.get_runtime_context().gcs_address)
        self.n_workers, self._sized_at = self._size(), time.monotonic()
        threads = threads_per_worker(self.n_workers) if self._started else 1
        self._settings = WorkerSettings.from_leader(threads, keeps_main=False)
        self._submit = self._ray.remote(num_cpus=1, max_retries=_RETRIES, scheduling_strategy="SPREAD")(run_kept)
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        if self._connected:
            # Ends the cluster that was started here; on another, Ray ends this driver's processes.
            self._connected = False
            self._ray.shutdown()

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R | Lost]]:
        """Run ``function`` on every task. Leaving it early ends the tasks that run.

        Raises:
            ValueError: the function is defined in the main module, which the nodes do not know.
        """
        if getattr(function, "__module__", None) == "__main__":
            raise ValueError(f"{function} is defined in the main module; nodes can import it from a module only.")
        return self._results(pickle.dumps(function), iter(tasks))

    def _results(self, function: bytes, tasks: Iterator[T]) -> Iterator[tuple[T, Any]]:
        if self._closed:
            raise RuntimeError("The engine is closed.")
        running: dict[Any, T] = {}
        more = True
        try:
            while True:
                until = time.monotonic() + _FILL_S
                unread: list[tuple[T, Lost]] = []
                while more and len(running) < self._in_flight() and time.monotonic() < until:
                    try:
                        task = next(tasks)
                    except StopIteration:
                        more = False
                        break
                    try:
                        argument = pickle.dumps(task, pickle.HIGHEST_PROTOCOL)
                    except Exception as error:  # noqa: BLE001 - whatever a task's own pickling raises
                        unread.append((task, Lost("internal", unexpected(error))))
                        continue
                    running[self._submit.remote(function, argument, self._time_limit_s, self._settings)] = task
                yield from unread
                if not (running or more):
                    return
                wait_s = 0 if more and len(running) < self._in_flight() else _WAIT_S
                for ref in self._ready(list(running), wait_s):
                    result = result_of(self._outcome(ref))
                    yield running.pop(ref), result
        finally:
            self._cancel(list(running))

    def _ready(self, refs: list[Any], wait_s: float) -> list[Any]:
        """Those that are done, as soon as one is."""
        if self._closed:
            raise RuntimeError("The engine is closed.")
        if not refs or not self._ray.wait(refs, num_returns=1, timeout=wait_s)[0]:
            return []
        finished: list[Any] = self._ray.wait(refs, num_returns=len(refs), timeout=0)[0]
        return finished

    def _outcome(self, ref: Any) -> Outcome | Lost:
        errors = self._ray.exceptions
        try:
            outcome: Outcome | Lost = self._ray.get(ref)
        except errors.RayTaskError as error:  # outside of the guarded worker: deepscan is missing there, or older
            return Lost("internal", unexpected(error.cause if isinstance(error.cause, Exception) else error))
        except errors.RayError as error:
            reason = one_line(str(error) or type(error).__name__)
            return Lost("worker_died", one_line(f"Ray gave the task up after {_RETRIES} retries: {reason}"))
        return outcome

    def _cancel(self, refs: list[Any]) -> None:
        """End tasks of a map that was left early, those that run too."""
        if not refs or not self._ray.is_initialized():
            return
        # Interrupted first: Ray 2.60 aborts this process where a task is done just as it is ended by force.
        for force in (False, True):
            refs = self._ray.wait(refs, num_returns=len(refs), timeout=0)[1]
            for ref in refs:
                self._ray.cancel(ref, force=force)
            refs = self._ray.wait(refs, num_returns=len(refs), timeout=_CONNECT_S)[1] if refs else []
            if not refs:
                return

    def _in_flight(self) -> int:
        if time.monotonic() - self._sized_at > _RESIZE_S:
            self.n_workers, self._sized_at = self._size(), time.monotonic()
        if self._jobs is not None and not self._started:
            return self._jobs
        return _IN_FLIGHT * self.n_workers

    def _size(self) -> int:
        """Tasks that run at a time: the cluster's cores, at most the jobs. It may grow and shrink."""
        cores = max(1, int(self._ray.cluster_resources().get("CPU", 0)))
        return cores if self._jobs is None else min(self._jobs, cores)


def _import_ray() -> Any:
    try:
        with environment(_ENVIRONMENT):
            import ray
            import ray.exceptions
    except ImportError as error:
        raise ConfigError(
            "The engine ray cannot be used", "Ray is not installed", f"Run: {install_command('ray')}"
        ) from error
    return ray


def _connect(ray: Any, n_cores: int, address: str | None) -> None:
    """Start a cluster, or join one.

    Raises:
        ConfigError: it cannot be done.
    """
    problem = "No Ray cluster can be started here" if address is None else f"No Ray cluster can be joined at {address}"
    hint = "The engine local needs none." if address is None else _JOIN_HINT
    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is not None:
            _probe(address)
        with environment(_ENVIRONMENT):
            if address is None:
                ray.init("local", num_cpus=n_cores, include_dashboard=False, **options)
            else:
                ray.init(address, **options)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        ray.shutdown()
        raise ConfigError(problem, one_line(str(error)), hint) from error


def _probe(address: str) -> None:
    """Ask whether anything listens there: Ray itself asks for minutes, then ends the process.

    Raises:
        OSError: nothing does.
        ValueError: it is no address.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("it is not of the form host:port")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S):
        return
