"""What is done already: one line for every finished video, written at once: a kill loses only the one in flight.

**When a video is not done again**, from the cheapest check to the dearest:

1. :meth:`Journal.recall`: the journal has it with the same settings, and size and modification time of the input are
   as they were (what ``make`` and ``rsync`` go by). Nothing is read: a second run over half a terabyte takes as long as
   listing it. A corpus that was moved or mounted elsewhere counts as the same; path and split are taken from it anew.
2. :func:`~.store.find_store`: the content is hashed (:func:`content_sha256`), and the store has a file
   for it. What was only touched or copied, corrected labels, and a lost journal end here. The hash reads the whole
   input, which the decoder then finds in the system's cache.
3. It is decoded.

Skipped and failed videos have no file; of them only 1. holds. A failure is final only when the input could be read to
its end, and is tried again after ``too_large`` (the limits are not among the settings) and ``internal``.

What became of a fake that is cut at the boxes of its original depends on the original as well: its entry is asked for
with that of the original, whose stamp is part of its own, so that 1. holds only as long as it does for both.

A line is written after the video's file is in the store and on the disk. On opening, a line that was cut off is
dropped, a damaged one passed over: the video is then found by 2.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from deepscan.append_log import LineFile
from deepscan.config import Settings
from deepscan.datasets.readers.base import CorpusItem
from deepscan.datasets.store.archive import escape_text, output_error, unescape_text
from deepscan.datasets.store.manifest import Failure, ManifestRow, Status, further_columns
from deepscan.datasets.store.store import StoredVideo, StoreSettings, recipe
from deepscan.datasets.store.tar_members import file_stamp, member_sha256
from deepscan.errors import MediaError
from deepscan.files import file_sha256

if TYPE_CHECKING:
    from deepscan.config import MediaLimits

_TRIED_AGAIN = ("too_large", "internal")
_FACTS = ("stamp", "sha256", "recipe", "store_bytes", "n_crops")


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What a run learnt of one video.

    Attributes:
        row: of the manifest.
        message: what went wrong, for a person; empty when nothing did.
        stamp: :func:`input_stamp`, taken before the input was first read, with that of the original whose boxes were to
            be used.
        sha256: of the input's content; None if it could not be read to its end.
        recipe: :func:`deepscan.datasets.store.store.recipe` of the settings as they apply to this video.
        store_bytes: size of its file; 0 without one.
        n_crops: crops in its file.
    """

    row: ManifestRow
    message: str
    stamp: str | None
    sha256: str | None
    recipe: str
    store_bytes: int = 0
    n_crops: int = 0

    @classmethod
    def stored(cls, folder: Path, item: CorpusItem, stamp: str | None, stored: StoredVideo) -> Self:
        """Of a video with a file in the store below ``folder``."""
        video = stored.video
        name = stored.path.relative_to(folder).as_posix()
        row = ManifestRow.of(item, "ok", store=name, n_frames=video.frames_sampled, n_tracks=video.n_tracks)
        n_crops = sum(map(len, stored.tracks))
        return cls(row, "", stamp, video.sha256, recipe(stored.settings), stored.path.stat().st_size, n_crops)

    @classmethod
    def without(
        cls,
        item: CorpusItem,
        status: Status,
        reason: str,
        message: str,
        *,
        stamp: str | None,
        sha256: str | None,
        settings: StoreSettings,
        n_frames: int = 0,
        boxes_sha256: str | None = None,
    ) -> Self:
        """Of a video that was skipped or failed; ``boxes_sha256`` as for :func:`~.store.store_key`."""
        row = ManifestRow.of(item, status, reason, n_frames=n_frames)
        return cls(row, " ".join(message.split()), stamp, sha256, recipe(settings.for_boxes(boxes_sha256)))

    @property
    def failure(self) -> Failure | None:
        """Its line of ``failures.csv``; None unless it failed."""
        row = self.row
        if row.status != "failed":
            return None
        return Failure(row.dataset, row.video_id, row.path, row.reason or "", self.message)


class _Line(Settings):
    row: dict[str, str]
    message: str
    stamp: str | None
    sha256: str | None
    recipe: str
    store_bytes: int
    n_crops: int


