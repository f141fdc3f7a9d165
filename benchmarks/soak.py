"""A long run in one process: does memory stay flat, and is nothing left open or lying about?

Predictions through the Python API, then uploads to the web API, of clips and pictures that differ and some that are
broken. Memory is the unique set size of the process and all its children (what would be free if they ended); files are
counted as the system sees them; temporary files are what lies in a folder that only this run uses.

    python benchmarks/soak.py [--api 500] [--web 200] [--json FILE]

Exit code 1 if memory grew by 5 % or more after the warm-up, or anything was left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import measure
import psutil
from PIL import Image
from tqdm import tqdm

from deepscan.errors import DeepscanError
from deepscan.extract.video.frames import sample_frames

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "data" / "samples"
MOST_GROWTH = 0.05
# The first fifth is the warm-up: caches fill, pools grow, the decoder's process is started.
WARM_UP = 0.2
WINDOW = 0.2
_ANSWER_S = 300


@dataclass(frozen=True, slots=True)
class Soak:
    """What a long run did to its process.

    Attributes:
        name: of the run.
        n: predictions.
        verdicts: how many of each.
        first_mib: memory after the warm-up, the median of a fifth of the run.
        last_mib: the same of the last fifth.
        growth: of the memory between the two, as a share.
        files_before, files_after: open files of the process and its children.
        temporary: what lies in the folder for temporary files after the end.
        wall_s: of the run.
    """

    name: str
    n: int
    verdicts: dict[str, int]
    first_mib: float
    last_mib: float
    growth: float
    files_before: int
    files_after: int
    temporary: list[str]
    wall_s: float

    @property
    def holds(self) -> bool:
        """Whether memory was flat and nothing was left."""
        return self.growth < MOST_GROWTH and self.files_after <= self.files_before and not self.temporary


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all below it."""
    return [process, *process.children(recursive=True)]


def memory_mib(process: psutil.Process) -> float:
    """Unique set size of a process and its children."""
    total = 0.0
    for one in family(process):
        try:
            total += one.memory_full_info().uss / 2**20
        except psutil.NoSuchProcess:
            continue
    return total


def open_files(process: psutil.Process) -> int:
    """Handles of a process: files, pipes, sockets. Its children are counted as well."""
    total = 0
    for one in family(process):
        try:
            total += one.num_fds() if hasattr(one, "num_fds") else one.num_handles()
        except psutil.NoSuchProcess:
            continue
    return total


