"""Robustness: what is judged and counted, that unchanged is what evaluation says, where it breaks, and the command."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from collections import Counter
from importlib.resources import files

import cv2
import numpy as np
import pytest
import typer
from clips import moving_portrait, texture_frames, write_video
from jsonschema import Draft202012Validator
from madedetectors import NO_TTA, StripeDetector, card, network, save
from madestores import pairs_store
from PIL import Image
from typer.testing import CliRunner

from deepscan.commands import robustness as command
from deepscan.commands.compare import compare
from deepscan.config import PredictSettings
from deepscan.datasets.dataset import read_samples
from deepscan.datasets.readers import CorpusItem
from deepscan.detector import Detector
from deepscan.errors import ConfigError, OutputError
from deepscan.evaluate.bootstrap import decisions
from deepscan.evaluate.evaluation import evaluate
from deepscan.evaluate.robustness.attack_corruptions import ATTACKS
from deepscan.evaluate.robustness.corruptions import CHANGES, Change, pick_changes
from deepscan.evaluate.robustness.plots import draw_robustness
from deepscan.evaluate.robustness.report import summarise
from deepscan.evaluate.robustness.subjects import CropBench, FrameBench
from deepscan.evaluate.robustness.sweep import (
    NOT_POSSIBLE,
    Journal,
    Judged,
    Outcome,
    Subject,
    choose_subjects,
    conditions_of,
    judge_all,
    subject_seed,
)
from deepscan.evaluate.robustness.tables import print_report, to_csv, to_markdown
from deepscan.models.ensemble import Networks
from deepscan.types import ModelInfo

MODEL = ModelInfo("made", None, 0.5, (0.5, 0.5), True, "custom_cnn", "mean", "1", {})
SCHEMA = json.loads((files("deepscan") / "schema" / "robustness-1.json").read_text())


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return read_samples(pairs_store(tmp_path_factory.mktemp("made"), n=12, length=2))


def conditions(*names, place="crops", known=None, **strengths):
    return conditions_of(pick_changes(list(names), strengths, place, known))


def judged_by(bench, picked, path=None, **options):
    with Journal(path, {"a": 1}) as journal:
        return judge_all(bench, choose_subjects(bench.subjects, None, 0), picked, journal, **options)


def made(scores, change="noise", reasons=None):
    """Answers: ``scores[condition]`` are the probabilities of reals, then of as many fakes; None is no face."""
    picked = conditions_of([(CHANGES[change], tuple(s for s in scores if s))])
    n = len(scores[0]) // 2
    subjects = tuple(Subject(f"s{i}", int(i >= n), "made", f"g{i % n}", None) for i in range(2 * n))
    rows = tuple(
        tuple(Outcome("fake", p) if p is not None else Outcome("not_applicable", None, "no_face") for p in column)
        for column in zip(*(scores[c.strength] for c in picked), strict=True)
    )
    return Judged(subjects, picked, rows, 2 * n)


def report_of(judged, **options):
    return summarise(judged, MODEL, **{"data": ["a/made"], "place": "crops", "resamples": 200, **options})


# On crops


def test_unchanged_is_what_evaluation_says(samples):
    detector = Detector(Networks.of(network(), card()), NO_TTA)
    bench = CropBench(detector, samples)
    judged = judged_by(bench, conditions("noise"))
    expected = evaluate(detector, samples, resamples=200, seed=0)
    report = summarise(judged, detector.info, data=["made"], place="crops", resamples=200)
    assert report.rows[0].figures["auc"].value == pytest.approx(expected.video["auc"].value)
    assert report.rows[0].figures["fpr"].value == expected.video["fpr"].value
    assert report.rows[0].figures["coverage"].value == expected.video["coverage"].value
    assert report.groups == 12
    by_label = Counter(round(video.probability, 4) for video in expected.videos)
    assert Counter(round(outcomes[0].probability, 4) for outcomes in judged.outcomes) == by_label


def test_a_detector_that_sees_fine_stripes_is_blinded_by_blur(samples):
    judged = judged_by(CropBench(StripeDetector(), samples), conditions("blur", "brighten", blur=[0.3, 4]))
    report = summarise(judged, StripeDetector().info, data=["made"], place="crops", resamples=200)
    auc = {row.condition.key: row.figures["auc"].value for row in report.rows}
    assert auc["unchanged"] == 1
    assert auc["blur=0.3"] > 0.9
    assert auc["blur=4"] < 0.8
    (blur, light) = report.breaks
    assert (blur.change.name, blur.strength, blur.unchanged) == ("blur", 4, False)
    assert (light.strength, light.text()) == (None, "never, of those measured")
    assert report.weakest("auc")[0].condition.key == "blur=4"


def test_crops_that_become_too_dark_are_coverage(samples):
    judged = judged_by(CropBench(StripeDetector(), samples), conditions("darken", darken=[0.5, 0.05]))
    outcomes = np.array(judged.outcomes, dtype=object)
    assert {(o.verdict, o.reason) for o in outcomes[:, 2]} == {("not_applicable", "too_dark")}
    report = summarise(judged, StripeDetector().info, data=["made"], place="crops", resamples=50)
    last = report.rows[-1]
    assert last.not_scored == {"too_dark": 24}
    assert (last.figures["scored"].value, last.differences["scored"].value) == (0, -1)
    assert last.figures["auc"].value is None
    assert report.breaks[0].strength == 0.05


def test_frames_of_stills_cannot_be_dropped(tmp_path, samples):
    stills = read_samples(pairs_store(tmp_path, n=3, length=1))
    judged = judged_by(CropBench(StripeDetector(), stills), conditions("frame-drop", "jpeg"))
    assert all(outcomes[1] == NOT_POSSIBLE for outcomes in judged.outcomes)
    report = summarise(judged, StripeDetector().info, data=["made"], place="crops", resamples=0)
    assert [change.name for change in report.changes] == ["jpeg"]
    assert any("Not possible with stills, and left out: frame-drop" in warning for warning in report.warnings)
    moving = judged_by(CropBench(detector := StripeDetector(), samples), conditions("frame-drop"))
    assert all(outcomes[1].probability is not None for outcomes in moving.outcomes)
    assert detector.calls[0] == [2, 1, 1, 1, 1]


def test_noise_is_that_of_the_subject_in_any_order(samples):
    bench = CropBench(StripeDetector(), samples, seed=7)
    picked = conditions("noise")
    (first, *_, last) = bench.subjects
    alone = list(bench.judge(last, picked))
    list(bench.judge(first, picked))
    assert list(bench.judge(last, picked[::-1]))[::-1] == alone
    assert list(CropBench(StripeDetector(), samples, seed=8).judge(last, picked)) != alone
    assert subject_seed(7, "a") != subject_seed(7, "b")


def test_an_attack_is_measured_like_any_other_change(samples):
    """The seam: it gets crops at the detector's size, the truth and the detector."""
    seen = set()

    def swap(crops, label, detector, strength, seed):
        seen.add((crops.shape[1:], label, type(detector).__name__))
        out = crops.copy()
        out[:, ::2] = out[:, 1::2]  # no stripes
        return out

    known = {**CHANGES, "attack": Change("attack", "Attack", "nothing", (1.0,), attack=swap)}
    judged = judged_by(CropBench(StripeDetector(), samples), conditions("attack", known=known))
    report = summarise(judged, StripeDetector().info, data=["made"], place="crops", resamples=100)
    assert seen == {((32, 32, 3), label, "StripeDetector") for label in (0, 1)}
    assert report.rows[1].figures["fnr"].value == 1
    assert report.rows[1].differences["fnr"].value == 1


