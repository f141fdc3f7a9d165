"""A store in the forms that other tools read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from deepscan.datasets.readers import CorpusItem, write_index
from deepscan.datasets.readers.base import is_safe
from deepscan.datasets.store.archive import ENDINGS, read_members
from deepscan.datasets.store.manifest import ManifestRow
from deepscan.datasets.store.store import read_store
from deepscan.errors import OutputError
from deepscan.files import write_atomically

DEEPFAKEBENCH_FOLDER = "deepfakebench"


def write_deepfakebench(folder: Path, rows: Iterable[ManifestRow]) -> list[Path]:
    """Write crops as image files and the index that DeepfakeBench reads, into ``deepfakebench/`` below the output.

    DeepfakeBench knows one face a frame: of each video the person seen most often is written, under
    ``frames/DATASET/VIDEO_ID/000000.jpg``. The index can be read back as a corpus.

    Args:
        folder: of the output.
        rows: of its manifest; those that are not ``ok`` are passed over.

    Returns:
        The indexes, one for each dataset.

    Raises:
        StoreError: a file of the store is missing or damaged.
        ConfigError: a row has no split.
        OutputError: it cannot be written.
    """
    target = folder / DEEPFAKEBENCH_FOLDER
    items: list[CorpusItem] = []
    frames: dict[str, list[Path]] = {}
    for row in rows:
        if row.store is None:
            continue
        stored = read_store(folder / row.store)
        track = max(stored.tracks, key=len)
        name = f"{row.dataset}/{row.video_id}"
        if not is_safe(name):
            raise OutputError(f"{row.video_id!r} cannot be written as a folder", hint="Rename the video.")
        place = target / "frames" / name
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{place} cannot be made", error.strerror or str(error)) from error
        written = []
        for number, data in enumerate(read_members(stored.path, track.members)):
            path = place / f"{number:06d}.{ENDINGS[stored.settings.image]}"
            if not (path.exists() and path.read_bytes() == data):
                write_atomically(path, data)
            written.append(path)
        item = CorpusItem(row.video_id, place, row.label, row.dataset, row.method, row.group, row.split)
        frames[row.video_id] = written
        items.append(item)
    return write_index(items, target, frames)
