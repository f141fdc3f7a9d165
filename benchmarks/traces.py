"""How often traces of processing are seen where they are and where they are not, and what they do to the verdict.

    python benchmarks/traces.py rates DATA [--limit N]
    python benchmarks/traces.py errors DATA [--limit N] [--model NAME]

DATA has ``real_faces/portraits.tar``, ``forgeries/clips.csv``, ``forgeries/stills.csv`` and ``dfdc_faces``. ``rates``
makes pictures that were never compressed nor scaled up, by scaling portraits and frames of clips down, and copies of
these. ``errors`` judges validation crops as they are and after each processing: the answers that are wrong.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from measure import count, markdown
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import binomtest

from deepscan.detector import load_detector
from deepscan.extract.in_memory import InMemory
from deepscan.extract.traces import (
    DOUBLE_JPEG_FROM,
    SCALED_UP_FROM,
    SCREEN_FROM,
    double_jpeg,
    region_of,
    scaled_up,
    screen,
)
from deepscan.types import Frame, RgbImage

LONGEST_PX = 640
FILTERS = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "Lanczos": cv2.INTER_LANCZOS4}
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Table = tuple[int, ...]


def jpeg(image: RgbImage, quality: int) -> tuple[RgbImage, Table]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as saved:
        return np.array(saved.convert("RGB")), tuple(saved.quantization[0])  # type: ignore[attr-defined]


def h264(image: RgbImage, crf: int) -> RgbImage:
    """The second of three equal frames."""
    image = np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer, "r") as file:
        frames: list[Any] = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    return np.asarray(frames[1], np.uint8)


def scaled(image: RgbImage, factor: float, how: int = cv2.INTER_AREA) -> RgbImage:
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=how), np.uint8)


def refilmed(image: RgbImage, rng: np.random.Generator) -> RgbImage:
    """A photograph of a screen with stripes of red, green and blue, by a camera that is held a little askew."""
    unit = 6  # of a screen's pixel
    image = scaled(image, min(1, 360 / max(image.shape[:2])))
    light = (np.repeat(np.repeat(image, unit, 0), unit, 1) / np.float32(255)) ** 2.2
    lit = np.zeros((unit, unit, 3), np.float32)
    for channel in range(3):
        lit[:-1, 2 * channel : 2 * channel + 2, channel] = 3
    light *= np.tile(lit, (*image.shape[:2], 1))
    size = rng.uniform(1.3, 2.7) / unit  # camera's pixels for one of these
    angle, tilt = np.deg2rad(rng.uniform(-4, 4)), rng.uniform(-2e-5, 2e-5, 2)
    sine, cosine = np.sin(angle) * size, np.cos(angle) * size
    seen = np.array([[cosine, -sine, 4], [sine, cosine, 4], [*tilt, 1]])
    blurred = cv2.GaussianBlur(light, (0, 0), 0.55 / size)
    height, width = (int(side * size) for side in light.shape[:2])
    sensor = cv2.warpPerspective(blurred, seen, (width, height)) * 1.2
    developed = sensor.clip(0, 1) ** (1 / 2.2) * 255 + rng.normal(0, 2, sensor.shape)
    return np.asarray(developed[12:-12, 12:-12].clip(0, 255), np.uint8)


def originals(data: Path, limit: int) -> Iterator[RgbImage]:
    """Pictures without a trace: everything is scaled down to 0.6 or less, which leaves none of compression."""
    with tarfile.open(data / "real_faces/portraits.tar") as tar:
        portraits = [np.array(Image.open(tar.extractfile(m)).convert("RGB")) for m in tar if m.isfile()]  # type: ignore[arg-type]
    frames = []
    with (data / "forgeries/clips.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            with av.open(str(data / "forgeries" / row["file"])) as container:
                if min(container.streams.video[0].width, container.streams.video[0].height) >= 470:
                    frames.append(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    every = portraits + frames
    for i in np.random.default_rng(0).permutation(len(every))[:limit]:
        yield scaled(every[i], min(0.6, LONGEST_PX / max(every[i].shape[:2])))


def rates(data: Path, limit: int) -> None:
    seen: dict[str, list[bool]] = {}
    seconds: list[float] = []
    rng = np.random.default_rng(1)

    def note(name: str, value: float | None, limit: float) -> None:
        seen.setdefault(name, []).append(value is not None and value >= limit)

    for image in originals(data, limit):
        for last in (95, 90, 75):
            for first in (None, 50, 65, 75, 85, 90, 95):
                if first == last:
                    continue
                picture, table = jpeg(image if first is None else jpeg(image, first)[0], last)
                start = time.perf_counter()
                value = double_jpeg(region_of(picture, None), table)
                scaled_up(region_of(picture, None))
                screen(region_of(picture, None))
                seconds.append(time.perf_counter() - start)
                name = f"JPEG: {last} alone" if first is None else f"JPEG: {first}, then {last}"
                note(name, value, DOUBLE_JPEG_FROM)
        small = scaled(image, 0.5) if min(image.shape[:2]) >= 400 else image
        pictures = {"as it is": image, "blurred by 1 px": cv2.GaussianBlur(image, (0, 0), 1)}
        pictures |= {f"scaled up by 2, {name}": scaled(small, 2, how) for name, how in FILTERS.items()}
        ends: dict[str, Callable[[RgbImage], RgbImage]] = {
            "": lambda one: one,
            ", JPEG 90": lambda one: jpeg(one, 90)[0],
            ", JPEG 75": lambda one: jpeg(one, 75)[0],
            ", H.264 CRF 23": lambda one: h264(one, 23),
            ", H.264 CRF 30": lambda one: h264(one, 30),
        }
        for name, picture in pictures.items():
            for end, change in ends.items():
                luma = region_of(change(picture), None)
                note(f"{name}{end}", scaled_up(luma), SCALED_UP_FROM)
                note(f"screen: {name}{end}", screen(luma), SCREEN_FROM)
        filmed = refilmed(image, rng)
        for end, change in ends.items():
            note(f"screen: photographed{end}", screen(region_of(change(filmed), None)), SCREEN_FROM)
    rows = [[name, str(len(hits)), f"{np.mean(hits):.3f}"] for name, hits in seen.items()]
    print(markdown(["Copy", "n", "trace seen"], rows))
    print(f"all measures: {1000 * np.median(seconds):.1f} ms in the middle, {1000 * max(seconds):.1f} ms at most")


def crops(data: Path, limit: int) -> Iterator[tuple[RgbImage, int, str]]:
    """Face crops of ``split=val`` of DFDC and of the collections of stills that the detector never saw, with labels."""
    wanted: list[tuple[Path, str, int, str]] = []
    with (data / "dfdc_faces/metadata.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "val"]
    wanted += [(data / "dfdc_faces" / row["shard"], row["file"], int(row["label"] == "fake"), "dfdc") for row in rows]
    with (data / "forgeries/stills.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] in HELD_OUT]
    wanted += [
        (data / "forgeries" / row["shard"], row["file"], int(row["label"] == "fake"), row["source"]) for row in rows
    ]
    chosen = [wanted[i] for i in np.random.default_rng(0).permutation(len(wanted))[:limit]]
    for shard in sorted({one[0] for one in chosen}):
        with tarfile.open(shard) as tar:
            for _, name, label, source in (one for one in chosen if one[0] == shard):
                yield np.array(Image.open(tar.extractfile(name)).convert("RGB")), label, source  # type: ignore[arg-type]


HELD_OUT = ("ffpp_c40", "faker_portraits", "hardfakevsreal", "amfd", "celeba", "indian_film")
PROCESSINGS: dict[str, Callable[[RgbImage], RgbImage]] = {
    "as it is": lambda image: image,
    "JPEG 75, then 90": lambda image: jpeg(jpeg(image, 75)[0], 90)[0],
    "JPEG 50, then 75": lambda image: jpeg(jpeg(image, 50)[0], 75)[0],
    "scaled down, then up by 2": lambda image: scaled(scaled(image, 0.5), 2, cv2.INTER_CUBIC),
    "scaled down, then up by 2, JPEG 75": lambda image: jpeg(scaled(scaled(image, 0.5), 2, cv2.INTER_CUBIC), 75)[0],
}
WIDENINGS = np.arange(0, 3.01, 0.05)


def wrong(log_odds: FloatArray, labels: IntArray, band: tuple[float, float]) -> tuple[int, int]:
    """Answers outside the band that are wrong, and all answers."""
    answered = (log_odds <= band[0]) | (log_odds >= band[1])
    return int(((log_odds > 0) != labels)[answered].sum()), int(answered.sum())


def errors(data: Path, limit: int, model: str) -> None:
    detector = load_detector(model)
    low, high = (math.log(p / (1 - p)) for p in detector.card.calibration.band)
    of: dict[str, dict[str, list[float]]] = {name: {"odds": [], "labels": []} for name in PROCESSINGS}
    for image, label, _ in crops(data, limit):
        frames = {name: Frame(change(image), 0.0, 0) for name, change in PROCESSINGS.items()}
        inputs = [(InMemory(name, "image", (frame,)), None) for name, frame in frames.items()]
        for name, analysis in zip(frames, detector.analyze_many(inputs), strict=True):
            if (p := analysis.result.probability) is not None:
                of[name]["odds"].append(math.log(p / (1 - p)) if 0 < p < 1 else math.copysign(40, p - 0.5))
                of[name]["labels"].append(label)
    rows, goal = [], 1.0
    for name, found in of.items():
        log_odds, labels = np.array(found["odds"]), np.array(found["labels"])
        k, n = wrong(log_odds, labels, (low, high))
        interval = binomtest(k, n).proportion_ci(method="wilson")
        goal = k / n if name == "as it is" else goal
        by = [wrong(log_odds, labels, (low - w, high + w)) for w in WIDENINGS]
        enough = [f"{w:.2f}" for w, (k_wide, n_wide) in zip(WIDENINGS, by, strict=True) if k_wide <= goal * n_wide]
        reals = labels == 0
        called = (int(((log_odds >= high) & reals).sum()), int(((log_odds <= low) & ~reals).sum()))
        share = f"{100 * k / n:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
        cells = (name, len(labels), n, k, share, f"{called[0]} of {reals.sum()}", f"{called[1]} of {(~reals).sum()}")
        rows.append([*map(str, cells), *(enough[:1] or ["over 3"])])
    heads = ["Processing", "scored", "answered", "wrong", "wrong of answered", "reals called fake", "fakes called real"]
    print(markdown([*heads, "widening for the error as it is, logits"], rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, n, run in (
        ("rates", 100, lambda given: rates(given.data, given.limit)),
        ("errors", 600, lambda given: errors(given.data, given.limit, given.model)),
    ):
        command = commands.add_parser(name)
        command.add_argument("data", type=Path, metavar="DATA")
        command.add_argument("--limit", type=count, default=n)
        command.add_argument("--model", default="default")
        command.set_defaults(run=run)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