def test_a_file_that_is_gone_costs_only_its_video(tmp_path, caplog):
    given = read_samples(pairs_store(tmp_path, n=3, length=1))
    given.samples[0].track.path.unlink()
    judged = judged_by(CropBench(StripeDetector(), given), conditions("jpeg", jpeg=[50]))
    assert Counter(outcomes[1].verdict for outcomes in judged.outcomes)["error"] == 1
    report = summarise(judged, StripeDetector().info, data=["made"], place="crops", resamples=0)
    assert report.rows[0].not_scored == {"store": 1}
    assert "2 answers are failures" in " ".join(report.warnings)
    assert "not scored" in caplog.text


# On frames


@pytest.fixture(scope="module")
def footage(tmp_path_factory, portrait):
    """A clip of somebody, one of nobody, a picture, and a file that is none."""
    folder = tmp_path_factory.mktemp("footage")
    write_video(folder / "face.mp4", moving_portrait(12, (240, 200)))
    write_video(folder / "nobody.mp4", texture_frames(6, (160, 120)))
    cv2.imwrite(str(folder / "still.png"), cv2.cvtColor(portrait[:300, 80:380], cv2.COLOR_RGB2BGR))
    (folder / "broken.mp4").write_bytes(b"no video")
    names = ("face.mp4", "nobody.mp4", "still.png", "broken.mp4")
    return [CorpusItem(n, folder / n, i % 2, "made", "m", n, None) for i, n in enumerate(names)]


