"""The corpora that a recipe lists: their names, groups, splits, and what is held out."""

from __future__ import annotations

import hashlib
import io
import tarfile

import cv2
import pytest
from inprocess import InProcess, labelled

from deepscan.config import CropSettings, PredictSettings
from deepscan.datasets.data import Preparation
from deepscan.datasets.training_sources import SourceSettings, has_sources, open_sources, sources_in
from deepscan.errors import ConfigError
from deepscan.train.recipe import parse_recipe

CROP = CropSettings(size_px=48, margin=0.1)
QUICK = PredictSettings(frames=3, tta=False)


@pytest.fixture
def engine(monkeypatch):
    return InProcess().install(monkeypatch)


def face_tar(path, portrait, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = cv2.imencode(".jpg", portrait)[1].tobytes()
    with tarfile.open(path, "w") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def sources(*plain):
    return parse_recipe({"data": {"sources": list(plain)}}).data.sources


def test_a_recipes_own_sources(tmp_path, engine, portrait):
    root = tmp_path / "all"
    face_tar(root / "real_faces" / "adults.tar", portrait, [f"anna_{i}.jpg" for i in range(4)] + ["ben_1.jpg"])
    face_tar(root / "real_faces" / "other.tar", portrait, ["cleo.jpg"])
    listed = sources(
        {"name": "grown", "path": "real_faces/adults.tar", "group": r"anna|be\w", "test": 0.5, "val": 0.0},
        {"name": "rest", "path": "real_faces/other.tar", "share": 0.25},
    )
    preparation = Preparation(cache=tmp_path / "cache")
    samples = open_sources(root, listed, CROP, QUICK, preparation)
    assert {(sample.source, sample.group) for sample in samples.samples} == {
        ("grown", "anna"), ("grown", "ben"), ("rest", "other/cleo"),
    }  # fmt: skip
    splits = {sample.group: set() for sample in samples.samples}
    for sample in samples.samples:
        splits[sample.group].add(sample.split)
    assert all(len(split) == 1 for split in splits.values())
    assert {sample.crop.size_px for sample in samples.samples} == {192}  # room for recipes with larger crops
    assert len(engine.done) == 6
    again = open_sources(root, listed, CROP, QUICK, preparation)
    assert [sample.id for sample in again.samples] == [sample.id for sample in samples.samples]
    assert len(engine.done) == 6


def test_an_optional_source_may_be_missing(tmp_path, engine, portrait, caplog):
    face_tar(tmp_path / "real_faces" / "here.tar", portrait, ["ann.jpg"])
    listed = sources(
        {"name": "here", "path": "real_faces/here.tar"}, {"name": "more", "path": "more.tar", "optional": True}
    )
    assert has_sources([tmp_path], listed)
    samples = open_sources(tmp_path, listed, CROP, QUICK, Preparation(cache=tmp_path / "cache"))
    assert {sample.source for sample in samples.samples} == {"here"}
    assert "more.tar" in caplog.text
    required = sources({"name": "here", "path": "real_faces/here.tar"}, {"name": "more", "path": "more.tar"})
    with pytest.raises(ConfigError):
        has_sources([tmp_path], required)


def test_a_folder_of_a_recipes_sources_is_read_source_by_source(tmp_path, engine, portrait):
    root = tmp_path / "all"
    face_tar(root / "a" / "real.tar", portrait, ["26_1_2_20161219204400164.jpg"])
    face_tar(root / "b" / "real.tar", portrait, ["ben.jpg"])
    listed = sources(
        {"name": "adults", "path": "a/real.tar", "use": "test"},
        {"name": "rest", "path": "b/real.tar", "val": 0.0, "test": 0.0},
    )
    assert sources_in(root, listed)
    assert not sources_in(root, ())
    assert not sources_in(root / "a", sources({"name": "adults", "path": "real.tar"}))  # a corpus is read as one
    preparation = Preparation(cache=tmp_path / "cache")
    (only,) = open_sources(root, listed, CROP, QUICK, preparation, split="test").samples
    assert (only.source, only.facts.file_type) == ("adults", "jpg")
    assert only.columns == {"age_band": "18 to 29", "race": "asian", "sex": "female"}
    assert len(engine.done) == 1  # nothing else is preprocessed
    with pytest.raises(ConfigError, match="nothing in split"):
        open_sources(root, listed, CROP, QUICK, preparation, split="val")


def test_fakes_of_a_source_are_cut_at_the_boxes_of_their_originals(tmp_path, engine, face_clip):
    root = tmp_path / "all"
    labelled(root / "mine", face_clip)
    lines = ["path,label,original", "mine/real/clip.mp4,real,", "mine/fake/clip.mp4,fake,mine/real/clip.mp4", ""]
    (root / "mine.csv").write_text("\n".join(lines), encoding="utf-8")
    pairs = {}
    for reuse in (False, True):
        (source,) = sources({"name": "mine", "path": "mine.csv", "reuse_boxes": reuse, "val": 0.0, "test": 0.0})
        samples = open_sources(root, [source], CROP, QUICK, Preparation(cache=tmp_path / "cache"))
        pairs[reuse] = [sample.aligned for sample in samples.samples if sample.label]
    assert pairs == {False: [False], True: [True]}


@pytest.mark.parametrize("path", ["../elsewhere", "/etc"])
def test_sources_stay_below_the_folder(tmp_path, engine, path):
    with pytest.raises(ConfigError, match="is not inside"):
        open_sources(tmp_path, [SourceSettings(name="a", path=path)], CROP, QUICK)


def test_impossible_sources_are_refused():
    with pytest.raises(ConfigError, match="no regular expression"):
        sources({"name": "a", "path": "a", "group": "("})
    with pytest.raises(ConfigError, match="different names"):
        sources({"name": "a", "path": "a"}, {"name": "a", "path": "b"})


def test_sources_are_used_where_all_of_them_are(tmp_path):
    listed = sources({"name": "a", "path": "one"}, {"name": "b", "path": "more/two"})
    assert not has_sources([tmp_path], listed)
    assert not has_sources([tmp_path], ())
    (tmp_path / "one").mkdir()
    with pytest.raises(ConfigError, match="more/two is not there"):
        has_sources([tmp_path], listed)
    (tmp_path / "more" / "two").mkdir(parents=True)
    assert has_sources([tmp_path], listed)
    assert not has_sources([tmp_path, tmp_path / "one"], listed)


def test_a_source_for_the_last_measurement_is_never_trained_on(tmp_path, engine, portrait):
    face_tar(tmp_path / "real.tar", portrait, ["anna.jpg", "ben.jpg", "cleo.jpg"])
    listed = sources({"name": "kept", "path": "real.tar", "use": "test"})
    samples = open_sources(tmp_path, listed, CROP, QUICK, Preparation(cache=tmp_path / "cache"))
    assert {sample.split for sample in samples.samples} == {"test"}


def collection(root, portrait):
    """A tar with a table that says where each picture is from and how it was made."""
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    face_tar(root / "00.tar", portrait, names)
    rows = ["file,shard,label,method,family,source,group"]
    rows += ["a.jpg,00.tar,real,,real,paper,one", "b.jpg,00.tar,fake,swapper,swap,paper,one"]
    rows += ["c.jpg,00.tar,fake,talker,lipsync,web,two", "d.jpg,00.tar,real,,real,street,two"]
    rows += ["e.jpg,00.tar,real,,real,copied,three"]
    (root / "faces.csv").write_text("\n".join(rows))


def test_origins_and_methods_of_a_collection_are_held_out_with_whoever_shares_their_groups(tmp_path, engine, portrait):
    collection(tmp_path / "set", portrait)
    plan = {"name": "set", "path": ["not/there", "set"], "val": 0, "test": 0, "hold_out": ["web"]}
    (source,) = sources({**plan, "leave_out": ["copied"]})
    samples = open_sources(tmp_path, [source], CROP, QUICK, Preparation(cache=tmp_path / "cache"))
    facts = {(sample.source, sample.method, sample.family, sample.split) for sample in samples.samples}
    assert facts == {
        ("set/paper", "real", "real", "train"),
        ("set/paper", "swapper", "swap", "train"),
        ("set/web", "talker", "lipsync", "test"),
        ("set/street", "real", "real", "test"),
    }
    pair = next(sample for sample in samples.samples if sample.method == "swapper")
    assert pair.pair in {sample.id for sample in samples.samples}
    (by_method,) = sources({**plan, "hold_out": ["swapper"]})
    samples = open_sources(tmp_path, [by_method], CROP, QUICK, Preparation(cache=tmp_path / "cache"))
    assert {sample.group for sample in samples.samples if sample.split == "test"} == {"one"}


def test_excluded_groups_appear_nowhere(tmp_path, engine, portrait):
    collection(tmp_path / "set", portrait)
    (source,) = sources({"name": "set", "path": "set"})
    (tmp_path / "never.txt").write_text(hashlib.sha256(b"two").hexdigest()[:16])
    preparation = Preparation(cache=tmp_path / "cache")
    with pytest.raises(ConfigError, match="group two"):
        open_sources(tmp_path, [source], CROP, QUICK, preparation, exclude="never.txt")
    with pytest.raises(ConfigError, match=r"not-there\.txt"):
        open_sources(tmp_path, [source], CROP, QUICK, preparation, exclude="not-there.txt")
    assert not engine.done
