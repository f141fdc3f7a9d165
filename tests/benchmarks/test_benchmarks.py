"""The benchmarks: their clips, the yardstick, and that figures come out of a short run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

import deepscan
from deepscan.errors import DeepscanError, MediaError
from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.video.frames import probe, sample_frames

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# Scripts, no package: they find each other where they lie.

import footage  # noqa: E402
import measure  # noqa: E402
import ours  # noqa: E402
import preprocess  # noqa: E402
from probes import make_probe  # noqa: E402
from reference import ReferencePipeline, ReferenceResult  # noqa: E402
from reference import main as reference_main  # noqa: E402

SMALL = footage.Footage(320, 180, seconds=0.4)


@pytest.fixture(scope="module")
def pipeline():
    return ReferencePipeline(n_frames=3)


def packets(path):
    with av.open(str(path)) as container:
        return [(p.pts * p.time_base, p.is_keyframe) for p in container.demux(video=0) if p.size]


# Clips


def test_a_clip_is_what_its_parameters_say(tmp_path):
    path = footage.make_clip(SMALL, tmp_path / "new")
    media = probe(path)
    assert (media.width_px, media.height_px, media.n_frames) == (320, 180, 12)
    assert media.duration_s == pytest.approx(0.4)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    assert sum(is_key for _, is_key in packets(path)) == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_clip_is_made_once_and_again_for_other_parameters(tmp_path, monkeypatch):
    path = footage.make_clip(SMALL, tmp_path)
    other = footage.make_clip(replace(SMALL, crf=40), tmp_path)
    assert other != path
    assert other.stat().st_size < path.stat().st_size
    monkeypatch.setattr(footage, "frames", lambda _: pytest.fail("encoded again"))
    assert footage.make_clip(SMALL, tmp_path) == path


def test_a_clip_that_is_cut_off_leaves_nothing(tmp_path, monkeypatch):
    def broken(_):
        yield np.zeros((180, 320, 3), np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(footage, "frames", broken)
    with pytest.raises(KeyboardInterrupt):
        footage.make_clip(SMALL, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "people"), [((480, 270), 1), ((270, 480), 1), ((480, 270), 2)])
def test_the_people_can_be_found(size, people):
    shown = footage.Footage(*size, people=people)
    images = [image for i, image in enumerate(footage.frames(replace(shown, seconds=1.0))) if i % 15 == 0]
    assert not np.array_equal(images[0], images[1])
    for faces in FaceFinder().detect(images):
        assert len(faces) == people
        for face in faces:
            assert face.height_px == pytest.approx(shown.face_px, rel=0.25)


def test_faces_are_a_quarter_of_the_height_where_there_is_room():
    assert footage.CLIPS["1080p"].face_px == 270
    assert footage.Footage(640, 480, people=6).face_px == pytest.approx(48)


@pytest.mark.parametrize(
    "wrong", [{"width_px": 321}, {"height_px": 0}, {"seconds": 0.0}, {"people": 0}], ids=lambda d: next(iter(d))
)
def test_impossible_clips_are_refused(wrong):
    with pytest.raises(ValueError, match="Supported"):
        replace(SMALL, **wrong)


def test_a_long_video_repeats_its_segment_without_a_gap(tmp_path):
    long = replace(footage.long_footage(3.0, (160, 120)), fps=10)
    path = footage.make_long_video(long, tmp_path, segment_s=0.7)
    segment = footage.make_clip(replace(long, seconds=0.7), tmp_path)
    read = packets(path)
    assert [float(t) for t, _ in sorted(read)] == pytest.approx([i / 10 for i in range(35)])
    assert sum(is_key for _, is_key in read) == 5  # one each: nothing was encoded again
    assert probe(path).duration_s == pytest.approx(3.5)
    assert path.stat().st_size < 5.2 * segment.stat().st_size
    taken = list(sample_frames(path, 5))
    assert [frame.time_s for frame in taken] == pytest.approx([0.3, 1.0, 1.7, 2.4, 3.1], abs=0.11)
    first = taken[0].image.astype(int)
    assert all(np.abs(frame.image - first).mean() < 3 for frame in taken[1:])  # the same place of each segment


def test_an_hour_of_1080p_stays_small():
    hour = footage.long_footage(3600.0)
    assert hour.max_kbit_s is not None
    assert hour.max_kbit_s * 1000 / 8 * 3600 < 400e6


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DeepscanError, match="cannot be made"):
        footage.make_clip(SMALL, tmp_path / "file" / "clips")


# The reference pipeline


def test_the_reference_goes_through_all_its_stages(pipeline, face_clip):
    result = pipeline.run(face_clip)
    assert 0 < result.probability < 1
    assert (result.n_frames, result.n_faces) == (3, 3)
    for seconds in (result.timing_s, result.cpu_s):
        assert list(seconds) == ["decode", "detect", "backbone", "lstm", "total"]
        assert all(value > 0 for value in seconds.values())
        assert sum(seconds.values()) - seconds["total"] <= seconds["total"] * 1.01


def test_the_reference_takes_every_face(pipeline, two_people_clip):
    assert pipeline.run(two_people_clip).n_faces == 6


def test_the_reference_passes_over_frames_without_a_face(pipeline, no_face_clip):
    result = pipeline.run(no_face_clip)
    assert result.probability is None
    assert (result.n_frames, result.n_faces) == (3, 0)
    assert result.timing_s["backbone"] == 0


def test_the_reference_passes_over_frames_that_its_detector_crashes_on(pipeline, face_clip, monkeypatch):
    def crash(_):
        raise RuntimeError("torch.cat(): expected a non-empty list of Tensors")

    monkeypatch.setattr(pipeline.mtcnn, "forward", crash)
    assert pipeline.run(face_clip).n_faces == 0


def test_the_reference_says_what_it_cannot_read(pipeline, tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_text("no video")
    with pytest.raises(MediaError, match=r"notes\.mp4: cannot be read"):
        pipeline.run(path)


def test_the_reference_as_a_command(face_clip, tmp_path, capsys):
    assert reference_main([str(face_clip), str(tmp_path / "none.mp4"), "--frames", "2"]) == 3
    told = capsys.readouterr()
    assert "none.mp4: cannot be read" in told.err
    (row,) = [line for line in told.out.splitlines() if line.startswith("| face.mp4")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:3] == ["2", "2"]
    assert float(cells[-1]) > 0


# Measuring


def test_a_worker_is_a_process_of_its_own_and_is_timed():
    with measure.Worker(make_probe, "sleep") as worker:
        run = worker.run(0.2)
        assert run.value != os.getpid()
        assert worker.run(0.0).value == run.value
    assert run.wall_s >= 0.2
    assert run.cpu_s < 0.1


def test_peak_memory_counts_what_was_held():
    with measure.Worker(make_probe, "allocate") as worker:
        before, after, _ = worker.run(200_000_000).value
    if sys.platform == "win32":
        assert before is after is None
    else:
        assert 190_000_000 < after - before < 210_000_000


@pytest.mark.skipif(not measure.can_pin(), reason="this system cannot keep a process on one core")
def test_a_worker_keeps_to_its_core():
    core = measure.last_core()
    with measure.Worker(make_probe, "cores", core=core) as worker:
        assert worker.run(None).value == [core]
    assert core in os.sched_getaffinity(0)


def test_errors_come_out_of_a_worker():
    with measure.Worker(make_probe, "fail") as worker:
        for what in ("first.mp4", "second.mp4"):
            with pytest.raises(MediaError, match=what) as caught:
                worker.run(what)
            assert caught.value.reason == "tried"


def test_a_worker_that_dies_is_said():
    with measure.Worker(make_probe, "die") as worker, pytest.raises(DeepscanError, match="died"):
        worker.run(1)


def test_tables_are_markdown():
    table = measure.markdown(["clip", "s"], [["a.mp4", "1.25"], ["b", "10.00"]])
    assert table.splitlines() == [
        "| clip  |     s |",
        "| :---- | ----: |",
        "| a.mp4 |  1.25 |",
        "| b     | 10.00 |",
    ]


# The benchmark


def test_medians_and_ratios():
    def theirs(decode, detect, rest):
        seconds = {"decode": decode, "detect": detect, "backbone": rest, "lstm": 0.0, "total": decode + detect + rest}
        return measure.Run(ReferenceResult(0.5, 1, 1, seconds, {k: v / 2 for k, v in seconds.items()}), 99.0, 99.0)

    mine = [measure.Run(None, wall, wall / 4) for wall in (2.0, 50.0, 1.0)]
    wall, cpu = preprocess.medians(mine, [theirs(1, 3, 2), theirs(80, 90, 2), theirs(1, 5, 2)])
    assert wall == preprocess.Seconds(2.0, 6, 8)
    assert (wall.faces_ratio, wall.whole_ratio) == (3, 4)
    assert cpu == preprocess.Seconds(0.5, 3, 4)
    assert preprocess.total([wall, cpu]) == preprocess.Seconds(2.5, 9, 12)


class Here:
    """Stands in for a worker process and for an engine: runs everything in this process, which is quicker."""

    def __init__(self, make=None, *options, **_):
        self.function = make(*options) if callable(make) else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def run(self, argument):  # as a worker
        return measure.timed(self.function, argument)

    def map(self, function, tasks):  # as an engine
        return ((task, function(task)) for task in tasks)


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Arguments of a run that takes seconds."""
    monkeypatch.setattr(preprocess, "Worker", Here)
    monkeypatch.setattr(preprocess, "create_engine", Here)
    return [
        *["--short", "--frames", "3", "--jobs", "1", "--long-s", "1", "--long-size", "160x120", "--folder"],
        str(tmp_path),
    ]