@pytest.fixture(scope="module")
def seen_on_frames(footage):
    detector = Detector(Networks.of(network(), card()), PredictSettings(tta=False, frames=3))
    bench = FrameBench(detector, footage)
    picked = conditions(
        "jpeg", "h264-crf", "social", "rescale", "frame-drop", "occlusion", place="frames", jpeg=[20],
        rescale=[0.2], occlusion=[0.5], social=[0.75], **{"h264-crf": [35], "frame-drop": [4]},
    )  # fmt: skip
    with Journal(None, {}) as journal:
        judged = judge_all(bench, bench.subjects, picked, journal)
    told = [dict(zip((c.key for c in picked), outcomes, strict=True)) for outcomes in judged.outcomes]
    return detector, dict(zip((item.video_id for item in footage), told, strict=True))


def test_an_unchanged_clip_is_what_prediction_says(seen_on_frames, footage):
    detector, told = seen_on_frames
    for item in (footage[0], footage[2]):
        assert told[item.video_id]["unchanged"].probability == detector.predict(item.path).probability


def test_changed_clips_are_judged_through_the_whole_pipeline(seen_on_frames):
    _, told = seen_on_frames
    face = told["face.mp4"]
    assert all(face[key].probability is not None for key in face if key != "rescale=0.2")
    assert len({outcome.probability for outcome in face.values()}) == len(face)
    # A face of a fifth of its size is too small: it is lost, and not guessed.
    assert (face["rescale=0.2"].verdict, face["rescale=0.2"].probability) == ("not_applicable", None)
    assert face["rescale=0.2"].reason in ("face_too_small", "no_face")


def test_pictures_take_every_change_but_dropped_frames(seen_on_frames):
    _, told = seen_on_frames
    still = told["still.png"]
    assert still.pop("frame-drop=4") == NOT_POSSIBLE
    assert len({outcome.probability for outcome in still.values()}) == len(still)


def test_nobody_and_nothing_are_no_guess(seen_on_frames):
    _, told = seen_on_frames
    assert {(o.verdict, o.probability) for o in told["nobody.mp4"].values()} == {("not_applicable", None)}
    assert {(o.verdict, o.reason) for o in told["broken.mp4"].values()} == {("error", "unreadable")}


def test_of_a_clip_only_the_middle(footage, monkeypatch):
    detector = Detector(Networks.of(network(), card()), PredictSettings(tta=False, frames=2))
    bench = FrameBench(detector, footage[:1], seconds=0.2)
    results = []
    predict = Detector.predict_or_error
    monkeypatch.setattr(
        Detector, "predict_or_error", lambda self, path: results.append(predict(self, path)) or results[-1]
    )
    picked = conditions("noise", "hevc-crf", place="frames", noise=[2], **{"hevc-crf": [30]})
    outcomes = [outcome for _, outcome in bench.judge(bench.subjects[0], picked)]
    assert [result.duration_s for result in results] == pytest.approx([0.2, 0.2, 0.2], abs=0.06)
    assert all(outcome.probability is not None for outcome in outcomes)


