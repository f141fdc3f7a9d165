"""Celeb-DF, version 1 and 2: ``Celeb-real``, ``YouTube-real``, ``Celeb-synthesis``, ``List_of_testing_videos.txt``.

Li et al., "Celeb-DF: A Large-scale Challenging Dataset for DeepFake Forensics", CVPR 2020, arXiv 1909.12962. Names:
``id0_0000.mp4`` is a video of person 0, ``id0_id1_0000.mp4`` that video with the face of person 1. A line of the list
is ``1 YouTube-real/00170.mp4``, where **1 is real and 0 fake**, the reverse of deepscan's classes; the folder
decides, and a line that says otherwise is reported.

* **group**: persons. The two persons of a fake belong together, and a group is a connected set of persons with all
  their videos, called by its first (``celeb-id0``). A video of ``YouTube-real`` shows somebody else each time and is
  its own group.
* **split**: ``test`` for the listed videos; the corpus names no others. In the published corpora the persons of the
  list are those of the whole corpus and connect to a handful of groups, so with the list in place everything but the
  remaining YouTube videos belongs to ``test``: Celeb-DF is for measuring. To train on it without leakage take the
  list out of the tree and let the groups be divided.
* **method**: ``Celeb-synthesis``.
* **original**: ``Celeb-real/id0_0000`` of ``id0_id1_0000``.
"""

from __future__ import annotations

import re
from pathlib import Path

from deepscan.datasets.readers.base import (
    FAKE,
    REAL,
    Corpus,
    CorpusItem,
    Groups,
    Position,
    Problem,
    Problems,
    Root,
    finish,
    method_of,
    subfolders,
    without_suffix,
)
from deepscan.extract.file_kinds import VIDEO_SUFFIXES

_FOLDERS = {"celeb-real": REAL, "youtube-real": REAL, "celeb-synthesis": FAKE}
_LIST = "List_of_testing_videos.txt"
_LINE = re.compile(r"([01])\s+(\S.*)")
_PERSON = re.compile(r"(id\d+)_\d+")
_PAIR = re.compile(r"(id\d+)_(id\d+)_(\d+)")


class CelebDf:
    """Reads both versions; they have the same layout."""

    name = "celebdf"
    layout = "Celeb-real/, YouTube-real/, Celeb-synthesis/ and List_of_testing_videos.txt"

    def matches(self, root: Path) -> bool:
        return any(folder.name.lower() in ("celeb-real", "celeb-synthesis") for folder in subfolders(root))

    def read(self, root: Path) -> Corpus:
        border = Root(root)
        problems = Problems()
        groups = Groups()
        videos: dict[str, tuple[str, Path, int, str]] = {}
        for folder in subfolders(root):
            label = _FOLDERS.get(folder.name.lower())
            if label is None:
                continue
            for video in border.media(folder, VIDEO_SUFFIXES, problems):
                keys = identities(video.stem, label, youtube=folder.name.lower().startswith("youtube"))
                if not keys:
                    cause = f"{video.name!r} does not say whose face it shows (idA_idB_0000.mp4)"
                    problems.add(video, "bad_name", cause)
                    continue
                groups.join(*keys)
                name = f"{folder.name}/{video.stem}".lower()
                if name in videos:
                    problems.add(video, "duplicate", f"{video.stem!r} is there twice; the first is used")
                else:
                    videos[name] = without_suffix(border.relative(video)), video, label, keys[0]
        tested = _tested(border, videos, problems)
        items = [
            CorpusItem(
                video_id,
                path,
                label,
                self.name,
                method_of(label, "Celeb-synthesis"),
                groups.of(key),
                "test" if name in tested else None,
            )
            for name, (video_id, path, label, key) in videos.items()
        ]
        originals: dict[Position, Position] = {}
        for _, path, label, _ in videos.values():
            match = _PAIR.fullmatch(path.stem)
            if label == FAKE and match and (original := videos.get(f"celeb-real/{match[1]}_{match[3]}")):
                originals[path, None] = original[1], None
        return finish(self, root, items, problems, originals, border.passed_over)


def identities(stem: str, label: int, *, youtube: bool = False) -> tuple[str, ...]:
    """The persons in a video of this name; empty for a fake whose name does not tell."""
    if label == FAKE:
        match = _PAIR.fullmatch(stem)
        return (f"celeb-{match[1]}", f"celeb-{match[2]}") if match else ()
    match = None if youtube else _PERSON.fullmatch(stem)
    return (f"celeb-{match[1]}",) if match else (f"youtube-{stem}",)


def _tested(border: Root, videos: dict[str, tuple[str, Path, int, str]], problems: Problems) -> set[str]:
    """The listed videos that are there, as ``folder/name`` in lower case."""
    path = border.folder / _LIST
    if not path.is_file():
        return set()
    if not border.admits(path, problems):
        return set()
    try:
        lines = path.read_bytes().decode("utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        problems.add(path, "broken_metadata", f"{_LIST} cannot be read: {error.strerror or error}")
        return set()
    tested = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if not match:
            problems.add(path, "bad_row", f"line {number} of {_LIST} is not '0 or 1, folder/name.mp4'")
            continue
        name = without_suffix(match[2].replace("\\", "/")).lower()
        if name not in videos:
            video = border.find(match[2].replace("\\", "/"))
            if isinstance(video, Problem):
                problems.append(video)
            continue
        tested.add(name)
        if (match[1] == "1") != (videos[name][2] == REAL):
            cause = f"line {number} of {_LIST} contradicts the folder of {match[2]}; the folder counts"
            problems.add(path, "conflict", cause)
    return tested
