"""The comparison table: where its figures come from, and what it costs to run a detector."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
import torch
from madedetectors import NO_TTA, StripeDetector, card, network, save
from madestores import pairs_store

from deepscan.config import CropSettings
from deepscan.datasets.dataset import read_samples
from deepscan.detector import Detector, load_detector
from deepscan.errors import ConfigError
from deepscan.evaluate import comparison as compare
from deepscan.evaluate.comparison import (
    caption,
    describe,
    measure,
    measure_speed,
    saved_figures,
    to_json,
    weights_bytes,
)
from deepscan.evaluate.evaluation import evaluate
from deepscan.evaluate.metrics import MetricValue
from deepscan.evaluate.tables import comparison_csv, comparison_markdown
from deepscan.models.card import Metric
from deepscan.models.checkpoint import WEIGHTS_FILE, load_card
from deepscan.models.ensemble import Networks
from deepscan.models.ensemble_folder import save_ensemble


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return read_samples(pairs_store(tmp_path_factory.mktemp("made"), n=15))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(compare, "_RUNS", 4)


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
    monkeypatch.setattr(compare.time, "perf_counter", lambda: next(ticks))
    speed = measure_speed(detector)
    assert set(seen) == {1}  # one image, and one view of it
    assert speed.ms_per_image == pytest.approx(2500)  # the warm-up is not counted
    assert (speed.runs, speed.device, speed.threads) == (4, "cpu", torch.get_num_threads())


def test_slow_networks_are_timed_less_often(monkeypatch):
    monkeypatch.setattr(compare, "_RUNS", 1000)
    monkeypatch.setattr(compare, "_MOST_SECONDS", 0.05)
    assert 1 <= measure_speed(Detector(Networks.of(network(), card()), NO_TTA)).runs < 1000


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


def test_figures_are_measured_by_split(samples):
    detector = StripeDetector()
    found = measure(detector, samples, "made", resamples=20)
    assert list(found) == ["train", "val", "test"]
    assert [figures.accuracy.n for figures in found.values()] == [18, 6, 6]
    assert {figures.auc.value for figures in found.values()} == {1.0}
    assert found["val"].source == "made val"
    assert list(measure(detector, samples, "made", split="val", resamples=0)) == ["val"]


def test_data_without_splits_is_a_test(samples):
    bare = replace(samples, samples=tuple(replace(sample, split=None) for sample in samples.samples))
    found = measure(StripeDetector(), bare, "made", resamples=0)
    assert list(found) == ["test"]
    assert found["test"].accuracy.n == 30
    with pytest.raises(ConfigError, match="no sample in split 'val'"):
        measure(StripeDetector(), bare, "made", split="val", resamples=0)


def test_crops_that_do_not_fit(samples):
    with pytest.raises(ConfigError, match="another rule"):
        measure(StripeDetector(crop=CropSettings(size_px=32, margin=0.3)), samples, "made")


# The table


@pytest.fixture
def rows(tmp_path, samples):
    detector = StripeDetector()
    first = describe("one", save(tmp_path / "one"), detector)
    return [
        replace(first, figures=measure(detector, samples, "made", split="test", resamples=20)),
        replace(first, name="two", speed=replace(first.speed, ms_per_image=99.5)),
    ]


def test_markdown(rows):
    lines = comparison_markdown([row.to_record() for row in rows]).splitlines()
    assert "AUC test" in lines[0]
    assert lines[2].startswith("| one (custom_cnn, mean, 32 px) |")
    assert "1.000" in lines[2]
    assert "99.5" in lines[3]
    assert "| - |" in lines[3]  # not measured


def test_csv_and_json(rows):
    (one, two) = csv.DictReader(io.StringIO(comparison_csv([row.to_record() for row in rows])))
    assert (float(one["test_auc"]), two["test_auc"], float(two["ms_per_image"])) == (1.0, "", 99.5)
    told = json.loads(to_json(rows))["models"]
    assert told[0]["figures"]["test"]["auc"]["value"] == 1
    assert told[0]["figures"]["test"]["source"] == "made test"
    assert (told[1]["name"], told[1]["figures"], told[1]["threads"]) == ("two", {}, torch.get_num_threads())


def test_the_caption_says_where_and_how(rows):
    told = caption(rows)
    assert "Measured on: made test." in told
    assert f"on cpu, {torch.get_num_threads()} thread" in told
    assert "Measured" not in caption(rows[1:])


def test_a_figure_without_a_value():
    row = describe("x", None, Detector(Networks.of(network(), card()), NO_TTA))
    figures = compare.Figures("made test", MetricValue(None, n=3, reason="only real inputs were scored"))
    record = replace(row, figures={"test": figures}).to_record()
    assert "| - |" in comparison_markdown([record])
