"""Dividing: the work over the jobs of an array, and the finished store into WebDataset archives.

**Array jobs.** ``Share.parse("2/8")`` is the second of eight; which videos it takes is a hash of their names alone, so
that jobs agree without talking, even when one sees a file that another does not. All write into one store; manifest,
failures and journal are each job's own (``manifest-2-of-8.csv``), and :func:`merge_manifests` joins them.

**WebDataset.** :func:`write_shards` puts the members of many files one after the other, unchanged: ``shards/`` then has
``train-000000.tar``, ``train-000001.tar`` and so on, the same for ``val`` and ``test`` (``all`` for videos without a
split), and ``shards.json``, which is written last: where it is missing, the set is not complete. A sample is a track::

    webdataset.WebDataset("shards/train-{000000..000007}.tar").decode("rgb")
    # {"__key__": "3f9c...-clip/t00001", "000000.jpg": ..., "000001.jpg": ..., "json": {"video": {"label": 1, ...}}}
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from deepscan.datasets.readers.base import CorpusItem
from deepscan.datasets.splits import check_groups
from deepscan.datasets.store.archive import (
    damaged,
    escape_text,
    list_members,
    output_error,
    read_members,
    replacing,
    write_members,
)
from deepscan.datasets.store.manifest import (
    ManifestError,
    ManifestRow,
    read_failures,
    read_manifest,
    unique_rows,
    write_failures,
    write_manifest,
)
from deepscan.datasets.store.store import StoredVideo, read_store
from deepscan.errors import ConfigError

SHARDS_SCHEMA = "deepscan.shards/1"
SHARDS_FOLDER = "shards"

_SHARE = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")
_PART = re.compile(r"manifest-([1-9][0-9]{0,5})-of-([1-9][0-9]{0,5})\.csv")
_SHARD = re.compile(r"(train|val|test|all)-[0-9]{6}\.tar")


@dataclass(frozen=True, slots=True)
class Share:
    """One job of an array, from 1; ``Share()`` is all the work in one."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """The share that ``I/N`` means.

        Raises:
            ConfigError: it means none.
        """
        found = _SHARE.fullmatch(text.strip())
        if found is None or int(found[1]) > int(found[2]):
            raise ConfigError(
                f"{text!r} is no shard", "it must be I/N with I from 1 to N", "Give for example --shard 2/8."
            )
        return cls(int(found[1]), int(found[2]))

    @property
    def suffix(self) -> str:
        """What the names of this job's files end in: ``-2-of-8``, nothing for the only job."""
        return f"-{self.index}-of-{self.count}" if self.count > 1 else ""

    def takes(self, item: CorpusItem) -> bool:
        """Whether this video is of this job: it is of exactly one, and a fake is of its original's."""
        name = f"{item.dataset}\0{item.original or item.video_id}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % self.count == self.index - 1


@dataclass(frozen=True, slots=True)
class Shard:
    """One WebDataset archive, as ``shards.json`` describes it."""

    name: str
    split: str
    videos: int
    tracks: int
    crops: int
    bytes: int


def merge_manifests(folder: Path) -> list[ManifestRow]:
    """Join what the jobs of an array wrote into ``manifest.csv`` and ``failures.csv``.

    The parts stay, so that a job can be run again, and the result merged again.

    Returns:
        The rows.

    Raises:
        ManifestError: there are no parts, some are missing, or they disagree about a video.
        ConfigError: (``split_leak``) a group was put into several splits.
        OutputError: the result cannot be written.
    """
    found = {path: (int(match[1]), int(match[2])) for path, match in _parts(folder)}
    counts = sorted({count for _, count in found.values()})
    if not counts:
        raise ManifestError(f"{folder} has nothing to merge", "there is no manifest-I-of-N.csv", "Run the jobs first.")
    if len(counts) > 1:
        raise ManifestError(
            f"{folder} holds the manifests of several arrays",
            f"some are of {' and some of '.join(map(str, counts))} jobs",
            "Delete those that are out of date.",
        )
    missing = [str(index) for index in range(1, counts[0] + 1) if (index, counts[0]) not in found.values()]
    if missing:
        raise ManifestError(
            f"{folder} cannot be merged yet",
            f"of {counts[0]} jobs, {len(missing)} have not finished: {', '.join(missing[:10])}",
            f"Run them with --shard {missing[0]}/{counts[0]} and so on.",
        )
    rows = unique_rows(row for path in sorted(found) for row in read_manifest(path))
    check_groups(_item(row) for row in rows)
    failed = [path.with_name(path.name.replace("manifest", "failures", 1)) for path in sorted(found)]
    failures = [failure for path in failed if path.exists() for failure in read_failures(path)]
    write_failures(folder / "failures.csv", failures)
    write_manifest(folder / "manifest.csv", rows)
    return rows


