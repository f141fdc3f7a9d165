"""How a run ends early: what was done is whole, the exit code tells, and nothing temporary is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import clips
import pytest
from halting import halting, has_lines, wait_at_work

ROOT = Path(__file__).parent.parent
QUICK = ("--frames", "2", "--no-tta")
APPEND = "deepscan.append_log:LineFile.append_line"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


def _ended(
    command: list[str], temporary: Path, sign: Callable[[], bool], number: int, *, times: int = 1
) -> tuple[int, str, str]:
    """Run deepscan, send a signal as soon as ``sign`` shows, and wait for the end: exit code, stdout, stderr."""
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        env=environment,
        stdout=pipe,
        stderr=pipe,
        text=True,
        preexec_fn=_not_ignored,  # noqa: PLW1509 - nothing here holds a lock
    ) as run:
        wait_at_work(run, sign)
        for _ in range(times):
            run.send_signal(number)
        out, err = run.communicate(timeout=60)
    assert "Traceback" not in out + err
    return run.returncode, out, err


def _not_ignored() -> None:
    """What is started under nohup inherits that SIGHUP is ignored, and keeps to it."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _left(temporary: Path) -> list[str]:
    """Without the folder that torch has for each user, made when it is imported and empty."""
    return [path.name for path in temporary.iterdir() if not path.name.startswith("torchinductor_")]


def _lines(path: Path, at_least: int) -> Callable[[], bool]:
    return lambda: has_lines(path, at_least)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        clips.write_video(folder / f"{number:02}.mp4", clips.texture_frames(2, size=(64, 48)))
    return folder


@pytest.mark.parametrize(
    ("number", "code", "times"), [(signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 3), (signal.SIGHUP, 129, 1)]
)
def test_what_was_done_is_reported_whole(tmp_path: Path, many: Path, number: int, code: int, times: int) -> None:
    lines, report = tmp_path / "r.jsonl", tmp_path / "r.json"
    command = halting(APPEND, lines, 20, "predict", many, *QUICK, "--jsonl", lines, "--json", report)
    ended = _ended(command, tmp_path / "tmp", _lines(lines, 3), number, times=times)
    assert ended[0] == code
    results = json.loads(report.read_text())["results"]
    assert 3 <= len(results) <= 20
    assert [json.loads(line)["result"]["path"] for line in lines.read_text().splitlines()] == [
        result["path"] for result in results
    ]
    assert {result["verdict"] for result in results} == {"not_applicable"}
    assert _left(tmp_path / "tmp") == []
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []


def test_worker_processes_leave_nothing(tmp_path: Path, many: Path) -> None:
    lines = tmp_path / "r.jsonl"
    command = halting(APPEND, lines, 20, "predict", many, *QUICK, "--jobs", "2", "--jsonl", lines)
    code, _, err = _ended(command, tmp_path / "tmp", _lines(lines, 2), signal.SIGTERM)
    assert code == 143, err
    assert _left(tmp_path / "tmp") == []


def test_a_worker_that_was_killed_leaves_no_temporary_files(tmp_path: Path) -> None:
    """Its folder is there while it works, and gone with it."""
    script = tmp_path / "leads.py"
    script.write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(ROOT / 'tests' / 'helpers')!r})\n"
        "from engine_tasks import leave_a_file\n"
        "from deepscan.processes.local import LocalEngine\n"
        "if __name__ == '__main__':\n"
        "    with LocalEngine(1, time_limit_s=2) as engine:\n"
        "        for task, result in engine.map(leave_a_file, ['hang', 'write']):\n"
        "            print(task, getattr(result, 'reason', result), flush=True)\n"
    )
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    hang, write = done.stdout.splitlines()
    assert hang == "hang timeout"
    assert write.startswith(f"write {temporary}/deepscan-worker-")
    assert _left(temporary) == []


@pytest.mark.slow
def test_preprocessing_leaves_nothing_half_done(tmp_path: Path, face_clip: Path) -> None:
    root, out = tmp_path / "corpus", tmp_path / "out"
    for number in range(12):
        target = root / ("real" if number % 2 else "fake") / f"{number}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(face_clip.read_bytes() + bytes([0] * 7 + [number]))
    arguments = ("preprocess", root, "--out", out, "--jobs", "2", "--frames", "4")
    journal = out / "journal.jsonl"
    command = halting("deepscan.datasets.store.journal:Journal.append", journal, 6, *arguments)
    code, _, err = _ended(command, tmp_path / "tmp", _lines(journal, 2), signal.SIGTERM)
    assert code == 143, err
    assert _left(tmp_path / "tmp") == []
    assert list(out.rglob("*.tmp")) == []
    assert (out / "manifest.csv").exists()
