"""From what a user types or lists to files: folders are searched, patterns expanded, the rest is taken as it is."""

from __future__ import annotations

import codecs
import glob
import hashlib
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from deepscan.errors import ConfigError, DeepscanError, MediaError
from deepscan.extract.file_kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_media, no_file, suffix_of
from deepscan.files import FileIdentity

if TYPE_CHECKING:
    from deepscan.extract.fetch import Fetcher

_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES
# Longer than any path can be: a list of paths that end in NUL shows one within it.
_PIECE = 1 << 16


def expand_inputs(
    arguments: Iterable[str | Path], passed_over: Counter[str] | None = None, fetcher: Fetcher | None = None
) -> Iterator[tuple[Path, DeepscanError | None]]:
    """The files that the arguments mean, in order, each once, found as they are asked for.

    A folder gives every video and image below it, its own before those of its subfolders, each sorted, hidden ones
    left out. A pattern (``clips/*.mp4``) that names no file itself is expanded. A file given by name is taken whatever
    it is called. What is no path as it stands may be one in quotes, with spaces at its ends, with ``~``, or a
    ``file://`` address. An empty or unreadable folder, a pattern without match, a web address, stdin (``-``) and a
    camera are there with their errors, so that they become rows of the report; a missing file is found out when it is
    read.

    For each file 16 bytes and their place in a set are kept, not its name; the matches of one pattern are listed at
    once.

    Args:
        arguments: of a user, or from a list.
        passed_over: counts the files in folders that are not looked at, by their suffix in lower case.
        fetcher: makes files of web addresses and stdin; without it they are errors.
    """
    seen_files: set[bytes] = set()
    identity = FileIdentity()
    for argument in arguments:
        text = _cleaned_path(str(argument))
        if fetcher is not None and fetcher.takes(text) and not os.path.lexists(text):
            key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if key not in seen_files:
                seen_files.add(key)
                yield _fetched(text, fetcher)
            continue
        for path, error in _expand(text, Counter() if passed_over is None else passed_over):
            key = identity(path)
            if key not in seen_files:
                seen_files.add(key)
                yield Path(path), error


def check_list(name: str) -> None:
    """Look whether :func:`read_list` can read a list.

    Raises:
        ConfigError: it is not there, a folder, or may not be read.
    """
    if name == "-":
        return
    try:
        # Opening a pipe here would take the writer from under the reading that follows.
        if not stat.S_ISFIFO(Path(name).stat().st_mode):
            Path(name).open("rb").close()
    except (OSError, ValueError) as error:
        raise _unreadable_list(name, _cause(error)) from error


def read_list(name: str) -> Iterator[str]:
    """The paths in a list, read as they are asked for.

    One a line, which ends in LF or CRLF; blank lines are passed over. Where there is a NUL (within the first 64 KiB),
    each path ends in one instead, and may hold anything (``find -print0``). Names may be of any bytes, as on the disk.

    Args:
        name: of the file; ``-`` is stdin.

    Raises:
        ConfigError: it cannot be read, or is no such list.
    """
    try:
        # By its number: there is no sys.stdin when it was closed.
        with open(0, "rb", closefd=False) if name == "-" else Path(name).open("rb") as file:
            yield from _paths(name, file)
    except (OSError, ValueError) as error:
        raise _unreadable_list(name, _cause(error)) from error


def _paths(name: str, file: BufferedReader) -> Iterator[str]:
    data = file.read(_PIECE)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _unreadable_list(name, "it is UTF-16 text", "Save it as UTF-8.")
    data = data.removeprefix(codecs.BOM_UTF8)
    end = b"\0" if b"\0" in data else b"\n"
    cut = b""
    while data:
        *lines, cut = (cut + data).split(end)
        yield from _named(lines, end)
        if len(cut) > _PIECE:
            raise _unreadable_list(name, f"it has a line of over {_PIECE:,} bytes, longer than any path")
        data = file.read1(_PIECE)  # what is there: the writer of a pipe may be slow
    yield from _named([cut], end)


def _named(lines: Iterable[bytes], end: bytes) -> Iterator[str]:
    for line in lines:
        path = line.removesuffix(b"\r") if end == b"\n" else line
        if path.strip():
            yield path.decode(sys.getfilesystemencoding(), "surrogateescape")


def _unreadable_list(name: str, cause: str, hint: str = "Give a file with one path a line.") -> ConfigError:
    return ConfigError(f"The list {'on stdin' if name == '-' else name} cannot be read", cause, hint)


def _cause(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _cleaned_path(text: str) -> str:
    """A path, also of what other programs copy as one."""
    if os.path.lexists(text):
        return text
    clean = text.strip()
    if len(clean) > 1 and clean[0] == clean[-1] and clean[0] in "\"'":
        clean = clean[1:-1]
    if clean.startswith("file:/"):
        clean = unquote(re.sub("^file:(//[^/]*)?", "", clean), errors="surrogateescape")
    clean = os.path.expanduser(clean)  # noqa: PTH111
    return clean if os.path.lexists(clean) or glob.has_magic(clean) else text


def _fetched(given: str, fetcher: Fetcher) -> tuple[Path, DeepscanError | None]:
    try:
        return fetcher.fetch(given), None
    except DeepscanError as error:
        return Path(given), error


def _expand(path: str, passed_over: Counter[str]) -> Iterator[tuple[str, DeepscanError | None]]:
    # Plain strings and os.path: lists hold any text, and pathlib raises on what cannot be a path.
    there = os.path.lexists(path)
    no_file_error = None if there else no_file(path)
    path = str(Path(path))
    if no_file_error is not None:
        yield path, no_file_error
    elif os.path.isdir(path):  # noqa: PTH112
        failed: list[OSError] = []
        empty = True
        for file in _media_below(path, failed, passed_over):
            empty = False
            yield file, None
        for error in failed:
            yield error.filename or path, _unreadable_folder(error.filename or path, error)
        if empty and not failed:
            yield path, _nothing_in(path)
    elif not there and glob.has_magic(path):
        # A NUL, which no name has, is beyond glob. (Path.glob takes no absolute pattern.)
        matches = [] if "\0" in path else sorted(glob.glob(path, recursive=True))  # noqa: PTH207
        if not matches:
            yield path, MediaError(f"{path} matches no file", reason="not_found")
        for match in matches:
            yield from _expand(match, passed_over)
    else:
        yield path, None


def _media_below(folder: str, failed: list[OSError], passed_over: Counter[str]) -> Iterator[str]:
    for root, folders, files in os.walk(folder, onerror=failed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            path = os.path.join(root, name)  # noqa: PTH118
            if is_media(path, _SUFFIXES):
                yield path
            else:
                passed_over[suffix_of(name)] += 1


def _unreadable_folder(folder: str, error: OSError) -> MediaError:
    return MediaError(f"{folder}: cannot be searched", error.strerror or str(error), "Allow yourself to read it first.")


def _nothing_in(folder: str) -> MediaError:
    return MediaError(
        f"{folder} holds no video or image",
        f"files ending in mp4, mov, jpg, png and {len(_SUFFIXES) - 4} more are looked for",
        "Give a file by name to have it read whatever its ending.",
        reason="no_media",
    )
