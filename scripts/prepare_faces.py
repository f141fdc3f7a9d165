"""Cut the faces of the training collection into one array, with the crop rule of the detector.

    python scripts/prepare_faces.py DATA OUT

DATA holds ``dfdc_faces/``, ``real_faces/`` and ``clips/real/`` as described in its README. OUT receives
``crops.npy`` (RGB uint8 ``[n, S, S, 3]``), ``landmarks.npy`` (float32 ``[n, 5, 2]``, pixels of the crop) and
``faces.csv``.
Images in which the detector finds no face are left out and counted.
"""

from __future__ import annotations

import argparse
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from deepscan.config import CropSettings, FaceSettings
from deepscan.extract.crops import crop_face, face_square
from deepscan.extract.faces import FaceFinder
from deepscan.extract.video import sample_frames
from deepscan.records import Face

STORE_PX = 144
FRAMES_PER_CLIP = 16
# The collection's crops end at the cheeks; a detector needs to see some surroundings to place its box.
PAD = 0.27
HELD_OUT_SPEAKERS = ("speaker04", "speaker08", "speaker12", "speaker16")


@dataclass(frozen=True)
class Item:
    """One image of the collection with everything the manifest says of it."""

    image: np.ndarray
    name: str
    source: str
    label: int
    group: str
    split: str


def held_out(name: str, share: float) -> bool:
    """A stable pseudo-random choice by name."""
    return zlib.crc32(name.encode()) % 1000 < share * 1000


def tar_images(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Name and RGB image of every file in a tar."""
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile():
                handle = archive.extractfile(member)
                if handle is None:
                    continue
                image = cv2.imdecode(np.frombuffer(handle.read(), np.uint8), cv2.IMREAD_COLOR)
                yield member.name, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def collection(root: Path) -> Iterator[Item]:
    """Every labelled face image: DFDC crops, adults, portraits, frames of the talking-head clips."""
    meta = pd.read_csv(root / "dfdc_faces" / "metadata.csv").set_index("file")
    for shard in sorted((root / "dfdc_faces").glob("*.tar")):
        for name, image in tar_images(shard):
            row = meta.loc[name]
            yield Item(image, name, "dfdc", int(row.label == "fake"), str(row.group), str(row.split))
    for source, share in (("adults", 0.2), ("portraits", 0.25)):
        for name, image in tar_images(root / "real_faces" / f"{source}.tar"):
            yield Item(image, name, source, 0, name, "val" if held_out(name, share) else "train")
    for clip in sorted((root / "clips" / "real").glob("*.mp4")):
        speaker = clip.name.split("_")[0]
        split = "val" if speaker in HELD_OUT_SPEAKERS else "train"
        for frame in sample_frames(clip, FRAMES_PER_CLIP):
            yield Item(frame.image, f"{clip.stem}#{frame.index:02d}", "talking_heads", 0, speaker, split)


def main() -> None:
    """Read, detect in batches, crop, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    # Every image here is a portrait or a crop: the face is large, small detections would be false ones.
    finder = FaceFinder(FaceSettings(detect_side_px=224, detector_min_px=50, batch_frames=32))
    rule = CropSettings(size_px=STORE_PX)
    crops, points, rows, missed = [], [], [], 0
    batch: list[Item] = []

    def flush() -> None:
        nonlocal missed
        pads = [round(PAD * item.image.shape[0]) for item in batch]
        padded = [
            cv2.copyMakeBorder(item.image, p, p, p, p, cv2.BORDER_REPLICATE)
            for item, p in zip(batch, pads, strict=True)
        ]
        for item, pad, faces in zip(batch, pads, finder.detect(padded), strict=True):
            if not faces:
                missed += 1
                continue
            box = tuple(v - pad for v in faces[0].box)
            face = Face(box, faces[0].confidence, faces[0].landmarks - np.float32(pad))  # type: ignore[arg-type]
            crops.append(crop_face(item.image, face, rule))
            points.append(face_square(face, item.image.shape, rule).to_crop(face.landmarks, STORE_PX))
            rows.append((item.name, item.source, item.label, item.group, item.split, round(face.size_px, 1)))
        batch.clear()

    for item in tqdm(collection(args.data), unit="img"):
        batch.append(item)
        if len(batch) == 64:
            flush()
    flush()
    np.save(args.out / "crops.npy", np.stack(crops))
    np.save(args.out / "landmarks.npy", np.stack(points))
    frame = pd.DataFrame(rows, columns=["name", "source", "label", "group", "split", "size_px"])
    frame.to_csv(args.out / "faces.csv", index=False)
    print(frame.groupby(["source", "split", "label"]).size().to_string())
    print(f"{missed} images without a detected face were left out")


if __name__ == "__main__":
    main()
