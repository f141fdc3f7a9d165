"""Inside a worker process: how it is set up, and how one task runs in it.

Functions, tasks and results travel as pickled bytes. So a function's module is imported where its failure is only a
failed task, and whatever carries the bytes need not be able to read them.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import spawn
from typing import Any, BinaryIO, Literal, Self

from deepscan.errors import DeepscanError
from deepscan.processes import Lost
from deepscan.processes.child import Parent
from deepscan.processes.supervisor import no_children, one_line
from deepscan.text import PrintableFormatter

log = logging.getLogger(__name__)

MESSAGE_HEAD_BYTES = 8
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


def main(settings: Mapping[str, Any]) -> None:
    """Run tasks for the parent until it is gone: the target of a worker process.

    Each request is a pickled pair of a pickled function and a pickled task. It is answered by a byte when it is begun,
    and by the pickled :class:`Outcome`, its length in 8 bytes before it.

    Args:
        settings: ``worker``, the fields of :class:`WorkerSettings`, and ``main_module``, see :func:`main_module`.
    """
    worker = WorkerSettings(**settings["worker"])
    parent = Parent(read_message, on_end=lambda: shutil.rmtree(worker.temporary or "", ignore_errors=True))
    _set_up(worker)
    try:
        with no_children():
            spawn.prepare(settings["main_module"])
    except BaseException as error:  # noqa: BLE001 - a user's script may raise anything; the parent tells of it
        parent.ready(failure=unexpected(error))
    parent.ready()
    while True:
        function, task = pickle.loads(parent.receive())  # noqa: S301 - from the leader
        parent.send(b"+")
        parent.send(as_message(pickle.dumps(execute(function, task, worker.threads))))


def main_module() -> dict[str, Any]:
    """What a worker needs to know the main module of this process, whose functions it may be given."""
    data = spawn.get_preparation_data("worker")
    return {name: data[name] for name in ("sys_argv", "init_main_from_name", "init_main_from_path") if name in data}


def as_message(data: bytes) -> bytes:
    """Bytes with their length before them."""
    return struct.pack("<Q", len(data)) + data


def message_length(head: bytes) -> int:
    """How many bytes follow the first 8 of a message."""
    (length,) = struct.unpack("<Q", head)
    return int(length)


def read_message(file: BinaryIO) -> bytes | None:
    """The bytes of the next message; None where there is no whole one."""
    head = file.read(MESSAGE_HEAD_BYTES)
    if len(head) < MESSAGE_HEAD_BYTES:
        return None
    data = file.read(message_length(head))
    return data if len(data) == message_length(head) else None


def _set_up(settings: WorkerSettings) -> None:
    tempfile.tempdir = settings.temporary
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter(settings.log_format, settings.log_date_format))
    logger = logging.getLogger("deepscan")
    logger.handlers[:] = [handler]
    logger.setLevel(settings.log_level)
    logger.propagate = False
    if settings.folder is not None and os.path.isdir(settings.folder):  # noqa: PTH112 - it was sent as text
        os.chdir(settings.folder)


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
    except BaseException as error:  # noqa: BLE001 - a fault in one task, sys.exit too, is that task's result
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
    """One line of at most 300 characters about an exception that nobody foresaw."""
    return one_line(f"unexpected {type(error).__name__}: {error}".removesuffix(": "))


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
