"""The store: what was extracted from one video, in one file.

A file is a plain tar. Of each track it has the crops in order, then a JSON with everything known of them::

    3f9c...-clip/t00001.000000.jpg      crops of the first track, in the order of its sightings
    3f9c...-clip/t00001.000001.jpg
    3f9c...-clip/t00001.json            boxes, landmarks, times, the video, the settings
    3f9c...-clip/t00002.000000.jpg      ...

Every JSON repeats what is said of the video: a track stands for itself wherever it is moved.

**Address.** The name of a file is made of :func:`store_key`: a sha256 over the content of the input, the settings,
:data:`SCHEMA`, :data:`REVISION` and the video's name in its corpus. Any of them changed means another file; the same
ones mean the same bytes, on any machine with the same libraries. Where the corpus lies and which split a video falls
into are not in the file, so neither costs a decoded frame. Label, method and group are in it, but not in the address:
when a corpus corrects them, :func:`find_store` rewrites the JSONs and keeps the crops. Where the settings let a fake
be cut at the boxes of its original, the original's content is in its address too, whether its boxes fit in the end or
not; every other video has the same address as without that setting.

Texts from a corpus may hold bytes that are no UTF-8; they are written as :func:`escape_text` gives them. A video of
which nobody can be used has no file, only a row in the manifest.
"""

from __future__ import annotations

import hashlib
import logging
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from deepscan.datasets.readers.base import CorpusItem
from deepscan.datasets.store.archive import (
    ENDINGS,
    Member,
    StoreError,
    damaged,
    decode_crop,
    encode_crop,
    escape_text,
    list_members,
    read_members,
    replacing,
    unescape_text,
    write_members,
)
from deepscan.datasets.store.schema import (
    REVISION,
    SCHEMA,
    BoxesOf,
    SampleRecord,
    SightingRecord,
    StoreSettings,
    VideoRecord,
    canonical,
)
from deepscan.types import Face, Sighting, Track

if TYPE_CHECKING:
    from deepscan.extract.people import Extraction

__all__ = [
    "REVISION",
    "SCHEMA",
    "STORE_FOLDER",
    "BoxesOf",
    "StoreSettings",
    "StoredTrack",
    "StoredVideo",
    "VideoRecord",
    "find_store",
    "read_store",
    "recipe",
    "store_key",
    "store_path",
    "write_store",
]

log = logging.getLogger(__name__)

STORE_FOLDER = "store"

_MOST_CROP_BYTES = 1 << 32
_TEXTS = ("video_id", "dataset", "method", "group")
_MEDIA_FACTS = ("kind", "width_px", "height_px", "duration_s", "n_frames")
_EXTRACTION_FACTS = ("frames_sampled", "frames_with_face", "n_usable", "largest_px", "brightness")


