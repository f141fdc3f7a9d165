"""Speed and memory of `deepscan predict`, against the reference pipeline and against the floor, in the same run.

    python benchmarks/predict.py [CLIP...] [--only PART...] [--short] [--json FILE]

Without clips it makes its own (`footage.py`): 10 s of 1080p, 720p, a portrait phone clip and 640x480. It prints

- warm: seconds by stage in a process that is loaded, of both pipelines, their ratio, and the ratio to the floor
  (`floor.py`: decoding what has to be decoded, and the networks' operations at the matrix peak);
- cold: seconds of a whole process, from its start to its answer;
- length: seconds and peak memory of videos up to an hour, with a keyframe every 2 s and every 10 s, against 10 s;
- image: a whole process for one picture, against one that only imports OpenVINO, OpenCV and PyAV;
- files: files a second with `--jobs 2`, against a loaded process that has one core;
- growth (only where it is asked for): how deepscan grows with resolution, people and sampled frames.

The runs of the two pipelines alternate, the first of each is not counted, medians are given. The reference takes most
of the time and varies little: it has fewer runs. Absolute figures are those of the machine and of what else it was
doing; ratios travel better.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from floor import Floor, make_floor
from footage import (
    CLIPS,
    SHORT_CLIPS,
    Clip,
    Footage,
    clips_for,
    default_folder,
    long_footage,
    make_clip,
    make_long_video,
    read_clips,
)
from measure import Run, Worker, count, last_core, machine, markdown, print_machine, tell, write_report
from ours import Predicted, make_detector, make_reference
from PIL import Image
from tqdm import tqdm

from deepscan.errors import DeepscanError
from deepscan.extract.video.frames import sample_frames

SCHEMA = "deepscan.benchmark.predict/2"
USUAL_PARTS = ("warm", "cold", "length", "image", "files")
PARTS = (*USUAL_PARTS, "growth")
_STAGES = ("decode", "detect", "score", "total")
_REFERENCE_STAGES = ("decode", "detect", "backbone", "lstm", "total")
_LENGTHS_S = (10.0, 60.0, 600.0, 3600.0)
_SHORT_LENGTHS_S = (4.0, 20.0)
_SEGMENT_S, _SHORT_SEGMENT_S = 20.0, 4.0
_KEYFRAMES_EVERY_S = (2.0, 10.0)
# Files that are judged in two runs: what one takes longer is without the start.
_FEW_FILES, _MANY_FILES, _JOBS = 8, 60, 2
_LEAST_IMPORTS = "import openvino, cv2, av"
# The threads of the process that had its turn go on waiting for work for a while, which takes a core: without a rest
# the other's run was a fifth slower.
_REST_S = 1.0


def measure_warm(clips: Sequence[Clip], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Both pipelines loaded, in turn, clip by clip; then the floor of each."""
    ours, theirs = _alternate(clips, options)
    rows = []
    with Worker(make_floor, options.frames) as floors:
        for clip in tqdm(clips, "floor"):
            floor: Floor = floors.run(clip.path).value
            rows.append(_warm_row(clip, ours[clip], theirs[clip], floor))
    return rows


def _alternate(
    clips: Sequence[Clip], options: argparse.Namespace
) -> tuple[dict[Clip, list[Run]], dict[Clip, list[Run]]]:
    """Counted runs of deepscan and of the reference."""
    ours, theirs = (dict[Clip, list[Run]]((clip, []) for clip in clips) for _ in range(2))
    with (
        Worker(make_detector, options.frames, options.runtime) as deepscan,
        Worker(make_reference, options.frames) as reference,
    ):
        reference.run(min(clips, key=lambda clip: clip.width_px * clip.height_px).path)
        for index in tqdm(range(options.repeats + 1), "warm"):
            for clip in clips:
                time.sleep(_REST_S)
                ours[clip].append(deepscan.run(clip.path))
                if index < options.reference_repeats:
                    time.sleep(_REST_S)
                    theirs[clip].append(reference.run(clip.path))
    return {clip: runs[1:] for clip, runs in ours.items()}, theirs


