"""Data in every form it is given in: stores, folders of videos, face tars; what is made of it, and kept."""

from __future__ import annotations

import io
import tarfile

import cv2
import pytest
from inprocess import InProcess, labelled
from madedetectors import card, network
from madestores import pairs_store

from deepscan.config import CropSettings, PredictSettings
from deepscan.datasets.data import Preparation, open_data, widest_like
from deepscan.datasets.dataset import pool
from deepscan.datasets.readers import read_corpus
from deepscan.datasets.splits import assign_splits
from deepscan.detector import Detector
from deepscan.errors import ConfigError
from deepscan.evaluate.evaluation import evaluate
from deepscan.models.card import AttackCheck, Calibration
from deepscan.models.ensemble import Networks

CROP = CropSettings(size_px=48, margin=0.1)
QUICK = PredictSettings(frames=3, tta=False)


@pytest.fixture
def engine(monkeypatch):
    return InProcess().install(monkeypatch)


def prepared(tmp_path, paths, split=None, **options):
    return open_data(paths, CROP, QUICK, split=split, preparation=Preparation(cache=tmp_path / "cache", **options))


def test_stores_are_taken_as_they_are(tmp_path, engine):
    one = pairs_store(tmp_path / "one", n=5)
    two = pairs_store(tmp_path / "two", n=6, seed=1, dataset="other")
    crop = CropSettings(size_px=32)
    both = open_data([one, two / "manifest.csv"], crop, QUICK, preparation=Preparation(cache=tmp_path / "cache"))
    assert len(both) == 22
    assert {sample.dataset for sample in both.samples} == {"made", "other"}
    assert len(open_data([one, one], crop, QUICK)) == 10  # not twice
    assert len(open_data([one, two], crop, QUICK, split="val")) == 6
    assert not engine.jobs
    assert not (tmp_path / "cache").exists()


def test_videos_are_preprocessed_with_the_detectors_rule(tmp_path, engine, face_clip, no_face_clip):
    root = labelled(tmp_path / "mine", face_clip, no_face_clip)
    started = []
    samples = prepared(tmp_path, [root], jobs=3, on_start=lambda corpus, folder: started.append((corpus, folder)))
    assert {sample.crop for sample in samples.samples} == {CROP}
    assert {(sample.label, len(sample), sample.split) for sample in samples.samples} == {(0, 3, None), (1, 3, None)}
    assert samples.without == {("none", 0, "no_face"): 1}
    assert engine.jobs == [3]
    ((corpus, folder),) = started
    assert corpus == root
    assert folder.is_relative_to(tmp_path / "cache")
    assert (folder / "manifest.csv").is_file()


def test_a_second_time_nothing_is_decoded(tmp_path, engine, face_clip):
    root = labelled(tmp_path / "mine", face_clip)
    first = prepared(tmp_path, [root])
    assert len(engine.done) == 2
    assert [s.id for s in prepared(tmp_path, [root]).samples] == [s.id for s in first.samples]
    assert len(engine.done) == 2
    open_data([root], CROP, QUICK.model_copy(update={"frames": 2}), preparation=Preparation(tmp_path / "cache"))
    assert len(engine.done) == 4  # other settings, another store


def test_only_the_asked_split_is_preprocessed(tmp_path, engine, face_clip):
    root = labelled(tmp_path / "mine", face_clip, splits=("Train", "Test"))
    samples = prepared(tmp_path, [root], split="test")
    assert sorted(engine.done) == ["Test/fake/Test", "Test/real/Test"]
    assert {sample.split for sample in samples.samples} == {"test"}
    with pytest.raises(ConfigError, match="nothing in split 'val'"):
        prepared(tmp_path, [root], split="val")
    assert len(prepared(tmp_path, [root])) == 4
    assert len(engine.done) == 4


def test_what_has_no_split_is_divided_as_preprocessing_does(tmp_path, engine, portrait_image):
    root = tmp_path / "mine" / "real"
    root.mkdir(parents=True)
    for number in range(12):
        (root / f"{number}.jpg").write_bytes(portrait_image.read_bytes())
    expected = {i.video_id for i in assign_splits(read_corpus(tmp_path / "mine").items) if i.split == "val"}
    assert 0 < len(expected) < 12
    samples = prepared(tmp_path, [tmp_path / "mine"], split="val")
    assert {sample.video_id for sample in samples.samples} == set(engine.done) == expected
    assert {s.split for s in prepared(tmp_path, [tmp_path / "mine"], divide=True).samples} >= {"train", "val"}


def test_one_store_serves_all_sizes_of_a_rule():
    sizes = [CROP, CropSettings(size_px=299, margin=0.1), CropSettings(size_px=512, margin=0.2)]
    assert widest_like(CROP, sizes).size_px == 299
    assert widest_like(sizes[2], sizes) == sizes[2]
    assert widest_like(CROP, []) == CROP