@dataclass(frozen=True, slots=True)
class StoredTrack:
    """One person. Nothing is decoded before it is asked for, and no file stays open: it can be sent to workers."""

    track: Track
    path: Path
    size_px: int
    members: tuple[Member, ...]
    crc32s: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.members)

    def crops(self, indices: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """Crops, RGB ``uint8 [T, S, S, 3]``: all in the order of the sightings, or those at ``indices``.

        Raises:
            StoreError: the file has changed or is damaged, or the crops asked for exceed 4 GiB.
        """
        chosen = range(len(self)) if indices is None else indices
        shape = (len(chosen), self.size_px, self.size_px, 3)
        if np.prod(shape, dtype=object) > _MOST_CROP_BYTES:
            raise StoreError(f"{self.path} holds too many crops to be read at once", "", "Read them by their indices.")
        crops = np.empty(shape, np.uint8)
        datas = read_members(self.path, [self.members[index] for index in chosen])
        for row, (index, data) in enumerate(zip(chosen, datas, strict=True)):
            if zlib.crc32(data) != self.crc32s[index]:
                raise damaged(self.path, f"{self.members[index].name} has changed since it was written")
            crops[row] = decode_crop(self.path, data, self.size_px)
        return crops


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """One file: what it says of its video, the settings it was made with, and the people in order of appearance."""

    path: Path
    key: str
    video: VideoRecord
    settings: StoreSettings
    tracks: tuple[StoredTrack, ...]

    @property
    def video_id(self) -> str:
        """As in the corpus, not escaped."""
        return unescape_text(self.video.video_id)


# Names and addresses


def recipe(settings: StoreSettings) -> str:
    """Hex sha256 of schema, revision and settings; of these, see :meth:`StoreSettings.for_boxes`."""
    # Boxes of one's own go without saying: reals are the same whether fakes reuse theirs or not. How many frames are
    # detected together decides memory, not what is found.
    implied: dict[str, Any] = {"face": {"batch_frames"}}
    if settings.boxes == "own":
        implied["boxes"] = True
    content = settings.model_dump(mode="json", exclude=implied)
    return _sha256({"schema": SCHEMA, "revision": REVISION, "settings": content})


def store_key(item: CorpusItem, sha256: str, settings: StoreSettings, *, boxes_sha256: str | None = None) -> str:
    """Hex sha256 that a file is addressed by.

    Args:
        item: the video.
        sha256: of its content.
        settings: of the run.
        boxes_sha256: of the original whose boxes are to be used; None without one.
    """
    return _key(escape_text(item.dataset), escape_text(item.video_id), sha256, settings, boxes_sha256)


def store_path(
    folder: Path, item: CorpusItem, sha256: str, settings: StoreSettings, *, boxes_sha256: str | None = None
) -> Path:
    """Where this video's file belongs: ``store/3f/3f9c...-clip.tar`` below ``folder``; always plain ASCII."""
    key = store_key(item, sha256, settings, boxes_sha256=boxes_sha256)
    return folder / STORE_FOLDER / key[:2] / f"{_stem(key, escape_text(item.video_id))}.tar"


def _key(dataset: str, video_id: str, sha256: str, settings: StoreSettings, boxes_sha256: str | None) -> str:
    facts = {"content": sha256, "dataset": dataset, "video_id": video_id}
    if boxes_sha256 is not None:
        facts["boxes"] = boxes_sha256
    return _sha256({"recipe": recipe(settings.for_boxes(boxes_sha256)), **facts})


def _stem(key: str, video_id: str) -> str:
    return f"{key[:32]}-{re.sub('[^A-Za-z0-9_-]', '_', video_id.rsplit('/', 1)[-1])[:40]}"


def _sha256(facts: Any) -> str:
    return hashlib.sha256(canonical(facts)).hexdigest()


# Writing


def write_store(
    folder: Path,
    item: CorpusItem,
    sha256: str,
    settings: StoreSettings,
    extraction: Extraction,
    *,
    boxes_sha256: str | None = None,
    boxes_fit: bool = True,
    mark: str = "",
) -> Path:
    """Write the people of a video; its file appears whole or not at all.

    Args:
        folder: of the output; the other arguments are those of :func:`store_key`.
        extraction: with at least one person.
        boxes_fit: whether the boxes of the original are the ones that it was cut at.
        mark: of the run's temporary files.

    Raises:
        OutputError: it cannot be written.
    """
    if not extraction.people:
        raise ValueError("Nobody was found: such a video has a row in the manifest, but no file.")
    path = store_path(folder, item, sha256, settings, boxes_sha256=boxes_sha256)
    boxes: BoxesOf = "original" if boxes_sha256 is not None and boxes_fit else "own"
    key = store_key(item, sha256, settings, boxes_sha256=boxes_sha256)
    video = _video(item, extraction, sha256=sha256, boxes=boxes, boxes_sha256=boxes_sha256)
    with replacing(path, mark) as file:
        write_members(file, _samples(key, video, settings.for_boxes(boxes_sha256), extraction))
    return path


def find_store(
    folder: Path, item: CorpusItem, sha256: str, settings: StoreSettings, *, boxes_sha256: str | None = None
) -> StoredVideo | None:
    """The file of this video if it is there and whole, without decoding anything.

    Where the corpus now gives another label, method or group, they are corrected in the file first.

    Raises:
        OutputError: the correction cannot be written.
    """
    path = store_path(folder, item, sha256, settings, boxes_sha256=boxes_sha256)
    if not path.exists():
        return None
    try:
        stored = read_store(path)
        if stored.key != store_key(item, sha256, settings, boxes_sha256=boxes_sha256):
            raise damaged(path, "it is another video's, under this one's name")
        facts = _facts(item)
        if any(getattr(stored.video, name) != value for name, value in facts.items()):
            _correct(path, stored.video.model_copy(update=facts))
            stored = read_store(path)
    except StoreError as error:
        log.warning("%s; it is made anew", error)
        return None
    return stored


def _facts(item: CorpusItem) -> dict[str, Any]:
    """What the corpus says of a video."""
    return {**{name: escape_text(getattr(item, name)) for name in _TEXTS}, "label": item.label}


def _video(item: CorpusItem, extraction: Extraction, **facts: Any) -> VideoRecord:
    media = {name: getattr(extraction.media, name) for name in _MEDIA_FACTS}
    counts = {name: getattr(extraction, name) for name in _EXTRACTION_FACTS}
    return VideoRecord(**_facts(item), **media, **counts, **facts, n_tracks=len(extraction.people))


def _samples(
    key: str, video: VideoRecord, settings: StoreSettings, extraction: Extraction
) -> Iterator[tuple[str, bytes]]:
    """The members of a file."""
    stem, side = _stem(key, video.video_id), settings.crop.size_px
    for number, person in enumerate(extraction.people, 1):
        if person.crops.shape[1:] != (side, side, 3) or person.crops.dtype.name != "uint8":
            raise ValueError(f"Invalid crops ({person.crops.dtype} {person.crops.shape}) for crops of {side} px.")
        records = []
        for index, (sighting, crop) in enumerate(zip(person.track.sightings, person.crops, strict=True)):
            data = encode_crop(crop, settings.image, settings.jpeg_quality)
            yield _crop_name(stem, number, index, settings), data
            records.append(_sighting_record(sighting, zlib.crc32(data)))
        sample = SampleRecord(
            key=key,
            video=video,
            settings=settings,
            number=number,
            track_id=person.track.id,
            sureness=person.track.sureness,
            sightings=tuple(records),
        )
        yield _json_name(stem, number), sample.to_bytes()


def _sighting_record(sighting: Sighting, crc32: int) -> SightingRecord:
    face = sighting.face
    return SightingRecord(
        frame_index=sighting.frame_index,
        time_s=sighting.time_s,
        box=face.box,
        confidence=face.confidence,
        # The shortest digits that give the same float32.
        landmarks=tuple((float(str(x)), float(str(y))) for x, y in face.landmarks.astype(np.float32)),
        brightness=sighting.brightness,
        crc32=crc32,
    )


def _correct(path: Path, video: VideoRecord) -> None:
    """Write a file anew with another record of its video."""
    members = list_members(path)
    datas = zip(members, read_members(path, members), strict=True)
    with replacing(path) as file:
        write_members(file, ((member.name, _corrected(member, data, video)) for member, data in datas))


def _corrected(member: Member, data: bytes, video: VideoRecord) -> bytes:
    if not member.name.endswith(".json"):
        return data
    return SampleRecord.model_validate_json(data).model_copy(update={"video": video}).to_bytes()


def _crop_name(stem: str, number: int, index: int, settings: StoreSettings) -> str:
    return f"{stem}/t{number:05d}.{index:06d}.{ENDINGS[settings.image]}"


def _json_name(stem: str, number: int) -> str:
    return f"{stem}/t{number:05d}.json"


# Reading


def read_store(path: Path) -> StoredVideo:
    """Read a file of the store. Crops stay where they are until :meth:`StoredTrack.crops`; nothing is unpacked.

    Every member is accounted for: a file that was cut short, or has a member too many, is refused.

    Raises:
        StoreError: it cannot be read, is damaged, or none of ours.
    """
    members = list_members(path)
    ends = [index for index, member in enumerate(members) if member.name.endswith(".json")]
    tracks: list[StoredTrack] = []
    first: SampleRecord | None = None
    start = 0
    for end, data in zip(ends, read_members(path, [members[index] for index in ends]), strict=True):
        try:
            sample = SampleRecord.model_validate_json(data)
        except ValidationError as error:
            first_error = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, first_error["loc"])) or "JSON"
            cause = f"{members[end].name}: {field}: {first_error['msg']}"
            raise damaged(path, cause) from error
        first = first or sample
        _check(path, first, sample, [member.name for member in members[start : end + 1]], len(tracks) + 1)
        tracks.append(_track(path, sample, members[start:end]))
        start = end + 1
    if first is None or len(tracks) != first.video.n_tracks or start != len(members):
        raise damaged(path, f"it holds {len(tracks)} whole tracks" + (f" of {first.video.n_tracks}" if first else ""))
    return StoredVideo(path, first.key, first.video, first.settings, tuple(tracks))


