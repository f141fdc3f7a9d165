"""What the benchmarks share: timed runs in processes of their own, peak memory, facts of the machine, tables."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from pebble import ProcessExpired, ProcessPool
from tqdm import tqdm

from deepscan import __version__
from deepscan.errors import DeepscanError
from deepscan.files import write_atomically

Function = Callable[[Any], Any]
_PACKAGES = ("torch", "facenet-pytorch", "opencv-python-headless", "av")
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Run:
    """One call of a function.

    Attributes:
        value: what it returned.
        wall_s: seconds that went by.
        cpu_s: seconds of processor time, summed over all threads of the process.
    """

    value: Any
    wall_s: float
    cpu_s: float


def timed(function: Function, argument: Any) -> Run:
    """Call a function and time it."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = function(argument)
    return Run(value, time.perf_counter() - wall, time.process_time() - cpu)


class Worker:
    """A fresh process that loads a function once and runs it when asked; a context manager that ends it.

    Args:
        make: gives the function; importable by name. Called in the process, with ``options``.
        options: for ``make``; can be pickled.
        core: run on this core only, as on a machine that has no other; None for all. Ignored where the system cannot.
        threads: of PyTorch and OpenCV; None for their own choice.
    """

    def __init__(
        self, make: Callable[..., Function], *options: Any, core: int | None = None, threads: int | None = None
    ) -> None:
        self._call = partial(_serve, make, options, core, threads)
        self._pool = ProcessPool(max_workers=1, context=multiprocessing.get_context("spawn"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.stop()
        self._pool.join()

    def run(self, argument: Any) -> Run:
        """Run the function on an argument.

        Raises:
            DeepscanError: the function raised it, or the process died.
        """
        try:
            run: Run = self._pool.schedule(self._call, args=[argument]).result()
        except ProcessExpired as error:
            why = "the cause stands above, if it is known"
            raise DeepscanError("A process of the benchmark died", why, "Try again.") from error
        return run


# The function of this process, once it is loaded.
_function: list[Function] = []


def _serve(
    make: Callable[..., Function], options: Sequence[Any], core: int | None, threads: int | None, argument: Any
) -> Run:
    if not _function:
        # First of all: libraries choose their number of threads by the cores they see when they are loaded.
        if core is not None and can_pin():
            os.sched_setaffinity(0, {core})
        if threads is not None:
            import cv2
            import torch

            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
        _function.append(make(*options))
    return timed(_function[0], argument)


def rounds(repeats: int, name: str) -> Iterator[tuple[str, str]]:
    """Both sides in the order in which they have their turn: one round to warm up, then those that are counted."""
    for repeat in tqdm(range(repeats + 1), name, unit="round"):
        yield ("deepscan", "reference") if repeat % 2 else ("reference", "deepscan")


def can_pin() -> bool:
    """Whether a process can be kept on one core here."""
    return hasattr(os, "sched_setaffinity")


def last_core() -> int | None:
    """The last core that this process may use: the first ones serve more interrupts."""
    return max(os.sched_getaffinity(0)) if can_pin() else None


def peak_memory_bytes(pid: int | None = None) -> int | None:
    """The most memory (resident set) that a process ever held, this one without ``pid``; None where that is not told.

    From Linux' own account of this very program: ``getrusage`` there also counts what the process that started it
    held.
    """
    status = _STATUS if pid is None else Path(f"/proc/{pid}/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "darwin" and pid is None:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def write_report(
    make: Callable[[], dict[str, Any]], show: Callable[[dict[str, Any]], None], file: Path | None
) -> dict[str, Any] | int:
    """Measure, print the figures, write them as JSON if there is a file: what every benchmark ends with.

    Returns:
        The report; or the exit code where there is none: 3 if something could not be read or written, 130 on Ctrl-C.
    """
    try:
        report = make()
        show(report)
        if file:
            write_atomically(file, json.dumps(report, indent=1).encode() + b"\n")
    except DeepscanError as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return report


def machine() -> dict[str, Any]:
    """What figures depend on: processor, cores, memory, versions, threads and how busy the machine is."""
    import torch

    from deepscan.processes.guard import available_cores

    return {
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "memory_gib": _memory_gib(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "deepscan": __version__,
        **{package: version(package) for package in _PACKAGES},
        "torch_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def print_machine(report: dict[str, Any]) -> None:
    """What a report's figures were measured on."""
    facts = report["machine"]
    busy = "" if facts["load_average"] is None else f", load average {facts['load_average']} at the start"
    print(f"{facts['cpu']} ({facts['cpu_capability']}), {facts['cores']} cores, {facts['memory_gib']} GiB{busy}")
    print(
        f"{facts['system']}, Python {facts['python']}, torch {facts['torch']}, {facts['torch_threads']} torch threads"
    )
    print(f"deepscan {facts['deepscan']}; frames a video: {report['frames']}; counted runs: {report['repeats']}")


def tell(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def count(text: str) -> int:
    """A number from 1, for argparse."""
    if (value := int(text)) < 1:
        raise ArgumentTypeError("it is at least 1")
    return value


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown that can be read as it is: first column to the left, the others to the right."""
    widths = [max(3, *(len(row[i]) for row in [headers, *rows])) for i in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = [f":{'-' * (w - 1)}" if i == 0 else f"{'-' * (w - 1)}:" for i, w in enumerate(widths)]
    return "\n".join([line(headers), line(rule), *(line(row) for row in rows)])


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None
