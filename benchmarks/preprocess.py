"""Speed and memory of preprocessing, against the reference pipeline on the same videos in the same run.

    python benchmarks/preprocess.py [CLIP...] [--short] [--json FILE]

Without clips it makes its own (`footage.py`). It prints

- one core: seconds a video of one worker process that has one core, and of the reference pipeline on the same core;
- all cores: videos a second of `deepscan preprocess` with a job for each core, and of one process of the reference
  pipeline as it is, which takes all cores too;
- memory: peak of one fresh worker process, on a clip and on an hour of 1080p; exit code 1 above 1 GB.

Both sides sample the same number of frames. The runs alternate, the first of each is not counted, medians are given.
Absolute figures are those of the machine and of what else it was doing; ratios travel better.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from footage import Clip, Footage, clips_for, default_folder, long_footage, make_long_video, read_clips
from measure import (
    Run,
    Worker,
    can_pin,
    count,
    last_core,
    machine,
    markdown,
    print_machine,
    rounds,
    tell,
    timed,
    write_report,
)
from ours import Job, make_ours, make_reference, preprocess_clip
from tqdm import tqdm

from deepscan.errors import DeepscanError
from deepscan.processes import Lost, create_engine
from deepscan.processes.guard import available_cores, threads_per_worker

SCHEMA = "deepscan.benchmark.preprocess/1"
MEMORY_BAR_BYTES = 1_000_000_000
_SHORT_SEGMENT_S = 4.0
_BUSY = 0.9  # processor time a second of wall time below which a process did not get its core


@dataclass(frozen=True, slots=True)
class Seconds:
    """Medians for one video, or their sum over several, wall and processor time.

    Attributes:
        deepscan: all of preprocessing: hash, decode, find faces, track, crop, write.
        reference_faces: the reference's decode and detect stages, which end with crops in memory.
        reference: the whole reference pipeline, networks included.
    """

    deepscan: float
    reference_faces: float
    reference: float

    @property
    def faces_ratio(self) -> float:
        return self.reference_faces / self.deepscan

    @property
    def whole_ratio(self) -> float:
        return self.reference / self.deepscan

    def to_json(self) -> dict[str, float]:
        return {**asdict(self), "faces_ratio": self.faces_ratio, "whole_ratio": self.whole_ratio}


def medians(ours: Sequence[Run], theirs: Sequence[Run]) -> tuple[Seconds, Seconds]:
    """Wall and processor seconds of one video."""
    results = [run.value for run in theirs]
    wall = Seconds(
        median(run.wall_s for run in ours),
        median(r.timing_s["decode"] + r.timing_s["detect"] for r in results),
        median(r.timing_s["total"] for r in results),
    )
    cpu = Seconds(
        median(run.cpu_s for run in ours),
        median(r.cpu_s["decode"] + r.cpu_s["detect"] for r in results),
        median(r.cpu_s["total"] for r in results),
    )
    return wall, cpu


def total(parts: Sequence[Seconds]) -> Seconds:
    """The sum over several videos."""
    return Seconds(
        sum(p.deepscan for p in parts), sum(p.reference_faces for p in parts), sum(p.reference for p in parts)
    )


def measure_one_core(clips: Sequence[Clip], n_frames: int, repeats: int) -> dict[str, Any]:
    """Both sides on one and the same core, in turn, video by video."""
    core = last_core()
    runs: dict[str, dict[Clip, list[Run]]] = {side: {clip: [] for clip in clips} for side in ("deepscan", "reference")}
    with (
        Worker(make_ours, core=core, threads=1) as deepscan,
        Worker(make_reference, n_frames, core=core, threads=1) as reference,
    ):
        for sides in rounds(repeats, "one core"):
            for clip in clips:
                for side in sides:
                    run = deepscan.run(Job(clip.path, n_frames)) if side == "deepscan" else reference.run(clip.path)
                    runs[side][clip].append(run)
    ours, theirs = runs["deepscan"], runs["reference"]
    rows, walls, cpus = [], [], []
    for clip in clips:
        wall, cpu = medians(ours[clip][1:], theirs[clip][1:])
        walls.append(wall)
        cpus.append(cpu)
        rows.append(
            {
                **clip.to_json(),
                "people": ours[clip][-1].value.people,
                "reference_detections": theirs[clip][-1].value.n_faces,
                "wall_s": wall.to_json(),
                "cpu_s": cpu.to_json(),
                "deepscan_runs_wall_s": [run.wall_s for run in ours[clip][1:]],
                "deepscan_runs_cpu_s": [run.cpu_s for run in ours[clip][1:]],
                "reference_runs": [
                    {"wall_s": run.value.timing_s, "cpu_s": run.value.cpu_s} for run in theirs[clip][1:]
                ],
            }
        )
    wall, cpu = total(walls), total(cpus)
    return {
        "pinned": can_pin(),
        "clips": rows,
        "wall_s": wall.to_json(),
        "cpu_s": cpu.to_json(),
        "videos_per_s_per_core": len(clips) / wall.deepscan,
        "videos_per_cpu_s": len(clips) / cpu.deepscan,
        "share_of_core": cpu.deepscan / wall.deepscan,
    }


def measure_all_cores(clips: Sequence[Clip], n_frames: int, repeats: int, jobs: int) -> dict[str, Any]:
    """The product's own engine with ``jobs`` workers, and one process of the reference, in turn."""
    # Longest first, so that no worker is left with a long video while the others have nothing to do.
    order = sorted(clips, key=lambda clip: clip.width_px * clip.height_px, reverse=True)
    tasks = [Job(clip.path, n_frames) for clip in order for _ in range(jobs)]
    ours: list[float] = []
    theirs: list[list[Run]] = []
    with create_engine("local", jobs=jobs) as engine, Worker(make_reference, n_frames) as reference:

        def run_engine(jobs_to_do: list[Job]) -> None:
            for job, done in engine.map(preprocess_clip, jobs_to_do):
                if isinstance(done, Lost):
                    raise DeepscanError(f"{job.clip.name}: cannot be preprocessed", done.message)

        for sides in rounds(repeats, f"all cores, {jobs} jobs"):
            for side in sides:
                if side == "deepscan":
                    ours.append(timed(run_engine, tasks).wall_s)
                else:
                    theirs.append([reference.run(clip.path) for clip in clips])
    wall_s = median(ours[1:])
    faces_s = median(sum(r.value.timing_s["decode"] + r.value.timing_s["detect"] for r in runs) for runs in theirs[1:])
    whole_s = median(sum(r.value.timing_s["total"] for r in runs) for runs in theirs[1:])
    return _throughput(len(tasks) / wall_s, len(clips) / faces_s, len(clips) / whole_s, jobs)


