"""Texts from strangers on their way to a terminal."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepscan.errors import DeepscanError
from deepscan.texts import PrintableFormatter, printable

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
