"""Crops of pictures by the hundred thousand: a few large tars, where a store would have a small one for each picture.

A pack is a folder of parts. A part holds the crops of some hundred pictures and, as its last member, a table of who is
in them; it is written whole or not at all, and a part that is there is not made again. Faces are found and cut as in
a store. A fake is cut at the boxes of its original where that is asked for and their pictures are of one size. What the
corpus says of a picture (label, group, split...) is not kept: it may be divided anew without cutting anew.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deepscan.config import DEFAULT_LIMITS, MediaLimits
from deepscan.datasets.readers.base import (
    CorpusItem,
)
from deepscan.datasets.store.archive import (
    Member,
    StoreError,
    damaged,
    encode_crop,
    list_members,
    read_members,
    replacing,
    write_members,
)
from deepscan.datasets.store.store import StoredTrack, StoreSettings, recipe
from deepscan.datasets.store.tar_members import file_stamp, read_member
from deepscan.errors import DeepscanError
from deepscan.extract.crops import brightness, crop_face
from deepscan.extract.faces.detect import cached_finder
from deepscan.extract.file_kinds import IMAGE_SUFFIXES
from deepscan.extract.images.stills import read_image
from deepscan.extract.people import PeopleSearch, clear_people, nobody_reason
from deepscan.processes import Engine, Lost
from deepscan.types import Face, Frame, MediaInfo, RgbImage, Sighting, Sureness, Track

SCHEMA = "deepscan.pack/1"
TABLE = "table.json"
PICTURES_A_PART = 512


@dataclass(frozen=True, slots=True)
class PackedFace:
    """One person of one picture.

    Attributes:
        number: of the person in the picture, from 1.
        box, landmarks: in pixels of the picture, whose size is ``width_px`` by ``height_px``.
        brightness: mean luma of the crop.
        aligned: whether a fake was cut at the boxes of its original.
        crc32: of the crop's file.
    """

    video_id: str
    number: int
    n_people: int
    width_px: int
    height_px: int
    box: tuple[float, float, float, float]
    confidence: float
    landmarks: tuple[tuple[float, float], ...]
    brightness: float
    sureness: Sureness
    aligned: bool
    crc32: int


@dataclass(slots=True)
class Pack:
    """What is in a folder of parts: everybody, and why pictures gave nobody, by ``video_id``."""

    settings: StoreSettings
    faces: list[tuple[PackedFace, StoredTrack]] = field(default_factory=list)
    without: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartTask:
    """A part to be made, as it is sent to a worker."""

    path: Path
    items: tuple[CorpusItem, ...]
    settings: StoreSettings
    limits: MediaLimits = DEFAULT_LIMITS


def is_packable(items: Iterable[CorpusItem]) -> bool:
    """Whether all items are single pictures."""
    return all(not item.frames and Path(item.member or item.path).suffix.lower() in IMAGE_SUFFIXES for item in items)


def make_pack(
    items: Sequence[CorpusItem],
    folder: Path,
    settings: StoreSettings,
    engine: Engine,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Pack:
    """Make every part that is not there, and read them all.

    Args:
        items: pictures, with their splits.
        folder: of the parts; parts of other settings or items are left alone and not read.
        settings: of the crops; one frame of a picture is all there is.
        engine: that makes the parts.
        on_progress: called with the pictures done and their number.

    Raises:
        OutputError: a part cannot be written; what is done stays done.
        StoreError: a part is damaged, or a worker lost one.
    """
    tasks = [
        PartTask(folder / f"part-{number:05d}-{_digest(part, settings)}.tar", part, settings)
        for number, part in enumerate(_parts(items))
    ]
    n_done = 0
    lost: list[Lost] = []

    def progress(task: PartTask) -> None:
        nonlocal n_done
        n_done += len(task.items)
        if on_progress is not None:
            on_progress(n_done, len(items))

    todo = []
    for task in tasks:
        if task.path.exists():
            progress(task)
        else:
            todo.append(task)
    for task, result in engine.map(make_part, todo):
        if isinstance(result, Lost):
            lost.append(result)
        progress(task)
    if lost:
        raise StoreError(f"{len(lost)} parts of {folder} were not made", lost[0].message, "Run the same command again.")
    pack = Pack(settings)
    for task in tasks:
        faces, without = read_part(task.path)
        pack.faces += faces
        pack.without |= without
    return pack


def make_part(task: PartTask) -> None:
    """Find and cut the faces of a part's pictures, reals before the fakes made from them, and write it.

    Raises:
        OutputError: it cannot be written. A picture that cannot be read is a row of the table.
    """
    rows: list[dict[str, Any]] = []
    without: dict[str, str] = {}
    files: list[tuple[str, bytes]] = []
    reals: dict[str, tuple[tuple[int, int], list[tuple[Face, Sureness]]]] = {}
    for item in sorted(task.items, key=lambda item: (item.original is not None, item.video_id)):
        try:
            image = _picture(item, task.limits)
            original = reals.get(item.original or "") if task.settings.boxes == "original" else None
            aligned = original is not None and original[0] == image.shape[:2]
            faces = original[1] if original is not None and aligned else _faces(item, image, task.settings)
        except DeepscanError as error:
            without[item.video_id] = error.reason
            continue
        if isinstance(faces, str):
            without[item.video_id] = faces
            continue
        reals[item.video_id] = image.shape[:2], faces
        for number, (face, sure) in enumerate(faces, 1):
            crop = crop_face(image, face, task.settings.crop)
            data = encode_crop(crop, task.settings.image, task.settings.jpeg_quality)
            files.append((f"{len(files):06d}.{'jpg' if task.settings.image == 'jpeg' else 'png'}", data))
            packed = PackedFace(
                item.video_id,
                number,
                len(faces),
                image.shape[1],
                image.shape[0],
                face.box,
                face.confidence,
                tuple((float(x), float(y)) for x, y in face.landmarks),
                brightness(crop),
                sure,
                aligned,
                zlib.crc32(data),
            )
            rows.append(asdict(packed))
    table = {"schema": SCHEMA, "settings": task.settings.model_dump(mode="json"), "faces": rows, "without": without}
    files.append((TABLE, json.dumps(table, separators=(",", ":")).encode()))
    with replacing(task.path) as file:
        write_members(file, files)


def read_part(path: Path) -> tuple[list[tuple[PackedFace, StoredTrack]], dict[str, str]]:
    """The faces of a part, and who gave none and why; crops stay where they are until they are asked for.

    Raises:
        StoreError: it cannot be read or is damaged.
    """
    members = list_members(path)
    if not members or members[-1].name != TABLE:
        raise damaged(path, f"it has no {TABLE}")
    try:
        table = json.loads(next(read_members(path, members[-1:])))
        size_px = StoreSettings.model_validate(table["settings"]).crop.size_px
        faces = [PackedFace(**row) for row in table["faces"]]
        without = {str(name): str(reason) for name, reason in dict(table["without"]).items()}
        if len(faces) != len(members) - 1:
            raise damaged(path, f"it has {len(members) - 1} crops for {len(faces)} faces")
        return [
            (face, _track(path, face, member, size_px)) for face, member in zip(faces, members, strict=False)
        ], without
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"its table cannot be read: {error}") from error


def _track(path: Path, face: PackedFace, member: Member, size_px: int) -> StoredTrack:
    x1, y1, x2, y2 = face.box
    landmarks = np.array(face.landmarks, np.float32)
    sighting = Sighting(0, 0.0, Face((x1, y1, x2, y2), face.confidence, landmarks), face.brightness)
    return StoredTrack(Track(face.number, (sighting,), face.sureness), path, size_px, (member,), (face.crc32,))


def _parts(items: Sequence[CorpusItem]) -> Iterator[tuple[CorpusItem, ...]]:
    """Items by the hundred; those of a group stay together, so that a fake has its original beside it."""
    part: list[CorpusItem] = []
    group: list[CorpusItem] = []
    for item in sorted(items, key=lambda item: (item.group, item.video_id)):
        if group and item.group != group[0].group:
            part += group
            group = []
            if len(part) >= PICTURES_A_PART:
                yield tuple(part)
                part = []
        group.append(item)
    if part or group:
        yield tuple(part + group)


def _digest(items: Sequence[CorpusItem], settings: StoreSettings) -> str:
    """Of all that decides what is in a part."""
    digest = hashlib.sha256(recipe(settings).encode())
    for item in items:
        facts = (item.video_id, item.path.as_posix(), item.member, file_stamp(item.path), item.original)
        digest.update(json.dumps(facts).encode())
    return digest.hexdigest()[:16]


def _picture(item: CorpusItem, limits: MediaLimits) -> RgbImage:
    if item.member is None:
        return read_image(item.path, limits.max_pixels)
    data = read_member(item.path, item.member, limits.max_bytes)
    with tempfile.NamedTemporaryFile(prefix="deepscan-", suffix=Path(item.member).suffix) as file:
        file.write(data)
        file.flush()
        return read_image(Path(file.name), limits.max_pixels)


def _faces(item: CorpusItem, image: RgbImage, settings: StoreSettings) -> list[tuple[Face, Sureness]] | str:
    """The faces of a picture that can be judged, or why there are none."""
    height, width = image.shape[:2]
    media = MediaInfo(item.path, "image", width, height, None, 1)
    frames = iter([Frame(image, time_s=0.0, index=0)])
    extraction = PeopleSearch(
        media, frames, cached_finder(settings.face), settings.crop, settings.track, close_up=True
    ).run()
    clear = clear_people(extraction)
    faces = [(person.track.sightings[0].face, person.track.sureness) for person in clear]
    return faces or nobody_reason(extraction)