def _throughput(deepscan: float, faces: float, whole: float, jobs: int) -> dict[str, Any]:
    return {
        "jobs": jobs,
        "threads_per_worker": threads_per_worker(jobs),
        "deepscan_videos_per_s": deepscan,
        "deepscan_videos_per_s_per_core": deepscan / min(jobs, available_cores()),
        "reference_faces_videos_per_s": faces,
        "reference_videos_per_s": whole,
        "faces_ratio": deepscan / faces,
        "whole_ratio": deepscan / whole,
    }


def measure_memory(clips: Sequence[Clip], n_frames: int, jobs: int) -> list[dict[str, Any]]:
    """Peak memory of one worker process for each video, a fresh one each time."""
    rows = []
    for clip in tqdm(clips, "memory"):
        with create_engine("local", jobs=jobs) as engine:
            for _, done in engine.map(preprocess_clip, [Job(clip.path, n_frames)]):
                if isinstance(done, Lost):
                    raise DeepscanError(f"{clip.name}: cannot be preprocessed", done.message)
                rows.append(
                    {
                        **clip.to_json(),
                        "file_bytes": clip.path.stat().st_size,
                        "people": done.people,
                        "loaded_bytes": done.loaded_bytes,
                        "peak_bytes": done.peak_bytes,
                        "wall_s": done.wall_s,
                        "within_bar": None if done.peak_bytes is None else done.peak_bytes < MEMORY_BAR_BYTES,
                    }
                )
    return rows


def print_report(report: dict[str, Any]) -> None:
    """Print the figures as Markdown."""
    print_machine(report)
    if report["one_core"]:
        _print_one_core(report["one_core"])
    if report["all_cores"]:
        _print_all_cores(report["all_cores"])
    if report["memory"]:
        print("\n## Memory: peak of one fresh worker process\n")
        rows = [
            [
                f"{row['name']}, {row['width_px']}x{row['height_px']}, {row['duration_s']:.0f} s",
                _megabytes(row["file_bytes"]),
                _megabytes(row["loaded_bytes"]),
                _megabytes(row["peak_bytes"]),
                {True: "yes", False: "NO", None: "not known"}[row["within_bar"]],
                f"{row['wall_s']:.1f}",
            ]
            for row in report["memory"]
        ]
        print(markdown(["video", "file, MB", "loaded, MB", "peak, MB", "under 1 GB", "seconds"], rows))
        print("\nLoaded: Python, libraries and networks before the video is opened.")


