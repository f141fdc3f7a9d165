"""Results as text: to files or, for ``-``, to stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from deepscan.commands.terminal import EXIT_FAILED, EXIT_USAGE, fail

Output = tuple[str | None, Callable[[], str]]


def check_outputs(*targets: str | None) -> bool:
    """Fail before the work, not after it, where an output has nowhere to go.

    Returns:
        Whether stdout is taken by one of them, so that no table belongs there.
    """
    if targets.count("-") > 1:
        fail("Only one output can go to stdout. Give the others a file name.", EXIT_USAGE)
    for target in targets:
        if target not in (None, "-"):
            path = Path(str(target))
            if path.is_dir() or not path.parent.is_dir():
                why = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
                fail(f"{path} cannot be written: {why}.", EXIT_FAILED)
    return "-" in targets


def write_outputs(outputs: Sequence[Output]) -> None:
    """Write what was asked for, stdout first: a file that cannot be written must not cost the answer.

    Raises:
        OutputError: a file cannot be written.
    """
    from deepscan.files import write_atomically

    for target, render in outputs:
        if target == "-":
            # Bytes: what reads our stdout expects UTF-8, whatever the terminal's encoding is.
            sys.stdout.flush()
            sys.stdout.buffer.write(render().encode())
            sys.stdout.buffer.flush()
    for target, render in outputs:
        if target not in (None, "-"):
            write_atomically(Path(str(target)), render().encode())
