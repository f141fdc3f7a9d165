"""Inside a worker process: how it is set up, and how one task runs in it.

Functions, tasks and results travel as pickled bytes. So a function's module is imported where its failure is only a
failed task, and whatever carries the bytes need not be able to read them.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import connection
from typing import Any, Literal, Self

from deepscan.errors import DeepscanError
from deepscan.processes import Lost
from deepscan.text import PrintableFormatter

log = logging.getLogger(__name__)

MAX_MESSAGE_CHARS = 300
# glibc reserves 64 MB of addresses for each arena, several for every core.
FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}
_LOG_FORMAT = "%(levelname)s: %(message)s"


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker process takes over from its leader.

    Attributes:
        threads: of every numeric library in the worker.
        log_level: of the ``deepscan`` logger.
        log_format: %-format of its records on stderr.
        log_date_format: of their time, if the format has one.
        keeps_main: the worker knows what the leader's main module defines; costs it that module's imports.
        folder: to work in, if it is there: relative paths mean the same as in the leader.
        temporary: folder for temporary files; whoever guards the worker removes it, as a killed worker cannot.
    """

    threads: int = 1
    log_level: int = logging.WARNING
    log_format: str = _LOG_FORMAT
    log_date_format: str | None = None
    keeps_main: bool = True
    folder: str | None = None
    temporary: str | None = None

    @classmethod
    def from_leader(cls, threads: int, *, keeps_main: bool = True) -> Self:
        """Those of this process: its records and the workers' look the same."""
        logger = logging.getLogger("deepscan")
        text, dates = _handler_format(logger)
        return cls(threads, logger.getEffectiveLevel(), text, dates, keeps_main, os.getcwd())  # noqa: PTH109 - as text


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task in a worker.

    Attributes:
        kind: ``done``; ``stopped`` by a DeepscanError; ``failed`` on any other exception.
        payload: the pickled result (done) or exception (stopped).
        message: one line (failed).
        trace: the traceback (stopped, failed).
    """

    kind: Literal["done", "stopped", "failed"]
    payload: bytes = b""
    message: str = ""
    trace: str = ""


def start_worker(settings: WorkerSettings) -> None:
    """Set up this process; the first thing that runs in it."""
    # Ctrl-C reaches the whole foreground group; what happens then is the leader's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    tempfile.tempdir = settings.temporary
    _end_with_leader(settings.temporary)
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter(settings.log_format, settings.log_date_format))
    logger = logging.getLogger("deepscan")
    logger.handlers[:] = [handler]
    logger.setLevel(settings.log_level)
    logger.propagate = False
    if settings.folder is not None and os.path.isdir(settings.folder):  # noqa: PTH112 - it was sent as text
        os.chdir(settings.folder)


def ready() -> int:
    """The id of this process: the answer of a worker that is up."""
    return os.getpid()


def execute(function: bytes, task: bytes, threads: int) -> Outcome:
    """Run a pickled function on a pickled task."""
    try:
        call = _load(function)
        argument = pickle.loads(task)  # noqa: S301 - from the leader
        _limit_threads(threads)
        result = call(argument)
        return Outcome("done", pickle.dumps(result, pickle.HIGHEST_PROTOCOL))
    except DeepscanError as error:
        return stopped(error)
    except Exception as error:  # noqa: BLE001 - a fault in one task is that task's result
        return Outcome("failed", message=unexpected(error), trace=traceback.format_exc())


def stopped(error: DeepscanError) -> Outcome:
    """The outcome of a task, while its exception is being handled, that ends the whole run."""
    return Outcome("stopped", pickle.dumps(error), trace=traceback.format_exc())


def result_of(outcome: Outcome | Lost) -> Any:
    """What a task's function returned, or its loss; for the leader.

    Raises:
        DeepscanError: that the function raised.
    """
    if isinstance(outcome, Lost):
        return outcome
    if outcome.trace:
        log.debug("In a worker:\n%s", outcome.trace.rstrip())
    if outcome.kind == "failed":
        return Lost("internal", outcome.message)
    try:
        value = pickle.loads(outcome.payload)  # noqa: S301 - from our own worker
    except Exception as error:  # noqa: BLE001 - one task's result that cannot be read here
        return Lost("internal", unexpected(error))
    if outcome.kind == "stopped":
        raise value
    return value


def unexpected(error: BaseException) -> str:
    """One line of at most ``MAX_MESSAGE_CHARS`` characters about an exception that nobody foresaw."""
    return one_line(f"unexpected {type(error).__name__}: {error}".removesuffix(": "))


def one_line(text: str) -> str:
    """The text on one line, cut to ``MAX_MESSAGE_CHARS`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_MESSAGE_CHARS else f"{line[: MAX_MESSAGE_CHARS - 3]}..."


def end_of_process(code: int) -> str:
    """How a process ended, after its name in a sentence, by its exit code (below 0: the signal)."""
    if code >= 0:
        return f"ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}{'; the memory may have run out' if name == 'SIGKILL' else ''}"


@lru_cache(maxsize=1)
def _load(function: bytes) -> Callable[[Any], Any]:
    """Kept, so that what a function carries with it is read once."""
    loaded: Callable[[Any], Any] = pickle.loads(function)  # noqa: S301 - from the leader
    return loaded


def _limit_threads(threads: int) -> None:
    """For libraries that were loaded before; one that the task loads itself finds the limit in the environment."""
    torch, cv2 = sys.modules.get("torch"), sys.modules.get("cv2")
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if cv2 is not None and cv2.getNumThreads() != threads:
        cv2.setNumThreads(threads)


def _end_with_leader(temporary: str | None) -> None:
    """End this process when its leader is gone, however that ended and whatever runs here."""
    leader = multiprocessing.parent_process()
    if leader is None:
        return

    def watch(sentinel: int) -> None:
        connection.wait([sentinel])
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, args=(leader.sentinel,), name="leader-watch", daemon=True).start()


def _handler_format(logger: logging.Logger) -> tuple[str, str | None]:
    """Format and date format of the handler that writes the logger's records."""
    at: logging.Logger | None = logger
    while at is not None:
        for handler in at.handlers:
            formatter = handler.formatter
            text = getattr(formatter, "_fmt", None)
            # Other styles than % cannot be told from the text for sure.
            if isinstance(handler, logging.StreamHandler) and formatter is not None and text and "%(" in text:
                return text, formatter.datefmt
        at = at.parent if at.propagate else None
    return _LOG_FORMAT, None
