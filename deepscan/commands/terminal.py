"""What the commands share: exit codes, one line for an error, and when progress is shown."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from deepscan.errors import DeepscanError

EXIT_FAKE, EXIT_USAGE, EXIT_FAILED, EXIT_INTERRUPTED = 1, 2, 3, 130

_USAGE_REASONS = (
    "unknown_model", "exported_model", "untrained_model", "no_device", "config", "unknown_layout", "split_leak",
)  # fmt: skip


class DeviceName(StrEnum):
    """Where the networks run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class EngineChoice(StrEnum):
    """Where the work is done."""

    LOCAL = "local"
    RAY = "ray"


def fail(message: str, code: int) -> NoReturn:
    """One line to stderr, and the end."""
    typer.echo(f"deepscan: {message}", err=True)
    raise typer.Exit(code)


def fail_with(error: DeepscanError) -> NoReturn:
    """The line and the exit code of an error: wrong usage, or something that could not be done."""
    fail(str(error), EXIT_USAGE if error.reason in _USAGE_REASONS else EXIT_FAILED)


def stderr() -> Console:
    """Where everything goes that is not a result."""
    from rich.console import Console

    return Console(stderr=True)


def shows_progress() -> bool:
    """Whether somebody is watching."""
    return sys.stderr.isatty() and logging.getLogger("deepscan").isEnabledFor(logging.WARNING)


def progress_bar() -> Progress:
    """Done of all, rate, time left and failures so far; it disappears at the end, and without a terminal.

    Its tasks take the fields ``rate`` (a text) and ``failed`` (a number).
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]} failed", markup=False),
        console=stderr(),
        transient=True,
        disable=not shows_progress(),
    )
