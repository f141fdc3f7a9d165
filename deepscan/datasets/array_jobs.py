"""The jobs of an array, and the joining of what they wrote.

``Share.parse("2/8")`` is the second of eight; which videos it takes is a hash of their names alone, so that jobs agree
without talking, even when one sees a file that another does not. All write into one store; manifest, failures and
journal are each job's own (``manifest-2-of-8.csv``), and :func:`merge_manifests` joins them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deepscan.datasets.readers.base import CorpusItem
from deepscan.datasets.splits import check_groups
from deepscan.datasets.store.manifest import (
    ManifestError,
    ManifestRow,
    read_failures,
    read_manifest,
    unique_rows,
    write_failures,
    write_manifest,
)
from deepscan.errors import ConfigError

_SHARE = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")
_PART = re.compile(r"manifest-([1-9][0-9]{0,5})-of-([1-9][0-9]{0,5})\.csv")


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
        match = _SHARE.fullmatch(text.strip())
        if match is None or int(match[1]) > int(match[2]):
            raise ConfigError(
                f"{text!r} is no shard", "it must be I/N with I from 1 to N", "Give for example --shard 2/8."
            )
        return cls(int(match[1]), int(match[2]))

    @property
    def suffix(self) -> str:
        """What the names of this job's files end in: ``-2-of-8``, nothing for the only job."""
        return f"-{self.index}-of-{self.count}" if self.count > 1 else ""

    def takes(self, item: CorpusItem) -> bool:
        """Whether this video is of this job: it is of exactly one, and a fake is of its original's."""
        name = f"{item.dataset}\0{item.original or item.video_id}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % self.count == self.index - 1


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
    matches = ((path, _PART.fullmatch(path.name)) for path in sorted(folder.glob("manifest-*.csv")))
    parts = {path: (int(match[1]), int(match[2])) for path, match in matches if match}
    counts = sorted({count for _, count in parts.values()})
    if not counts:
        raise ManifestError(f"{folder} has nothing to merge", "there is no manifest-I-of-N.csv", "Run the jobs first.")
    if len(counts) > 1:
        raise ManifestError(
            f"{folder} holds the manifests of several arrays",
            f"some are of {' and some of '.join(map(str, counts))} jobs",
            "Delete those that are out of date.",
        )
    missing = [str(index) for index in range(1, counts[0] + 1) if (index, counts[0]) not in parts.values()]
    if missing:
        raise ManifestError(
            f"{folder} cannot be merged yet",
            f"of {counts[0]} jobs, {len(missing)} have not finished: {', '.join(missing[:10])}",
            f"Run them with --shard {missing[0]}/{counts[0]} and so on.",
        )
    rows = unique_rows(row for path in parts for row in read_manifest(path))
    check_groups(_item(row) for row in rows)
    failed = [path.with_name(path.name.replace("manifest", "failures", 1)) for path in parts]
    failures = [failure for path in failed if path.exists() for failure in read_failures(path)]
    write_failures(folder / "failures.csv", failures)
    write_manifest(folder / "manifest.csv", rows)
    return rows


def _item(row: ManifestRow) -> CorpusItem:
    return CorpusItem(row.video_id, Path(row.path), row.label, row.dataset, row.method, row.group, row.split)