@pytest.mark.slow
def test_a_short_run_prints_its_figures_and_writes_them(quick, face_clip, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(preprocess, "MEMORY_BAR_BYTES", 1 << 40)  # this process holds all of the tests
    out = tmp_path / "figures.json"
    assert preprocess.main([*quick, str(face_clip), "--json", str(out)]) == 0
    told = capsys.readouterr().out
    for text in ("## One core", "## All cores", "## Memory", "| face.mp4", "videos/s per core", "torch", " cores"):
        assert text in told

    figures = json.loads(out.read_text())
    assert figures["schema"] == preprocess.SCHEMA
    assert (figures["frames"], figures["repeats"], figures["short"]) == (3, 1, True)
    assert figures["machine"]["cores"] >= 1
    (clip,) = figures["one_core"]["clips"]
    assert (clip["people"], clip["reference_detections"]) == (1, 3)
    assert (clip["path"], clip["width_px"]) == ("face.mp4", 320)
    assert len(clip["deepscan_runs_wall_s"]) == 1  # the one to warm up is not counted
    wall = clip["wall_s"]
    assert wall["faces_ratio"] == pytest.approx(wall["reference_faces"] / wall["deepscan"])
    assert wall["whole_ratio"] > wall["faces_ratio"] > 0
    assert figures["one_core"]["videos_per_s_per_core"] == pytest.approx(1 / wall["deepscan"])
    assert f"{wall['deepscan']:.2f} |" in told
    every = figures["all_cores"]
    assert every["whole_ratio"] == pytest.approx(every["deepscan_videos_per_s"] / every["reference_videos_per_s"])
    clip_row, long_row = figures["memory"]
    assert clip_row["path"] == "face.mp4"
    assert long_row["duration_s"] == pytest.approx(1.0)
    assert str(tmp_path) not in out.read_text()


def test_too_much_memory_is_an_exit_code(quick, face_clip, capsys, monkeypatch):
    monkeypatch.setattr(preprocess, "MEMORY_BAR_BYTES", 1)
    monkeypatch.setattr(ours, "peak_memory_bytes", lambda: 2)
    assert preprocess.main([*quick, str(face_clip), "--only", "memory"]) == 1
    told = capsys.readouterr().out
    assert "| NO" in told.replace("  ", "")
    assert "## One core" not in told


def test_a_clip_that_cannot_be_read_ends_the_run_in_one_line(quick, tmp_path, capsys):
    assert preprocess.main([*quick, str(tmp_path / "none.mp4")]) == 3
    assert capsys.readouterr().err == "none.mp4: not found. Check the path.\n"


@pytest.mark.parametrize(
    "wrong",
    [
        ["--json", "no/such/folder/a.json"],
        ["--repeats", "0"],
        ["--long-size", "big"],
        ["--long-size", "321x180"],
        ["--long-s", "0"],
        ["--only", "speed", "--frames", "many"],
    ],
    ids=" ".join,
)
def test_wrong_usage(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        preprocess.main(wrong)
    assert ended.value.code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert wrong[-2].removeprefix("--") in told or "no/such/folder" in told


def test_ctrl_c_ends_a_run_without_a_traceback(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(preprocess, "measure", interrupted)
    assert preprocess.main(["--short"]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


@pytest.mark.slow
def test_the_command_in_its_short_form(tmp_path):
    out = tmp_path / "figures.json"
    done = subprocess.run(
        [
            sys.executable,
            str(BENCHMARKS / "preprocess.py"),
            *("--short", "--json", str(out), "--folder", str(tmp_path)),
            *("--long-size", "320x180", "--long-s", "8", "--frames", "4"),
        ],
        env=os.environ | {"PYTHONPATH": str(Path(deepscan.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    figures = json.loads(out.read_text())
    assert [clip["name"] for clip in figures["one_core"]["clips"]] == list(footage.SHORT_CLIPS)
    assert all(row["within_bar"] in (True, None) for row in figures["memory"])
    assert figures["memory"][1]["duration_s"] == pytest.approx(8)
    assert figures["all_cores"]["faces_ratio"] > 0


@pytest.mark.slow
def test_the_benchmark_of_predict_in_its_short_form(tmp_path):
    out = tmp_path / "figures.json"
    done = subprocess.run(
        [
            *(sys.executable, str(BENCHMARKS / "predict.py"), "--short", "--json", str(out), "--folder", str(tmp_path)),
            *("--only", "warm", "cold", "length", "image", "files", "growth"),
        ],
        env=os.environ | {"PYTHONPATH": str(Path(deepscan.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    figures = json.loads(out.read_text())
    assert [clip["name"] for clip in figures["warm"]] == list(footage.SHORT_CLIPS)
    for row in figures["warm"]:
        assert row["people"] == 1
        assert row["floor"]["operations"] > 0
        assert row["times_floor"] > 0
        assert row["ratio"] == pytest.approx(row["reference_wall_s"] / row["deepscan_wall_s"])
    assert len(figures["cold"]) == 1
    assert [(round(row["duration_s"]), row["keyframe_every_s"]) for row in figures["length"]] == [
        (4, 2.0),
        (20, 2.0),
        (4, 10.0),
        (20, 10.0),
    ]
    assert all(row["times_first"] > 0 and row["memory_times_first"] > 0 for row in figures["length"])
    assert figures["image"]["ratio"] > 1
    assert figures["files"]["times_one_core"] > 0
    assert {row["by"] for row in figures["growth"]} == {"resolution", "people", "sampled frames"}
    assert [row["people"] for row in figures["growth"] if row["by"] == "people"] == [1, 2]
