"""The engine of this machine: one guarded worker process for each job."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from deepscan.processes import Lost
from deepscan.processes.guard import Guard, GuardStopped, available_cores, threads_per_worker
from deepscan.processes.worker import Outcome, WorkerSettings, result_of, unexpected

T = TypeVar("T")
R = TypeVar("R")

LOOK_AHEAD = 3  # tasks read for each worker: the one that runs, and those that keep it busy while the caller is
_LOOK_S = 0.5  # a wait without end hides Ctrl-C on Windows
_STOP_S = 5.0


class _End:
    """No more tasks for a thread."""


class LocalEngine:
    """Worker processes of this machine; see :class:`deepscan.processes.Engine`.

    Workers start with the first tasks, keep what the function has loaded, and end with the context.

    Args:
        jobs: worker processes; the cores available to this process when not given.
        time_limit_s: a task that runs longer is lost; None waits for ever.
    """

    def __init__(self, jobs: int | None = None, time_limit_s: float | None = None) -> None:
        self.n_workers = jobs or available_cores()
        self._time_limit_s = time_limit_s
        self._settings = WorkerSettings.from_leader(threads_per_worker(self.n_workers))
        self._guards: list[Guard] = []
        self._closed = self._busy = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._stop()

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R | Lost]]:
        """Run ``function`` on every task; one map at a time. Leaving it early ends the tasks that run."""
        return self._results(pickle.dumps(function), iter(tasks))

    def _results(self, function: bytes, tasks: Iterator[T]) -> Iterator[tuple[T, Any]]:
        if self._closed or self._busy:
            raise RuntimeError("The engine is closed." if self._closed else "The engine runs another map.")
        todo: SimpleQueue[T | _End] = SimpleQueue()
        outcomes: SimpleQueue[tuple[T, Outcome | Lost | BaseException]] = SimpleQueue()
        threads: list[Thread] = []
        n_open, more = 0, True
        self._busy = True
        try:
            while True:
                while more and n_open < LOOK_AHEAD * self.n_workers:
                    try:
                        todo.put(next(tasks))
                    except StopIteration:
                        more = False
                        break
                    n_open += 1
                    if len(threads) < min(n_open, self.n_workers):
                        threads.append(self._serve(len(threads), function, todo, outcomes))
                    if not outcomes.empty():
                        break
                if not n_open:
                    return
                task, outcome = self._next(outcomes)
                n_open -= 1
                if isinstance(outcome, BaseException):
                    raise outcome
                yield task, result_of(outcome)
        finally:
            self._busy = False
            for _ in threads:
                todo.put(_End())
            if n_open:
                self._stop()
            for thread in threads:
                thread.join(_STOP_S)

    def _serve(
        self,
        index: int,
        function: bytes,
        todo: SimpleQueue[T | _End],
        outcomes: SimpleQueue[tuple[T, Outcome | Lost | BaseException]],
    ) -> Thread:
        """The thread that gives tasks to one worker."""
        if index == len(self._guards):
            self._guards.append(Guard(self._settings))
        guard = self._guards[index]

        def serve() -> None:
            while not isinstance(task := todo.get(), _End):
                try:
                    outcomes.put((task, _run(guard, function, task, self._time_limit_s)))
                except GuardStopped:
                    return
                except BaseException as error:  # noqa: BLE001 - raised where the results are read
                    outcomes.put((task, error))

        thread = Thread(target=serve, name=f"worker-{index}", daemon=True)
        thread.start()
        return thread

    def _next(
        self, outcomes: SimpleQueue[tuple[T, Outcome | Lost | BaseException]]
    ) -> tuple[T, Outcome | Lost | BaseException]:
        while True:
            try:
                return outcomes.get(timeout=_LOOK_S)
            except Empty:
                if self._closed:
                    raise RuntimeError("The engine is closed.") from None

    def _stop(self) -> None:
        """Kill all workers; a later map starts new ones."""
        guards, self._guards = self._guards, []
        for guard in guards:
            guard.kill()  # all at once: each takes a while to go
        for guard in guards:
            guard.stop()


def _run(guard: Guard, function: bytes, task: Any, time_limit_s: float | None) -> Outcome | Lost:
    try:
        argument = pickle.dumps(task, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - whatever a task's own pickling raises
        return Lost("internal", unexpected(error))
    return guard.run(function, argument, time_limit_s)
