"""Miniature corpora of real clips."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

from inprocess import InProcess

from deepscan.config import CropSettings
from deepscan.datasets.preprocess import PreprocessSettings, preprocess
from deepscan.datasets.readers import read_corpus
from deepscan.datasets.splits import assign_splits
from deepscan.datasets.store.store import StoreSettings

QUICK = StoreSettings(frames=3, crop=CropSettings(size_px=64))


def place(clip, *targets):
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip, target)


def dfdc(root: Path, face, none):
    """Two parts with the same file name in both; one entry without its file, one file without its entry."""
    first, second = root / "dfdc_train_part_0", root / "dfdc_train_part_1"
    place(face, first / "orig.mp4", first / "swap one.mp4", second / "orig.mp4", second / "stray.mp4")
    place(none, second / "empty é.mp4")
    listed = {
        "orig.mp4": {"label": "REAL", "split": "train"},
        "swap one.mp4": {"label": "FAKE", "split": "train", "original": "orig.mp4"},
        "gone.mp4": {"label": "FAKE", "split": "train", "original": "orig.mp4"},
    }
    (first / "metadata.json").write_text(json.dumps(listed))
    listed = {"orig.mp4": {"label": "REAL"}, "empty é.mp4": {"label": "REAL"}}
    (second / "metadata.json").write_text(json.dumps(listed))
    return root


def ffpp(root: Path, face):
    for folder, name in (
        ("original_sequences/youtube", "000"),
        ("original_sequences/youtube", "003"),
        ("manipulated_sequences/Deepfakes", "000_003"),
        ("manipulated_sequences/NeuralTextures", "003_000"),
    ):
        place(face, root / folder / "c23" / "videos" / f"{name}.mp4")
    return root


def face_tars(root: Path, image: bytes):
    """Form 2 of the face crops: a table beside its tars; one crop is no picture."""
    root.mkdir(parents=True, exist_ok=True)
    members = {"a.jpg": image, "b.jpg": image, "broken.jpg": b"\xff\xd8\xffno picture"}
    with tarfile.open(root / "00.tar", "w") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    rows = ["file,shard,label,group,split", "a.jpg,00.tar,real,a,train", "b.jpg,00.tar,fake,a,train"]
    (root / "metadata.csv").write_text("\n".join([*rows, "broken.jpg,00.tar,fake,c,val\n"]))
    return root


def run(root, out, engine=None, store=QUICK, *, on_progress=None, **options):
    """The whole path from a corpus to its manifest."""
    corpus = read_corpus(root)
    engine = engine or InProcess()
    corpus = replace(corpus, items=tuple(assign_splits(corpus.items, val=0, test=0)))
    return preprocess(corpus, out, PreprocessSettings(store, **options), engine, on_progress=on_progress), engine
