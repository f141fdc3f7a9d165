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


def test_error_rates_are_those_that_the_answers_give() -> None:
    """Counted from the table of answers beside them: of the reals that got an answer, those called fake; and the other
    way round."""
    figures = README.split("<!-- figures -->", 1)[1].split("<!-- end of figures", 1)[0]
    counts: dict[tuple[str, str], list[int]] = {}
    for where, label, fake, real in re.findall(
        r"^\| .+?, (.+?) \| (real|fake) \| \d+ \| (\d+) \| (\d+) \|", figures, re.M
    ):
        sums = counts.setdefault((where, label), [0, 0])
        sums[0], sums[1] = sums[0] + int(fake), sums[1] + int(real)
    told = re.findall(
        r"^- Of (real|fake) files with an answer, called (?:fake|real): ([\d.]+).*?, n = (\d+); (.+?)[,.]",
        figures,
        re.M,
    )
    assert len(told) == 4
    for label, value, n, where in told:
        fake, real = counts[where, label]
        assert int(n) == fake + real
        assert value == f"{(fake if label == 'real' else real) / int(n):.3f}"


def test_figures_are_those_of_the_card() -> None:
    card = json.loads((ROOT / "deepscan" / "weights" / "default" / "card.json").read_text())
    figures = README.split("<!-- figures -->", 1)[1].split("<!-- end of figures", 1)[0]
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \| (\d+) \|$", figures, re.MULTILINE)
    assert rows
    for name, value, low, high, n in rows:
        metric = card["metrics"][name]
        assert (value, low, high) == tuple(f"{metric[key]:.3f}" for key in ("value", "low", "high"))
        assert int(n) == metric["n"]
    assert {row[0] for row in rows} == set(card["metrics"])


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
    (wheel,) = tmp_path.glob("deepscan-*.whl")
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
    where = [python, "-P", "-c", "import deepscan; print(deepscan.__file__)"]
    loaded = subprocess.run(where, cwd=ROOT, env=clean, capture_output=True, text=True, check=True, timeout=60).stdout
    assert Path(loaded.strip()).is_relative_to(tmp_path)
