"""Extractions that no video was decoded for, and what the tests of the store share."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepscan.config import CropSettings
from deepscan.datasets.readers import CorpusItem
from deepscan.datasets.store.archive import list_members, read_members, write_members
from deepscan.datasets.store.store import StoreSettings
from deepscan.extract.people import Extraction, Person
from deepscan.types import Face, MediaInfo, Sighting, Track

SIDE = 32
PNG = StoreSettings(crop=CropSettings(size_px=SIDE), image="png")
JPEG = StoreSettings(crop=CropSettings(size_px=SIDE))
ITEM = CorpusItem("part_0/clip", Path("corpus/part_0/clip.mp4"), 1, "dfdc", "fake", "part_0/original", "train")
SHA = "ab" * 32
# Fakes are cut at the boxes of their original, whose content is this.
REUSING = PNG.model_copy(update={"boxes": "original"})
BOXES_SHA = "cd" * 32


def item(name, **changes):
    return replace(ITEM, video_id=name, path=Path(f"corpus/{name}.mp4"), **changes)


def extraction(lengths=(3, 2), seed=0, side=SIDE):
    """People seen in so many frames each; their crops are noise."""
    rng = np.random.default_rng(seed)
    people = []
    for track_id, length in enumerate(lengths, 1):
        sightings = []
        for index in range(length):
            face = Face(
                tuple(float(v) for v in rng.uniform(0, 500, 4)),
                float(rng.uniform(0.9, 1)),
                rng.uniform(0, 500, (5, 2)).astype(np.float32),
            )
            sightings.append(Sighting(2 * index, index / 7, face, float(rng.uniform(0, 255))))
        crops = rng.integers(0, 256, (length, side, side, 3), dtype=np.uint8)
        people.append(Person(Track(track_id, tuple(sightings)), crops))
    media = MediaInfo(Path("elsewhere.mp4"), "video", 320, 240, 10 / 3, 77)
    return Extraction(media, tuple(people), 32, 30, sum(lengths), 99.5, 120.25, {"decode": 0.1, "detect": 0.2})


def same_tracks(stored, expected):
    """Whether tracks are equal, landmarks to the last bit."""
    if (stored.id, len(stored.sightings)) != (expected.id, len(expected.sightings)):
        return False
    return all(
        (a.frame_index, a.time_s, a.brightness) == (b.frame_index, b.time_s, b.brightness)
        and (a.face.box, a.face.confidence) == (b.face.box, b.face.confidence)
        and a.face.landmarks.dtype == np.float32
        and np.array_equal(a.face.landmarks, b.face.landmarks)
        for a, b in zip(stored.sightings, expected.sightings, strict=True)
    )


def tree(folder):
    """Everything below a folder: name -> content."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def full_disk(*_args):
    raise OSError(28, os.strerror(28))


def rewrite(path, change):
    """Write the members of a file again, after `change` of the list of (name, data)."""
    members = list_members(path)
    pairs = list(zip((m.name for m in members), read_members(path, members), strict=True))
    with path.open("wb") as file:
        write_members(file, change(pairs))


def with_json(edit):
    def change(pairs):
        for name, data in pairs:
            if not name.endswith(".json"):
                yield name, data
                continue
            content = json.loads(data)
            edit(content)
            yield name, json.dumps(content).encode()

    return change
