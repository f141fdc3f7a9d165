"""docs/training.md: own videos to own detector in five commands, as they stand there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
# What a test has no time for: fewer steps. Everything else is as written.
SHORT = [f"--set={key}" for n in range(2) for key in (f"stages.{n}.epochs=1", f"stages.{n}.steps_per_epoch=1")]


def commands():
    block = re.search(r"^```bash\n(.*?)^```$", DOCS, re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for line in block[1].splitlines()]


def test_there_are_five():
    assert [words[:2] for words in commands()] == [
        ["pip", "install"],
        ["deepscan", "preprocess"],
        ["deepscan", "train"],
        ["deepscan", "evaluate"],
        ["deepscan", "predict"],
    ]


@pytest.mark.slow
def test_they_work_on_the_samples(tmp_path):
    samples = ROOT / "data" / "samples"
    for label, name in (("real", "real.mp4"), ("fake", "self_blended.mp4")):
        (tmp_path / "mine" / label).mkdir(parents=True)
        for number in range(6):
            # Copies that differ in their content, as videos do.
            content = (samples / name).read_bytes() + b"\0" * 8 + bytes([number])
            (tmp_path / "mine" / label / f"{label}{number}.mp4").write_bytes(content)
    (tmp_path / "clip.mp4").write_bytes((samples / "real.mp4").read_bytes())
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    printed = {}
    for _, command, *arguments in commands()[1:]:
        short = SHORT if command == "train" else []
        words = [sys.executable, "-m", "deepscan.cli", command, *arguments, *short]
        done = subprocess.run(
            words,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env={**os.environ, "PATH": path},
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        printed[command] = done.stdout
    assert (tmp_path / "data" / "mine-faces" / "report.html").exists()
    card = json.loads((tmp_path / "runs" / "mine" / "card.json").read_text())
    assert card["trained"]
    assert "AUC" in printed["evaluate"]
    assert "clip.mp4" in printed["predict"]