def test_folders_and_tars_are_read_too(tmp_path, footage, portrait_image):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(portrait_image, "in/face.jpg")
    frames = []
    for i, image in enumerate(moving_portrait(2, (240, 200))):
        frames.append(tmp_path / f"{i}.png")
        cv2.imwrite(str(frames[-1]), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    items = [
        CorpusItem("in/face", tmp_path / "a.tar", 0, "made", "real", "a", None, member="in/face.jpg"),
        CorpusItem("folder", tmp_path, 1, "made", "m", "b", None, frames=tuple(frames)),
    ]
    bench = FrameBench(Detector(Networks.of(network(), card()), NO_TTA), items)
    for subject in bench.subjects:
        outcomes = [outcome for _, outcome in bench.judge(subject, conditions("jpeg", place="frames", jpeg=[30]))]
        assert all(outcome.probability is not None for outcome in outcomes), subject.key


# Choosing and going on


def subjects_of(*counts):
    """``(reals, fakes)`` of each group."""
    return [
        Subject(f"{g}/{label}/{i}", label, "made", f"g{g}", None)
        for g, both in enumerate(counts)
        for label in (0, 1)
        for i in range(both[label])
    ]


def test_a_choice_is_balanced_and_takes_many_groups():
    given = subjects_of(*[(1, 4)] * 10, *[(0, 50)] * 2)
    chosen = choose_subjects(given, 16, seed=3)
    assert Counter(subject.label for subject in chosen) == {0: 8, 1: 8}
    pairs = Counter(subject.group for subject in chosen)
    assert len(pairs) == 8
    assert set(pairs.values()) == {2}  # a fake comes with its real
    assert chosen == choose_subjects(given[::-1], 16, seed=3)
    assert chosen != choose_subjects(given, 16, seed=4)
    assert choose_subjects(given, 6, seed=3) == chosen[:6]


def test_what_one_class_lacks_the_other_fills():
    given = subjects_of((3, 20))
    assert Counter(subject.label for subject in choose_subjects(given, 10, 0)) == {0: 3, 1: 7}
    assert len(choose_subjects(given, None, 0)) == len(choose_subjects(given, 99, 0)) == 23


def test_ctrl_c_leaves_what_is_done_and_a_second_run_goes_on(tmp_path, samples):
    picked = conditions("jpeg", "noise", jpeg=[50], noise=[5])

    def stop(done, total):
        assert total == 24 * 3
        if done == 7:
            raise KeyboardInterrupt

    first = judged_by(CropBench(StripeDetector(), samples), picked, tmp_path / "j", on_progress=stop)
    assert (first.interrupted, len(first.subjects), first.wanted) == (True, 2, 24)
    report = summarise(first, StripeDetector().info, data=["made"], place="crops", resamples=0)
    assert any("of 2 of 24 subjects" in warning for warning in report.warnings)
    with (tmp_path / "j").open("ab") as file:
        file.write(b'{"cut off')
    again = judged_by(CropBench(detector := StripeDetector(), samples), picked, tmp_path / "j")
    assert not again.interrupted
    assert sum(len(call) for call in detector.calls) == 24 * 3 - 7
    assert again.outcomes == judged_by(CropBench(StripeDetector(), samples), picked).outcomes
    assert len((tmp_path / "j").read_text().splitlines()) == 1 + 24 * 3


def test_a_journal_of_something_else_is_refused(tmp_path):
    Journal(tmp_path / "j", {"seed": 0}).close()
    with pytest.raises(ConfigError, match="of another measurement"):
        Journal(tmp_path / "j", {"seed": 1})
    (tmp_path / "j").write_text("no journal\n")
    with pytest.raises(OutputError):
        Journal(tmp_path / "j", {"seed": 0})


# Figures


def test_differences_are_of_pairs():
    """A change that lowers every score alike, in a detector whose scores scatter widely, is told from chance."""
    rng = np.random.default_rng(0)
    base = np.clip(np.concatenate([rng.normal(0.45, 0.2, 60), rng.normal(0.55, 0.2, 60)]), 0.01, 0.99)
    lower = np.concatenate([base[:60], base[60:] * 0.8])
    report = report_of(made({0.0: list(base), 5.0: list(lower), 20.0: list(base)}))
    row = report.rows[1]
    assert row.differences["auc"].value == pytest.approx(row.figures["auc"].value - report.rows[0].figures["auc"].value)
    assert row.differences["auc"].high < 0
    width = row.differences["auc"].high - row.differences["auc"].low
    assert width < 0.7 * (row.figures["auc"].high - row.figures["auc"].low)
    same = report.rows[2].differences["auc"]
    assert (same.value, same.low, same.reason) == (0, None, "every resample gives the same value")
    assert [found.condition.strength for found in report.weakest("auc")] == [5.0]
    fnr = decisions(lower[60:], 0.5)
    assert row.figures["fnr"].value == pytest.approx(np.mean(fnr == 0))


def test_it_breaks_where_the_lower_bound_meets_the_floor():
    rng = np.random.default_rng(1)
    reals = list(rng.uniform(0, 0.6, 40))
    good, poor, none = (list(rng.uniform(low, low + 0.6, 40)) for low in (0.4, 0.05, 0.0))
    scores = {0.0: reals + good, 2.0: reals + good, 5.0: reals + poor, 10.0: reals + none}
    report = report_of(made(scores), floor=0.6)
    lows = [row.figures["auc"].low for row in report.rows]
    assert lows[1] > 0.6 >= lows[2]
    assert report.breaks[0].strength == 5.0
    assert report_of(made(scores), floor=0.2).breaks[0].strength is None
    already = report_of(made(scores), floor=0.99).breaks[0]
    assert (already.strength, already.unchanged, already.text()) == (None, True, "already unchanged")


def test_one_class_has_no_auc_and_says_so():
    judged = made({0.0: [0.2, 0.3, 0.8, 0.9], 5.0: [0.2, 0.3, 0.8, 0.9]})
    reals = Judged(judged.subjects[:2], judged.conditions, judged.outcomes[:2], 2)
    report = report_of(reals)
    assert (report.breaks[0].known, report.breaks[0].text()) == (False, "not known: one class only")
    assert report.rows[1].differences["auc"].value is None
    assert any("No fake input was scored" in warning for warning in report.warnings)


def test_lost_faces_are_coverage_and_in_no_other_figure():
    report = report_of(made({0.0: [0.2] * 5 + [0.8] * 5, 5.0: [None, 0.2, 0.2, 0.2, 0.2, 0.8, 0.8, 0.8, None, None]}))
    row = report.rows[1]
    assert row.figures["scored"].value == pytest.approx(0.7)
    assert row.figures["fpr"].n == 4
    assert row.not_scored == {"no_face": 3}
    assert row.differences["scored"].value == pytest.approx(-0.3)
    assert report.weakest("scored") == [row]
    gone = report_of(made({0.0: [0.2] * 5 + [0.8] * 5, 5.0: [None] * 10}))
    assert gone.rows[1].differences["scored"].low is None
    assert gone.weakest("scored") == [gone.rows[1]]


def test_reports_agree_and_fit_their_schema(tmp_path):
    rng = np.random.default_rng(2)
    scores = {s: list(np.clip(rng.normal([0.4] * 20 + [0.6] * 20, 0.2), 0, 1)) for s in (0.0, 5.0, 20.0)}
    scores[20.0][0] = None
    report = report_of(made(scores), data=["some/where"], split="val")
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(told)
    rows = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert [row["change"] for row in rows] == ["unchanged", "noise", "noise"]
    assert float(rows[1]["auc"]) == pytest.approx(told["rows"][1]["figures"]["auc"]["value"], abs=1e-6)
    assert float(rows[1]["diff_auc_low"]) == pytest.approx(told["rows"][1]["differences"]["auc"]["low"], abs=1e-6)
    text = to_markdown(report)
    figure = report.rows[2].figures["auc"]
    assert f"| noise | 20 | 20+20 | {figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f}) |" in text
    assert "made 1 on where, split val: 20 real and 20 fake in 20 groups, seed 0; changes on crops" in text
    draw_robustness(report, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 800


def test_a_terminal_of_80_columns_is_enough():
    from rich.console import Console

    console = Console(file=io.StringIO(), width=80)
    print_report(report_of(made({0.0: [0.2, 0.9, 0.8, 0.7], 0.3: [0.2, 0.3, 0.8, 0.7]}, "gamma-down")), console)
    text = console.file.getvalue()
    assert "…" not in text
    assert "unchanged" in text
    assert "gamma-down: already unchanged" in text


# The command

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(command.robustness)
app.command()(compare)


@pytest.fixture
def deepscan(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "180")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        options = ("--no-tta", "--device", "cpu", "--resamples", 20)
        result = CliRunner().invoke(app, ["robustness", *map(str, (*arguments, *options))])
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def model(tmp_path):
    return save(tmp_path / "model")


def test_the_command_on_a_store(deepscan, model, tmp_path):
    data = pairs_store(tmp_path / "data", n=10)
    arguments = ("--model", model, "--data", data, "--changes", "jpeg,blur", "--strengths", "jpeg=20,80")
    result = deepscan(*arguments, "--limit", 6, "--out", tmp_path / "out")
    assert "3 real and 3 fake in 3 groups" in result.stdout
    assert "Breaks: the mildest strength" in result.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "answers.jsonl", "report.json", "table.md", "table.csv", "curves.png",
    }  # fmt: skip
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    Draft202012Validator(SCHEMA).validate(told)
    assert (told["on"], told["limit"], told["judged"]) == ("crops", 6, 6)
    assert [(row["change"], row["strength"]) for row in told["rows"]][:3] == [(None, None), ("jpeg", 80), ("jpeg", 20)]
    before = (tmp_path / "out" / "answers.jsonl").read_bytes()
    assert deepscan(*arguments, "--limit", 6, "--out", tmp_path / "out").stdout == result.stdout
    assert (tmp_path / "out" / "answers.jsonl").read_bytes() == before
    refused = deepscan(*arguments, "--seed", 1, "--out", tmp_path / "out", code=2)
    assert "of another measurement" in refused.output


def test_attacks_are_made_where_they_are_named(deepscan, model, tmp_path):
    pytest.importorskip("art", reason="the Adversarial Robustness Toolbox is optional")
    data = pairs_store(tmp_path / "data", n=10)
    changes = "--changes", "noise,fgsm", "--strengths", "fgsm=2,16", "--strengths", "noise=16"
    deepscan("--model", model, "--data", data, *changes, "--out", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    Draft202012Validator(SCHEMA).validate(told)
    auc = {(row["change"], row["strength"]): row["figures"]["auc"]["value"] for row in told["rows"]}
    assert auc["fgsm", 16] < auc["noise", 16]
    assert auc["fgsm", 16] < auc[None, None]
    refused = deepscan("--model", model, "--data", data, "--on", "frames", *changes, code=2)
    assert refused.output


def test_the_command_on_clips(deepscan, model, tmp_path, face_clip):
    for label in ("real", "fake"):
        (tmp_path / "mine" / label).mkdir(parents=True)
        shutil.copyfile(face_clip, tmp_path / "mine" / label / "a.mp4")
    result = deepscan(
        "--model", model, "--data", tmp_path / "mine", "--frames", 2, "--seconds", "0.4s", "--changes", "h264-crf",
        "--strengths", "h264-crf=40",
    )  # fmt: skip
    assert "changes on frames, before faces are looked for; the middle 0.4 s of each clip" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--changes", "jpg"), "Unknown change 'jpg'"),
        (("--strengths", "jpeg"), "give a change and its strengths"),
        (("--on", "frames"), "holds crops and no frames"),
        (("--seconds", "2s"), "--seconds is for clips"),
        (("--changes", "fgsm", "--strengths", "fgsm=0"), "fgsm"),
    ],
)
def test_wrong_usage_is_told_before_any_work(deepscan, model, tmp_path, arguments, message):
    data = pairs_store(tmp_path / "data", n=2)
    assert message in deepscan("--model", model, "--data", data, *arguments, code=2).output


def test_ctrl_c_writes_what_there_is(deepscan, model, tmp_path, monkeypatch):
    data = pairs_store(tmp_path / "data", n=4)
    score = Detector.score
    calls = []

    def stop(self, sequences):
        calls.append(len(sequences))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return score(self, sequences)

    monkeypatch.setattr(Detector, "score", stop)
    arguments = ("--model", model, "--data", data, "--changes", "jpeg", "--out", tmp_path / "out")
    result = deepscan(*arguments, code=130)
    assert "the figures are of 4 of 8 subjects" in result.stdout
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (told["interrupted"], told["judged"], told["wanted"]) == (True, 4, 8)


def test_changes_are_listed():
    result = CliRunner().invoke(app, ["robustness", "--list"])
    assert result.exit_code == 0
    assert "jpeg         JPEG; quality, 100 to 1: 90, 70, 50, 30, 10" in result.stdout
    assert "fgsm         FGSM (crops, when named); budget, grey levels of 255: 1, 2, 4, 8" in result.stdout
    assert len(result.stdout.splitlines()) == len(CHANGES) + len(ATTACKS)
