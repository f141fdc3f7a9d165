"""Packs: the faces of many pictures in a few tars, cut as in a store, read without trusting them."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

from deepscan.config import CropSettings
from deepscan.datasets.dataset import pack_samples
from deepscan.datasets.readers import CorpusItem, read_corpus
from deepscan.datasets.store import packs
from deepscan.datasets.store.archive import StoreError, write_members
from deepscan.datasets.store.packs import PartTask, is_packable, make_pack, make_part, read_part
from deepscan.datasets.store.store import StoreSettings
from deepscan.extract.crops import crop_face

SETTINGS = StoreSettings(frames=1, crop=CropSettings(size_px=64), image="png", boxes="original")


class Here:
    """An engine without processes; counts the parts that it makes."""

    n_workers = 1

    def __init__(self):
        self.made = 0

    def map(self, function, tasks):
        for task in tasks:
            self.made += 1
            yield task, function(task)


@pytest.fixture
def corpus(tmp_path, portrait):
    """A tar of a real, its fake (the same with a brighter stripe), a picture of nobody, and one that is cut off."""
    fake = portrait.copy()
    middle = slice(fake.shape[0] // 4, fake.shape[0] // 2)
    fake[middle] = np.clip(fake[middle].astype(int) + 30, 0, 255)
    nobody = np.full((120, 90, 3), 127, np.uint8)
    files = {"a.png": portrait, "a_fake.png": fake, "nobody.png": nobody}
    rows = ["file,shard,label,group,split,method,source,family"]
    with tarfile.open(tmp_path / "00.tar", "w") as tar:
        for name, image in files.items():
            data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
            add(tar, name, data)
        add(tar, "cut.png", data[: len(data) // 2])
    rows += ["a.png,00.tar,real,g1,train,,there,real", "a_fake.png,00.tar,fake,g1,train,paint,there,edited"]
    rows += ["nobody.png,00.tar,real,g2,train,,there,real", "cut.png,00.tar,real,g3,train,,there,real"]
    (tmp_path / "faces.csv").write_text("\n".join(rows))
    return read_corpus(tmp_path)


def add(tar, name, data):
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def test_faces_are_cut_as_in_a_store_and_fakes_at_the_boxes_of_their_originals(tmp_path, corpus, portrait):
    pack = make_pack(corpus.items, tmp_path / "pack", SETTINGS, Here())
    by_name = {face.video_id.split("/")[-1]: (face, track) for face, track in pack.faces}
    (real, real_track), (fake, fake_track) = by_name["a"], by_name["a_fake"]
    assert (real.aligned, fake.aligned) == (False, True)
    assert fake.box == real.box
    face = real_track.track.sightings[0].face
    assert np.array_equal(real_track.crops()[0], crop_face(portrait, face, SETTINGS.crop))
    assert not np.array_equal(real_track.crops(), fake_track.crops())
    assert pack.without == {"00/nobody": "no_face", "00/cut": "unreadable"}


def test_samples_of_a_pack_are_paired(tmp_path, corpus):
    samples = pack_samples(make_pack(corpus.items, tmp_path / "pack", SETTINGS, Here()), corpus.items)
    fake = next(sample for sample in samples.samples if sample.label)
    real = next(sample for sample in samples.samples if not sample.label)
    assert fake.pair == real.id
    assert fake.aligned
    assert (fake.method, fake.group, fake.split) == ("paint", "g1", "train")
    assert fake.landmarks([0], 64).shape == (1, 5, 2)
    assert samples.without == {("train", 0, "no_face"): 1, ("train", 0, "unreadable"): 1}


def test_a_part_that_is_there_is_not_made_again_and_other_settings_make_others(tmp_path, corpus):
    engine, folder = Here(), tmp_path / "pack"
    first = make_pack(corpus.items, folder, SETTINGS, engine)
    again = make_pack(corpus.items, folder, SETTINGS, engine)
    assert engine.made == 1
    assert [face for face, _ in again.faces] == [face for face, _ in first.faces]
    other = SETTINGS.model_copy(update={"boxes": "own"})
    assert not any(face.aligned for face, _ in make_pack(corpus.items, folder, other, engine).faces)
    assert engine.made == 2
    moved = [replace(item, split="val") for item in corpus.items]
    assert {sample.split for sample in pack_samples(make_pack(moved, folder, SETTINGS, engine), moved).samples} == {
        "val"
    }
    assert engine.made == 2  # divided anew, not cut anew


def test_groups_stay_together_in_a_part(tmp_path, corpus, monkeypatch):
    monkeypatch.setattr(packs, "PICTURES_A_PART", 1)
    engine = Here()
    pack = make_pack(corpus.items, tmp_path / "pack", SETTINGS, engine)
    assert engine.made == 3
    assert any(face.aligned for face, _ in pack.faces)


@pytest.mark.parametrize("damage", ["cut", "no_table", "no_json", "one_less"])
def test_a_damaged_part_is_told_as_such(tmp_path, corpus, damage):
    path = tmp_path / "part.tar"
    make_part(PartTask(path, corpus.items, SETTINGS))
    with tarfile.open(path) as tar:
        members = [(entry.name, tar.extractfile(entry).read()) for entry in tar]
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-2000])
    else:
        kept = {"no_table": members[:-1], "no_json": [*members[:-1], ("table.json", b"{")], "one_less": members[1:]}
        with path.open("wb") as file:
            write_members(file, kept[damage])
    with pytest.raises(StoreError, match=r"part\.tar"):
        read_part(path)


def test_only_pictures_are_packed(tmp_path):
    item = CorpusItem("a", tmp_path / "a.png", 0, "made", "real", "a", None)
    assert is_packable([item])
    assert not is_packable([item, replace(item, path=tmp_path / "a.mp4")])
    assert not is_packable([replace(item, frames=(tmp_path / "a.png",))])