class Journal(LineFile[tuple[str, str], JournalEntry]):
    """The journal of an output folder; a context manager.

    Array jobs each write one of their own, and read those of the others: what any of them has done is done. Lines are
    appended in one piece by the process that leads a run; its workers need no access.

    Args:
        folder: of the output; made if it is not there.
        suffix: of this job's files, see :class:`deepscan.datasets.array_jobs.Share`.

    Raises:
        OutputError: it cannot be opened for writing, or another run writes to it.
    """

    def __init__(self, folder: Path, suffix: str = "") -> None:
        self.folder = folder
        path = folder / f"journal{suffix}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(path, error) from error
        self._other_records: dict[tuple[str, str], JournalEntry] = {}
        for journal in sorted(folder.glob("journal*.jsonl")):
            if journal != path:
                with LineFile(journal, _parse, writable=False) as file:
                    self._other_records |= file.records()
        super().__init__(path, _parse)

    def recall(
        self, item: CorpusItem, settings: StoreSettings, *, original: JournalEntry | None = None
    ) -> JournalEntry | None:
        """What is known of this video, with the corpus' path and split of today; None if it must be looked at.

        Reads nothing but the sizes and times of files.

        Args:
            item: the video.
            settings: of the run.
            original: today's entry of its original; :func:`usable_boxes` says when it counts.
        """
        identity = item.dataset, item.video_id
        entry = self.get(identity) or self._other_records.get(identity)
        boxes = usable_boxes(original, settings)
        todays = settings.for_boxes(boxes.sha256 if boxes else None)
        if entry is None or entry.recipe != recipe(todays) or entry.stamp is None:
            return None
        row = replace(entry.row, path=item.path.as_posix(), split=item.split, columns=further_columns(item))
        if row.status == "failed" and (entry.sha256 is None or row.reason in _TRIED_AGAIN):
            return None
        today = replace(row, label=item.label, method=item.method, group=item.group)
        if row.store is not None and (today != row or _size(self.folder / row.store) != entry.store_bytes):
            return None
        return replace(entry, row=today) if input_stamp(item, boxes) == entry.stamp else None

    def append(self, entry: JournalEntry) -> None:
        """Note that a video is finished.

        Raises:
            OutputError: it cannot be written; the journal is then as it was.
        """
        line = {"row": entry.row.cells(), "message": escape_text(entry.message)}
        line |= {name: getattr(entry, name) for name in _FACTS}
        data = json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"
        self.append_line(data, entry.row.identity, entry)


def _parse(data: bytes) -> tuple[tuple[str, str], JournalEntry]:
    line = _Line.model_validate_json(data)
    row = ManifestRow.from_cells(line.row)
    entry = JournalEntry(row, unescape_text(line.message), *(getattr(line, name) for name in _FACTS))
    return row.identity, entry


def usable_boxes(original: JournalEntry | None, settings: StoreSettings) -> JournalEntry | None:
    """The entry of a fake's original if its boxes are to be used: the settings ask for it, and it has a file."""
    if original is None or settings.boxes == "own" or original.row.store is None or original.sha256 is None:
        return None
    return original


def input_stamp(item: CorpusItem, boxes: JournalEntry | None = None) -> str | None:
    """Size and modification time of an input, in a few words; None if it is not there.

    Args:
        item: the input.
        boxes: entry of the original whose boxes are to be used: its stamp becomes part of this one.
    """
    try:
        if item.frames:
            stamps = "\n".join(file_stamp(path) for path in item.frames)
            stamp = f"{len(item.frames)} frames:{hashlib.sha256(stamps.encode()).hexdigest()}"
        else:
            stamp = file_stamp(item.path)
            if item.member is not None:
                stamp += f":{escape_text(item.member)}"
    except (OSError, ValueError):
        return None
    if boxes is None:
        return stamp
    return None if boxes.stamp is None else f"{stamp} boxes of {boxes.stamp}"


def content_sha256(item: CorpusItem, limits: MediaLimits | None = None) -> str:
    """Hex sha256 of an input's content: of the file, of the member of a tar, or of the hashes of all frames in order.

    Raises:
        MediaError: it cannot be read, is no plain file, is empty, or exceeds ``limits``.
    """
    from deepscan.config import DEFAULT_LIMITS
    from deepscan.extract.video.container import checked_kind

    limits = limits or DEFAULT_LIMITS
    for path in item.frames or (item.path,):
        checked_kind(path, limits if item.member is None else DEFAULT_LIMITS)
    try:
        if item.member is not None:
            return member_sha256(item.path, item.member)
        if not item.frames:
            return file_sha256(item.path)
        total = hashlib.sha256()
        for path in item.frames:
            total.update(bytes.fromhex(file_sha256(path)))
        return total.hexdigest()
    except (OSError, tarfile.TarError, EOFError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"{item.path.name}: cannot be read", cause, "Copy it to another disk.") from error


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
