"""Texts on their way to a terminal: those of strangers, and probabilities."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepscan.errors import DeepscanError
from deepscan.text import PrintableFormatter, answer_rule, percent, printable

ROOT = Path(__file__).parent.parent
HOSTILE = "a\x1b[31m\x1b]0;title\x07\u202egpj.\x9b2J\r\n.mp4"


@given(st.text(st.characters(codec=None)))
def test_nothing_but_what_shows(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert [c for c, old in zip(shown, text, strict=True) if c in (old, "\ufffd")] == list(shown)


def test_names_that_show_stay() -> None:
    for name in ("clip.mp4", "Ünïcödé 日本語 😀.mov", ""):
        assert printable(name) is name


# Probabilities


@given(
    low=st.floats(0.001, 0.495),
    high=st.floats(0.5, 0.999),
    near=st.sampled_from([0.0, 0.5, 1.0]),
    off=st.floats(-0.02, 0.02) | st.floats(-0.0006, 0.0006) | st.just(0.0),
)
def test_no_probability_is_shown_on_the_other_side_of_a_limit(low: float, high: float, near: float, off: float) -> None:
    """Whoever compares what is shown with the rule that is shown finds the verdict."""
    probability = min(max({0.0: low, 1.0: high}.get(near, near) + off, 0.0), 1.0)
    shown = float(percent(probability, (low, high)).removesuffix(" %"))
    fake_from, real_up_to = map(float, re.findall(r"([\d.]+) %", answer_rule(0.5, (low, high))))
    assert (shown >= fake_from) == (probability >= high)
    assert (shown <= real_up_to) == (probability <= low)
    assert abs(shown - 100 * probability) <= 1
    assert 0 < shown < 100


@given(st.floats(0.01, 0.99), st.floats(-0.02, 0.02))
def test_no_probability_is_shown_on_the_other_side_of_a_threshold(threshold: float, off: float) -> None:
    probability = min(max(threshold + off, 0.0), 1.0)
    shown = float(percent(probability, (threshold, threshold)).removesuffix(" %"))
    (fake_from,) = map(float, re.findall(r"([\d.]+) %", answer_rule(threshold, (threshold, threshold))))
    assert (shown >= fake_from) == (probability >= threshold)


@pytest.mark.parametrize(
    ("probability", "shown"),
    [
        (0.0, "1 %"),
        (0.1030, "10 %"),
        (0.1087, "10.9 %"),
        (0.1140, "11.4 %"),
        (0.1188, "11.9 %"),
        (0.1189, "12.0 %"),
        (0.1242, "12.4 %"),
        (0.5, "50 %"),
        (0.9092, "90.8 %"),
        (0.9093, "90.9 %"),
        (1.0, "99 %"),
    ],
)
def test_one_decimal_near_a_limit(probability: float, shown: str) -> None:
    assert percent(probability, (0.1188, 0.9093)) == shown


def test_a_single_frame_has_no_limit_and_no_decimal() -> None:
    assert [percent(p) for p in (0.0, 0.004, 0.1189, 0.5, 0.9999, 1.0)] == [
        "1 %",
        "1 %",
        "12 %",
        "50 %",
        "99 %",
        "99 %",
    ]


def test_the_rule_says_what_is_answered() -> None:
    assert answer_rule(0.5, (0.1188, 0.9093)) == "fake from 90.9 %, real up to 11.9 %, uncertain between"
    assert answer_rule(0.5, (0.5, 0.5)) == "fake from 50 %, else real"
    assert answer_rule(0.5, (0.0, 1.0)) == "no answer, whatever the probability"


# Lines


def test_log_lines_keep_their_own_ends_only() -> None:
    record = logging.LogRecord("deepscan", logging.WARNING, "x.py", 1, "%s\nsecond", ("a\x1b[2J",), None)
    assert PrintableFormatter("%(levelname)s: %(message)s").format(record) == "WARNING: a\ufffd[2J\nsecond"


def test_errors_are_one_printable_line() -> None:
    assert str(DeepscanError(f"{HOSTILE}: cannot be read", "why\x1b", "do\n this")).isprintable()


@pytest.mark.skipif(os.name != "posix", reason="such names need a POSIX file system")
def test_a_name_does_not_steer_the_terminal(tmp_path: Path) -> None:
    """In the table, in warnings and in errors, as it comes out of the program."""
    clip = (ROOT / "data" / "samples" / "no_face.mp4").read_bytes()
    (tmp_path / HOSTILE).write_bytes(clip[: len(clip) * 2 // 3])
    (tmp_path / f"b{HOSTILE}").write_bytes(b"no video")
    command = [sys.executable, "-m", "deepscan", "-v", "predict", str(tmp_path), "--frames", "2"]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=False, timeout=300)
    assert done.returncode == 3
    for out in (done.stdout, done.stderr):
        assert b"gpj" in out
        assert [c for c in out.decode() if not c.isprintable() and c != "\n"] == []
