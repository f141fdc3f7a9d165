"""Speed and memory of `deepscan predict`, against the reference pipeline and against the floor, in the same run.

    python benchmarks/predict.py [CLIP...] [--short] [--json FILE]

Without clips it makes its own (`footage.py`): 10 s of 1080p, 720p, a portrait phone clip and 640x480. It prints

- warm: seconds by stage in a process that is loaded, of both pipelines, their ratio, and the ratio to the floor
  (`floor.py`: decoding, and the networks' operations at the matrix peak);
- cold: seconds of a whole process, from its start to its answer;
- growth: how both grow with length, resolution, people and sampled frames;
- memory: peak of a fresh process on ten seconds and on an hour.

The runs of the two pipelines alternate, the first of each is not counted, medians are given. Absolute figures are those
of the machine and of what else it was doing; ratios travel better.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
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
from measure import Run, Worker, count, machine, markdown, print_machine, rounds, tell, write_report
from ours import Predicted, make_detector, make_reference
from tqdm import tqdm

from deepscan.errors import DeepscanError

SCHEMA = "deepscan.benchmark.predict/1"
PARTS = ("warm", "cold", "growth", "memory")
_STAGES = ("decode", "detect", "score", "total")
_REFERENCE_STAGES = ("decode", "detect", "backbone", "lstm", "total")
_LENGTHS_S = (10.0, 60.0, 600.0, 3600.0)
_SHORT_LENGTHS_S = (4.0, 20.0)
_SEGMENT_S, _SHORT_SEGMENT_S = 20.0, 4.0
# The threads of the process that had its turn go on waiting for work for a while, which takes a core: without a rest
# the other's run was a fifth slower.
_REST_S = 1.0


def measure_warm(clips: Sequence[Clip], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Both pipelines loaded, in turn, clip by clip; then the floor of each."""
    ours, theirs = _alternate(clips, options.frames, options.repeats, options.runtime)
    rows = []
    with Worker(make_floor, options.frames) as floors:
        for clip in tqdm(clips, "floor"):
            floor: Floor = floors.run(clip.path).value
            rows.append(_warm_row(clip, ours[clip], theirs[clip], floor))
    return rows


def _alternate(
    clips: Sequence[Clip], n_frames: int, repeats: int, runtime: str
) -> tuple[dict[Clip, list[Run]], dict[Clip, list[Run]]]:
    """Counted runs of deepscan and of the reference."""
    runs: dict[str, dict[Clip, list[Run]]] = {side: {clip: [] for clip in clips} for side in ("deepscan", "reference")}
    with Worker(make_detector, n_frames, runtime) as deepscan, Worker(make_reference, n_frames) as reference:
        for sides in rounds(repeats, "warm"):
            for clip in clips:
                for side in sides:
                    time.sleep(_REST_S)
                    runs[side][clip].append((deepscan if side == "deepscan" else reference).run(clip.path))
    ours, theirs = ({clip: of_clip[1:] for clip, of_clip in of_side.items()} for of_side in runs.values())
    return ours, theirs


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
        seconds: dict[str, list[float]] = {"deepscan": [], "reference": []}
        for sides in rounds(options.cold_repeats, f"cold: {clip.name}"):
            for side in sides:
                seconds[side].append(_process_s(commands[side](clip.path)))
        ours_s, theirs_s = median(seconds["deepscan"][1:]), median(seconds["reference"][1:])
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


