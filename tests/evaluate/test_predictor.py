"""Any function from paths to probabilities is measured as a detector is."""

from __future__ import annotations

import json
import tarfile

import pytest
from typer.testing import CliRunner

from deepscan.cli import app

MINE = """
def by_name(paths):
    answers = {"sure": 0.9, "weak": 0.2, "none": None}
    return [answers[path.read_text()] for path in paths]

def fails(paths):
    if any(path.read_text() == "none" for path in paths):
        raise RuntimeError("no such picture")
    return by_name(paths)

def too_few(paths):
    return []

def percent(paths):
    return [90.0 for path in paths]

number = 7
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    lines = ["path,label,method,sex"]
    for number in range(80):
        label = "fake" if number % 2 else "real"
        # Every sixteenth file gets no answer; of the others fakes are called fake but for those of one method.
        weak = label == "real" or number % 10 == 3
        text = "none" if number % 16 == 0 else "weak" if weak else "sure"
        (tmp_path / "data" / f"{number:02}.jpg").write_text(text)
        lines.append(f"{number:02}.jpg,{label},{'lips' if weak else 'swap'},{'male' if number < 40 else 'female'}")
    (tmp_path / "data" / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def measured(folder, name, function, code=0):
    (folder / f"{name}.py").write_text(MINE, encoding="utf-8")
    given = ["evaluate", "--predictor", f"{name}:{function}", "--data", "data", "--by", "sex,method"]
    result = CliRunner().invoke(app, [*given, "--json", "-", "--resamples", "20"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if code == 0 else result.stderr


def test_it_gets_the_same_table(folder):
    told = measured(folder, "mine_table", "by_name")
    assert told["schema"] == "deepscan.evaluation/1"
    assert told["model"]["name"] == "mine_table:by_name"
    assert told["verdicts"]["real"] == {"fake": 0, "real": 35, "uncertain": 0, "not_applicable": 5, "error": 0}
    assert told["verdicts"]["fake"] == {"fake": 32, "real": 8, "uncertain": 0, "not_applicable": 0, "error": 0}
    assert told["video"]["coverage"]["value"] == pytest.approx(75 / 80)
    assert told["video"]["error_answered_fake"]["value"] == pytest.approx(8 / 40)
    assert {(row["by"], row["name"]) for row in told["tables"]} == {
        ("sex", "male"), ("sex", "female"), ("method", "swap"), ("method", "lips"),
    }  # fmt: skip
    assert all(value["value"] is None for value in told["frame"].values())


def test_a_file_that_it_fails_on_costs_only_itself(folder):
    told = measured(folder, "mine_fails", "fails")
    assert told["verdicts"]["real"]["error"] == 5
    assert told["verdicts"]["real"]["real"] == 35


@pytest.mark.parametrize(("function", "code"), [("too_few", 3), ("percent", 3), ("number", 2), ("nothing", 2)])
def test_what_is_no_predictor_is_said_in_one_line(folder, function, code):
    message = measured(folder, f"mine_{function}", function, code)
    assert len([line for line in message.splitlines() if line.startswith("deepscan: ")]) == 1
    assert "Traceback" not in message


def test_files_of_a_tar_are_files(folder):
    with tarfile.open(folder / "real.tar", "w") as tar:
        tar.add(folder / "data" / "02.jpg", "02.jpg")
    (folder / "mine_tar.py").write_text(MINE, encoding="utf-8")
    given = ["evaluate", "--predictor", "mine_tar:by_name", "--data", "real.tar", "--json", "-", "--resamples", "0"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["verdicts"]["real"]["real"] == 1
