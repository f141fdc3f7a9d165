"""Engines: one function over many tasks, on the cores of this machine or on a Ray cluster.

Both run the function in processes that may die or hang without harm: what no worker could finish comes back as
:class:`Lost`. Results come as they are ready, in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, TypeVar

from deepscan.errors import ConfigError

T = TypeVar("T")
R = TypeVar("R")

EngineName = Literal["local", "ray"]
LostReason = Literal["timeout", "worker_died", "internal"]


@dataclass(frozen=True, slots=True)
class Lost:
    """A task that no worker finished; ``message`` is one line for a person."""

    reason: LostReason
    message: str


class Engine(Protocol):
    """Runs tasks in worker processes; a context manager that ends them.

    Attributes:
        n_workers: tasks that run at the same time.
    """

    n_workers: int

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R | Lost]]:
        """Run ``function`` on every task.

        Args:
            function: importable by name, takes and returns what can be pickled.
            tasks: read as workers become free, never far ahead: there may be millions.

        Yields:
            Every task once with its result, as soon as it is there. An unexpected exception is a :class:`Lost`.

        Raises:
            DeepscanError: one that the function raised; the run cannot go on (a full disk).
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def create_engine(
    name: EngineName = "local",
    *,
    jobs: int | None = None,
    time_limit_s: float | None = None,
    address: str | None = None,
) -> Engine:
    """An engine by name.

    Args:
        name: ``local`` or ``ray`` (an extra).
        jobs: worker processes; the machine's (or the cluster's) cores when not given.
        time_limit_s: a task that runs longer is ended and lost; None waits for ever.
        address: of a Ray cluster; a local one is started without it.

    Raises:
        ConfigError: Ray is not installed, the address is given for ``local``, or nothing answers there.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"Invalid number of jobs ({jobs})", "it is at least 1")
    if time_limit_s is not None and not time_limit_s > 0:
        raise ConfigError(f"Invalid time limit ({time_limit_s:g} s)", "it is above 0")
    if name == "local":
        if address is not None:
            raise ConfigError(f"The address {address} is not used", "the engine is local", "Choose the engine ray.")
        from deepscan.processes.local import LocalEngine

        return LocalEngine(jobs, time_limit_s)
    if name == "ray":
        from deepscan.processes.ray_engine import RayEngine

        return RayEngine(jobs, time_limit_s, address)
    raise ConfigError(f"Unknown engine ({name})", "", "Known engines are local, ray.")
