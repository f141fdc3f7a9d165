"""Stores of made faces: no video is decoded and no face detected for them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepscan.config import CropSettings
from deepscan.datasets.readers import CorpusItem
from deepscan.datasets.store.journal import JournalEntry
from deepscan.datasets.store.manifest import write_manifest
from deepscan.datasets.store.store import StoreSettings, read_store, write_store
from deepscan.extract.people import Extraction, Person
from deepscan.types import Face, MediaInfo, Sighting, Track

SIDE = 32
SETTINGS = StoreSettings(frames=8, crop=CropSettings(size_px=SIDE), image="png", boxes="original")
# Where the eyes, nose and mouth of every made face are, as shares of its box.
_POINTS = np.array([[0.32, 0.4], [0.68, 0.4], [0.5, 0.58], [0.36, 0.74], [0.64, 0.74]], np.float32)


def face(rng: np.random.Generator, side: int = SIDE):
    """A made face: an ellipse of one colour with eyes on a background of another."""
    y, x = np.mgrid[0:side, 0:side] / side
    image = np.empty((side, side, 3), np.float32)
    image[:] = rng.uniform(40, 200, 3)
    image[((x - 0.5) / 0.4) ** 2 + ((y - 0.5) / 0.48) ** 2 < 1] = rng.uniform(60, 220, 3)
    for cx in (0.32, 0.68):
        image[(x - cx) ** 2 + (y - 0.4) ** 2 < 0.006] = rng.uniform(0, 60, 3)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def stripes(image):
    """A visible artefact: every second row of the face's middle is brighter."""
    out = image.astype(np.int16)
    side = image.shape[0]
    out[side // 4 : 3 * side // 4 : 2, side // 4 : 3 * side // 4] += 45
    return np.clip(out, 0, 255).astype(np.uint8)


def extraction(crops) -> Extraction:
    """One person who does not move."""
    side = 100.0
    box = (0.0, 0.0, side, side)
    points = (_POINTS * side).astype(np.float32)
    sightings = tuple(Sighting(i, i / 8, Face(box, 0.99, points), float(c.mean())) for i, c in enumerate(crops))
    kind = "image" if len(crops) == 1 else "video"
    media = MediaInfo(Path("made"), kind, 200, 200, None if kind == "image" else 1.0, len(crops))
    return Extraction(
        media, (Person(Track(1, sightings), np.stack(crops)),), len(crops), len(crops), len(crops), side, 99.0, {}
    )


def put(folder, items, settings=SETTINGS):
    """Write ``(item, crops, crops of its original or None)`` into a store with its manifest."""
    rows = []
    for item, crops, original in items:
        sha = _sha(crops)
        lent = None if original is None else _sha(original)
        path = write_store(folder, item, sha, settings, extraction(crops), boxes_sha256=lent)
        rows.append(JournalEntry.stored(folder, item, "1:1", read_store(path)).row)
    write_manifest(folder / "manifest.csv", rows)
    return folder


def pairs_store(folder, n=24, length=1, seed=0, artefact=stripes, split=None, dataset="made", labels=None, **crop):
    """``n`` made people, each once real and once with an artefact; a fifth of them is ``val``, a fifth ``test``."""
    rng = np.random.default_rng(seed)
    items = []
    for number in range(n):
        base = face(rng, crop.get("size_px", SIDE))
        real = [np.clip(base + rng.normal(0, 3, base.shape), 0, 255).astype(np.uint8) for _ in range(length)]
        fake = [artefact(crop) for crop in real]
        where = split or ("val", "test", "train", "train", "train")[number % 5]
        item = CorpusItem(f"p{number:03d}/real", Path("made"), 0, dataset, "real", f"p{number:03d}", where)
        other = replace(item, video_id=f"p{number:03d}/fake", label=1, method="stripes", original=item.video_id)
        swap = labels is not None and labels[number]
        if swap:
            item, other = replace(other, original=None), replace(item, original=None)
        items += [(item, real, None), (other, fake, None if swap else real)]
    return put(folder, items, SETTINGS.model_copy(update={"crop": CropSettings(**{"size_px": SIDE, **crop})}))


def _sha(crops):
    return hashlib.sha256(np.stack(crops).tobytes()).hexdigest()


def order_store(folder, n=60, length=4, seed=0):
    """Fakes whose frames are each as real: reals turn from red to blue, fakes from blue to red."""
    rng = np.random.default_rng(seed)
    red, blue = np.array([70, 0, -50]), np.array([-50, 0, 70])
    items = []
    for number in range(n):
        base = face(rng).astype(np.float32)
        for label, colours in ((0, (red, blue)), (1, (blue, red))):
            tints = [colours[index * 2 // length] + rng.normal(0, 6, 3) for index in range(length)]
            crops = [np.clip(base + tint, 0, 255).astype(np.uint8) for tint in tints]
            where = "val" if number % 4 == 0 else "train"
            name, method = f"o{number:03d}/{('real', 'fake')[label]}", ("real", "order")[label]
            item = CorpusItem(name, Path("made"), label, "made", method, f"o{number:03d}", where)
            items.append((item, crops, None))
    return put(folder, items)
