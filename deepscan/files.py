"""Files: hashes, and writes that are never seen half done."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepscan.errors import OutputError


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def temporary_beside(path: Path, mark: str = "") -> Iterator[Path]:
    """A temporary file in the folder of ``path``; renamed to it at the end, removed if anything fails.

    Args:
        path: that it becomes.
        mark: of a run, so that :func:`remove_marked` finds what killed processes left.

    Raises:
        OutputError: the folder cannot be written to.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.{mark}", suffix=".tmp")
    except OSError as error:
        raise OutputError(f"{path} cannot be written", error.strerror or str(error)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written", error.strerror or str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_marked(folder: Path, mark: str) -> None:
    """Remove the temporary files of a run, none of whose processes is alive, from a folder and those in it."""
    for left in folder.rglob(f".*.{mark}*.tmp"):
        left.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that readers see the old one or the new one, never half.

    Raises:
        OutputError: it cannot be written.
    """
    with temporary_beside(path) as temporary:
        temporary.write_bytes(data)