def _check(path: Path, first: SampleRecord, sample: SampleRecord, names: list[str], number: int) -> None:
    """Refuse a sample that does not belong where it is."""
    video, settings = sample.video, sample.settings
    if sample.key != first.key or sample.number != number or video != first.video or settings != first.settings:
        raise damaged(path, f"track {number} is not of the same video")
    # What the key of another revision was made of is not known; such a file is read, but no run takes it for its own.
    if sample.revision == REVISION and not _key_fits(sample.key, video, settings):
        raise damaged(path, "its key does not belong to its content and settings")
    stem = _stem(sample.key, video.video_id)
    expected = [_crop_name(stem, number, index, settings) for index in range(len(sample.sightings))]
    if names != [*expected, _json_name(stem, number)]:
        raise damaged(path, f"the crops of track {number} are not those that its JSON lists")


def _key_fits(key: str, video: VideoRecord, settings: StoreSettings) -> bool:
    if (video.boxes_sha256 is None) != (settings.boxes == "own"):
        return False
    return key == _key(video.dataset, video.video_id, video.sha256, settings, video.boxes_sha256)


def _track(path: Path, sample: SampleRecord, crops: list[Member]) -> StoredTrack:
    sightings = tuple(
        Sighting(s.frame_index, s.time_s, Face(s.box, s.confidence, np.array(s.landmarks, np.float32)), s.brightness)
        for s in sample.sightings
    )
    crc32s = tuple(s.crc32 for s in sample.sightings)
    return StoredTrack(
        Track(sample.track_id, sightings, sample.sureness), path, sample.settings.crop.size_px, tuple(crops), crc32s
    )
