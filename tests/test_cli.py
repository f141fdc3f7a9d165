"""The command line as users meet it: what it prints, where, and with which exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import clips
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from deepscan import cli
from deepscan.report.table import schema

SAMPLES = Path(__file__).parent.parent / "data" / "samples"


class Run(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    def report(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.out)
        Draft202012Validator(schema()).validate(loaded)
        return loaded


Command = Callable[..., Run]


@pytest.fixture
def deepscan(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The entry point with arguments, in this process; output is read from the file descriptors."""

    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["deepscan", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        code = stop.value.code
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return Run(code if isinstance(code, int) else 0, out, err)

    return run


# --- bad input: a clear answer, never a traceback ------------------------------------------------------------


def _missing(folder: Path) -> Path:
    return folder / "missing.mp4"


def _empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def _text(folder: Path) -> Path:
    (folder / "letter.mp4").write_text("Dear editor, please find the clip attached.\n" * 50)
    return folder / "letter.mp4"


def _truncated(folder: Path) -> Path:
    whole = clips.write_video(folder / "whole.mp4", clips.moving_portrait(20))
    data = whole.read_bytes()
    (folder / "truncated.mp4").write_bytes(data[: len(data) // 2])  # the index stood at the end
    return folder / "truncated.mp4"


def _audio_only(folder: Path) -> Path:
    clips.write_audio(folder / "song.m4a")
    return (folder / "song.m4a").rename(folder / "song.mp4")


def _no_frames(folder: Path) -> Path:
    path = folder / "no_frames.avi"
    with clips.av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        out.start_encoding()
    return path


def _no_face(folder: Path) -> Path:
    return clips.write_video(folder / "texture.mp4", clips.texture_frames(20))


def _small_face(folder: Path) -> Path:
    canvas = np.full((480, 640, 3), 128, np.uint8)
    small = Image.fromarray(clips.portrait()).resize((132, 132), Image.Resampling.LANCZOS)  # face of about 22 px
    canvas[100:232, 200:332] = np.asarray(small)
    Image.fromarray(canvas).save(folder / "small.png")
    return folder / "small.png"


def _dark_face(folder: Path) -> Path:
    Image.fromarray((clips.portrait() * 0.06).astype(np.uint8)).save(folder / "night.png")
    return folder / "night.png"


def _one_pixel(folder: Path) -> Path:
    Image.new("RGB", (1, 1), "white").save(folder / "pixel.png")
    return folder / "pixel.png"


def _bomb(folder: Path) -> Path:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    (folder / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )
    return folder / "bomb.png"


def _unreadable(folder: Path) -> Path:
    path = folder / "locked.mp4"
    path.write_bytes(b"\0" * 100)
    path.chmod(0)
    return path


def _empty_folder(folder: Path) -> Path:
    (folder / "nothing").mkdir()
    return folder / "nothing"


BAD = [
    (_missing, "error", "not_found"),
    (_empty, "error", "empty_file"),
    (_text, "error", "unreadable"),
    (_truncated, "error", "unreadable"),
    (_audio_only, "error", "no_video_stream"),
    (_no_frames, "error", "no_frames"),
    (_no_face, "not_applicable", "no_face"),
    (_small_face, "not_applicable", "face_too_small"),
    (_dark_face, "not_applicable", "too_dark"),
    (_one_pixel, "not_applicable", "no_face"),
    (_bomb, "error", "too_large"),
    (_empty_folder, "error", "no_media"),
    pytest.param(
        _unreadable,
        "error",
        "unreadable",
        marks=pytest.mark.skipif(
            os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0),
            reason="root and Windows read any file",
        ),
    ),
]


@pytest.mark.parametrize(("make", "verdict", "reason"), BAD)
def test_bad_input_gets_a_clear_answer(
    deepscan: Command, tmp_path: Path, make: Callable[[Path], Path], verdict: str, reason: str
) -> None:
    path = make(tmp_path)
    run = deepscan("predict", "--json", "-", path)
    (result,) = run.report()["results"]
    assert (result["verdict"], result["reason"]) == (verdict, reason)
    assert result["probability"] is None
    assert path.name in result["message"] or verdict == "not_applicable"
    assert "\n" not in result["message"]
    # The failure is the content's, and final, where there is a hash of it.
    assert (result["sha256"] is None) == (make in (_missing, _empty_folder, _unreadable))
    assert run.code == (3 if verdict == "error" else 0)
    assert run.err == ""


def test_unreadable_is_refused_also_for_root(
    deepscan: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may read anything, so the refusal of the system is played here.
    path = _text(tmp_path)
    original = Path.open

    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    run = deepscan("predict", "--json", "-", path)
    (result,) = run.report()["results"]
    assert (run.code, result["verdict"], result["reason"]) == (3, "error", "unreadable")
    assert "permission" in result["message"].lower()
    assert result["sha256"] is None


def test_unknown_model_lists_the_known_ones(deepscan: Command) -> None:
    run = deepscan("predict", SAMPLES, "--model", "defualt")
    assert run.code == 2
    assert run.out == ""
    assert "Unknown model 'defualt'" in run.err
    assert "Known detectors: default" in run.err
    assert len(run.err.splitlines()) == 1


def test_backbone_without_weights_is_refused_and_says_how(deepscan: Command) -> None:
    run = deepscan("predict", SAMPLES, "--model", "meso4")
    assert run.code == 2
    assert "--allow-untrained" in run.err


def test_random_weights_mark_the_report(deepscan: Command) -> None:
    run = deepscan(
        "predict", SAMPLES / "real.mp4", "--model", "meso4", "--allow-untrained", "--frames", 4, "--json", "-"
    )
    report = run.report()
    assert report["model"]["trained"] is False
    assert report["results"][0]["verdict"] == "uncertain"
    assert report["results"][0]["reason"] == "untrained_model"
    table = deepscan("predict", SAMPLES / "real.mp4", "--model", "meso4", "--allow-untrained", "--frames", 4)
    assert "Random weights" in table.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "0"], "frames"),
        (["--threshold", "1.5"], "threshold"),
        (["--device", "tpu"], "device"),
        (["--json", "-", "--csv", "-"], "stdout"),
        (["--no-such-option"], "no-such-option"),
    ],
)
def test_wrong_usage_exits_with_2(deepscan: Command, arguments: list[str], message: str) -> None:
    run = deepscan("predict", SAMPLES, *arguments)
    assert run.code == 2
    assert message in run.err
    assert run.out == ""


