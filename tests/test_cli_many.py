"""`deepscan predict` over many files: lists, result lines, resuming, worker processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import clips
import pytest
from halting import halting, has_lines, wait_at_work
from jsonschema import Draft202012Validator
from rich.progress import Progress

from deepscan import cli
from deepscan.analysis import Analysis, error_result
from deepscan.commands import predict_run
from deepscan.detector import Detector
from deepscan.report import result_log as jsonl
from deepscan.report.table import schema as report_schema
from deepscan.types import FrameResult, Result, TrackResult, VerdictLabel

SAMPLES = Path(__file__).parent.parent / "data" / "samples"
SHA = "ab" * 32
QUICK = ("--frames", 2, "--no-tta")
VALIDATOR = Draft202012Validator(jsonl.schema())

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


class Run(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def results(self) -> list[dict[str, Any]]:
        return json.loads(self.out)["results"]


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """`deepscan predict` in this process; output is read from the file descriptors."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["deepscan", "predict", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return Run(int(stop.value.code or 0), out, err)

    return run


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were judged; by their names, not by what is in them."""
    names: list[str] = []

    def judge(self: Detector, path: Path, error: object = None) -> Result:
        names.append(path.name)
        if not path.exists():
            return error_result(path, "not_found", f"{path.name}: not found")
        if "fake" not in path.name:
            return Result(str(path), SHA, "video", VerdictLabel.NOT_APPLICABLE, "no_face", "No face was found.")
        tracks = (TrackResult(1, VerdictLabel.FAKE, 0.9, 0.0, 0.0, (FrameResult(0.0, (0, 0, 9, 9), 0.99, 0.9),)),)
        return Result(str(path), SHA, "video", VerdictLabel.FAKE, probability=0.9, tracks=tracks)

    monkeypatch.setattr(Detector, "predict_or_error", judge)
    monkeypatch.setattr(
        Detector,
        "analyze_many",
        lambda self, inputs, **_: (Analysis(self.predict_or_error(path)) for path, _ in inputs),
    )
    return names


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with five files."""
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    for name in "abcde":
        Path(f"clips/{name}.mp4").write_bytes(name.encode())
    return tmp_path


def lines_of(path: str | Path) -> list[dict[str, Any]]:
    data = Path(path).read_bytes()
    assert data.endswith(b"\n")
    lines = [json.loads(line) for line in data.splitlines()]
    for line in lines:
        VALIDATOR.validate(line)
    return lines


# --- lists ---------------------------------------------------------------------------------------------------


def test_lists_come_after_the_arguments(predict, judged, folder) -> None:
    Path("one.txt").write_bytes(b"clips/e.mp4\r\n\r\nclips/*d.mp4\r\nclips/missing.mp4\r\n")
    Path("two.txt").write_bytes(b"clips\0clips/b.mp4\0")
    run = predict("clips/b.mp4", "--from-file", "one.txt", "--from-file", "two.txt", "--json", "-")
    assert [Path(r["path"]).stem for r in run.results] == ["b", "e", "d", "missing", "a", "c"]
    assert run.code == 3
    assert predict("--from-file", "two.txt", "--json", "-").code == 0


