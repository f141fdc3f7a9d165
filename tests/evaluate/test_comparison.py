"""The comparison: where its figures come from, every detector on every data set, and what one costs."""

from __future__ import annotations

import csv
import io
import json

import pytest
import torch
from inprocess import InProcess, labelled
from madedetectors import NO_TTA, StripeDetector, card, network, save
from madestores import pairs_store
from rich.console import Console

from deepscan.config import CropSettings
from deepscan.datasets.data import Preparation
from deepscan.datasets.dataset import read_samples
from deepscan.detector import Detector, load_detector
from deepscan.evaluate.comparison import Comparison, Contender, describe, measure_speed, saved_figures, weights_bytes
from deepscan.evaluate.evaluation import evaluate
from deepscan.evaluate.evaluation_plots import draw_comparison
from deepscan.evaluate.tables import comparison_csv, comparison_markdown, comparison_table, short_names
from deepscan.evaluate.training_groups import group_hash
from deepscan.models.card import Metric
from deepscan.models.checkpoint import WEIGHTS_FILE, load_card
from deepscan.models.ensemble import Networks
from deepscan.models.ensemble_folder import save_ensemble


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return read_samples(pairs_store(tmp_path_factory.mktemp("made"), n=15))


def test_a_row(tmp_path):
    folder = save(tmp_path / "tiny")
    detector = load_detector(folder, NO_TTA)
    row = describe("tiny", folder, detector)
    assert (row.name, row.backbone, row.head, row.size_px) == ("tiny", "custom_cnn", "mean", 32)
    assert row.parameters == detector.networks.n_parameters == sum(p.numel() for p in network().parameters())
    assert row.file_bytes == (folder / WEIGHTS_FILE).stat().st_size
    assert row.sha256 == detector.card.weights_sha256
    assert row.figures == {}
    told = row.to_dict()
    assert (told["parameters"], told["input_px"], told["figures"]) == (row.parameters, 32, {})


def test_random_weights_have_neither_file_nor_figures():
    row = describe("net", None, Detector(Networks.of(network(), card(trained=False)), NO_TTA))
    assert (row.file_bytes, row.figures) == (0, {})
    assert row.to_record()["file_mb"] is None


def test_an_ensemble_is_the_sum_of_its_members(tmp_path):
    members = [save(tmp_path / "a"), save(tmp_path / "b", backbone="meso4")]
    save_ensemble(tmp_path / "all", members, name="x")
    row = describe("all", tmp_path / "all", load_detector(tmp_path / "all", NO_TTA))
    assert row.backbone == "custom_cnn + meso4"
    assert row.file_bytes == sum(weights_bytes(member) for member in members)
    assert row.parameters == sum(load_detector(m, NO_TTA).networks.n_parameters for m in members)


def test_speed_is_the_median_of_single_images(monkeypatch):
    detector = Detector(Networks.of(network(), card()), NO_TTA.model_copy(update={"tta": True}))
    seen = []
    forward = detector.networks.parts[0].network.backbone.forward
    monkeypatch.setattr(
        detector.networks.parts[0].network.backbone, "forward", lambda x: seen.append(len(x)) or forward(x)
    )
    ticks = iter([0.0, *(t for taken in (9, 9, 9, 1) for t in (0.0, taken)), *(0, 0, 5, 0, 0, 2, 0, 0, 3)])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    speed = measure_speed(detector, runs=4)
    assert set(seen) == {1}  # one image, and one view of it
    assert speed.ms_per_image == pytest.approx(2500)  # the warm-up is not counted
    assert (speed.runs, speed.device, speed.threads) == (4, "cpu", torch.get_num_threads())


def test_slow_networks_are_timed_less_often():
    assert 1 <= measure_speed(Detector(Networks.of(network(), card()), NO_TTA), runs=1000, most_s=0.05).runs < 1000


# Figures


def metric(value, n=50):
    return Metric(value=value, low=value - 0.1, high=value + 0.1, n=n)