def _print_one_core(figures: dict[str, Any]) -> None:
    where = "pinned to one core" if figures["pinned"] else "with one thread (this system cannot pin a process)"
    print(f"\n## One core: one worker process {where}\n")
    for title, key in (("wall seconds", "wall_s"), ("processor seconds", "cpu_s")):
        headers = [title, "deepscan", "reference, faces", "reference, whole", "ratio, faces", "ratio, whole"]
        named = [*((row["name"], row[key]) for row in figures["clips"]), ("all", figures[key])]
        print(markdown(headers, [[name, *_cells(seconds)] for name, seconds in named]) + "\n")
    print(f"deepscan: {figures['videos_per_s_per_core']:.3f} videos/s per core by the clock,")
    print(f"{figures['videos_per_cpu_s']:.3f} by processor time.")
    print("Reference, faces: decode and detect, which end with crops as preprocessing does. Whole: its networks too.")
    if figures["pinned"] and figures["share_of_core"] < _BUSY:
        share = f"{figures['share_of_core']:.0%}"
        print(f"The machine was busy: the process got {share} of its core. Go by processor seconds, or measure again.")


def _print_all_cores(figures: dict[str, Any]) -> None:
    print(f"\n## All cores: {figures['jobs']} jobs with {figures['threads_per_worker']} threads each\n")
    rows = [
        ["deepscan preprocess", f"{figures['deepscan_videos_per_s']:.3f}", ""],
        [
            "reference, faces (one process)",
            f"{figures['reference_faces_videos_per_s']:.3f}",
            f"{figures['faces_ratio']:.1f}",
        ],
        ["reference, whole (one process)", f"{figures['reference_videos_per_s']:.3f}", f"{figures['whole_ratio']:.1f}"],
    ]
    print(markdown(["pipeline", "videos/s", "deepscan is faster by"], rows))
    print(f"\ndeepscan: {figures['deepscan_videos_per_s_per_core']:.3f} videos/s per core.")


def _cells(seconds: dict[str, float]) -> list[str]:
    times = [f"{seconds[name]:.2f}" for name in ("deepscan", "reference_faces", "reference")]
    return [*times, f"{seconds['faces_ratio']:.1f}", f"{seconds['whole_ratio']:.1f}"]


def _megabytes(size: int | None) -> str:
    return "not known" if size is None else f"{size / 1e6:.0f}"


def long_video(folder: Path, footage: Footage, *, short: bool) -> Clip:
    """The long video whose memory is measured."""
    tell(f"long video: {footage.name}")
    path = make_long_video(footage, folder, _SHORT_SEGMENT_S) if short else make_long_video(footage, folder)
    (clip,) = read_clips([path])
    return replace(clip, name="long")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for."""
    clips = clips_for(options.clips, options.folder, short=options.short)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": machine(),
        "frames": options.frames,
        "repeats": options.repeats,
        "short": options.short,
        "one_core": None,
        "all_cores": None,
        "memory": None,
    }
    if options.only != "speed":
        largest = max(clips, key=lambda clip: clip.width_px * clip.height_px)
        long = [long_video(options.folder, options.long, short=options.short)]
        report["memory"] = measure_memory([largest, *long], options.frames, options.jobs)
    if options.only != "memory":
        report["one_core"] = measure_one_core(clips, options.frames, options.repeats)
        report["all_cores"] = measure_all_cores(clips, options.frames, options.repeats, options.jobs)
    return report


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write the JSON if asked to.

    Returns:
        0; 1 if preprocessing took more memory than it may; 3 if something could not be read or written; 130 on Ctrl-C.
    """
    options = _parse(arguments)
    report = write_report(lambda: measure(options), print_report, options.json)
    if isinstance(report, int):
        return report
    return 1 if any(row["within_bar"] is False for row in report["memory"] or []) else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed and memory of preprocessing against the reference pipeline.")
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP", help="videos; the benchmark's own without any")
    parser.add_argument("--short", action="store_true", help="tiny clips, one run, a long video of two minutes")
    parser.add_argument("--only", choices=("speed", "memory"), help="one part of it")
    parser.add_argument("--frames", type=count, default=32, help="frames of each video (%(default)s)")
    parser.add_argument("--repeats", type=count, help="runs that are counted (5, with --short 1)")
    parser.add_argument("--jobs", type=count, default=available_cores(), help="worker processes (%(default)s)")
    parser.add_argument("--long-s", type=float, help="length of the long video in seconds (3600, with --short 120)")
    parser.add_argument("--long-size", type=_size, default=(1920, 1080), metavar="WxH", help="its size (1920x1080)")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="where made clips are kept (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    options = parser.parse_args(arguments)
    options.repeats = options.repeats or (1 if options.short else 5)
    if options.long_s is None:
        options.long_s = 120.0 if options.short else 3600.0
    try:
        options.long = long_footage(options.long_s, options.long_size)
    except ValueError as error:
        parser.error(f"--long-s or --long-size: {error}")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"there is no folder for {options.json}")
    return options


def _size(text: str) -> tuple[int, int]:
    width, height = (int(part) for part in text.split("x"))
    return width, height


if __name__ == "__main__":
    sys.exit(main())
