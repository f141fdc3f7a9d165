"""`deepscan preprocess` as users meet it, in processes of its own that die, hang and run out of disk."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from faulty import process_with_faults
from halting import halting, has_lines, wait_at_work
from minicorpora import dfdc, place
from minicorpora import run as run_inline
from stored import tree
from typer.testing import CliRunner

from deepscan.cli import app
from deepscan.datasets.store.manifest import read_failures, read_manifest
from deepscan.processes import create_engine

QUICKLY = ("--frames", "2", "--size", "64")
APPEND = "deepscan.datasets.store.journal:Journal.append"


def command(*arguments):
    return [sys.executable, "-m", "deepscan.cli", *map(str, arguments)]


def run(*arguments, cwd=None, expect=0):
    done = subprocess.run(  # noqa: PLW1510
        command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "200"}
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def ids(out):
    with (out / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return [row["video_id"] for row in csv.DictReader(file)]


def content(out):
    """Store and tables, without the journal, whose order is that of the work."""
    return {name: data for name, data in tree(out).items() if not name.startswith("journal")}


@pytest.mark.slow
def test_with_nothing_but_a_corpus(tmp_path, face_clip, no_face_clip):
    dfdc(tmp_path / "dfdc", face_clip, no_face_clip)
    done = run("preprocess", "dfdc", "--report", cwd=tmp_path)
    out = tmp_path / "data" / "dfdc-faces"
    assert len(ids(out)) == 4
    assert "4: 3 ok, 1 skipped" in done.stdout
    assert (out / "report.html").stat().st_size > 1000
    assert "missing_file" in done.stderr
    again = run("preprocess", "dfdc", cwd=tmp_path)
    assert "4 were done before" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give the corpus"),
        (("empty",), "laid out like no corpus"),
        (("nowhere",), "no such file or folder"),
        (("empty", "--dataset", "dfcd"), "Unknown dataset 'dfcd'"),
        (("empty", "--shard", "3/2"), "no shard"),
        (("empty", "--shard", "1/2", "--report"), "give it with --merge"),
        (("empty", "--merge", "--shard", "1/2"), "leave --shard out"),
        (("corpus", "--val", "0.6", "--test", "0.6"), "cannot be taken"),
        (("corpus", "--address", "127.0.0.1:1"), "address"),
    ],
)
def test_wrong_usage_is_told_in_one_line(tmp_path, monkeypatch, face_clip, arguments, message):
    (tmp_path / "empty").mkdir()
    place(face_clip, tmp_path / "corpus" / "real" / "a.mp4")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["preprocess", *arguments])
    assert done.exit_code in (2, 3)
    assert message in done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("WARNING")] == [
        done.stderr.splitlines()[-1]
    ]
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_array_jobs(tmp_path, face_clip, no_face_clip):
    root = dfdc(tmp_path / "dfdc", face_clip, no_face_clip)
    for part in ("1/2", "2/2"):
        done = subprocess.run(  # noqa: PLW1510
            command("preprocess", root, "--out", tmp_path / "out", "--shard", part, *QUICKLY),
            capture_output=True,
            text=True,
            timeout=300,
        )
        # A part that holds nothing usable says so; the others go on.
        assert done.returncode in (0, 3), done.stderr
    run("preprocess", "--merge", "--out", tmp_path / "out")
    run("preprocess", root, "--out", tmp_path / "whole", *QUICKLY)
    assert (tmp_path / "out" / "manifest.csv").read_bytes() == (tmp_path / "whole" / "manifest.csv").read_bytes()


def copies(root, clip, n):
    """A folder corpus of ``n`` clips that differ: their content is part of their address."""
    for number in range(n):
        target = root / ("real" if number % 2 else "fake") / f"clip {number:03d} é.mp4"
        place(clip, target)
        with target.open("ab") as file:
            file.write(b"\0" * 7 + bytes([number % 256]))
    return root


def kill_when(process, journal, at_least):
    """SIGKILL to the leading process once so many videos are done; its workers must end by themselves."""
    wait_at_work(process, lambda: has_lines(journal, at_least))
    process.send_signal(signal.SIGKILL)
    return process.wait(timeout=60)


def killed_twice_then_finished(tmp_path, clip, n, at):
    root, out = copies(tmp_path / "corpus", clip, n), tmp_path / "out"
    arguments = ("preprocess", root, "--out", out, "--jobs", "2", *QUICKLY)
    journal = out / "journal.jsonl"
    for at_least in at:
        words = halting(APPEND, journal, (at_least + n) // 2, *arguments)
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert kill_when(process, journal, at_least) == -signal.SIGKILL
        done = journal.read_bytes().count(b"\n")
        assert at_least <= done < n
        assert not (out / "manifest.csv").exists()
    before = (out / "journal.jsonl").read_bytes()
    run(*arguments)
    assert len(ids(out)) == len(set(ids(out))) == n
    # Nothing that was in the journal was done again: each video has one line.
    assert (out / "journal.jsonl").read_bytes().startswith(before)
    assert (out / "journal.jsonl").read_bytes().count(b"\n") == n
    run("preprocess", root, "--out", tmp_path / "whole", "--jobs", "2", *QUICKLY)
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
def test_two_hundred_videos_killed_twice(tmp_path, face_clip):
    killed_twice_then_finished(tmp_path, face_clip, 200, (30, 110))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
def test_interrupted_by_a_person(tmp_path, face_clip):
    root, out = copies(tmp_path / "corpus", face_clip, 10), tmp_path / "out"
    journal = out / "journal.jsonl"
    process = subprocess.Popen(
        halting(APPEND, journal, 6, "preprocess", root, "--out", out, "--jobs", "1", *QUICKLY),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_at_work(process, lambda: has_lines(journal, 2))
    os.killpg(process.pid, signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in output + error
    assert 2 <= len(ids(out)) < 10
    assert "Not reached" in output


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
def test_a_worker_that_dies_hangs_or_breaks_costs_its_own_video(tmp_path, face_clip, monkeypatch):
    root, out = tmp_path / "corpus", tmp_path / "out"
    names = ("dies", "hangs", "breaks", "one", "two", "three")
    place(face_clip, *(root / "real" / f"{name}.mp4" for name in names))
    monkeypatch.setattr("deepscan.datasets.preprocess.process", process_with_faults)
    with create_engine("local", jobs=2, time_limit_s=30) as engine:
        summary, _ = run_inline(root, out, engine)
    status = {row.video_id: (row.status, row.reason) for row in read_manifest(out / "manifest.csv")}
    assert status == {
        "real/dies": ("failed", "worker_died"),
        "real/hangs": ("failed", "timeout"),
        "real/breaks": ("failed", "internal"),
        **{f"real/{name}": ("ok", None) for name in names[3:]},
    }
    assert summary.n_failed == 3
    messages = {failure.video_id: failure.message for failure in read_failures(out / "failures.csv")}
    assert "30" in messages["real/hangs"]
    assert "\n" not in messages["real/breaks"]


@contextmanager
def small_disk(folder, megabytes):
    folder.mkdir()
    size = f"size={megabytes}m"
    if (
        os.name != "posix"
        or subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", folder], check=False).returncode
    ):
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_disk_that_fills(tmp_path, face_clip):
    root = copies(tmp_path / "corpus", face_clip, 8)
    crops = ("--frames", "12", "--size", "224")
    with small_disk(tmp_path / "disk", 1) as disk:
        out = disk / "out"
        done = subprocess.run(  # noqa: PLW1510
            command("preprocess", root, "--out", out, "--jobs", "1", *crops),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 3, done.stderr
        assert "disk is full" in done.stderr
        assert "Traceback" not in done.stderr
        kept = shutil.copytree(out, tmp_path / "out")
    # What was done is whole, and with more room the run goes on from it.
    n_done = (kept / "journal.jsonl").read_bytes().count(b"\n")
    assert 0 < n_done < 8
    again = run("preprocess", root, "--out", kept, "--jobs", "1", *crops)
    assert f"{n_done} were done before" in again.stdout
    run("preprocess", root, "--out", tmp_path / "whole", "--jobs", "1", *crops)
    assert content(kept) == content(tmp_path / "whole")