def test_figures_from_the_card(tmp_path):
    metrics = {
        "Log loss, DFDC val": metric(0.6),
        "AUC, DFDC val, one frame": metric(0.7),
        "Accuracy, DFDC val, one frame": metric(0.65),
        "AUC, Celeb-DF test": metric(0.8),
        "AUC, validation of nothing": metric(0.1),
        "AUC, FF++ test": metric(0.2),
        "Accuracy, FF++ test": metric(0.3),
    }
    found = saved_figures(save(tmp_path / "one", metrics=metrics), card(metrics=metrics))
    assert set(found) == {"val", "test"}
    assert found["val"].source == "DFDC val, one frame"
    assert (found["val"].auc.value, found["val"].accuracy.value, found["val"].auc.n) == (0.7, 0.65, 50)
    assert (found["test"].source, found["test"].auc.value, found["test"].accuracy) == ("Celeb-DF test", 0.8, None)


def test_figures_that_a_run_saved_come_first(tmp_path, samples):
    folder = save(tmp_path / "run", metrics={"AUC, x val": metric(0.1), "AUC, x test": metric(0.2)})
    evaluation = evaluate(load_detector(folder, NO_TTA), samples.split("val"), data=["made"], split="val", resamples=20)
    (folder / "evaluation-val.json").write_text(json.dumps(evaluation.to_dict()))
    found = saved_figures(folder, load_card(folder))
    assert found["val"].auc.value == pytest.approx(evaluation.video["auc"].value, abs=1e-6)
    assert found["val"].source == "made val"
    assert found["test"].auc.value == 0.2


@pytest.mark.parametrize("content", ["{", "[]", '{"model": {}}', '{"model": {"sha256": "SHA"}, "video": {}}'])
def test_figures_that_cannot_be_read_are_left_out(tmp_path, content, caplog):
    folder = save(tmp_path / "run")
    sha = load_card(folder).weights_sha256
    (folder / "evaluation-val.json").write_text(content.replace("SHA", sha))
    assert saved_figures(folder, load_card(folder)) == {}
    assert "evaluation-val.json" in caplog.text


def test_figures_of_other_weights_are_left_out(tmp_path, samples, caplog):
    folder = save(tmp_path / "run")
    told = evaluate(load_detector(folder, NO_TTA), samples, resamples=0).to_dict()
    told["model"]["sha256"] = "0" * 64
    (folder / "evaluation-val.json").write_text(json.dumps(told))
    assert saved_figures(folder, load_card(folder)) == {}
    assert "other weights" in caplog.text


# Measured on data


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
        Contender("stripes", None, StripeDetector()),
        Contender("random", None, random, frozenset({group_hash("made", "p000")})),
    ]


def measured(contenders, data, **options):
    comparison = Comparison(contenders)
    comparison.measure(data, **{"resamples": 20, **options})
    return comparison


@pytest.fixture(scope="module")
def on_two(contenders, data):
    return measured(contenders, data, split="test")


def test_one_data_set_is_measured_by_split(contenders, data):
    (row, _) = measured(contenders, data[:1]).rows
    assert list(row.figures) == ["train", "val", "test"]
    assert [figures.accuracy.n for figures in row.figures.values()] == [12, 4, 4]
    assert {figures.auc.value for figures in row.figures.values()} == {1.0}
    assert row.figures["val"].source == "one val"
    assert list(measured(contenders[:1], data[:1], split="val", resamples=0).rows[0].figures) == ["val"]


def test_each_on_each(on_two, contenders, data):
    by = {(row.name, part): own.evaluation for row in on_two.rows for part, own in row.figures.items()}
    assert list(by) == [(name, f"{part} test") for name in ("stripes", "random") for part in ("one", "two")]
    assert by["stripes", "one test"].video["auc"].value == 1
    alone = evaluate(contenders[1].detector, read_samples(data[0]).split("test"), resamples=20)
    assert by["random", "one test"].video == alone.video
    leaks = measured(contenders, data, resamples=0).warnings
    assert [w.split(":")[0] for w in leaks if "1 groups are in the training data" in w] == ["random on one val"]


