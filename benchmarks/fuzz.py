"""Damaged files through the whole prediction: does any of them end it?

    python benchmarks/fuzz.py [--n 2000] [--seed 0] [--json FILE] [--keep FOLDER]
    python benchmarks/fuzz.py --cost CLIP... [--repeats 7]

The first makes small files of every container (tests/helpers/hostile.py), damages them in `--n` ways (bit flips,
truncation, lengths that lie, parts moved about) and judges them all in one process with `Detector.predict_many`. The
bar:

- this process lives and raises nothing;
- every file has a row, in order, with a message of one line where it is an error;
- no row is a defect of deepscan (reason `internal`), and nothing looks like a traceback;
- no file takes longer than the limit of the process that decodes, and a bit.

It prints how many rows have which verdict and reason, the slowest file and how often that process was replaced; the
exit code is 1 where the bar is missed. The same `--n` and `--seed` damage the same bytes. `--keep` keeps the files that
miss it, or that crash the decoder.

The second says what decoding in another process costs: seconds for 32 frames with it and without, in turn, medians.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import hostile
from tqdm import tqdm

from deepscan.config import PredictSettings
from deepscan.detector import Detector, load_detector
from deepscan.errors import DeepscanError
from deepscan.extract.isolation.client import (
    DEFAULT_ISOLATION,
    IsolationLimits,
    decoders,
    probe,
    sample_frames,
)
from deepscan.files import write_atomically
from deepscan.types import Result, VerdictLabel

SCHEMA = "deepscan.benchmark.fuzz/1"
STALL_S = 10.0
# Search, scoring and the start of another process come on top of what the limit is on.
_BESIDES_S = 20.0
_PART = 100  # files that lie on the disk at a time
_FRAMES = 4
_COST_FRAMES = 32
_CRASHES = ("decoder_crashed", "timeout", "out_of_memory")


@dataclass
class Fuzzed:
    """What came of the damaged files.

    Attributes:
        n: files.
        n_rows: results.
        counts: of the results, by verdict and reason.
        failures: what misses the bar, a line each.
        crashes: names of the files that cost the process that decodes, and the reason.
        slowest: name of the file that took longest, and its seconds.
        processes: that decoded, one after the other.
        seconds: in all.
    """

    n: int
    n_rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    crashes: list[tuple[str, str]] = field(default_factory=list)
    slowest: tuple[str, float] = ("", 0.0)
    processes: int = 0
    seconds: float = 0.0


def fuzz(n: int, seed: int, detector: Detector | None = None, keep: Path | None = None) -> Fuzzed:
    """Judge ``n`` damaged files in one process.

    Args:
        n: number of files.
        seed: of the damage.
        detector: None for the default one with few frames and short limits.
        keep: folder for the files that miss the bar or crash the decoder.
    """
    before, start = decoders.n_started, time.perf_counter()
    if detector is None:
        settings = PredictSettings(frames=_FRAMES, tta=False)
        detector = load_detector(settings=settings, isolation=IsolationLimits(stall_s=STALL_S))
    done = Fuzzed(n)
    mutants = hostile.mutated(hostile.seeds(), n, seed)
    with _captured_log() as log, tqdm(total=n, unit="file") as bar:
        for part in iter(lambda: list(islice(mutants, _PART)), []):
            with tempfile.TemporaryDirectory(prefix="deepscan-fuzz-") as folder:
                _judge(part, Path(folder), detector, done, keep)
            bar.update(len(part))
    if "Traceback" in log.getvalue():
        done.failures.append("a traceback was logged")
    done.processes = decoders.n_started - before
    done.seconds = time.perf_counter() - start
    return done


def _judge(part: Sequence[hostile.Mutant], folder: Path, detector: Detector, done: Fuzzed, keep: Path | None) -> None:
    """Judge some files and note what came of them."""
    paths = [folder / mutant.name for mutant in part]
    for path, mutant in zip(paths, part, strict=True):
        path.write_bytes(mutant.data)
    results: list[Result] = []
    before = time.perf_counter()
    try:
        for result in detector.predict_many(paths):
            seconds = result.timing_s.get("total", time.perf_counter() - before)
            before = time.perf_counter()
            results.append(result)
            if seconds > done.slowest[1]:
                done.slowest = (Path(result.path).name, seconds)
    except Exception as error:  # noqa: BLE001 - it is what is looked for
        done.failures.append(f"after {Path(results[-1].path).name if results else 'the start'}: {error!r}")
    done.n_rows += len(results)
    if [Path(result.path) for result in results] != paths:
        done.failures.append(f"{len(results)} rows for {len(paths)} files, or in another order")
    for result in results:
        name = Path(result.path).name
        done.counts[f"{result.verdict.value} {result.reason or ''}".strip()] += 1
        wrong = _wrong(result)
        if wrong:
            done.failures.append(f"{name}: {wrong}")
        if result.reason in _CRASHES:
            done.crashes.append((name, f"{result.reason}: {result.message}"))
        if keep is not None and (wrong or result.reason in _CRASHES):
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(result.path, keep / name)


def _wrong(result: Result) -> str | None:
    """Why a row misses the bar."""
    message = result.message or ""
    if result.verdict is VerdictLabel.ERROR and (not message or not result.reason):
        return "an error without a reason"
    if result.reason == "internal":
        return message
    if "\n" in message or "Traceback" in message:
        return f"no line: {message!r}"
    if result.timing_s.get("total", 0.0) > STALL_S + _BESIDES_S:
        return f"took {result.timing_s['total']:.1f} s"
    return None


@contextlib.contextmanager
def _captured_log() -> Iterator[io.StringIO]:
    """What is logged goes there and not to stderr."""
    stream = io.StringIO()
    handler, logger = logging.StreamHandler(stream), logging.getLogger("deepscan")
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield stream
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def cost(clips: Sequence[Path], repeats: int) -> list[dict[str, Any]]:
    """Seconds of decoding clips with isolation and without, in turn; and of starting the process."""
    rows = []
    for clip in clips:
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for repeat in range(repeats + 1):
            for isolated in (True, False) if repeat % 2 else (False, True):
                seconds[isolated].append(_decode_s(clip, DEFAULT_ISOLATION if isolated else None))
        there, here = median(seconds[True][1:]), median(seconds[False][1:])
        rows.append({"clip": clip.name, "isolated_s": there, "here_s": here, "ratio": there / here})
    return rows


def _decode_s(clip: Path, isolation: IsolationLimits | None) -> float:
    start = time.perf_counter()
    probe(clip, isolation=isolation)
    for _ in sample_frames(clip, _COST_FRAMES, isolation=isolation):
        pass
    return time.perf_counter() - start


def _print(done: Fuzzed) -> None:
    for what, n in sorted(done.counts.items(), key=lambda item: -item[1]):
        print(f"{n:6}  {what}")
    for name, why in done.crashes:
        print(f"        {name}: {why}")
    print(f"slowest: {done.slowest[0]}, {done.slowest[1]:.1f} s")
    print(f"{done.n_rows} rows for {done.n} files in {done.seconds:.0f} s, {done.processes} processes decoded")
    for failure in done.failures:
        print(f"FAILED  {failure}")
    print("the bar is missed" if done.failures else "the bar is met")


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=2000, help="damaged files")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--keep", type=Path, help="folder for the files that miss the bar or crash the decoder")
    parser.add_argument("--cost", type=Path, nargs="+", metavar="CLIP", help="measure what isolation costs on these")
    parser.add_argument("--repeats", type=int, default=7, help="counted runs of --cost")
    options = parser.parse_args(argv)
    report: dict[str, Any] = {"schema": SCHEMA}
    code = 0
    try:
        if options.cost:
            report["cost"] = cost(options.cost, options.repeats)
            for row in report["cost"]:
                print(
                    "{clip}: {isolated_s:.3f} s isolated, {here_s:.3f} s in this process, x {ratio:.3f}".format(**row)
                )
        else:
            done = fuzz(options.n, options.seed, keep=options.keep)
            _print(done)
            report |= {"seed": options.seed, **vars(done)}
            code = int(bool(done.failures))
        if options.json is not None:
            write_atomically(options.json, json.dumps(report, indent=1).encode() + b"\n")
    except DeepscanError as error:
        print(error, file=sys.stderr)
        return 3
    return code


if __name__ == "__main__":
    sys.exit(main())