def measure_growth(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One thing after the other is made larger; each variant is run once warm, by both."""
    short, folder = options.short, options.folder
    base = SHORT_CLIPS["landscape"] if short else CLIPS["1080p"]
    lengths = _SHORT_LENGTHS_S if short else _LENGTHS_S
    sizes = ((320, 180), (480, 270)) if short else ((640, 360), (1280, 720), (1920, 1080), (3840, 2160))
    variants: list[tuple[str, str, Path, int]] = []
    for seconds in lengths:
        footage = long_footage(seconds, (base.width_px, base.height_px))
        path = _long(footage, folder, short=short)
        variants.append(("length", f"{seconds:g} s", path, options.frames))
    for width, height in sizes:
        path = _made(replace(base, width_px=width, height_px=height), folder)
        variants.append(("resolution", f"{width}x{height}", path, options.frames))
    for people in (1, 2) if short else (1, 2, 4):
        variants.append(("people", str(people), _made(replace(base, people=people), folder), options.frames))
    for frames in (4, 8) if short else (8, 32, 128):
        variants.append(("sampled frames", str(frames), _made(base, folder), frames))
    rows = []
    for frames in sorted({variant[3] for variant in variants}):
        with Worker(make_detector, frames, options.runtime) as deepscan, Worker(make_reference, frames) as reference:
            (clip,) = read_clips([_made(base, folder)])
            deepscan.run(clip.path)
            reference.run(clip.path)
            for by, name, path, wanted in variants:
                if wanted == frames:
                    tell(f"growth: {by}, {name}")
                    mine, other = deepscan.run(path), reference.run(path)
                    rows.append(
                        {
                            "by": by,
                            "value": name,
                            "deepscan_s": mine.wall_s,
                            "deepscan_stages_s": mine.value.timing_s,
                            "people": mine.value.people,
                            "reference_s": other.wall_s,
                            "ratio": other.wall_s / mine.wall_s,
                        }
                    )
    order = [name for name, *_ in variants]
    return sorted(rows, key=lambda row: order.index(row["by"]))


def measure_memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Peak memory of one fresh process for each length."""
    short, folder = options.short, options.folder
    base = SHORT_CLIPS["landscape"] if short else CLIPS["1080p"]
    lengths = _SHORT_LENGTHS_S if short else (_LENGTHS_S[0], _LENGTHS_S[-1])
    rows: list[dict[str, Any]] = []
    for seconds in lengths:
        (clip,) = read_clips([_long(long_footage(seconds, (base.width_px, base.height_px)), folder, short=short)])
        tell(f"memory: {seconds:g} s")
        with Worker(make_detector, options.frames, options.runtime) as deepscan:
            run = deepscan.run(clip.path)
        done: Predicted = run.value
        first = rows[0]["peak_bytes"] if rows else done.peak_bytes
        share = None if done.peak_bytes is None or not first else done.peak_bytes / first
        rows.append({**clip.to_json(), "wall_s": run.wall_s, "peak_bytes": done.peak_bytes, "times_first": share})
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
    if report["growth"]:
        print("\n## Growth: seconds, warm, one run each\n")
        rows = [
            [f"{r['by']}: {r['value']}", f"{r['deepscan_s']:.2f}", f"{r['reference_s']:.2f}", f"{r['ratio']:.1f}"]
            for r in report["growth"]
        ]
        print(markdown(["", "deepscan", "reference", "ratio"], rows))
    if report["memory"]:
        print("\n## Memory: peak of one fresh process\n")
        rows = [
            [
                f"{r['duration_s']:.0f} s, {r['width_px']}x{r['height_px']}",
                "not known" if r["peak_bytes"] is None else f"{r['peak_bytes'] / 1e6:.0f}",
                "-" if r["times_first"] is None else f"{r['times_first']:.2f}",
                f"{r['wall_s']:.1f}",
            ]
            for r in report["memory"]
        ]
        print(markdown(["video", "peak, MB", "times the shortest", "seconds"], rows))


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
    wanted = [options.only] if options.only else PARTS
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "frames": options.frames,
        "repeats": options.repeats,
        "runtime": options.runtime,
        "short": options.short,
        "warm": measure_warm(clips, options) if "warm" in wanted else [],
        "cold": measure_cold(clips[:1] if options.short else clips, options) if "cold" in wanted else [],
        "growth": measure_growth(options) if "growth" in wanted else [],
        "memory": measure_memory(options) if "memory" in wanted else [],
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
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    parser.add_argument("--runtime", choices=("auto", "torch", "openvino"), default="auto", help="(%(default)s)")
    parser.add_argument("--frames", type=count, help="frames of each video (32, with --short 4)")
    parser.add_argument("--repeats", type=count, help="warm runs that are counted (5, with --short 1)")
    parser.add_argument("--cold-repeats", type=count, help="cold runs that are counted (3, with --short 1)")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="where made clips are kept (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    options = parser.parse_args(arguments)
    options.frames = options.frames or (4 if options.short else 32)
    options.repeats = options.repeats or (1 if options.short else 5)
    options.cold_repeats = options.cold_repeats or (1 if options.short else 3)
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"there is no folder for {options.json}")
    return options


if __name__ == "__main__":
    sys.exit(main())