def write_shards(folder: Path, rows: Iterable[ManifestRow], count: int) -> list[Shard]:
    """Write the store as WebDataset archives into ``shards/`` below the output folder.

    The same rows give the same bytes. Archives of a split are of about equal size, and the videos in one are in no
    order that means anything (that of their addresses). Archives of an earlier call that are not of this set are
    removed: a reader that takes all ``train-*.tar`` must not find a video twice, or in two splits.

    Args:
        folder: of the output.
        rows: of its manifest; those that are not ``ok`` are passed over.
        count: archives for each split; fewer where there are fewer videos.

    Raises:
        ConfigError: ``count`` is below 1.
        ManifestError: a row and its file disagree.
        StoreError: a file is missing or damaged.
        OutputError: an archive cannot be written.
    """
    if count < 1:
        raise ConfigError(f"{count} shards cannot be written", "it takes at least one", "Give for example --shards 8.")
    target = folder / SHARDS_FOLDER
    index = target / "shards.json"
    by_split: dict[str, list[ManifestRow]] = {}
    for row in unique_rows(rows):
        if row.store is not None:
            by_split.setdefault(row.split or "all", []).append(row)
    _remove([index])
    written = [
        _write_shard(folder, target / f"{split}-{number:06d}.tar", split, members)
        for split, members in sorted(by_split.items())
        for number, members in enumerate(_divided(folder, members, count))
    ]
    names = {shard.name for shard in written}
    _remove(path for path in target.glob("*.tar") if _SHARD.fullmatch(path.name) and path.name not in names)
    with replacing(index) as file:
        content = {"schema": SHARDS_SCHEMA, "shards": [asdict(shard) for shard in written]}
        file.write(json.dumps(content, indent=1).encode("ascii") + b"\n")
    return written


def _parts(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    return [(path, match) for path in folder.glob("manifest-*.csv") if (match := _PART.fullmatch(path.name))]


def _item(row: ManifestRow) -> CorpusItem:
    return CorpusItem(row.video_id, Path(row.path), row.label, row.dataset, row.method, row.group, row.split)


def _divided(folder: Path, rows: list[ManifestRow], count: int) -> list[list[ManifestRow]]:
    """Rows in lists of about equal bytes: the largest file first, each to the list that is smallest so far."""
    sizes = {str(row.store): _size(folder / str(row.store)) for row in rows}
    lists: list[list[ManifestRow]] = [[] for _ in range(min(count, len(rows)))]
    filled = [(0, number) for number in range(len(lists))]
    for row in sorted(rows, key=lambda row: (-sizes[str(row.store)], str(row.store))):
        size, number = heapq.heappop(filled)
        lists[number].append(row)
        heapq.heappush(filled, (size + sizes[str(row.store)], number))
    return [sorted(members, key=lambda row: str(row.store)) for members in lists]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # reading it will say what is wrong


def _write_shard(folder: Path, path: Path, split: str, rows: list[ManifestRow]) -> Shard:
    counts: Counter[str] = Counter()
    with replacing(path) as file:
        write_members(file, _members(folder, rows, counts))
        size = file.tell()
    return Shard(path.name, split, len(rows), counts["tracks"], counts["crops"], size)


def _members(folder: Path, rows: list[ManifestRow], counts: Counter[str]) -> Iterator[tuple[str, bytes]]:
    """The members of these files, one at a time; a crop that has changed since it was written goes no further."""
    for row in rows:
        stored = read_store(folder / str(row.store))
        _check(row, stored)
        crc32s = {m.name: crc for track in stored.tracks for m, crc in zip(track.members, track.crc32s, strict=True)}
        members = list_members(stored.path)
        for member, data in zip(members, read_members(stored.path, members), strict=True):
            if crc32s.get(member.name, found := zlib.crc32(data)) != found:
                raise damaged(stored.path, f"{member.name} has changed since it was written")
            yield member.name, data
        counts.update(tracks=len(stored.tracks), crops=len(crc32s))


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(path, error) from error


def _check(row: ManifestRow, stored: StoredVideo) -> None:
    """A file that says other than the manifest would train on the wrong label."""
    for name in ("video_id", "dataset", "label", "method", "group"):
        said, expected = getattr(stored.video, name), getattr(row, name)
        if said != (escape_text(expected) if isinstance(expected, str) else expected):
            raise ManifestError(
                f"{row.video_id!r} cannot be put into a shard",
                f"its file gives {name} {said!r}, the manifest {expected!r}",
                "Run the preprocessing again.",
                reason="manifest_conflict",
            )
