"""The one exception family of deepscan.

Every message is one line in three parts: what failed, why, and what to do about it. Code outside this
package need only catch :class:`DeepscanError`; the command line turns it into a line on stderr or a row of
the report, never a traceback.
"""

from __future__ import annotations

import importlib
from typing import Any

from deepscan.text import printable
from deepscan.version import install_command


class DeepscanError(Exception):
    """Base of everything deepscan raises on purpose.

    Args:
        problem: what failed, naming the input ("clip.mp4: cannot be read").
        cause: the cause, as far as it is known.
        hint: what a person can do next.
        reason: a short machine-readable code (``unreadable``, ``no_video_stream``...), stable across versions.
    """

    reason: str = "error"

    def __init__(self, problem: str, cause: str = "", hint: str = "", *, reason: str | None = None) -> None:
        self.problem, self.cause, self.hint = problem, cause, hint
        if reason is not None:
            self.reason = reason
        super().__init__(problem, cause, hint)

    def __str__(self) -> str:
        text = self.problem
        if self.cause:
            text += f": {self.cause}"
        if self.hint:
            text = f"{text.rstrip('.')}. {self.hint}"
        return printable(" ".join(text.split()))


class MediaError(DeepscanError):
    """A file cannot be opened, decoded or is refused for its size."""

    reason = "unreadable"


class ModelError(DeepscanError):
    """A detector, backbone or head is unknown, damaged or does not fit its weights."""

    reason = "model"


class ConfigError(DeepscanError):
    """A setting is unknown or out of range."""

    reason = "config"


class OutputError(DeepscanError):
    """A result cannot be written."""

    reason = "output"


def import_extra(module: str, failure: str, package: str, hint: str = "", *, extra: str = "train") -> Any:
    """A module of an optional dependency.

    Args:
        module: its full name.
        failure: what cannot be done without it.
        package: its name for people.
        hint: what else can be done than to install it.
        extra: the optional part that it comes with.

    Raises:
        DeepscanError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        install = f"Install it with: {install_command(extra)}{hint}"
        raise DeepscanError(failure, f"{package} is not installed", install, reason="missing_package") from error
