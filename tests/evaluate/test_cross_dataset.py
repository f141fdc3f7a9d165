"""Every detector on every data set."""

from __future__ import annotations

import json

import pytest
from inprocess import InProcess, labelled
from madedetectors import NO_TTA, StripeDetector, card, network
from madestores import pairs_store
from rich.console import Console

from deepscan.config import CropSettings
from deepscan.datasets.data import Preparation
from deepscan.datasets.dataset import read_samples
from deepscan.detector import Detector
from deepscan.evaluate.cross_dataset import Contender, cross_evaluate, short_names, to_dict
from deepscan.evaluate.evaluation import evaluate
from deepscan.evaluate.evaluation_plots import draw_cross, draw_evaluation
from deepscan.evaluate.evaluation_tables import print_cross, print_evaluation
from deepscan.evaluate.training_groups import group_hash
from deepscan.models.ensemble import Networks

PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return [
        pairs_store(root / "one", n=10, length=2),
        pairs_store(root / "two", n=10, length=2, seed=1, dataset="other", artefact=lambda crop: crop),
    ]


@pytest.fixture(scope="module")
def contenders():
    random = Detector(Networks.of(network(), card(name="random")), NO_TTA)
    return [
        Contender("stripes", StripeDetector()),
        Contender("random", random, frozenset({group_hash("made", "p000")})),
    ]


@pytest.fixture(scope="module")
def cells(contenders, data):
    return list(cross_evaluate(contenders, data, resamples=20))


def text_of(show, *arguments, width=160):
    console = Console(width=width, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        show(*arguments, console)
    return captured.get()


def test_each_on_each(cells, contenders, data):
    assert [(cell.model, cell.data) for cell in cells] == [
        ("stripes", "one"),
        ("random", "one"),
        ("stripes", "two"),
        ("random", "two"),
    ]
    by = {(cell.model, cell.data): cell.evaluation for cell in cells}
    assert by["stripes", "one"].video["auc"].value == 1
    assert by["stripes", "two"].video["auc"].value < 0.9  # no stripes to see there
    alone = evaluate(contenders[1].detector, read_samples(data[0]), resamples=20)
    assert by["random", "one"].video == alone.video
    assert any("1 groups are in the training data" in warning for warning in by["random", "one"].warnings)
    assert not any("are in the training data" in warning for warning in by["random", "two"].warnings)


def test_json(cells, contenders, data):
    told = json.loads(json.dumps(to_dict(cells, contenders, data, "test"), allow_nan=False))
    assert [model["label"] for model in told["models"]] == ["stripes", "random"]
    assert [entry["label"] for entry in told["data"]] == ["one", "two"]
    assert told["split"] == "test"
    assert [(r["model"], r["data"]) for r in told["results"]] == [(c.model, c.data) for c in cells]
    assert {"value", "low", "high", "n"} <= set(told["results"][0]["video"]["auc"])
    assert told["results"][0]["video"]["auc"]["n"] == 20


def test_a_pair_that_fails_costs_only_itself(contenders, data, caplog):
    other = Contender("other", StripeDetector(crop=CropSettings(size_px=32, margin=0.3)))
    large = Contender("large", StripeDetector(crop=CropSettings(size_px=64)))
    cells = list(cross_evaluate([other, large, contenders[0]], data[:1], resamples=0))
    assert "another rule" in cells[0].error
    assert "too small" in cells[1].error
    assert cells[2].evaluation.video["auc"].value == 1
    assert caplog.text.count("one") >= 2
    assert cells[0].to_dict() == {"model": "other", "data": "one", "error": cells[0].error}
    told = text_of(print_cross, cells)
    assert "1.000" in told
    assert "other on one: one was cut by another rule" in told


def test_data_that_is_not_there_costs_only_itself(contenders, data, tmp_path):
    cells = list(cross_evaluate(contenders[:1], [tmp_path / "missing", data[0]], split="val", resamples=0))
    assert "no such file or folder" in cells[0].error
    assert (cells[1].error, cells[1].evaluation.split) == (None, "val")
    assert len(cells[1].evaluation.videos) == 4


def test_videos_are_preprocessed_once_at_the_largest_size(tmp_path, monkeypatch, face_clip):
    engine = InProcess().install(monkeypatch)
    settings = NO_TTA.model_copy(update={"frames": 2})
    contenders = [
        Contender("small", StripeDetector(settings, crop=CropSettings(size_px=32))),
        Contender("large", StripeDetector(settings, crop=CropSettings(size_px=48))),
    ]
    root = labelled(tmp_path / "mine", face_clip)
    cells = list(cross_evaluate(contenders, [root], preparation=Preparation(tmp_path / "cache"), resamples=0))
    assert [cell.error for cell in cells] == [None, None]
    assert len(engine.done) == 2
    (store,) = (tmp_path / "cache").iterdir()
    assert "48px" in store.name


def test_names_are_short_where_they_can_be(tmp_path):
    (tmp_path / "a").mkdir()
    paths = [tmp_path / "a" / "x", tmp_path / "b" / "x", tmp_path / "c" / "manifest.csv", tmp_path / "d"]
    assert short_names(paths) == [paths[0].as_posix(), paths[1].as_posix(), "c", "d"]


# What a person sees


def test_the_table(cells):
    told = text_of(print_cross, cells)
    rows = {line.split()[0]: line for line in told.splitlines() if line.startswith(("stripes", "random"))}
    assert "1.000" in rows["stripes"]
    assert "n 20" in told
    assert "! random on one: 1 groups are in the training data" in told


def test_one_evaluation_as_tables(cells):
    told = text_of(print_evaluation, cells[1].evaluation)
    assert "random (custom_cnn, mean) on one: 20 videos, 10 real and 10 fake; 20 scored, by 40 faces" in told
    for word in ("Videos", "Frames", "AUC", "Brier", "TPR at 1 % FPR", "Answered real or fake"):
        assert word in told
    assert "! 1 groups are in the training data" in told
    assert "Answers: fake from 60 %, real up to 40 %, uncertain between." in told


def test_pictures(cells, tmp_path):
    files = draw_evaluation(cells[1].evaluation, tmp_path / "new" / "plots")
    assert {file.name for file in files} == {
        "confusion.png",
        "roc.png",
        "precision_recall.png",
        "reliability.png",
        "scores.png",
        "scores_frames.png",
    }
    files += draw_cross(cells, tmp_path / "cross")
    assert all(file.read_bytes().startswith(PNG) for file in files)
    assert files[-1].name == "cross.png"


def test_pictures_of_one_class_and_of_errors(cells, tmp_path, data, contenders):
    reals = read_samples(data[0]).where(lambda sample: sample.label == 0)
    assert draw_evaluation(evaluate(contenders[0].detector, reals, resamples=0), tmp_path)
    missing = list(cross_evaluate(contenders[:1], [tmp_path / "missing"], resamples=0))
    assert draw_cross(missing, tmp_path)[0].is_file()
