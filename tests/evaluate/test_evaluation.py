"""Evaluation: what is counted, that it agrees with prediction, and what is warned of."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from madedetectors import CALIBRATION, NO_TTA, StripeDetector, card, network, save
from madestores import pairs_store
from rich.console import Console
from sklearn.metrics import average_precision_score, roc_auc_score

from deepscan.config import CropSettings, PredictSettings
from deepscan.datasets.dataset import read_samples
from deepscan.detector import Detector
from deepscan.errors import ConfigError, ModelError
from deepscan.evaluate.evaluation import CSV_COLUMNS, evaluate
from deepscan.evaluate.evaluation_plots import draw_evaluation
from deepscan.evaluate.metrics import TITLES
from deepscan.evaluate.tables import print_evaluation
from deepscan.evaluate.training_groups import group_hash, read_groups, write_groups
from deepscan.extract.people import Person
from deepscan.models.card import AttackCheck
from deepscan.models.ensemble import Networks
from deepscan.models.ensemble_folder import save_ensemble
from deepscan.types import Score, VerdictLabel

ANSWERS = {
    "scored", "coverage", "real_called_fake", "fake_called_real", "error_answered_real", "error_answered_fake",
}  # fmt: skip


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return read_samples(pairs_store(tmp_path_factory.mktemp("made"), n=30, length=3))


@pytest.fixture(scope="module")
def detector():
    return Detector(Networks.of(network(), card()), NO_TTA)


@pytest.fixture(scope="module")
def measured(detector, samples):
    return evaluate(detector, samples, data=["made"], resamples=50)


def shown(evaluation):
    console = Console(file=io.StringIO(), width=120)
    print_evaluation(evaluation, console)
    return console.file.getvalue()


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x)))


# What is counted


def test_it_is_what_prediction_would_say(detector, samples, measured):
    """Scores, calibration and answers are those of the scorer and the verdict; one video at a time gives the same."""
    by_id = {video.video_id: video for video in measured.videos}
    assert len(by_id) == 60
    for sample in samples.samples[:6]:
        crops = sample.crops(range(len(sample)), 32)
        (score,) = detector.score([crops])
        verdict = detector.decide([sample.track.track], [score])
        video = by_id[sample.video_id]
        assert (video.verdict, video.label, video.people) == (verdict.label, sample.label, 1)
        assert video.probability == pytest.approx(verdict.probability, abs=1e-6)
        expected = sigmoid(score.frame_logits * CALIBRATION.frame_scale + CALIBRATION.frame_bias)
        np.testing.assert_allclose(video.frames, expected, atol=1e-6)


def test_figures_are_scikit_learns(measured):
    y = [video.label for video in measured.videos]
    p = [video.probability for video in measured.videos]
    assert measured.video["auc"].value == pytest.approx(roc_auc_score(y, p))
    assert measured.video["average_precision"].value == pytest.approx(average_precision_score(y, p))
    assert measured.video["auc"].n == 60
    frames = np.concatenate([video.frames for video in measured.videos])
    assert measured.frame["auc"].value == pytest.approx(roc_auc_score(np.repeat(y, 3), frames))
    assert measured.frame["auc"].n == 180
    assert list(measured.video) == list(TITLES)
    assert set(measured.frame) == set(TITLES) - ANSWERS  # a single frame gets no answer
    for values in (measured.video, measured.frame):
        assert all(v.low <= v.value <= v.high for v in values.values() if v.low is not None)


def test_intervals_come_from_groups(measured):
    numbers = measured.frame_level()["groups"]
    assert len(np.unique(numbers)) == len(np.unique(measured.video_level()["groups"])) == 30
    groups = np.repeat([video.group for video in measured.videos], [len(video.frames) for video in measured.videos])
    assert len(set(groups[numbers == numbers[0]])) == 1


def test_a_detector_that_sees_the_artefact(samples):
    found = evaluate(StripeDetector(), samples, resamples=50)
    assert found.video["auc"].value == found.frame["auc"].value == 1
    assert found.video["accuracy"].value == 1
    assert {v.verdict for v in found.videos if v.label == 1} == {VerdictLabel.FAKE}
    assert found.verdicts()["real"]["real"] == found.verdicts()["fake"]["fake"] == 30


def test_the_same_seed_gives_the_same_intervals(detector, samples):
    one, two, three = (evaluate(detector, samples, resamples=40, seed=seed).video["auc"] for seed in (1, 1, 2))
    assert one == two
    assert (one.low, one.high) != (three.low, three.high)
    assert evaluate(detector, samples, resamples=0).video["auc"].low is None


def test_videos_without_a_face_are_coverage(detector, samples, measured):
    without = Counter({("test", 0, "no_face"): 3, ("val", 1, "too_dark"): 2, ("test", 1, "unreadable"): 1})
    found = evaluate(detector, replace(samples, without=without), resamples=20)
    for name in ("auc", "accuracy", "log_loss", "brier", "ece", "fpr"):
        assert found.video[name].value == measured.video[name].value, name
    assert found.video["scored"].value == pytest.approx(60 / 66)
    assert found.video["coverage"].value == pytest.approx(measured.video["coverage"].value * 60 / 66)
    assert found.coverage() == {
        "videos": 66,
        "scored": 60,
        "not_scored": [
            {"label": "real", "reason": "no_face", "n": 3},
            {"label": "fake", "reason": "too_dark", "n": 2},
            {"label": "fake", "reason": "unreadable", "n": 1},
        ],
    }
    verdicts = found.verdicts()
    assert (verdicts["real"]["not_applicable"], verdicts["real"]["error"]) == (3, 0)
    assert (verdicts["fake"]["not_applicable"], verdicts["fake"]["error"]) == (2, 1)
    assert found.to_dict()["counts"]["video"]["fake_not_applicable"] == 3
    text = shown(found)
    assert "Not scored: 3 real no_face, 2 fake too_dark, 1 fake unreadable" in text
    assert "are in no part of this table" in text
    few = evaluate(detector, replace(samples, without=Counter({("test", 0, "no_face"): 9})), resamples=0)
    assert any("Only 60 of 69 videos have a score" in warning for warning in few.warnings)


def test_a_video_that_cannot_be_read_from_the_store(tmp_path, detector, caplog):
    given = read_samples(pairs_store(tmp_path, n=3, length=2))
    next(s for s in given.samples if s.video_id == "p000/fake").track.path.unlink()
    found = evaluate(detector, given, resamples=0)
    assert (found.videos[0].verdict, found.videos[0].reason) == (VerdictLabel.ERROR, "store")
    assert found.videos[0].probability is None
    assert found.coverage()["scored"] == 5
    assert found.video["auc"].n == 5
    assert "not scored" in caplog.text


def test_frames_can_be_limited(detector, samples):
    found = evaluate(detector, samples, frames=2, resamples=0)
    assert {len(video.frames) for video in found.videos} == {2}
    assert found.to_dict()["frames_limit"] == 2


def test_settings_are_the_detectors(samples):
    settings = PredictSettings(tta=False, threshold=0.9)
    found = evaluate(Detector(Networks.of(network(), card()), settings), samples, resamples=0)
    probabilities = np.array([video.probability for video in found.videos])
    assert found.model.threshold == 0.9
    assert {v.reason for v in found.videos} == {
        None,
        "conflicting",
    }  # a threshold of one's own leaves no uncertain band
    assert [video.verdict == "fake" for video in found.videos] == (probabilities >= 0.9).tolist()
    with_views = evaluate(Detector(Networks.of(network(), card()), PredictSettings(tta=True)), samples, resamples=0)
    assert [v.probability for v in with_views.videos] != pytest.approx(probabilities.tolist(), abs=1e-6)


# Answers


def test_the_check_for_attacks_is_part_of_the_answers_where_it_is_asked_for(samples):
    """Half of them move further than the limit when they are squeezed: the figures are of the answers that are left."""
    settings = NO_TTA.model_copy(update={"attack_check": True})
    made = card(attack_check=AttackCheck(limits={"denoise": 1.0}))
    one = Detector(Networks.of(network(), made), settings)
    people = [Person(s.track.track, s.crops(range(len(s)), 32)) for s in samples.samples]
    limit = float(np.median(one.disagreements([person.crops for person in people])))
    detector = Detector(Networks.of(network(), card(attack_check=AttackCheck(limits={"denoise": limit}))), settings)
    expected = {
        sample.video_id: detector.answer([person], detector.score([person.crops]))
        for sample, person in zip(samples.samples, people, strict=True)
    }
    found = evaluate(detector, samples, data=["made"], resamples=0)
    assert {v.video_id: (v.verdict, v.reason) for v in found.videos} == {
        name: (verdict.label, verdict.reason) for name, verdict in expected.items()
    }
    reasons = Counter(video.reason for video in found.videos)
    assert reasons["possible_attack"] > 5
    assert reasons[None] > 5
    assert_figures_are_of(found)
    assert evaluate(detector, samples, resamples=0).video["coverage"].value < (
        evaluate(Detector(Networks.of(network(), made), NO_TTA), samples, resamples=0).video["coverage"].value
    )


def test_a_contradiction_within_a_video_is_no_answer(samples):
    class Contradictory(StripeDetector):
        def score(self, sequences):
            return [Score(-9.0, np.full(len(crops), 9.0)) for crops in sequences]

    found = evaluate(Contradictory(), samples, resamples=0)
    assert {(v.verdict, v.reason) for v in found.videos} == {("uncertain", "conflicting")}
    assert_figures_are_of(found)
    assert found.video["coverage"].value == found.video["fake_called_real"].value == 0
    assert found.video["fnr"].value == 1  # a figure of scores, not of answers
    assert all(row.metrics["coverage"].value in (0, None) for row in found.slices)


def assert_figures_are_of(found):
    """The figures of answers are those counted from the verdicts, in all that is written."""
    counts = {name: Counter() for name in ("real", "fake")}
    for video in found.videos:
        counts[("real", "fake")[video.label]][str(video.verdict)] += 1
    real, fake = counts["real"], counts["fake"]
    value = {name: figure.value for name, figure in found.video.items()}
    answered = sum(of[word] for of in counts.values() for word in ("real", "fake"))
    assert value["coverage"] == pytest.approx(answered / len(found.videos))
    assert value["real_called_fake"] == pytest.approx(real["fake"] / real.total())
    assert value["fake_called_real"] == pytest.approx(fake["real"] / fake.total())
    written = found.to_dict()["counts"]["video"]
    for name, of in counts.items():
        assert [written[f"{name}_{word}"] for word in ("called_real", "called_fake", "uncertain")] == (
            [of[word] for word in ("real", "fake", "uncertain")]
        )


# Crops


def test_larger_crops_are_resized(tmp_path, samples):
    small = StripeDetector(crop=CropSettings(size_px=32))
    assert {len(v.frames) for v in evaluate(small, samples, resamples=0).videos} == {3}
    shrunk = Detector(
        Networks.of(network(), card(crop=CropSettings(size_px=32).model_copy(update={"size_px": 16}))), NO_TTA
    )
    found = evaluate(shrunk, samples, resamples=0)
    first = next(s for s in samples.samples if s.video_id == found.videos[0].video_id)
    crops = first.crops(range(3), 16)
    assert crops.shape == (3, 16, 16, 3)
    verdict = shrunk.decide([first.track.track], shrunk.score([crops]))
    assert found.videos[0].probability == pytest.approx(verdict.probability, abs=1e-6)


@pytest.mark.parametrize(
    ("crop", "why"),
    [
        (CropSettings(size_px=32, margin=0.3), r"another rule.*margin -0\.2.*needs margin 0\.3"),
        (CropSettings(size_px=32, shift_y=0), "another rule"),
        (CropSettings(size_px=32, align="eyes"), "another rule.*align eyes"),
        (CropSettings(size_px=64), "too small.*32 px.*64 px"),
    ],
)
def test_crops_of_another_rule_are_refused(samples, crop, why):
    with pytest.raises(ConfigError, match=why):
        evaluate(StripeDetector(crop=crop), samples, data=["made"])


# Warnings


def warned(evaluation, text):
    return any(text in warning for warning in evaluation.warnings)


def test_groups_that_were_trained_on(detector, samples, measured):
    assert warned(measured, "does not say which groups it was trained on")
    hashes = frozenset({group_hash("made", "p003"), group_hash("made", "p004"), group_hash("other", "p005")})
    found = evaluate(detector, samples, train_groups=hashes, resamples=0)
    assert warned(found, "2 groups are in the training data and here (made/p003, made/p004)")
    assert not warned(found, "does not say")
    assert not warned(evaluate(detector, samples, train_groups=frozenset({"0" * 16}), resamples=0), "training data")


def test_taking_everything_tells_of_the_training_split(detector, samples, measured):
    assert warned(measured, "36 of 60 videos are of the split 'train'")
    assert not warned(evaluate(detector, samples.split("val"), split="val", resamples=0), "split 'train'")


def test_one_class_and_imbalance(detector, samples):
    reals = evaluate(detector, samples.where(lambda s: s.label == 0), resamples=20)
    assert reals.video["auc"].value is None
    assert reals.video["auc"].reason == "only real inputs were scored"
    assert warned(reals, "No fake input was scored")
    most = evaluate(detector, samples.where(lambda s: s.label == 1 or s.group < "p005"), resamples=20)
    assert warned(most, "86% of the scored inputs are fake")


def test_one_sided_answers(samples):
    calibration = CALIBRATION.model_copy(update={"bias": 50.0})
    found = evaluate(Detector(Networks.of(network(), card(calibration=calibration)), NO_TTA), samples, resamples=0)
    assert warned(found, "All 60 scored inputs lie on the 'fake' side")


def test_random_weights_are_marked(samples):
    settings = PredictSettings(tta=False, allow_untrained=True)
    found = evaluate(Detector(Networks.of(network(), card(trained=False)), settings), samples, resamples=0)
    assert warned(found, "Random weights")
    assert {video.verdict for video in found.videos} == {VerdictLabel.UNCERTAIN}
    assert found.video["auc"].value is not None
    assert not found.to_dict()["model"]["trained"]


# Tables and outputs


def test_tables(tmp_path, detector, samples):
    other = read_samples(pairs_store(tmp_path, n=5, seed=3, dataset="other"))
    pooled = replace(samples, samples=samples.samples + other.samples)
    rows = {(row.by, row.name): row for row in evaluate(detector, pooled, resamples=20).slices}
    assert rows["source", "made"].n_real == 30
    assert rows["source", "other"].n_fake == 5
    assert rows["method", "stripes"].metrics["auc"].value is not None
    assert sum(row.n_real + row.n_fake for (by, _), row in rows.items() if by == "brightness") == 70


def test_tables_divide_by_any_column_of_the_data(detector, samples):
    by_sex = replace(samples, samples=tuple(
        replace(sample, columns={"sex": "female" if sample.group < "p015" else "male", "source": "web"})
        for sample in samples.samples
    ))  # fmt: skip
    rows = evaluate(detector, by_sex, by=["sex"], resamples=0).slices
    assert {(row.by, row.name, row.n_real, row.n_fake) for row in rows} == {
        ("sex", "female", 15, 15), ("sex", "male", 15, 15),
    }  # fmt: skip
    usual = evaluate(detector, by_sex, resamples=0)
    assert "sex" in {row.by for row in usual.slices}
    assert {video.source for video in usual.videos} == {"web"}
    with pytest.raises(ConfigError, match="hair"):
        evaluate(detector, by_sex, by=["hair"])


def test_quality_is_the_compression_or_the_height(measured):
    video = measured.videos[0]
    assert video.quality == "under 360 lines"
    assert replace(video, height_px=719).quality == "from 480 lines"
    assert replace(video, height_px=2160).quality == "from 1080 lines"
    assert replace(video, compression="c23").quality == "c23"


def test_json(measured):
    told = json.loads(json.dumps(measured.to_dict(), allow_nan=False))
    assert told["schema"] == "deepscan.evaluation/1"
    assert set(told) >= {"model", "data", "split", "frame", "video", "counts", "coverage", "tables", "warnings"}
    for level in ("frame", "video"):
        for name, figure in told[level].items():
            assert {"value", "low", "high", "n"} <= set(figure), name
    assert told["video"]["auc"]["value"] == pytest.approx(measured.video["auc"].value, abs=1e-6)
    assert told["model"]["name"] == "made"
    assert told["data"] == ["made"]
    assert told["counts"]["video"]["real"] == told["counts"]["video"]["fake"] == 30
    assert told["counts"]["frame"]["fake"] == 90


def test_csv(measured):
    rows = list(csv.DictReader(io.StringIO(measured.to_csv())))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert len(rows) == 60
    video = measured.videos[7]
    assert (rows[7]["video_id"], rows[7]["verdict"]) == (video.video_id, video.verdict)
    assert float(rows[7]["probability"]) == pytest.approx(video.probability, abs=1e-6)
    assert float(rows[7]["frame_mean"]) == pytest.approx(video.frames.mean(), abs=1e-6)


def test_nothing_can_be_judged(tmp_path, detector, samples):
    """Figures, tables and pictures are still there, and say that there is nothing."""
    dark = tuple(
        replace(s, track=replace(s.track, track=replace(s.track.track, sightings=tuple(
            replace(seen, brightness=3.0) for seen in s.track.track.sightings
        )))) for s in samples.samples if s.group in ("p000", "p001")
    )  # fmt: skip
    found = evaluate(detector, replace(samples, samples=dark), resamples=5)
    assert found.coverage()["not_scored"] == [
        {"label": "real", "reason": "too_dark", "n": 2},
        {"label": "fake", "reason": "too_dark", "n": 2},
    ]
    assert found.video["auc"].value is None
    assert found.video["scored"].value == 0
    assert found.verdicts()["fake"]["not_applicable"] == 2
    assert "there is no" in shown(found)
    assert len(draw_evaluation(found, tmp_path)) == 6


def test_names_that_are_no_utf_8(tmp_path, detector, samples):
    odd = tuple(replace(s, group="caf\udce9", method="m\udce9thode") for s in samples.samples)
    hashes = frozenset({group_hash("made", "caf\udce9")})
    found = evaluate(detector, replace(samples, samples=odd), data=["d\udce9"], train_groups=hashes, resamples=0)
    text = json.dumps(found.to_dict(), ensure_ascii=False) + found.to_csv()
    text.encode()
    assert warned(found, r"made/caf\udce9")


# Groups


def test_training_groups_are_written_and_read(tmp_path):
    folder = save(tmp_path / "one")
    assert read_groups(folder) == frozenset()
    write_groups(folder, [("made", "b"), ("made", "a"), ("made", "a")])
    assert read_groups(folder) == {group_hash("made", "a"), group_hash("made", "b")}
    assert "made" not in (folder / "groups.txt").read_text()
    other = save(tmp_path / "two", backbone="meso4")
    write_groups(other, [("other", "c")])
    save_ensemble(tmp_path / "all", [folder, other], name="x")
    assert read_groups(tmp_path / "all") == read_groups(folder) | read_groups(other)


@pytest.mark.parametrize("content", [b"xyz\n", b"0123456789ABCDEF\n", "é\n".encode()])
def test_a_file_that_is_no_list_of_groups(tmp_path, content):
    folder = save(tmp_path / "one")
    (folder / "groups.txt").write_bytes(content)
    with pytest.raises(ModelError, match=r"groups\.txt"):
        read_groups(folder)
