"""From what a user types to files: folders are searched, patterns expanded, the rest is taken as it is."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from deepscan.errors import DeepscanError, MediaError
from deepscan.extract.images import IMAGE_SUFFIXES
from deepscan.extract.video import VIDEO_SUFFIXES

_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES


def expand_inputs(arguments: Iterable[str | Path]) -> list[tuple[Path, DeepscanError | None]]:
    """The files that the arguments mean, in order, each once.

    A folder gives every video and image below it, its own before those of its subfolders, each sorted, hidden ones
    left out. A pattern (``clips/*.mp4``) that names no file itself is expanded. A file given by name is taken whatever
    it is called. An empty folder or pattern stays in the list with its error, so that it becomes a row of the report;
    a missing file is found out when it is read.
    """
    found: dict[Path, DeepscanError | None] = {}
    for argument in arguments:
        for path, error in _expand(Path(argument)):
            found.setdefault(path, error)
    return list(found.items())


def _expand(path: Path) -> Iterator[tuple[Path, DeepscanError | None]]:
    if path.is_dir():
        files = list(_media_below(path))
        if not files:
            yield path, _nothing_in(path)
        for file in files:
            yield file, None
    elif not path.exists() and glob.has_magic(str(path)):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        if not matches:
            yield path, MediaError(f"{path} matches no file", reason="not_found")
        for match in matches:
            yield from _expand(Path(match))
    else:
        yield path, None


def _media_below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES:
                yield Path(root) / name


def _nothing_in(folder: Path) -> MediaError:
    suffixes = " ".join(sorted(s.removeprefix(".") for s in _SUFFIXES))
    return MediaError(
        f"{folder} holds no video or image",
        f"files ending in {suffixes} are looked for",
        "Give a file by name to have it read whatever its ending.",
        reason="no_media",
    )