def make_inputs(folder: Path) -> list[Path]:
    """Clips, pictures and broken files, each with its own content."""
    clips = [SAMPLES / name for name in ("real.mp4", "self_blended.mp4", "no_face.mp4")]
    frames = [frame.image for frame in sample_frames(clips[0], 3)]
    made = []
    for number, image in enumerate(frames):
        for suffix, options in ((".jpg", {"quality": 90}), (".png", {}), (".webp", {"quality": 80})):
            path = folder / f"still{number}{suffix}"
            Image.fromarray(image).save(path, **options)
            made.append(path)
    data = clips[0].read_bytes()
    broken = {
        "cut.mp4": data[: len(data) // 2],
        "text.mp4": b"this is no video\n" * 50,
        "empty.mp4": b"",
        "flipped.mp4": bytes(b ^ 255 if 3000 < i < 3400 else b for i, b in enumerate(data)),
        "cut.jpg": made[0].read_bytes()[:2000],
    }
    for name, content in broken.items():
        (folder / name).write_bytes(content)
    return [*clips, *clips, *made, *(folder / name for name in broken)]


def soaked(
    name: str, n: int, judge: Callable[[Path], str], inputs: Sequence[Path], process: psutil.Process, temporary: Path
) -> Callable[[], Soak]:
    """Judge ``n`` inputs in a shuffled order; gives what tells of the end, once everything is closed."""
    order = random.Random(0)
    start, verdicts, sizes = time.perf_counter(), dict[str, int](), list[float]()
    files_before = 0
    for number in tqdm(range(n), name, unit="file"):
        verdict = judge(order.choice(inputs))
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
        sizes.append(memory_mib(process))
        if number == int(WARM_UP * n):
            files_before = open_files(process)
    files_after, wall_s = open_files(process), time.perf_counter() - start
    window = max(1, int(WINDOW * n))
    at = int(WARM_UP * n)
    first, last = statistics.median(sizes[at : at + window]), statistics.median(sizes[-window:])

    def ended() -> Soak:
        # torch has an empty folder there for each user, made when it is imported.
        left = sorted(p.name for p in temporary.iterdir() if not p.name.startswith("torchinductor_"))
        return Soak(name, n, verdicts, first, last, last / first - 1, files_before, files_after, left, round(wall_s, 1))

    return ended


def soak_api(n: int, inputs: Sequence[Path], temporary: Path) -> Soak:
    """The Python API, in this process."""
    import deepscan

    detector = deepscan.load_detector()

    def judge(path: Path) -> str:
        try:
            return str(detector.predict(path).verdict)
        except DeepscanError:
            return "error"

    return soaked("Python API", n, judge, inputs, psutil.Process(), temporary)()


def soak_web(n: int, inputs: Sequence[Path], temporary: Path) -> Soak:
    """The JSON API of ``deepscan serve``, in a process of its own that is ended with SIGTERM."""
    command = [sys.executable, "-m", "deepscan", "serve", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:  # noqa: S603 - ours
        try:
            ended = soaked("web API", n, _client(_address(server)), inputs, psutil.Process(server.pid), temporary)
        finally:
            server.terminate()
            server.communicate(timeout=60)
    return ended()


def _address(server: subprocess.Popen[str]) -> str:
    for line in server.stderr or ():
        if "http://" in line:
            return "http://" + line.split("http://")[1].split("/")[0]
    raise DeepscanError("The server did not start", f"exit code {server.wait()}")


def _client(address: str) -> Callable[[Path], str]:
    def judge(path: Path) -> str:
        mark = uuid.uuid4().hex
        head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
        body = head.encode() + path.read_bytes() + f"\r\n--{mark}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
        request = urllib.request.Request(f"{address}/api/predict", body, headers)  # noqa: S310 - our own server
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310
                report = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                report = json.load(error)
        return str(report["results"][0]["verdict"])

    return judge


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both; 0 if both hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--api", type=int, default=500, help="predictions through the Python API; 0 for none")
    parser.add_argument("--web", type=int, default=200, help="uploads to the web API; 0 for none")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args(arguments)
    inputs_folder, temporary = (Path(tempfile.mkdtemp(prefix=f"soak-{what}-")) for what in ("inputs", "temporary"))
    try:
        inputs = make_inputs(inputs_folder)
        tempfile.tempdir = str(temporary)
        soaks = [soak_api(options.api, inputs, temporary)] if options.api else []
        soaks += [soak_web(options.web, inputs, temporary)] if options.web else []
    finally:
        tempfile.tempdir = None
        for folder in (inputs_folder, temporary):
            shutil.rmtree(folder, ignore_errors=True)
    report = measure.write_report(
        lambda: {"machine": measure.machine(), "soaks": [asdict(soak) for soak in soaks]},
        lambda _: print(_table(soaks)),
        options.json,
    )
    return report if isinstance(report, int) else int(not all(soak.holds for soak in soaks))


def _table(soaks: Sequence[Soak]) -> str:
    rows = [
        [
            soak.name,
            str(soak.n),
            ", ".join(f"{count} {verdict}" for verdict, count in sorted(soak.verdicts.items())),
            f"{soak.first_mib:.0f}",
            f"{soak.last_mib:.0f}",
            f"{soak.growth:+.1%}",
            f"{soak.files_before} / {soak.files_after}",
            ", ".join(soak.temporary) or "none",
            f"{soak.wall_s:.0f} s",
        ]
        for soak in soaks
    ]
    headers = ["", "n", "answers", "MiB after warm-up", "MiB at the end", "growth", "open files", "left behind", "time"]
    return measure.markdown(headers, rows)


if __name__ == "__main__":
    sys.exit(main())
