"""The same file, settings and machine give the same report, but for the time it took; other runtimes and thread counts
give one within the tolerance that docs/report.md states."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "data" / "samples"
TOLERANCE = 0.01
BOX_PX = 1.0


def report(*files: Path, runtime: str = "auto", threads: int = 2, seed: str = "0") -> dict[str, Any]:
    """A report as `deepscan predict --json` writes it, from a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
    command = [sys.executable, "-m", "deepscan", "predict", *map(str, files), "--json", "-", "--frames", "8"]
    command += ["--runtime", runtime]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


def without_times(one: dict[str, Any]) -> str:
    """As text, so that not even the order of the keys may differ."""
    for result in one["results"]:
        assert set(result["timing_s"]) == {"decode", "detect", "score", "total"}
        del result["timing_s"]
    return json.dumps(one, indent=1)


def test_the_same_report_twice(two_people_clip: Path, portrait_image: Path) -> None:
    files = SAMPLES / "real.mp4", two_people_clip, portrait_image
    assert without_times(report(*files, seed="1")) == without_times(report(*files, seed="2"))


@pytest.fixture(scope="module")
def reference(two_people_clip: Path) -> dict[str, Any]:
    return report(SAMPLES / "self_blended.mp4", two_people_clip)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_runtimes_and_threads_agree(
    reference: dict[str, Any], two_people_clip: Path, runtime: str, threads: int
) -> None:
    files = SAMPLES / "self_blended.mp4", two_people_clip
    other = report(*files, runtime=runtime, threads=threads)
    assert other["model"]["settings"]["runtime"] == runtime
    for one, two in zip(reference["results"], other["results"], strict=True):
        assert (one["verdict"], one["reason"]) == (two["verdict"], two["reason"])
        assert two["probability"] == pytest.approx(one["probability"], abs=TOLERANCE)
        for a, b in zip(one["tracks"], two["tracks"], strict=True):
            assert b["probability"] == pytest.approx(a["probability"], abs=TOLERANCE)
            assert [seen["time_s"] for seen in a["frames"]] == [seen["time_s"] for seen in b["frames"]]
            for seen, again in zip(a["frames"], b["frames"], strict=True):
                assert again["probability"] == pytest.approx(seen["probability"], abs=TOLERANCE)
                assert again["box"] == pytest.approx(seen["box"], abs=BOX_PX)
    assert without_times(other) == without_times(report(*files, runtime=runtime, threads=threads))


def test_the_documentation_states_this_tolerance() -> None:
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    stated = re.search(r"[Pp]robabilities agree within ([0-9.]+[0-9])", text)
    assert stated is not None
    assert float(stated[1]) == TOLERANCE
