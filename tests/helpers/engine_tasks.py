"""Functions that tests give to the engines; workers import them from here."""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from deepscan.errors import OutputError

_calls = itertools.count(1)


def square(number):
    return number * number


def pid(_):
    return os.getpid()


def parents_pid(_):
    return os.getppid()


def calls_in_this_process(_):
    """Counts what was called before: the worker keeps its modules."""
    return os.getpid(), next(_calls)


def node(_):
    """Long enough for tasks to go to every node."""
    time.sleep(0.3)
    return os.environ.get("DEEPSCAN_TEST_NODE")


def folder(_):
    return str(Path.cwd())


def threads(_):
    import cv2

    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return [*(int(os.environ[name]) for name in names), cv2.getNumThreads()]


def torch_threads(_):
    import torch

    return torch.get_num_threads()


def trouble(kind):
    """Ends as its argument says; an integer is given back."""
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "segfault":
        ctypes.string_at(0)
    if isinstance(kind, str) and kind.startswith("exit "):
        os._exit(int(kind.removeprefix("exit ")))
    if kind == "sys.exit":
        sys.exit(0)
    if kind == "hang":
        time.sleep(600)
    if kind == "exception":
        raise TypeError("two\nlines " + "x" * 1000)
    if kind == "unpicklable":
        return lambda: None
    if kind == "disk full":
        raise OutputError("crops cannot be written", "no space left", "Free some.", reason="disk_full")
    return kind


def note(task):
    """Write a file at the start and one at the end, ``seconds`` later; ``(folder, name, seconds)``."""
    folder, name, seconds = task
    (folder / f"{name}.started").write_text(str(os.getpid()))
    time.sleep(seconds)
    (folder / f"{name}.ended").touch()
    return name


def note_or_raise(task):
    """As ``note``; zero seconds raise."""
    if task[2] == 0:
        raise OutputError("crops cannot be written", "no space left", reason="disk_full")
    return note(task)


def log_two(_):
    logger = logging.getLogger("deepscan.tests")
    logger.info("said by %s", "a worker")
    logger.debug("not to be seen")


def end_parent(path):
    """Kill the process that started this one, and tell that it was tried."""
    with path.open("a") as handle:
        handle.write("x")
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def leave_a_file(kind):
    """Write a temporary file and tell where, or hang with it open."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"left")
    if kind == "hang":
        time.sleep(600)
    return file.name
