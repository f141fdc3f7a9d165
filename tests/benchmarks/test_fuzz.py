"""Damaged files end nothing; and the benchmark that says so can say otherwise."""

from __future__ import annotations

import json
from dataclasses import replace

import fuzz
import pytest

from deepscan.types import Result, VerdictLabel


class Detector:
    """Judges nothing: gives what it is told to for every path."""

    def __init__(self, judge):
        self.judge = judge

    def predict_many(self, paths):
        for path in paths:
            result = self.judge(path)
            if result is not None:
                yield result


def row(path):
    return Result(str(path), None, None, VerdictLabel.ERROR, "unreadable", f"{path.name}: cannot be read")


def test_good_rows_meet_the_bar():
    done = fuzz.fuzz(30, 0, Detector(row))
    assert (done.n_rows, done.failures, done.counts) == (30, [], {"error unreadable": 30})


@pytest.mark.parametrize(
    ("judge", "failure"),
    [
        (lambda path: None if path.name.startswith("00003") else row(path), "9 rows for 10 files"),
        (lambda path: replace(row(path), message="Traceback (most recent call last)\n"), "no line"),
        (lambda path: replace(row(path), reason="internal", message="a defect"), "a defect"),
        (lambda path: replace(row(path), message=None), "without a reason"),
        (lambda path: replace(row(path), timing_s={"total": 1e4}), "took 10000.0 s"),
        (lambda path: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_misses_the_bar_is_told(judge, failure):
    done = fuzz.fuzz(10, 0, Detector(judge))
    assert failure in done.failures[0]


def test_files_that_crash_the_decoder_are_kept(tmp_path):
    def judge(path):
        return replace(row(path), reason="decoder_crashed") if path.name.startswith("00002") else row(path)

    done = fuzz.fuzz(5, 0, Detector(judge), tmp_path / "kept")
    (name, why) = done.crashes[0]
    assert name.startswith("00002")
    assert why.startswith("decoder_crashed: ")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [name]


def test_a_few_damaged_files(tmp_path, capsys):
    assert fuzz.main(["--n", "24", "--seed", "1", "--json", str(tmp_path / "fuzz.json")]) == 0
    report = json.loads((tmp_path / "fuzz.json").read_text())
    assert (report["n"], report["n_rows"], sum(report["counts"].values())) == (24, 24, 24)
    assert "the bar is met" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12])
def test_fifty_damaged_files(seed):
    done = fuzz.fuzz(50, seed)
    assert done.failures == []
    assert done.n_rows == 50
    assert done.counts.total() > done.counts["error unreadable"]


def test_what_isolation_costs(face_clip, capsys):
    assert fuzz.main(["--cost", str(face_clip), "--repeats", "2"]) == 0
    assert "in this process, x " in capsys.readouterr().out
