"""``deepscan robustness`` as users meet it."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files

import pytest
import typer
from jsonschema import Draft202012Validator
from madedetectors import save
from madestores import pairs_store
from typer.testing import CliRunner

from deepscan.commands import robustness as command
from deepscan.commands.compare import compare
from deepscan.commands.help import add_command
from deepscan.detector import Detector
from deepscan.evaluate.robustness.attack_corruptions import attack_changes
from deepscan.evaluate.robustness.corruptions import CHANGES
from deepscan.models.card import AttackCheck

SCHEMA = json.loads((files("deepscan") / "schema" / "robustness-1.json").read_text())
app = typer.Typer(pretty_exceptions_enable=False)
add_command(app, command.robustness, "All")
add_command(app, compare, "All")


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


def test_attacks_are_made_where_they_are_named(deepscan, tmp_path):
    pytest.importorskip("art", reason="the Adversarial Robustness Toolbox is optional")
    model = save(tmp_path / "model", attack_check=AttackCheck(limits={"bits": 0.5, "median": 0.5}))
    other = save(tmp_path / "other", seed=1)
    data = pairs_store(tmp_path / "data", n=10)
    changes = "--changes", "noise,fgsm", "--strengths", "fgsm=2,16", "--strengths", "noise=16"
    result = deepscan("--model", model, "--data", data, *changes, "--out", tmp_path / "out")
    assert "FGSM 16" in result.stdout
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    Draft202012Validator(SCHEMA).validate(told)
    auc = {(row["change"], row["strength"]): row["figures"]["auc"]["value"] for row in told["rows"]}
    assert auc["fgsm", 16] < auc["noise", 16]
    assert auc["fgsm", 16] < auc[None, None]
    deepscan("--model", model, "--data", data, "--on", "frames", *changes, code=2)
    more = ("--transfer-from", other, "--knows", "check", "--random-resize", "--out", tmp_path / "more")
    deepscan("--model", model, "--data", data, "--changes", "pgd", "--strengths", "pgd=4", "--steps", 2, *more)
    attack = json.loads((tmp_path / "more" / "report.json").read_text())["attack"]
    assert (attack["knows"], attack["steps"], attack["random_resize"]) == ("check", 2, True)
    assert attack["made_on"]["name"] == "other"


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
        (("--changes", "jpeg", "--split", "test", "--unseen-half"), "--unseen-half is of no use"),
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
    assert len(result.stdout.splitlines()) == len(CHANGES) + len(attack_changes())
