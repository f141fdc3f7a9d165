"""Robustness: what is judged and counted, that unchanged is what evaluation says, where it breaks, and the command."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections import Counter
from importlib.resources import files

import cv2
import numpy as np
import pytest
import torch
from clips import moving_portrait, texture_frames, write_video
from jsonschema import Draft202012Validator
from madedetectors import NO_TTA, StripeDetector, card, network, save
from madestores import pairs_store
from PIL import Image
from rich.console import Console

from deepscan.config import CropSettings, PredictSettings
from deepscan.datasets.dataset import read_samples
from deepscan.datasets.readers import CorpusItem
from deepscan.detector import Detector, load_detector
from deepscan.errors import ConfigError, ModelError, OutputError
from deepscan.evaluate.evaluation import evaluate
from deepscan.evaluate.robustness.attack_corruptions import AttackSetup, attack_changes, check_attackable
from deepscan.evaluate.robustness.corruptions import CHANGES, pick_changes
from deepscan.evaluate.robustness.plots import draw_robustness
from deepscan.evaluate.robustness.report import RobustnessSettings, summarise
from deepscan.evaluate.robustness.subjects import CropBench, FrameBench
from deepscan.evaluate.robustness.sweep import (
    NOT_POSSIBLE,
    Answer,
    AnswerLog,
    Subject,
    SweepAnswers,
    choose_subjects,
    conditions_of,
    judge_all,
    subject_seed,
)
from deepscan.evaluate.robustness.tables import print_report, to_csv, to_markdown
from deepscan.models.card import AttackCheck, Calibration
from deepscan.models.ensemble import Networks
from deepscan.models.ensemble_folder import save_ensemble
from deepscan.models.feature_squeezing import disagreements
from deepscan.models.scorer import torch_scorer
from deepscan.types import ModelInfo
from deepscan.verdict import decisions

MODEL = ModelInfo("made", None, 0.5, (0.5, 0.5), True, "custom_cnn", "mean", "1", {})
SCHEMA = json.loads((files("deepscan") / "schema" / "robustness-1.json").read_text())


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return read_samples(pairs_store(tmp_path_factory.mktemp("made"), n=12, length=2))


def conditions(*names, place="crops", known=None, **strengths):
    return conditions_of(pick_changes(list(names), strengths, place, known))


def judged_by(bench, picked, path=None, **options):
    with AnswerLog(path, {"a": 1}) as journal:
        return judge_all(bench, choose_subjects(bench.subjects, None, 0), picked, journal, **options)


def made(scores, change="noise", reasons=None):
    """Answers: ``scores[condition]`` are the probabilities of reals, then of as many fakes; None is no face."""
    picked = conditions_of([(CHANGES[change], tuple(s for s in scores if s))])
    n = len(scores[0]) // 2
    subjects = tuple(Subject(f"s{i}", int(i >= n), "made", f"g{i % n}", None) for i in range(2 * n))
    rows = tuple(
        tuple(Answer("fake", p) if p is not None else Answer("not_applicable", None, "no_face") for p in column)
        for column in zip(*(scores[c.strength] for c in picked), strict=True)
    )
    return SweepAnswers(subjects, picked, rows, 2 * n)


def report_of(judged, **options):
    return summarise(judged, MODEL, RobustnessSettings(**{"data": ("a/made",), "resamples": 200, **options}))


# On crops


def test_unchanged_is_what_evaluation_says(samples):
    detector = Detector(Networks.of(network(), card()), NO_TTA)
    bench = CropBench(detector, samples)
    judged = judged_by(bench, conditions("noise"))
    expected = evaluate(detector, samples, resamples=200, seed=0)
    report = summarise(judged, detector.info, RobustnessSettings(resamples=200))
    assert report.rows[0].figures["auc"].value == pytest.approx(expected.video["auc"].value)
    assert report.rows[0].figures["fpr"].value == expected.video["fpr"].value
    assert report.rows[0].figures["coverage"].value == expected.video["coverage"].value
    assert report.groups == 12
    by_label = Counter(round(video.probability, 4) for video in expected.videos)
    assert Counter(round(outcomes[0].probability, 4) for outcomes in judged.outcomes) == by_label


def test_a_detector_that_sees_fine_stripes_is_blinded_by_blur(samples):
    judged = judged_by(CropBench(StripeDetector(), samples), conditions("blur", "brighten", blur=[0.3, 4]))
    report = summarise(judged, StripeDetector().info, RobustnessSettings(resamples=200))
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
    report = summarise(judged, StripeDetector().info, RobustnessSettings(resamples=50))
    last = report.rows[-1]
    assert last.not_scored == {"too_dark": 24}
    assert (last.figures["scored"].value, last.differences["scored"].value) == (0, -1)
    assert last.figures["auc"].value is None
    assert report.breaks[0].strength == 0.05


def test_frames_of_stills_cannot_be_dropped(tmp_path, samples):
    stills = read_samples(pairs_store(tmp_path, n=3, length=1))
    judged = judged_by(CropBench(StripeDetector(), stills), conditions("frame-drop", "jpeg"))
    assert all(outcomes[1] == NOT_POSSIBLE for outcomes in judged.outcomes)
    report = summarise(judged, StripeDetector().info, RobustnessSettings(resamples=0))
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


def test_a_file_that_is_gone_costs_only_its_video(tmp_path, caplog):
    given = read_samples(pairs_store(tmp_path, n=3, length=1))
    given.samples[0].track.path.unlink()
    judged = judged_by(CropBench(StripeDetector(), given), conditions("jpeg", jpeg=[50]))
    assert Counter(outcomes[1].verdict for outcomes in judged.outcomes)["error"] == 1
    report = summarise(judged, StripeDetector().info, RobustnessSettings(resamples=0))
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
    with AnswerLog(None, {}) as journal:
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
    analyze = Detector.analyze
    monkeypatch.setattr(Detector, "analyze", lambda self, path: results.append(analyze(self, path)) or results[-1])
    picked = conditions("noise", "hevc-crf", place="frames", noise=[2], **{"hevc-crf": [30]})
    outcomes = [outcome for _, outcome in bench.judge(bench.subjects[0], picked)]
    assert [analysis.result.duration_s for analysis in results] == pytest.approx([0.2, 0.2, 0.2], abs=0.06)
    assert all(outcome.probability is not None for outcome in outcomes)


def test_a_clip_is_analysed_once_however_often_its_faces_are_asked_for(footage, monkeypatch):
    detector = Detector(Networks.of(network(), card()), PredictSettings(tta=False, frames=2))
    analysed, extracted = [], []
    analyze, extract = Detector.analyze, Detector.extract
    monkeypatch.setattr(Detector, "analyze", lambda self, path: analysed.append(path.name) or analyze(self, path))
    monkeypatch.setattr(Detector, "extract", lambda self, path: extracted.append(path.name) or extract(self, path))
    bench = FrameBench(detector, footage[:1])
    outcomes = [o for _, o in bench.judge(bench.subjects[0], conditions("occlusion", place="frames", occlusion=[0.5]))]
    assert (analysed, extracted) == (["face.mp4", "changed.mp4"], [])
    assert outcomes[0].probability != outcomes[1].probability


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
    report = summarise(first, StripeDetector().info, RobustnessSettings(resamples=0))
    assert any("of 2 of 24 subjects" in warning for warning in report.warnings)
    with (tmp_path / "j").open("ab") as file:
        file.write(b'{"cut off')
    again = judged_by(CropBench(detector := StripeDetector(), samples), picked, tmp_path / "j")
    assert not again.interrupted
    assert sum(len(call) for call in detector.calls) == 24 * 3 - 7
    assert again.outcomes == judged_by(CropBench(StripeDetector(), samples), picked).outcomes
    assert len((tmp_path / "j").read_text().splitlines()) == 1 + 24 * 3


def test_a_journal_of_something_else_is_refused(tmp_path):
    AnswerLog(tmp_path / "j", {"seed": 0}).close()
    with pytest.raises(ConfigError, match="of another measurement"):
        AnswerLog(tmp_path / "j", {"seed": 1})
    (tmp_path / "j").write_text("no journal\n")
    with pytest.raises(OutputError):
        AnswerLog(tmp_path / "j", {"seed": 0})


def test_a_damaged_line_of_a_journal_costs_its_own_answer(tmp_path):
    journal, answer = tmp_path / "j", Answer("fake", 0.9)
    (condition,) = conditions_of([])
    one, other = (Subject(name, 1, "made", name, None) for name in ("one", "other"))
    with AnswerLog(journal, {}) as log:
        log.add(one, condition, answer)
    journal.write_bytes(journal.read_bytes() + b'{"subject":"other","change":"unchanged"}\n' + b"[" * 99_999 + b"\n")
    with AnswerLog(journal, {}) as log:
        assert (log.answer(one, condition), log.answer(other, condition)) == (answer, None)


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
    reals = SweepAnswers(judged.subjects[:2], judged.conditions, judged.outcomes[:2], 2)
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
    report = report_of(made(scores), data=("some/where",), split="val")
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
    console = Console(file=io.StringIO(), width=80)
    print_report(report_of(made({0.0: [0.2, 0.9, 0.8, 0.7], 0.3: [0.2, 0.3, 0.8, 0.7]}, "gamma-down")), console)
    text = console.file.getvalue()
    assert "…" not in text
    assert "unchanged" in text
    assert "gamma-down: already unchanged" in text


# Attacks

CHECK = AttackCheck(limits={"bits": 0.5, "median": 0.5})


def needs_toolbox():
    pytest.importorskip("art", reason="the Adversarial Robustness Toolbox is optional")


@pytest.fixture(scope="module")
def seeing(samples):
    """A detector that tells the made fakes from the reals: random weights that happen to do the opposite, turned."""
    turned = network()
    last = turned.classifier[-1]
    with torch.no_grad():
        last.weight.neg_()
        last.bias.neg_()
    scorer = torch_scorer(Networks.of(turned, card()), tta=False)
    middle = np.median([scorer.score([sample.crops([0, 1], 32)])[0].video_logit for sample in samples.samples])
    calibration = Calibration(scale=1.0, bias=-float(middle), uncertain_low=0.45, uncertain_high=0.55)
    return Detector(Networks.of(turned, card(calibration=calibration, attack_check=CHECK)), NO_TTA)


def attacked(detector, samples, setup=None, budgets=(1, 16), check=CHECK, **options):
    setup = setup or AttackSetup()
    check_attackable(detector, setup)
    picked = conditions("fgsm", known=attack_changes(setup), fgsm=list(budgets))
    judged = judged_by(CropBench(detector, samples, check=check, **options), picked)
    settings = RobustnessSettings(data=("made",), resamples=50, attack=setup, check=check)
    return summarise(judged, detector.info, settings)


def test_more_budget_deceives_more_and_the_check_is_counted(samples, seeing):
    needs_toolbox()
    report = attacked(seeing, samples)
    clean, weak, strong = (row.figures for row in report.rows)
    assert clean["auc"].value > weak["auc"].value >= strong["auc"].value
    assert 0 < weak["success"].value <= strong["success"].value
    assert "success" not in clean
    assert {"wrong", "flagged", "wrong_unflagged"} <= set(clean)
    assert (strong["flagged"].n, strong["wrong"].n) == (24, 24)
    for figures in (clean, weak, strong):
        assert figures["wrong_unflagged"].value <= figures["wrong"].value
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    Draft202012Validator(SCHEMA).validate(told)
    assert (told["attack"]["knows"], told["attack"]["made_on"]) == ("network", None)
    assert told["attack"]["check"]["limits"] == CHECK.limits
    header = next(line for line in to_markdown(report).splitlines() if line.startswith("| Crops "))
    assert [name.strip() for name in header.strip("|").split("|")] == [
        "Crops", "AUC", "FPR", "FNR", "Answered", "Attack succeeded", "Wrong answers",
        "Wrong answers that pass the check", "Check fired", "Check fired on successes",
    ]  # fmt: skip
    console = Console(file=io.StringIO(), width=80)
    print_report(report, console)
    assert "…" not in console.file.getvalue()
    assert max(map(len, console.file.getvalue().splitlines())) <= 80
    (_, row, _) = csv.DictReader(io.StringIO(to_csv(report)))
    assert float(row["success"]) == pytest.approx(weak["success"].value, abs=1e-6)


def test_the_check_is_measured_as_it_fires(samples, seeing):
    """Of everybody: also of those whom a prediction would not check, as they get no answer anyway."""
    bench = CropBench(seeing, samples, check=CHECK)
    ((_, outcome),) = bench.judge(bench.subjects[0], conditions_of([]))
    (sample,) = (s for s in samples.samples if s.id.rsplit("#", 1)[0] == bench.subjects[0].key)
    scorer = torch_scorer(seeing.networks, tta=False)
    moved = disagreements(scorer, [sample.crops([0, 1], 32)], seeing.card.calibration, CHECK)
    assert outcome.moved == pytest.approx(moved[0])


def test_without_a_check_none_is_counted(samples, seeing):
    needs_toolbox()
    report = attacked(seeing, samples, budgets=(1,), check=None)
    assert "wrong" in report.rows[0].figures
    assert not any("flagged" in row.figures for row in report.rows)


def test_attacks_are_carried_over(samples, seeing):
    needs_toolbox()
    source = Detector(Networks.of(network(seed=1), card(name="other", crop=CropSettings(size_px=48))), NO_TTA)
    report = attacked(seeing, samples, AttackSetup(source=source), budgets=(16,))
    assert report.to_dict()["attack"]["made_on"]["name"] == "other"
    assert report.rows[1].condition.change.title == "FGSM, made on other"
    direct = attacked(seeing, samples, budgets=(16,)).rows[1].figures["success"].value
    assert direct > report.rows[1].figures["success"].value
    odd = Detector(Networks.of(network(), card(crop=CropSettings(size_px=32, margin=0.5))), NO_TTA)
    with pytest.raises(ConfigError, match="another rule"):
        check_attackable(seeing, AttackSetup(source=odd))


def test_ensembles_are_attacked_through_a_member_alone(tmp_path):
    needs_toolbox()
    parts = [save(tmp_path / name, seed=seed) for seed, name in enumerate(("a", "b"))]
    save_ensemble(tmp_path / "both", parts, name="both")
    both = load_detector(tmp_path / "both", NO_TTA)
    with pytest.raises(ModelError, match="Give one of its members"):
        check_attackable(both, AttackSetup())
    check_attackable(both, AttackSetup(source=load_detector(parts[0], NO_TTA)))


def test_a_random_resize_is_done_to_unchanged_crops_too(samples, seeing):
    plain, resized = (CropBench(seeing, samples, random_resize=on) for on in (False, True))
    subject = plain.subjects[0]
    (one,), (two,), (three,) = (list(b.judge(subject, conditions_of([]))) for b in (plain, resized, resized))
    assert one[1].probability != two[1].probability
    assert two == three