def test_face_tars_with_their_table(tmp_path, engine, portrait, caplog):
    root = tmp_path / "faces"
    root.mkdir()
    image = cv2.imencode(".png", cv2.resize(portrait, (256, 256))[..., ::-1])[1].tobytes()
    with tarfile.open(root / "00.tar", "w") as archive:
        for name in ("a.png", "b.png", "c.png"):
            entry = tarfile.TarInfo(name)
            entry.size = len(image)
            archive.addfile(entry, io.BytesIO(image))
    rows = ["a.png,00.tar,real,a,train", "b.png,00.tar,fake,b,val", "c.png,00.tar,real,b,val"]
    (root / "metadata.csv").write_text("\n".join(["file,shard,label,group,split", *rows]) + "\n")
    samples = prepared(tmp_path, [root], split="val")
    assert sorted((s.video_id, s.label, s.group, len(s)) for s in samples.samples) == [
        ("00/b", 1, "b", 1),
        ("00/c", 0, "b", 1),
    ]
    assert sorted(engine.done) == ["00/b", "00/c"]
    assert not caplog.text  # that the table has no test split is no matter here
    assert len(prepared(tmp_path, [root / "metadata.csv"], split="val")) == 2


def test_an_interrupted_preparation_measures_nothing_and_goes_on_later(tmp_path, monkeypatch, face_clip):
    root = labelled(tmp_path / "mine", face_clip)
    InProcess(interrupt_after=1).install(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, [root])
    later = InProcess().install(monkeypatch)
    assert len(prepared(tmp_path, [root])) == 2
    assert len(later.done) == 1


def test_stores_and_videos_together(tmp_path, engine, face_clip):
    store = pairs_store(tmp_path / "store", n=3)
    root = labelled(tmp_path / "mine", face_clip)
    crop = CropSettings(size_px=32)
    samples = open_data([store, root], crop, QUICK, preparation=Preparation(tmp_path / "cache"))
    assert {sample.dataset for sample in samples.samples} == {"made", "folders"}
    # A store may keep larger crops than the detector needs: the others are cut as it needs them.
    large = open_data([root], CROP, QUICK, preparation=Preparation(tmp_path / "cache"))
    both = pool([samples, large])
    assert len(both) == 10
    assert {sample.crop.size_px for sample in both.samples} == {32, 48}


def test_a_store_of_another_rule(tmp_path):
    store = pairs_store(tmp_path / "store", n=3)
    with pytest.raises(ConfigError, match=r"store was cut by another rule.*margin -0\.2.*margin 0\.1"):
        open_data([store], CROP, QUICK)
    assert len(open_data([store], CROP, QUICK, check=False)) == 6


def test_what_is_no_data(tmp_path):
    with pytest.raises(ConfigError, match="no such file or folder"):
        prepared(tmp_path, [tmp_path / "missing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="laid out like no corpus"):
        prepared(tmp_path, [tmp_path / "empty"])
    assert not (tmp_path / "cache").exists()


def test_nobody_in_any_video(tmp_path, engine, no_face_clip):
    root = labelled(tmp_path / "mine", no_face_clip)
    with pytest.raises(ConfigError, match="gave no face"):
        prepared(tmp_path, [root])


def test_problems_of_the_corpus_are_told(tmp_path, engine, face_clip, caplog):
    root = tmp_path / "table"
    root.mkdir()
    (root / "a.mp4").write_bytes(face_clip.read_bytes())
    (root / "list.csv").write_text("path,label\na.mp4,real\ngone.mp4,fake\n")
    assert len(prepared(tmp_path, [root])) == 1
    assert "1 x missing_file" in caplog.text


@pytest.mark.parametrize("changes", [{}, {"attack_check": True}])
def test_an_evaluation_says_what_prediction_says(tmp_path, engine, face_clip, changes):
    """From the same clip, by way of a store: only the JPEG of the kept crops lies between."""
    root = labelled(tmp_path / "mine", face_clip)
    check = AttackCheck(limits={"denoise": 1e-9})  # everything moves so far
    certain = Calibration(uncertain_low=0.5, uncertain_high=0.5)
    made = card(crop=CROP, attack_check=check, calibration=certain)
    detector = Detector(Networks.of(network(), made), PredictSettings(tta=False, frames=3, **changes))
    predicted = detector.predict(face_clip)
    assert predicted.reason == ("possible_attack" if changes else None)
    samples = open_data([root], CROP, detector.settings, preparation=Preparation(tmp_path / "cache"))
    for video in evaluate(detector, samples, resamples=0).videos:
        assert video.probability == pytest.approx(predicted.probability, abs=0.03)
        assert (video.verdict, video.reason) == (predicted.verdict, predicted.reason)
        frames = [frame.probability for frame in predicted.tracks[0].frames]
        assert video.frames == pytest.approx(frames, abs=0.05)


def test_a_list_may_call_its_files_file_and_tell_where_they_are_from(tmp_path, face_clip):
    labelled(tmp_path, face_clip)
    rows = ["file,label,method,family,group,source", "real/clip.mp4,real,,real,g,here"]
    rows += ["fake/clip.mp4,fake,talker,lipsync,g,there", ""]
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    items = read_corpus(tmp_path / "clips.csv").items
    assert [(item.method, item.family, item.origin, item.group) for item in items] == [
        ("talker", "lipsync", "there", "g"),
        ("real", "real", "here", "g"),
    ]