def test_missing_device_is_named(deepscan: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    run = deepscan("predict", SAMPLES, "--device", "cuda")
    assert run.code == 2
    assert "cuda" in run.err


# --- good input ----------------------------------------------------------------------------------------------


def test_samples_give_a_table(deepscan: Command) -> None:
    run = deepscan("predict", SAMPLES)
    assert run.code == 0
    assert "1 file (1 .md) in folders passed over" in run.err
    assert run.err.count("\n") == 1
    assert deepscan("--quiet", "predict", SAMPLES, "--frames", 2).err == ""
    for name in ("real.mp4", "self_blended.mp4", "no_face.mp4"):
        assert name in run.out
    assert "no answer" in run.out
    assert "no_face" in run.out


def test_a_folder_of_24_clips_fits_a_screen(deepscan: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    face, nobody, dark = (tmp_path / name for name in ("face.mp4", "nobody.mp4", "dark.mp4"))
    portrait = np.ascontiguousarray(clips.portrait())
    clips.write_video(face, [portrait] * 2)
    clips.write_video(nobody, clips.texture_frames(2))
    clips.write_video(dark, [(portrait * 0.06).astype(np.uint8)] * 2)
    folder = tmp_path / "clips"
    folder.mkdir()
    for n in range(24):
        source = (face, nobody, dark)[n % 3]
        (folder / f"{'a long name ' * 4}{n:02}.mp4").write_bytes(source.read_bytes() if n < 23 else b"")
    run = deepscan("predict", folder, "--frames", 1, "--no-tta")
    lines = run.out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert all(sum(f"{n:02}.mp4" in line for line in lines) == 1 for n in range(23))
    (totals,) = (line for line in lines if line.startswith("24 files: "))
    assert "15 no answer" in totals
    assert "1 error" in totals


def test_all_outputs_of_one_run_agree(deepscan: Command, tmp_path: Path) -> None:
    json_file, csv_file = tmp_path / "r.json", tmp_path / "r.csv"
    run = deepscan("predict", SAMPLES, "--frames", 6, "--json", json_file, "--csv", csv_file)
    assert run.code == 0
    report = json.loads(json_file.read_text())
    Draft202012Validator(schema()).validate(report)
    rows = list(csv.DictReader(io.StringIO(csv_file.read_text())))
    assert [r["path"] for r in rows] == [r["path"] for r in report["results"]]
    assert [r["verdict"] for r in rows] == [r["verdict"] for r in report["results"]]
    for row, result in zip(rows, report["results"], strict=True):
        if result["probability"] is not None:
            assert float(row["probability"]) == result["probability"]
            assert result["frames_sampled"] == 6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.csv", "r.json"]


def test_failures_are_rows_among_the_others(deepscan: Command, tmp_path: Path, portrait_image: Path) -> None:
    run = deepscan("predict", "--json", "-", "--frames", 4, _text(tmp_path), SAMPLES / "real.mp4", portrait_image)
    results = run.report()["results"]
    assert results[0]["verdict"] == "error"
    assert results[1]["tracks"]
    assert results[2]["kind"] == "image"
    assert results[2]["duration_s"] is None
    assert run.code == 3


def test_two_people_are_two_tracks(deepscan: Command, two_people_clip: Path) -> None:
    (result,) = deepscan("predict", "--json", "-", "--frames", 8, two_people_clip).report()["results"]
    assert [t["id"] for t in result["tracks"]] == [1, 2]
    left, right = (t["frames"][0]["box"] for t in result["tracks"])
    assert left[2] < right[0]


def test_same_file_same_answer(deepscan: Command) -> None:
    reports = [deepscan("predict", SAMPLES, "--frames", 6, "--json", "-").report() for _ in range(2)]
    for report in reports:
        for result in report["results"]:
            result.pop("timing_s")
    assert reports[0] == reports[1]


def test_exit_code_option(deepscan: Command) -> None:
    clip = SAMPLES / "real.mp4"
    assert deepscan("predict", clip, "--frames", 2, "--threshold", 0.001, "--exit-code").code == 1
    assert deepscan("predict", clip, "--frames", 2, "--threshold", 0.999, "--exit-code").code == 0
    assert deepscan("predict", clip, "--frames", 2, "--threshold", 0.001).code == 0


def test_odd_file_names_are_taken_literally(deepscan: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # a line for the name, however long the folder's is
    path = tmp_path / "[red]ünïcode[bold] 100% 'x' :dog:.mp4"
    path.write_bytes((SAMPLES / "no_face.mp4").read_bytes())
    run = deepscan("predict", path, "--frames", 2)
    assert run.code == 0
    assert "[red]ünïcode" in run.out
    assert ":dog:" in run.out


def test_interrupt_keeps_what_was_done(deepscan: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepscan.detector import Detector

    original = Detector.predict_files

    def predict_files(self: Detector, paths: Iterator[Path]) -> Iterator[Any]:
        yield next(original(self, paths))
        raise KeyboardInterrupt

    monkeypatch.setattr(Detector, "predict_files", predict_files)
    run = deepscan("predict", SAMPLES, "--frames", 2, "--json", "-")
    assert run.code == 130
    assert len(run.report()["results"]) == 1
    assert "Interrupted: 1 file done." in run.err


def test_a_defect_costs_one_row_only(deepscan: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepscan import detector

    original = detector.search_people

    def search_people(path: Path, *rest: Any) -> Any:
        if path.name == "no_face.mp4":
            raise RuntimeError("boom\nsecond line")
        return original(path, *rest)

    monkeypatch.setattr(detector, "search_people", search_people)
    run = deepscan("predict", SAMPLES, "--frames", 2, "--json", "-")
    results = run.report()["results"]
    assert [r["reason"] for r in results if r["verdict"] == "error"] == ["internal"]
    assert len(results) == 3
    assert run.code == 3


# --- the program itself --------------------------------------------------------------------------------------


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=60)


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom deepscan.cli import main\nsys.argv[1:] = ['--help']\ntry: main()\nexcept SystemExit: pass\n"
    )
    shown = _python("-c", code + "print('LOADED', *sorted(sys.modules))").stdout
    assert "predict" in shown
    loaded = set(shown.split("LOADED")[1].split())
    assert not loaded & {"torch", "numpy", "cv2", "av", "pandas", "pydantic", "facenet_pytorch", "timm"}
    # Processor time, and the quickest of several runs: what else the machine does must not decide.
    times = [
        float(_python("-c", code + "import time; print('TOOK', time.process_time())").stdout.split("TOOK")[1])
        for _ in range(5)
    ]
    assert min(times) < 0.5


def test_importing_deepscan_has_no_side_effects() -> None:
    out = _python(
        "-c", "import sys; before = set(sys.modules); import deepscan; print(*set(sys.modules) - before)"
    ).stdout
    assert not set(out.split()) & {"torch", "numpy", "typer", "rich", "pydantic"}


@pytest.mark.parametrize("command", [["--help"], ["predict", "--help"], ["--version"], ["models"], ["info"]])
def test_commands_answer(deepscan: Command, command: list[str]) -> None:
    run = deepscan(*command)
    assert run.code == 0
    assert run.out.strip()
    assert run.err == ""


def test_help_states_the_real_defaults(deepscan: Command) -> None:
    from deepscan.config import PredictSettings

    text = " ".join(deepscan("predict", "--help").out.split())
    assert f"[default: ({PredictSettings().frames})]" in text
    assert f"[default: ({'tta' if PredictSettings().tta else 'no-tta'})]" in text


def test_models_states_what_was_measured(deepscan: Command) -> None:
    out = deepscan("models").out
    assert "default" in out
    assert "AUC" in out
    for name in (
        "inception_resnet_v1",
        "resnet18",
        "resnet34",
        "resnet50",
        "meso4",
        "mesoinception4",
        "custom_cnn",
        "timm:",
    ):
        assert name in out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["deepscan"])
    monkeypatch.setenv("_DEEPSCAN_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", "deepscan pre")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "deepscan pre")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    with pytest.raises(SystemExit):
        cli.main()
    assert "predict" in capsys.readouterr().out
