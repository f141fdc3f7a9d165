"""The README's promises, kept."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PREDICT, TEST = "pip install . && deepscan predict data/samples/", "pip install '.[test]' && pytest"


def shell_blocks() -> list[str]:
    return [block.strip() for block in re.findall(r"^```\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)]


def test_the_two_commands_stand_on_the_first_screen() -> None:
    assert shell_blocks()[:2] == [PREDICT, TEST]
    first_screen = README.splitlines()[:20]
    assert PREDICT in first_screen
    assert TEST in first_screen


def test_ci_runs_the_test_command_as_written() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace("pip install --quiet", "pip install")
    assert TEST in re.sub(r"\bpart \w+ ", "", script)  # that notes how long each part takes
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert PREDICT in workflow
    assert TEST in workflow


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)", README))))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_transcript_names_the_samples() -> None:
    transcript = README.split("<!-- transcript", 1)[1].split("<!-- end of transcript", 1)[0]
    for sample in ("real.mp4", "self_blended.mp4", "no_face.mp4"):
        assert sample in transcript


def test_figures_are_those_of_the_card() -> None:
    """At most six rows, each a part of the card's evaluations to the last digit."""
    card = json.loads((ROOT / "deepscan" / "weights" / "default" / "card.json").read_text())
    figures = README.split("<!-- figures -->", 1)[1].split("<!-- end of figures", 1)[0]
    rows = [line.strip("| ").split(" | ")[1:] for line in figures.splitlines() if re.match(r"\| .+ \| \d+ \|", line)]
    names = ("auc", "coverage", "error_answered_real", "error_answered_fake")
    measured = []
    for part in (evaluation["figures"] for evaluation in card["evaluations"] if ": " in evaluation["part"]):
        values = [part[name] for name in names if part[name]["low"] is not None]
        cells = [f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})" for value in values]
        measured.append([str(part["auc"]["n"]), *cells])
    assert 0 < len(rows) <= 6
    assert all(row in measured for row in rows)


def test_python_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] in {"fake", "real", "uncertain"}


@pytest.mark.slow
def test_predict_command_from_a_fresh_copy(tmp_path: Path) -> None:
    """The wheel alone, installed into a new environment that sees this one's dependencies, judges the samples.

    Nothing is fetched: the build runs with the tools installed here.
    """
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT],
        check=True,
        timeout=300,
    )
    (wheel,) = tmp_path.glob("deepscan_video-*.whl")
    # As in a user's shell: a search path set for this process would show pip another deepscan.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = binaries / ("python.exe" if os.name == "nt" else "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], env=clean, check=True, timeout=300)
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        env=clean,
        check=True,
        timeout=60,
    ).stdout.strip()
    # Dependencies only: this environment's own deepscan, if any, comes after the one under test.
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [binaries / "deepscan", "predict", "data/samples/"]
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for sample in ("real.mp4", "self_blended.mp4", "no_face.mp4"):
        assert sample in done.stdout
    command = [binaries / "deepscan", "recipes"]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=60, check=True)
    assert "mesonet" in done.stdout
    where = [python, "-P", "-c", "import deepscan; print(deepscan.__file__)"]
    loaded = subprocess.run(where, cwd=ROOT, env=clean, capture_output=True, text=True, check=True, timeout=60).stdout
    assert Path(loaded.strip()).is_relative_to(tmp_path)
