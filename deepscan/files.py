"""Files: hashes, where one may be written, and writes that are never seen half done."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from deepscan.errors import OutputError

_HEAD = 1 << 16


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class FileIdentity:
    """Tells whether paths lead to one file: 16 bytes that are the same for a relative and an absolute path, a link and
    its target. Of a folder's files only the links are followed one by one."""

    def __init__(self) -> None:
        self._real_folder = lru_cache(maxsize=64)(os.path.realpath)

    def __call__(self, path: str) -> bytes:
        """Of a path, which need not lead anywhere."""
        folder, name = os.path.split(path)
        try:
            real = path if name in ("", ".", "..") else os.path.join(self._real_folder(folder or "."), name)  # noqa: PTH118
            if real is path or os.path.islink(real):  # noqa: PTH114
                real = os.path.realpath(real)
        except (OSError, ValueError):  # what no system can have
            real = path
        return hashlib.blake2b(real.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def json_of(schema_id: str) -> re.Pattern[bytes]:
    """How the JSON files of a schema begin, for :func:`check_target`."""
    return re.compile(rb'\s*\{\s*"schema": "%s"' % re.escape(schema_id.encode()))


def check_target(path: Path, ours: re.Pattern[bytes] | None = None) -> None:
    """Look whether a file can be written without a loss; to be called before the work begins.

    Devices and pipes take whatever comes; a link stands for what it leads to.

    Args:
        path: to be written.
        ours: matches the first 64 KiB of what deepscan writes there: an older one is replaced by a newer one, as is an
            empty file, and nothing else. None if whoever writes looks for itself.

    Raises:
        OutputError: it is a folder, its folder is missing or may not be written to, or it holds something else.
    """
    try:
        real_path = Path(os.path.realpath(path)) if path.is_symlink() else path
        mode = path.stat().st_mode if real_path.exists() else None
    except (OSError, ValueError) as error:  # ValueError: a path no system can have
        raise OutputError(f"{path} cannot be written", getattr(error, "strerror", None) or str(error)) from error
    cause = None
    if mode is not None and stat.S_ISDIR(mode):
        cause = "it is a folder"
    elif mode is not None and not os.access(path, os.W_OK):
        cause = "permission denied"
    elif mode is None or stat.S_ISREG(mode):
        if not real_path.parent.is_dir():
            cause = f"there is no folder {real_path.parent}"
        elif not os.access(real_path.parent, os.W_OK | os.X_OK):
            cause = f"permission denied in the folder {real_path.parent}"
    if cause is not None:
        raise OutputError(f"{path} cannot be written", cause, "Give another name.")
    if mode is None or ours is None or not stat.S_ISREG(mode):
        return
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise OutputError(f"{path} cannot be written", error.strerror or str(error)) from error
    if head and not ours.match(head):
        cause = "a file is there that deepscan did not write, or not in this form"
        raise OutputError(f"{path} cannot be written", cause, "Move it away, or give another name.")


def check_folder(folder: Path, first: str, ours: re.Pattern[bytes], others: Iterable[str]) -> None:
    """:func:`check_target` for a folder that takes files which are written together.

    Args:
        folder: that may not exist yet.
        first: the file that is written first and tells an earlier set, which is replaced.
        ours: of it.
        others: names that must not be there without it.

    Raises:
        OutputError: something else would be overwritten.
    """
    if not folder.is_dir():
        return
    check_target(folder / first, ours)
    if (folder / first).exists():
        return
    for path in sorted(folder.iterdir()):
        if path.name in others:
            raise OutputError(
                f"{folder} is not written to", f"there is a {path.name} of something else in it", "Give a new folder."
            )


@contextmanager
def temporary_beside(path: Path, mark: str = "") -> Iterator[Path]:
    """A temporary file in the folder of ``path``; renamed to it at the end, removed if anything fails.

    Only a regular file is replaced, and keeps its permissions. Where a link leads, the file there is; a device or a
    pipe stays what it is and gets the bytes.

    Args:
        path: that it becomes.
        mark: of a run, so that :func:`remove_marked` finds what killed processes left.

    Raises:
        OutputError: the folder cannot be written to.
    """
    try:
        real_path = Path(os.path.realpath(path)) if path.is_symlink() else path
        mode = path.stat().st_mode if path.exists() else stat.S_IFREG | 0o644
        through = not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        folder = None if through else real_path.parent
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{real_path.name[:40]}.{mark}", suffix=".tmp")
    except OSError as error:
        raise OutputError(f"{path} cannot be written", error.strerror or str(error)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if through:
            # Without O_CREAT: what has gone away meanwhile does not come back as a file.
            with temporary.open("rb") as source, os.fdopen(os.open(path, os.O_WRONLY), "wb") as target:
                shutil.copyfileobj(source, target)
        else:
            temporary.chmod(stat.S_IMODE(mode))
            temporary.replace(real_path)
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
