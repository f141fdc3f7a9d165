"""Converted and compiled networks on disk, one file each, in a folder of the user's.

A file appears whole or not at all, says what it must hash to, and is made again when it does not. Nobody's prediction
fails for this folder: where it cannot be read or written, networks are converted in memory.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
from pathlib import Path
from typing import Literal, NamedTuple

from deepscan.errors import OutputError
from deepscan.files import write_atomically

log = logging.getLogger(__name__)

_MAGIC = b"deepscan.network/1 "
_SUFFIX, _NOTE_SUFFIX = ".network", ".failed"

Kind = Literal["networks", "compiled"]


class Entry(NamedTuple):
    """What a file holds; a compiled network is all graph."""

    graph: bytes
    weights: memoryview
    sha256: str


def cache_folder() -> Path:
    """Where converted networks are kept: ``$DEEPSCAN_CACHE``, or the system's place for a user's caches."""
    folder = os.environ.get("DEEPSCAN_CACHE")
    if folder:
        return Path(folder)
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "deepscan" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "deepscan"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepscan"


def entry_path(name: str, key: str, kind: Kind = "networks") -> Path:
    """The file of a converted or a compiled network.

    Args:
        name: for people; what no file name takes is replaced.
        key: all that decides over its content.
        kind: the folder it is kept in.

    Raises:
        RuntimeError: there is no home folder.
    """
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60]
    return cache_folder() / kind / f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:32]}{_SUFFIX}"


def read_entry(path: Path) -> Entry | None:
    """What is kept in a file, None where it is missing, unreadable or damaged."""
    try:
        data = path.read_bytes()
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            log.info("%s cannot be read (%s): the network is made again.", path, error.strerror)
        return None
    head = data[: data.find(b"\n") + 1]
    fields = head.removeprefix(_MAGIC).split()
    content = memoryview(data)[len(head) :]
    if (
        not head.startswith(_MAGIC)
        or len(fields) != 2
        or not fields[1].isdigit()
        or hashlib.sha256(content).hexdigest().encode() != fields[0]
    ):
        log.info("%s is damaged: the network is made again.", path)
        return None
    size = int(fields[1])
    return Entry(bytes(content[:size]), content[size:], fields[0].decode())


def write_entry(path: Path, graph: bytes, weights: bytes) -> None:
    """Keep a network; where that cannot be, say so in the log and go on."""
    content = graph + weights
    head = b"%s%s %d\n" % (_MAGIC, hashlib.sha256(content).hexdigest().encode(), len(graph))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, head + content)
        path.with_suffix(_NOTE_SUFFIX).unlink(missing_ok=True)
    except (OSError, OutputError) as error:
        log.info("The network is not kept, and is made at every start: %s.", error)


def read_note(path: Path) -> str | None:
    """What is noted beside a file that could not be made; None without a note."""
    try:
        return path.with_suffix(_NOTE_SUFFIX).read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return None


def write_note(path: Path, text: str) -> None:
    """Note beside a file why it cannot be made, where that can be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path.with_suffix(_NOTE_SUFFIX), text.encode())
    except (OSError, OutputError) as error:
        log.debug("Not noted: %s", error)
