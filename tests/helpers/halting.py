"""deepscan as a process that halts at work until a signal comes: however slow the machine, it is never done before.

``python halting.py MODULE:CLASS.METHOD FILE LINES COMMAND...`` runs a command of deepscan. A call of the method after
which the file has that many lines does not return.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def halting(method: str, file: Path, n_lines: int, *arguments: object) -> list[str]:
    """The command line of such a process."""
    return [sys.executable, __file__, method, str(file), str(n_lines), *map(str, arguments)]


def wait_at_work(process: subprocess.Popen[Any], sign: Callable[[], bool]) -> None:
    """Wait until a process that is still at work gives a sign."""
    until = time.monotonic() + 300
    while not sign():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


def has_lines(file: Path, at_least: int) -> bool:
    """Whether a file is there and has so many lines."""
    return file.exists() and file.read_bytes().count(b"\n") >= at_least


def _halt(method: Callable[..., Any], file: Path, n_lines: int) -> Callable[..., Any]:
    def halts(*arguments: Any, **options: Any) -> Any:
        result = method(*arguments, **options)
        if has_lines(file, n_lines):
            time.sleep(600)
        return result

    return halts


if __name__ == "__main__":
    from deepscan import cli

    where, named, count = sys.argv[1:4]
    module, _, attribute = where.partition(":")
    owner, _, name = attribute.partition(".")
    patched = getattr(importlib.import_module(module), owner)
    setattr(patched, name, _halt(getattr(patched, name), Path(named), int(count)))
    sys.argv = ["deepscan", *sys.argv[4:]]
    cli.main()