def test_a_pair_that_fails_costs_only_itself(contenders, data, tmp_path, caplog):
    other = Contender("other", None, StripeDetector(crop=CropSettings(size_px=32, margin=0.3)))
    large = Contender("large", None, StripeDetector(crop=CropSettings(size_px=64)))
    found = measured([other, large, contenders[0]], [tmp_path / "missing", data[0]], split="val", resamples=0)
    one, two, three = found.rows
    assert "another rule" in str(one.errors["one"])
    assert "too small" in str(two.errors["one"])
    assert list(three.errors) == ["missing"]
    assert three.figures["one val"].auc.value == 1
    assert caplog.text.count(" on one: ") == 2
    assert json.loads(found.to_json())["models"][0]["errors"]["one"] == str(one.errors["one"])
    assert any(warning.startswith("other on one: one was cut by another rule") for warning in found.warnings)


def test_videos_are_preprocessed_once_at_the_largest_size(tmp_path, monkeypatch, face_clip):
    engine = InProcess().install(monkeypatch)
    settings = NO_TTA.model_copy(update={"frames": 2})
    pair = [
        Contender(name, None, StripeDetector(settings, crop=CropSettings(size_px=size_px)))
        for name, size_px in (("small", 32), ("large", 48))
    ]
    root = labelled(tmp_path / "mine", face_clip)
    found = measured(pair, [root], preparation=Preparation(tmp_path / "cache"), resamples=0)
    assert [row.errors for row in found.rows] == [{}, {}]
    assert [{p: f.accuracy.n for p, f in row.figures.items()} for row in found.rows] == [{"test": 2}] * 2  # no splits
    assert len(engine.done) == 2
    (store,) = (tmp_path / "cache").iterdir()
    assert "48px" in store.name


# The table


def test_saved_and_measured_figures_in_one_table(tmp_path, contenders, data):
    folder = save(tmp_path / "saved", metrics={"AUC, x val": metric(0.7)})
    saved = Contender("saved", folder, contenders[0].detector)
    plain = describe("saved", folder, load_detector(folder, NO_TTA))
    assert {part: own.auc.value for part, own in plain.figures.items()} == {"val": 0.7}
    row = Comparison([Contender("saved", folder, load_detector(folder, NO_TTA))])
    row.measure(data[:1], split="test", resamples=20)
    assert list(row.rows[0].figures) == ["val", "test"]
    assert list(measured([saved], data, split="test", resamples=0).rows[0].figures) == ["one test", "two test"]
    told = json.loads(row.to_json())["models"][0]
    assert told["figures"]["val"] == {"source": "x val", "auc": plain.figures["val"].auc.to_dict(), "accuracy": None}
    assert told["figures"]["test"]["video"]["auc"] == told["figures"]["test"]["auc"]
    assert {"source", "frame", "counts", "verdicts", "coverage", "warnings"} <= set(told["figures"]["test"])
    lines = comparison_markdown([row.rows[0].to_record()]).splitlines()
    assert lines[0].startswith("| Model | Million weights |")
    assert "| AUC test |" in lines[0]
    assert "| - | 0.700 |" in lines[2]  # not measured, saved


def test_csv(on_two):
    (one, two) = csv.DictReader(io.StringIO(comparison_csv([row.to_record() for row in on_two.rows])))
    assert float(one["one test_auc"]) == 1
    assert {"one test_auc_low", "two test_accuracy"} <= set(two)


def test_the_caption_says_where_and_how(on_two):
    assert "Measured on: one test; two test." in on_two.caption()
    assert f"on cpu, {torch.get_num_threads()} thread" in on_two.caption()


def test_data_sets_fit_a_terminal(on_two):
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(comparison_table([row.to_record() for row in on_two.rows]))
    text = console.file.getvalue()
    assert "…" not in text
    assert "one" in text
    assert "1.000" in text
    assert "Accuracy" not in text


def test_a_heat_map(on_two, tmp_path, contenders):
    assert draw_comparison(on_two, tmp_path / "new").read_bytes().startswith(b"\x89PNG")
    missing = measured(contenders[:1], [tmp_path / "missing"])
    assert draw_comparison(missing, tmp_path).is_file()


def test_names_are_short_where_they_can_be(tmp_path):
    (tmp_path / "a").mkdir()
    paths = [tmp_path / "a" / "x", tmp_path / "b" / "x", tmp_path / "c" / "manifest.csv", tmp_path / "d"]
    assert short_names(paths) == [paths[0].as_posix(), paths[1].as_posix(), "c", "d"]