def _warm_row(clip: Clip, ours: Sequence[Run], theirs: Sequence[Run], floor: Floor) -> dict[str, Any]:
    mine, other = median(run.wall_s for run in ours), median(run.wall_s for run in theirs)
    return {
        **clip.to_json(),
        "people": ours[-1].value.people,
        "deepscan_s": {stage: median(run.value.timing_s[stage] for run in ours) for stage in _STAGES},
        "reference_s": {stage: median(run.value.timing_s[stage] for run in theirs) for stage in _REFERENCE_STAGES},
        "deepscan_wall_s": mine,
        "reference_wall_s": other,
        "runs_wall_s": [run.wall_s for run in ours],
        "reference_runs_wall_s": [run.wall_s for run in theirs],
        "ratio": other / mine,
        "floor": {**asdict(floor), "seconds": floor.seconds},
        "times_floor": mine / floor.seconds,
    }


def measure_cold(clips: Sequence[Clip], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Whole processes: the command that a user types, and the reference's script."""
    frames = ["--frames", str(options.frames)]
    reference = Path(__file__).with_name("reference.py")
    commands: dict[str, Callable[[Path], list[str]]] = {
        "deepscan": lambda clip: [
            *(sys.executable, "-m", "deepscan", "--quiet", "predict", str(clip), "--json", "-"),
            *("--runtime", options.runtime, *frames),
        ],
        "reference": lambda clip: [sys.executable, str(reference), str(clip), *frames],
    }
    rows = []
    for clip in clips:
        tell(f"cold: {clip.name}")
        _process_s(commands["deepscan"](clip.path))
        ours_s = median(_process_s(commands["deepscan"](clip.path)) for _ in range(options.repeats))
        theirs_s = median(_process_s(commands["reference"](clip.path)) for _ in range(options.cold_repeats))
        rows.append({**clip.to_json(), "deepscan_s": ours_s, "reference_s": theirs_s, "ratio": theirs_s / ours_s})
    return rows


def _process_s(command: list[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own commands
    seconds = time.perf_counter() - start
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        why = lines[-1] if lines else f"exit code {done.returncode}"
        raise DeepscanError(f"{command[-3]}: cannot be measured", why, "Run the command by itself.")
    return seconds


def measure_length(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Videos of all lengths, each in a fresh process: seconds once it is warm, and its peak memory."""
    base = SHORT_CLIPS["landscape"] if options.short else CLIPS["1080p"]
    lengths = _SHORT_LENGTHS_S if options.short else _LENGTHS_S
    rows: list[dict[str, Any]] = []
    for every_s in _KEYFRAMES_EVERY_S:
        first: dict[str, Any] = {}
        for seconds in lengths:
            footage = long_footage(seconds, (base.width_px, base.height_px), round(every_s * base.fps))
            (clip,) = read_clips([_long(footage, options.folder, short=options.short)])
            tell(f"length: {seconds:g} s, a keyframe every {every_s:g} s")
            with Worker(make_detector, options.frames, options.runtime) as deepscan:
                runs = [deepscan.run(clip.path) for _ in range(options.repeats + 1)]
            row = {
                **clip.to_json(),
                "keyframe_every_s": every_s,
                "wall_s": median(run.wall_s for run in runs[1:]),
                "stages_s": runs[-1].value.timing_s,
                "peak_bytes": runs[-1].value.peak_bytes,
            }
            first = first or row
            row["times_first"] = row["wall_s"] / first["wall_s"]
            row["memory_times_first"] = row["peak_bytes"] / first["peak_bytes"] if first["peak_bytes"] else None
            rows.append(row)
    return rows


def measure_image(clip: Clip, options: argparse.Namespace) -> dict[str, Any]:
    """A whole process for the first frame of a clip, and one that imports the least that it needs."""
    path = options.folder / f"{clip.path.stem}.png"
    Image.fromarray(next(sample_frames(clip.path, 1)).image).save(path)
    seconds: dict[str, list[float]] = {"deepscan": [], "imports": []}
    commands = {
        "deepscan": [sys.executable, "-m", "deepscan", "--quiet", "predict", str(path), "--json", "-"],
        "imports": [sys.executable, "-c", _LEAST_IMPORTS],
    }
    for _ in range(options.repeats + 1):
        for side, command in commands.items():
            seconds[side].append(_process_s(command))
    ours_s, least_s = (median(seconds[side][1:]) for side in ("deepscan", "imports"))
    return {"deepscan_s": ours_s, "imports_s": least_s, "ratio": ours_s / least_s}


def measure_files(clip: Clip, options: argparse.Namespace) -> dict[str, Any]:
    """Copies of a clip, judged by two processes, against one loaded process: with one core, and with all."""
    counts = (2, 6) if options.short else (_FEW_FILES, _MANY_FILES)
    seconds = []
    with tempfile.TemporaryDirectory(prefix="deepscan-") as name:
        folder = Path(name)
        for n in counts:
            tell(f"files: {n}")
            for i in range(n):
                shutil.copy(clip.path, folder / f"{i}{clip.path.suffix}")
            out = folder / f"{n}.jsonl"
            words = ["-m", "deepscan", "--quiet", "predict", name, "--jsonl", str(out), "--jobs", str(_JOBS)]
            seconds.append(_process_s([sys.executable, *words, "--frames", str(options.frames)]))
    single_s = {}
    for side, core in (("one_core", last_core()), ("all_cores", None)):
        with Worker(make_detector, options.frames, options.runtime, core=core) as deepscan:
            runs = [deepscan.run(clip.path) for _ in range(options.repeats + 1)]
        single_s[side] = median(run.wall_s for run in runs[1:])
    rate = (counts[1] - counts[0]) / (seconds[1] - seconds[0])
    return {
        **clip.to_json(),
        "files": counts[1],
        "jobs": _JOBS,
        "files_per_s": rate,
        **{f"{side}_s": value for side, value in single_s.items()},
        "times_one_core": rate * single_s["one_core"] / _JOBS,
        "times_all_cores": rate * single_s["all_cores"] / _JOBS,
    }


def measure_growth(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One thing after the other is made larger; the median of warm runs."""
    short, folder = options.short, options.folder
    base = SHORT_CLIPS["landscape"] if short else CLIPS["1080p"]
    sizes = ((320, 180), (480, 270)) if short else ((640, 360), (1280, 720), (1920, 1080), (3840, 2160))
    variants: list[tuple[str, str, Footage, int]] = [
        *(("resolution", f"{w}x{h}", replace(base, width_px=w, height_px=h), options.frames) for w, h in sizes),
        *(("people", str(n), replace(base, people=n), options.frames) for n in ((1, 2) if short else (1, 2, 4))),
        *(("sampled frames", str(n), base, n) for n in ((4, 8) if short else (8, 32, 128))),
    ]
    rows = []
    for by, name, footage, frames in variants:
        path = _made(footage, folder)
        tell(f"growth: {by}, {name}")
        with Worker(make_detector, frames, options.runtime) as deepscan:
            runs = [deepscan.run(path) for _ in range(options.repeats + 1)]
        value: Predicted = runs[-1].value
        wall_s = median(run.wall_s for run in runs[1:])
        rows.append({"by": by, "value": name, "deepscan_s": wall_s, "people": value.people})
    return rows


def print_report(report: dict[str, Any]) -> None:
    """Print the figures as Markdown."""
    print_machine(report)
    print(f"{report['runtime']} runtime")
    if report["warm"]:
        _print_warm(report["warm"])
    if report["cold"]:
        print("\n## Cold: a whole process, seconds\n")
        rows = [
            [r["name"], f"{r['deepscan_s']:.2f}", f"{r['reference_s']:.2f}", f"{r['ratio']:.1f}"]
            for r in report["cold"]
        ]
        print(markdown(["clip", "deepscan", "reference", "ratio"], rows))
    if report["length"]:
        print("\n## Length: seconds, warm, and peak memory of the process and its decoder\n")
        rows = [
            [
                f"{r['duration_s']:.0f} s, a keyframe every {r['keyframe_every_s']:g} s",
                f"{r['wall_s']:.2f}",
                f"{r['times_first']:.2f}",
                "not known" if r["peak_bytes"] is None else f"{r['peak_bytes'] / 1e6:.0f}",
                "-" if r["memory_times_first"] is None else f"{r['memory_times_first']:.2f}",
            ]
            for r in report["length"]
        ]
        print(markdown(["video", "seconds", "times the shortest", "peak, MB", "times the shortest"], rows))
    if report["image"]:
        r = report["image"]
        print(f"\n## Image: a whole process, seconds\n\n`{_LEAST_IMPORTS}`: {r['imports_s']:.2f}", end="; ")
        print(f"predict: {r['deepscan_s']:.2f}, {r['ratio']:.1f} times as long")
    if report["files"]:
        r = report["files"]
        print(f"\n## Files: {r['files']} of {r['width_px']}x{r['height_px']} with --jobs {r['jobs']}, files a second\n")
        rows = [
            [name, f"{r['jobs'] / r[f'{side}_s']:.2f}", f"{r[f'times_{side}']:.2f}"]
            for name, side in (("one core each", "one_core"), ("all cores each", "all_cores"))
        ]
        rows = [["measured", f"{r['files_per_s']:.2f}", "1.00"], *rows]
        print(markdown(["", "files a second", "measured to this"], rows))
    if report["growth"]:
        print("\n## Growth: seconds, warm\n")
        print(
            markdown(
                ["", "deepscan"], [[f"{r['by']}: {r['value']}", f"{r['deepscan_s']:.2f}"] for r in report["growth"]]
            )
        )


def _print_warm(rows: Sequence[dict[str, Any]]) -> None:
    print("\n## Warm: seconds of a clip in a loaded process\n")
    table = [
        [
            row["name"],
            f"{row['deepscan_wall_s']:.2f}",
            f"{row['reference_wall_s']:.2f}",
            f"{row['ratio']:.1f}",
            f"{row['floor']['seconds']:.2f}",
            f"{row['times_floor']:.2f}",
        ]
        for row in rows
    ]
    print(markdown(["clip", "deepscan", "reference", "ratio", "floor", "times the floor"], table))
    print("\n### By stage\n")
    table = [
        [
            row["name"],
            *(f"{row['deepscan_s'][stage]:.2f}" for stage in _STAGES),
            *(f"{row['reference_s'][stage]:.2f}" for stage in _REFERENCE_STAGES),
        ]
        for row in rows
    ]
    print(markdown(["clip", *_STAGES, *(f"ref. {stage}" for stage in _REFERENCE_STAGES)], table))
    print("\nStages of deepscan overlap: they may sum to more than the total.\n\n### The floor\n")
    table = [
        [
            row["name"],
            f"{row['floor']['decode_s']:.2f}",
            f"{row['floor']['operations'] / 1e9:.1f}",
            f"{row['floor']['peak_per_s'] / 1e9:.0f}",
            f"{row['floor']['seconds']:.2f}",
        ]
        for row in rows
    ]
    print(markdown(["clip", "decoding, s", "networks, GFLOP", "peak, GFLOP/s", "floor, s"], table))


def _made(footage: Footage, folder: Path) -> Path:
    tell(f"clip: {footage.name}")
    return make_clip(footage, folder)


def _long(footage: Footage, folder: Path, *, short: bool) -> Path:
    tell(f"clip: {footage.name}")
    return make_long_video(footage, folder, _SHORT_SEGMENT_S if short else _SEGMENT_S)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for."""
    clips = clips_for(options.clips, options.folder, short=options.short)
    smallest = min(clips, key=lambda clip: clip.width_px * clip.height_px)
    parts: dict[str, Callable[[], Any]] = {
        "warm": lambda: measure_warm(clips, options),
        "cold": lambda: measure_cold(clips[:1] if options.short else clips, options),
        "length": lambda: measure_length(options),
        "image": lambda: measure_image(smallest, options),
        "files": lambda: measure_files(smallest, options),
        "growth": lambda: measure_growth(options),
    }
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "frames": options.frames,
        "repeats": options.repeats,
        "runtime": options.runtime,
        "short": options.short,
        **{name: measure_part() if name in options.only else [] for name, measure_part in parts.items()},
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write the JSON if asked to.

    Returns:
        0; 3 if something could not be read or written; 130 on Ctrl-C.
    """
    options = _parse(arguments)
    report = write_report(lambda: measure(options), print_report, options.json)
    return report if isinstance(report, int) else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed and memory of predict against the reference and the floor.")
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP", help="videos; the benchmark's own without any")
    parser.add_argument("--short", action="store_true", help="tiny clips, one run each")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=USUAL_PARTS, help="parts of it")
    parser.add_argument("--runtime", choices=("auto", "torch", "openvino"), default="auto", help="(%(default)s)")
    parser.add_argument("--frames", type=count, help="frames of each video (32, with --short 4)")
    parser.add_argument("--repeats", type=count, help="runs of deepscan that are counted (5, with --short 1)")
    parser.add_argument("--reference-repeats", type=count, default=1, help="warm runs of the reference (%(default)s)")
    parser.add_argument("--cold-repeats", type=count, default=1, help="cold runs of the reference (%(default)s)")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="where made clips are kept (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    options = parser.parse_args(arguments)
    options.frames = options.frames or (4 if options.short else 32)
    options.repeats = options.repeats or (1 if options.short else 5)
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"there is no folder for {options.json}")
    return options


if __name__ == "__main__":
    sys.exit(main())
