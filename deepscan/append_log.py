"""Files that grow by whole lines: what a kill or a full disk leaves behind is still good up to its last line end."""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from deepscan.errors import OutputError

log = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)
Record = TypeVar("Record")

_CHUNK = 1 << 20
_CAUSES = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


class LineFile(Generic[Key, Record]):
    """A file that one process appends lines to, each in one piece, and whose lines are found by key; a context manager.

    A regular file is locked until it is closed (where the system can), so that a second run cannot write into it. What
    follows its last line end is removed, damaged lines are passed over with a warning, and the last line of a key
    counts. Pipes, devices and stdout only take lines.

    Args:
        path: made if it is not there; None is stdout.
        parse: key and record of a line; a record of None makes the key unknown again; None for a line that is of no
            interest. Raises ValueError for a damaged line.
        schema: that every line begins with, as ``{"schema":"NAME",``: a file of lines without a good one is refused.
        writable: False reads a file that another process may be writing to; it is not locked and not repaired.

    Attributes:
        n_lines: whole lines that were in the file when it was opened.

    Raises:
        OutputError: it cannot be opened for writing, another process writes to it, or it holds something else.
    """

    def __init__(
        self,
        path: Path | None,
        parse: Callable[[bytes], tuple[Key, Record | None] | None] | None = None,
        *,
        schema: str | None = None,
        writable: bool = True,
    ) -> None:
        self.path = path
        self.n_lines = 0
        self._records: dict[Key, tuple[int, Record]] = {}
        self._handle = -1
        try:
            self._open(path, writable)
            if self.regular:
                cut_at = self._load(parse, schema)
                if writable and cut_at is not None:
                    os.ftruncate(self._handle, cut_at)
        except OSError as error:
            self.close()
            raise self._failed(error, "written" if writable else "read") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Keys with a record."""
        return len(self._records)

    @property
    def name(self) -> str:
        """For messages."""
        return "stdout" if self.path is None else str(self.path)

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        if self.path is not None and self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def get(self, key: Key) -> Record | None:
        """The record of a key; None if it is not known."""
        record = self._records.get(key)
        return None if record is None else record[1]

    def records(self) -> dict[Key, Record]:
        """All records by key."""
        return {key: record for key, (_, record) in self._records.items()}

    def line(self, key: Key) -> bytes:
        """The line of a known key, as it is in the file now.

        Raises:
            OutputError: it cannot be read.
        """
        try:
            with open(self._handle, "rb", closefd=False) as file:
                file.seek(self._records[key][0])
                return file.readline()
        except OSError as error:
            raise self._failed(error, "read") from error

    def append_line(self, line: bytes, key: Key | None = None, record: Record | None = None) -> None:
        """Add a line, handed to the system before this returns.

        Args:
            line: ends in a line end, and holds no other.
            key: by which it is found from now on; without one it is not.
            record: of the key.

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
                raise self._failed(error, "written") from error
            raise
        if key is not None and record is not None:
            self._records[key] = before, record

    def _open(self, path: Path | None, writable: bool) -> None:
        if path is None:
            sys.stdout.flush()
            self.regular = False
            self._handle = sys.stdout.fileno()
            return
        self.regular = not path.exists() or stat.S_ISREG(path.stat().st_mode)
        access = os.O_RDWR | os.O_CREAT if self.regular else os.O_WRONLY
        access = access | os.O_APPEND if writable else os.O_RDONLY
        self._handle = os.open(path, access | getattr(os, "O_BINARY", 0), 0o644)
        if writable and self.regular and not _lock(self._handle):
            raise OutputError(
                f"{self.name} cannot be written", "another run is writing to it", "Wait for it, or give another name."
            )

    def _load(
        self, parse: Callable[[bytes], tuple[Key, Record | None] | None] | None, schema: str | None
    ) -> int | None:
        """Read the records; where a line begins that was cut off, None without one."""
        n_damaged = 0
        cut: tuple[int, bytes] | None = None
        for position, line in self._lines():
            if not line.endswith(b"\n"):
                cut = position, line
                break
            self.n_lines += 1
            try:
                parsed = parse(line) if parse is not None else None
            except (ValueError, RecursionError):  # JSON nested without end
                n_damaged += 1
                continue
            if parsed is not None and parsed[1] is not None:
                self._records[parsed[0]] = position, parsed[1]
            elif parsed is not None:
                self._records.pop(parsed[0], None)
        if schema is not None and n_damaged == self.n_lines:
            start = f'{{"schema":"{schema}",'.encode()
            if n_damaged or (cut is not None and cut[1][: len(start)] != start[: len(cut[1])]):
                cause = f"it holds something else than {schema}"
                raise OutputError(f"{self.name} is not written to", cause, "Give another name.")
        if n_damaged:
            log.warning("%s: %d damaged lines passed over; what they were of is done again", self.name, n_damaged)
        return None if cut is None else cut[0]

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Lines, the last one perhaps without its end, with the position where each begins."""
        position = 0
        # Through the same handle: closing another one of this file would give up the lock.
        with open(self._handle, "rb", buffering=_CHUNK, closefd=False) as file:
            file.seek(0)
            for line in file:
                yield position, line
                position += len(line)

    def _failed(self, error: OSError, action: str) -> OutputError:
        cause = _CAUSES.get(error.errno or 0)
        if cause is None:
            return OutputError(f"{self.name} cannot be {action}", error.strerror or str(error))
        hint = "Make room and run the same command again: what is done stays done."
        return OutputError(f"{self.name} cannot be {action}", cause, hint if self.regular else "")


def _lock(handle: int) -> bool:
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