@posix
def test_a_list_on_stdin_may_hold_any_name(predict, judged, folder) -> None:
    names = [b"caf\xe9\n1.mp4", b"b.mp4"]
    for name in names:
        Path(os.fsdecode(name)).write_bytes(b"")
    Path("list").write_bytes(b"\0".join(names))
    stdin = os.dup(0)
    try:
        with Path("list").open("rb") as file:
            os.dup2(file.fileno(), 0)
        run = predict("--from-file", "-", "--jsonl", "-")
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
    results = [json.loads(line)["result"] for line in run.out.splitlines()]
    assert [os.fsencode(result["path"]) for result in results] == names
    assert run.code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Nothing to judge. Give files, folders or patterns, or a list of them with --from-file."),
        (["--from-file", "missing.txt"], "The list missing.txt cannot be read: No such file or directory"),
        (["x.mp4", "--from-file", "clips"], "The list clips cannot be read: Is a directory"),
        (["x.mp4", "--csv", "-", "--jsonl", "-"], "--csv - and --jsonl - both want stdout"),
        (["x.mp4", "--json", "r", "--jsonl", "r"], "--json r and --jsonl r both want r"),
        (["x.mp4", "--address", "auto"], "The address auto is not used"),
    ],
)
def test_wrong_usage_is_one_line(predict, folder, arguments: list[str], message: str) -> None:
    run = predict(*arguments)
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith(f"deepscan: {message}")
    assert len(run.err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--jobs", 0], ["--time-limit", 0], ["--engine", "cloud"]])
def test_wrong_values_are_refused(predict, folder, arguments: list[object]) -> None:
    run = predict("clips", *arguments)
    assert (run.code, run.out) == (2, "")
    assert str(arguments[0]) in run.err


# --- result lines --------------------------------------------------------------------------------------------


def test_lines_of_real_files(predict, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    run = predict(SAMPLES, *QUICK, "--jsonl", path)
    assert (run.code, run.out) == (0, "")  # no table of a million rows
    assert run.err.startswith("deepscan: 3 files in ")
    assert "1 fake, 1 not_applicable, 1 real; " in run.err
    lines = lines_of(path)
    report = predict(SAMPLES, *QUICK, "--json", "-")
    for line, result in zip(lines, report.results, strict=True):
        assert line["result"] | {"timing_s": {}} == result | {"timing_s": {}}
        assert line["model"] == json.loads(report.out)["model"]
        status = Path(result["path"]).stat()
        assert line["input"] == {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def test_a_second_run_does_what_is_new(predict, judged, folder) -> None:
    Path("clips/fake.mp4").write_bytes(b"x")
    first = predict("clips/b.mp4", "clips/fake.mp4", "clips/missing.mp4", "--jsonl", "r.jsonl", "--exit-code")
    assert first.code == 3
    assert "1 fake, 1 not_applicable, 1 error (1 not_found); " in first.err
    judged.clear()
    Path("clips/b.mp4").write_bytes(b"changed")
    run = predict("clips", "clips/missing.mp4", "--jsonl", "r.jsonl", "--exit-code")
    assert judged == ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4", "missing.mp4"]
    assert "7 files" in run.err
    assert "1 of them done before" in run.err
    assert run.code == 3
    judged.clear()
    run = predict("clips", "--jsonl", "r.jsonl", "--exit-code")
    assert judged == []
    assert run.code == 1  # what is fake is fake, whenever it was judged
    assert len(lines_of("r.jsonl")) == 3 + 6
    predict("clips", "--jsonl", "r.jsonl", "--threshold", 0.7)
    assert len(judged) == 6
    assert len(lines_of("r.jsonl")) == 3 + 6 + 6


def test_reports_hold_what_was_done_before(predict, judged, folder) -> None:
    predict("clips/d.mp4", "clips/b.mp4", "--jsonl", "r.jsonl")
    judged.clear()
    run = predict("clips", "--jsonl", "r.jsonl", "--json", "-", "--csv", "r.csv")
    assert judged == ["a.mp4", "c.mp4", "e.mp4"]
    assert [Path(r["path"]).stem for r in run.results] == list("abcde")
    assert run.err == ""
    assert len(Path("r.csv").read_text().splitlines()) == 6
    assert run.results == predict("clips", "--json", "-").results
    table = predict("clips", "--jsonl", "r.jsonl", "--json", "r.json")
    assert "P(fake)" in table.out


@posix
def test_a_second_run_by_another_path_does_nothing(predict, judged, folder) -> None:
    predict("clips/a.mp4", "clips/b.mp4", "--jsonl", "r.jsonl")
    judged.clear()
    Path("link.mp4").symlink_to("clips/a.mp4")
    run = predict(folder / "clips" / "b.mp4", "link.mp4", "--jsonl", "r.jsonl", "--json", "-")
    assert (run.code, judged) == (0, [])
    assert [result["path"] for result in run.results] == [str(folder / "clips" / "b.mp4"), "link.mp4"]


def test_what_is_passed_over_is_told_once(predict, judged, folder) -> None:
    for name in ("a.docx", "b.docx", "noext", "camera.MTS"):
        Path("clips", name).write_bytes(b"")
    run = predict("clips", "--json", "-", "--html", "r.html", "--no-heat")
    assert "camera.MTS" in judged
    report = json.loads(run.out)
    assert report["passed_over"] == {"": 1, ".docx": 2}
    report_validator = Draft202012Validator(report_schema())
    report_validator.validate(report)
    assert run.err.count("passed over") == 1
    assert "3 files (2 .docx, 1 without ending)" in run.err
    assert "3 files (2 .docx, 1 without ending)" in Path("r.html").read_text()
    run = predict("clips", "--jsonl", "r.jsonl")
    assert "3 files (2 .docx, 1 without ending)" in run.err
    assert "passed over" not in predict("clips/a.mp4", "--csv", "-").err


def test_what_is_no_file_is_a_row_with_its_reason(predict, judged, folder) -> None:
    inputs = ["ftp://example.org/a.mp4", "rtsp://example.org/a", "0", "clips/a.mp4"]
    for jobs in ((), ("--jobs", 2)):
        if jobs:  # what is no file reaches no worker
            inputs = inputs[:-1]
        run = predict("--json", "-", *jobs, *inputs)
        assert run.code == 3
        assert [result["path"] for result in run.results] == inputs
        assert [result["reason"] for result in run.results][:3] == ["url", "url", "camera"]


def test_lines_on_stdout(predict, judged, folder) -> None:
    run = predict("clips", "--jsonl", "-")
    assert [Path(json.loads(line)["result"]["path"]).stem for line in run.out.splitlines()] == list("abcde")
    assert run.err.startswith("deepscan: 5 files in ")


def test_lines_that_cannot_be_written(predict, judged, folder) -> None:
    run = predict("clips", "--jsonl", "missing/r.jsonl")
    assert (run.code, run.out, judged) == (3, "", [])
    assert "r.jsonl cannot be written: there is no folder missing" in run.err
    Path("letter.txt").write_text("Dear editor,\n")
    run = predict("clips", "--jsonl", "letter.txt")
    assert (run.code, judged, Path("letter.txt").read_text()) == (3, [], "Dear editor,\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told(predict, judged, folder) -> None:
    run = predict("clips", "--jsonl", "/dev/full")
    assert run.code == 3
    assert "/dev/full cannot be written: the disk is full" in run.err
    run = predict("clips", "--jsonl", "/dev/full", "--json", "r.json")
    assert run.code == 3


def test_an_interrupt_keeps_the_lines(predict, judged, folder, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Detector.predict_or_error

    def interrupted(self: Detector, path: Path) -> Result:
        if len(judged) == 2:
            raise KeyboardInterrupt
        return original(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(Detector, "predict_or_error", interrupted)
        run = predict("clips", "--jsonl", "r.jsonl")
    assert run.code == 130
    assert "Interrupted: 2 files done; the same command goes on from there." in run.err
    assert len(lines_of("r.jsonl")) == 2
    assert predict("clips", "--jsonl", "r.jsonl").code == 0
    assert judged == ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4"]


@posix
def test_a_kill_loses_nothing_that_was_done(predict, tmp_path: Path) -> None:
    for number in range(24):
        clips.write_video(tmp_path / f"{number:02}.mp4", clips.texture_frames(2, size=(64, 48)))
    path = tmp_path / "r.jsonl"
    command = halting(
        "deepscan.append_log:LineFile.append_line", path, 16, "predict", tmp_path, *QUICK, "--jsonl", path
    )
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(SAMPLES.parent.parent)}) as killed:
        wait_at_work(killed, lambda: has_lines(path, 2))
        killed.send_signal(signal.SIGKILL)
    n_done = path.read_bytes().count(b"\n")
    assert 2 <= n_done <= 16
    with path.open("ab") as file:  # as if it had been killed within a line
        file.write(b'{"schema":"deepscan.result/1","version":"0.1')
    run = predict(tmp_path, *QUICK, "--jsonl", path)
    assert f"{n_done} of them done before" in run.err
    assert sorted(line["result"]["path"] for line in lines_of(path)) == sorted(map(str, tmp_path.glob("*.mp4")))


# --- outputs: nothing is overwritten, and what cannot be written is told before the work ----------------------


def test_a_report_replaces_only_a_report(predict, judged, folder) -> None:
    """A video that follows --json, which somebody took for a switch, is safe."""
    for option in ("--json", "--csv", "--jsonl", "--html"):
        video = "clips/a.html" if option == "--html" else "clips/a.mp4"
        Path(video).write_bytes(b"my video")
        run = predict(option, video, "clips/b.mp4")
        assert (run.code, run.out, judged) == (3, "", [])
        assert video in run.err
        assert Path(video).read_bytes() == b"my video"
        Path("empty.html").write_bytes(b"")
        for _ in range(2):
            written = f"r{option}.html"
            assert predict(option, written, "clips/b.mp4", "--no-heat").code == 0
            assert b"clips/b.mp4" in Path(written).read_bytes()
        judged.clear()
    assert predict("--html", "empty.html", "clips/b.mp4", "--no-heat").code == 0


def test_other_reports_than_that_of_the_option_stay(predict, judged, folder) -> None:
    predict("clips/b.mp4", "--json", "r", "--csv", "c")
    before = Path("r").read_bytes(), Path("c").read_bytes()
    judged.clear()
    for arguments in (("--csv", "r"), ("--json", "c"), ("--jsonl", "r")):
        assert predict("clips/b.mp4", *arguments).code == 3
    assert (Path("r").read_bytes(), Path("c").read_bytes(), judged) == (*before, [])


@pytest.mark.parametrize("option", ["--json", "--csv", "--jsonl", "--html"])
def test_an_output_that_is_an_input_or_their_list(predict, judged, folder, option: str) -> None:
    report = "r.html"
    assert predict("clips/b.mp4", option, report, "--no-heat").code == 0
    judged.clear()
    before = Path(report).read_bytes()
    Path("link.mp4").symlink_to(report)
    Path("list").write_text(f"clips/b.mp4\n./{report}\n")
    for inputs in ([report], [f"./{report}"], ["link.mp4"], ["--from-file", "list"]):
        run = predict(*inputs, option, report)
        assert (run.code, run.out, judged) == (2, "", [])
        assert f"{option} {report} is one of the inputs" in run.err
    Path(report).unlink()
    Path(report).write_bytes(b"")  # a list that names nothing
    run = predict("clips/b.mp4", "--from-file", report, option, report)
    assert (run.code, judged) == (2, [])
    assert "is the list of inputs" in run.err
    Path(report).write_bytes(before)


@pytest.mark.parametrize("option", ["--json", "--csv", "--jsonl", "--html"])
@pytest.mark.parametrize("target", ["nowhere/x.html", "clips", "folder.html"])
def test_what_cannot_be_written_is_told_before_the_work(predict, judged, folder, option: str, target: str) -> None:
    Path("folder.html").mkdir()
    run = predict("clips", option, target)
    assert (run.code, run.out, judged) == (3, "", [])
    assert len(run.err.splitlines()) == 1


def test_two_names_of_one_place(predict, judged, folder) -> None:
    Path("link").symlink_to("r")
    for other in ("./r", folder / "r", "link"):
        run = predict("clips", "--json", "r", "--csv", other)
        assert (run.code, judged) == (2, [])
        assert "both want" in run.err


@posix
def test_devices_pipes_and_links_are_written_through(predict, judged, folder) -> None:
    try:
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("may make no devices")
    os.mkfifo("pipe")
    Path("link").symlink_to("r.json")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(Path("pipe").read_bytes()), daemon=True)
    reader.start()
    run = predict("clips/b.mp4", "--json", "link", "--csv", "pipe", "--jsonl", "null")
    reader.join(20)
    assert (run.code, judged) == (0, ["b.mp4"])
    assert received[0].startswith(b"path,verdict,")
    assert [stat.S_IFMT(os.lstat(name).st_mode) for name in ("null", "pipe", "link")] == [
        stat.S_IFCHR, stat.S_IFIFO, stat.S_IFLNK,
    ]  # fmt: skip
    assert json.loads(Path("r.json").read_bytes())["results"][0]["path"] == "clips/b.mp4"
    for option in ("--json", "--csv"):
        assert predict("clips/b.mp4", option, "null").code == 0
    assert stat.S_ISCHR(Path("null").stat().st_mode)


@posix
def test_stdout_by_its_other_name(predict, judged, folder) -> None:
    # Not /dev/stdout: were it replaced by a file, the machine would have lost it. In this folder none can be made.
    assert len(predict("clips", "--json", "/proc/self/fd/1").results) == 5
    assert "both want stdout" in predict("clips", "--json", "/proc/self/fd/1", "--csv", "-").err


def test_a_report_whose_folder_goes_away_is_kept(predict, judged, folder, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out").mkdir()
    original = Detector.predict_or_error

    def judge(self: Detector, path: Path) -> Result:
        shutil.rmtree("out", ignore_errors=True)
        return original(self, path)

    monkeypatch.setattr(Detector, "predict_or_error", judge)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    run = predict("clips", "--json", "out/r.json", "--csv", "r.csv")
    assert run.code == 3
    (kept,) = folder.glob("deepscan-*.json")
    assert str(kept) in run.err
    assert len(json.loads(kept.read_bytes())["results"]) == 5
    assert Path("r.csv").read_bytes().count(b"\n") == 6


# --- worker processes ----------------------------------------------------------------------------------------


def test_workers_give_the_same_answers(predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, the model given relative to the folder, and every setting that is not a default."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(SAMPLES.parent.parent / "deepscan" / "weights" / "default", "model")
    shutil.copytree(SAMPLES, "clips")
    Path("clips/z.mp4").write_text("Dear editor, please find the clip attached.\n" * 50)
    arguments = ("clips", "clips/missing.mp4", "--model", "model", "--frames", 3, "--threshold", 0.2, "--json", "-")
    alone = predict(*arguments)
    several = predict(*arguments, "--jobs", 2, "--time-limit", 500, "--jsonl", "r.jsonl")
    assert (alone.code, several.code, several.err) == (3, 3, "deepscan: 1 file (1 .md) in folders passed over; a file "
                                                             "given by name is read.\n")  # fmt: skip
    reports = [json.loads(run.out) for run in (alone, several)]
    for report in reports:
        for result in report["results"]:
            assert result.pop("timing_s").keys() or result["verdict"] == "error"
    assert reports[0] == reports[1]
    assert reports[0]["model"]["threshold"] == 0.2
    assert {r["verdict"] for r in reports[0]["results"]} >= {"fake", "not_applicable", "error"}
    assert len(lines_of("r.jsonl")) == 5


def test_workers_that_cannot_load_the_model(predict, folder) -> None:
    shutil.copytree(SAMPLES.parent.parent / "deepscan" / "weights" / "default", "model")
    with Path("model/model.safetensors").open("ab") as file:
        file.write(b"x")
    for jobs in (1, 2):
        run = predict("clips", "--model", "model", "--jobs", jobs)
        assert (run.code, run.out) == (3, "")
        assert "is damaged or was exchanged" in run.err
        assert len(run.err.splitlines()) == 1


@pytest.mark.slow
def test_ray_gives_the_same_answers(predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.chdir(SAMPLES)
    alone = predict(".", *QUICK, "--json", "-")
    ray = predict(".", *QUICK, "--json", "-", "--engine", "ray", "--jobs", 1)
    assert ray.code == 0
    without = [[result | {"timing_s": {}} for result in run.results] for run in (alone, ray)]
    assert without[0] == without[1]


# --- progress ------------------------------------------------------------------------------------------------


def test_progress_is_for_a_terminal(predict, judged, folder, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Progress] = []

    def shown() -> Progress:
        bars.append(Progress(auto_refresh=False, disable=False, redirect_stdout=False, redirect_stderr=False))
        monkeypatch.setattr(bars[-1], "start", lambda: None)
        monkeypatch.setattr(bars[-1], "stop", lambda: None)
        return bars[-1]

    monkeypatch.setattr(predict_run, "progress_bar", shown)
    Path("list").write_text("clips/a.mp4\nclips/missing\x1b.mp4\n")
    predict("clips", "--from-file", "list", "--csv", "r.csv")
    (task,) = bars[0].tasks
    until = time.monotonic() + 20
    while task.total is None and time.monotonic() < until:  # counted in the background
        time.sleep(0.01)
    assert (task.completed, task.total) == (6, 6)
    assert task.fields["failed"] == 1
    assert task.fields["rate"].endswith("/s")
    assert task.description == "missing\ufffd.mp4"
