"""Files that grow by whole lines: what a kill or a full disk leaves behind is still good up to its last line end."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from deepscan.errors import OutputError

_PIECE = 1 << 20


class LineFile:
    """A file that one process appends lines to, each in one piece; a context manager.

    A regular file is locked until it is closed (where the system can), so that a second run cannot write into it; what
    is in it can be read. Pipes, devices and stdout only take lines.

    Args:
        path: made if it is not there; None is stdout.

    Raises:
        OutputError: it cannot be opened for writing, or another process writes to it.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._owned = path is not None
        try:
            if path is None:
                sys.stdout.flush()
                self._handle = sys.stdout.fileno()
                self.regular = False
            else:
                self.regular = not path.exists() or stat.S_ISREG(path.stat().st_mode)
                access = os.O_RDWR | os.O_CREAT if self.regular else os.O_WRONLY
                self._handle = os.open(path, access | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        except OSError as error:
            raise self._failed(error) from error
        if self.regular and not lock_file(self._handle):
            self.close()
            raise OutputError(
                f"{self.name} cannot be written", "another run is writing to it", "Wait for it, or give another name."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """For messages."""
        return "stdout" if self.path is None else str(self.path)

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        if self._owned and self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The whole lines in the file with the place where each begins; then, without a line end, one that was cut off.

        Raises:
            OutputError: it cannot be read.
        """
        if not self.regular:
            return
        place = 0
        try:
            # Through the same handle: closing another one of this file would give up the lock.
            with open(self._handle, "rb", buffering=_PIECE, closefd=False) as file:
                file.seek(0)
                for line in file:
                    yield place, line
                    place += len(line)
        except OSError as error:
            raise self._failed(error, "read") from error

    def line_at(self, place: int) -> bytes:
        """The line that begins at ``place``, as :meth:`lines` or :meth:`append` told.

        Raises:
            OutputError: it cannot be read.
        """
        try:
            with open(self._handle, "rb", closefd=False) as file:
                file.seek(place)
                return file.readline()
        except OSError as error:
            raise self._failed(error, "read") from error

    def drop_cut_line(self) -> None:
        """Remove what follows the last line end: it would run into the next line.

        Raises:
            OutputError: it cannot be written.
        """
        if not self.regular:
            return
        try:
            size = keep = os.fstat(self._handle).st_size
            while keep:
                start = max(0, keep - _PIECE)
                os.lseek(self._handle, start, os.SEEK_SET)
                keep = start + os.read(self._handle, keep - start).rfind(b"\n") + 1
                if keep > start:
                    break
            if keep < size:
                os.ftruncate(self._handle, keep)
        except OSError as error:
            raise self._failed(error) from error

    def append(self, line: bytes) -> int:
        """Add a line, handed to the system before this returns.

        Args:
            line: ends in a line end, and holds no other.

        Returns:
            The place where it begins.

        Raises:
            OutputError: it cannot be written; a regular file is then as it was.
            BrokenPipeError: the reader of stdout has gone.
        """
        before = os.fstat(self._handle).st_size if self.regular else 0
        try:
            while line:  # a disk that is almost full takes a part, and refuses the rest
                line = line[os.write(self._handle, line) :]
        except BaseException as error:
            if self.regular:
                os.ftruncate(self._handle, before)
            if isinstance(error, OSError) and not (self.path is None and isinstance(error, BrokenPipeError)):
                raise self._failed(error) from error
            raise
        return before

    def _failed(self, error: OSError, what: str = "written") -> OutputError:
        why = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}.get(error.errno or 0)
        if why is None:
            return OutputError(f"{self.name} cannot be {what}", error.strerror or str(error))
        hint = "Make room and run the same command again: what is done stays done."
        return OutputError(f"{self.name} cannot be {what}", why, hint if self.regular else "")


def lock_file(handle: int) -> bool:
    """Lock an open file for this process until it closes any handle of it; False if another process has it locked.

    Where the system or the file system knows no locks it counts as locked.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        # A lock of the process, not of the handle: workers that outlive a killed run do not keep it.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True
