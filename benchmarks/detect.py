"""Face detection alone: deepscan's cascade against facenet-pytorch's MTCNN, in the same run.

    python benchmarks/detect.py [CLIP...] [--frames N] [--side PX] [--repeats N] [--no-times]

Frames are decoded first. MTCNN sees each full-size frame, with its defaults; deepscan sees the same frames with its
own. Times are the least of the repeats, in milliseconds a frame, by stage. Then: how many of MTCNN's faces deepscan
finds, and how far its boxes and landmarks are from theirs; "search" is what a prediction does, which in frames close
together looks at every second one in full and finds the faces again in the others. Without clips it runs on those of
footage.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from facenet_pytorch import MTCNN
from facenet_pytorch.models.utils import detect_face
from footage import CLIPS, default_folder, make_clip
from measure import machine, markdown
from numpy.typing import NDArray

from deepscan.config import CropSettings, FaceSettings, TrackSettings
from deepscan.errors import DeepscanError
from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.people import PeopleSearch
from deepscan.extract.tracks import iou
from deepscan.extract.video.frames import sample_frames
from deepscan.runtimes.openvino_runtime import is_installed
from deepscan.types import Face, Frame, MediaInfo, RgbImage

# Named after what deepscan does there; facenet-pytorch samples levels and candidates with the same function.
STAGES = ("pyramid", "P-Net", "NMS", "crops", "R-Net", "O-Net", "other", "total")
_FOUND_IOU = 0.5


class Stopwatch:
    """Adds up the seconds that calls take, by stage; calls within calls count where they are innermost."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._inner = [0.0]

    def around(self, stage: str | Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed; its stage may depend on its arguments."""

        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            self._inner.append(0.0)
            try:
                return function(*arguments, **options)
            finally:
                took = time.perf_counter() - start
                name = stage if isinstance(stage, str) else stage(*arguments)
                self.seconds[name] += took - self._inner.pop()
                self._inner[-1] += took

        return call


@dataclass(frozen=True, slots=True)
class Timed:
    """A detector's run over frames.

    Attributes:
        faces: of every frame.
        ms: milliseconds a frame, by stage.
    """

    faces: list[list[Face]]
    ms: dict[str, float]


class Ours:
    """deepscan's detector, with its stages timed."""

    def __init__(self, runtime: Any, settings: FaceSettings) -> None:
        self.watch = Stopwatch()
        self._finder = FaceFinder(settings, runtime=runtime)
        cascade: Any = self._finder.cascade
        for stage, name in (("P-Net", "pnet"), ("R-Net", "rnet"), ("O-Net", "onet")):
            setattr(cascade, name, self.watch.around(stage, getattr(cascade, name)))
        self._modules = [import_module(f"deepscan.extract.faces.{name}") for name in ("cascade", "boxes", "pyramid")]

    def __call__(self, image: RgbImage) -> list[Face]:
        cascade, boxes, pyramid = self._modules
        with (
            _Replaced(pyramid.Canvas, "draw", self.watch, "pyramid"),
            _Replaced(boxes.Octaves, "crops", self.watch, "crops"),
            _Replaced(cascade, "suppress", self.watch, "NMS"),
        ):
            return self._finder.detect([image])[0]


class Reference:
    """facenet-pytorch's detector with its defaults, with its stages timed."""

    def __init__(self) -> None:
        self.watch = Stopwatch()
        self._mtcnn: Any = MTCNN(keep_all=True)
        for stage, name in (("P-Net", "pnet"), ("R-Net", "rnet"), ("O-Net", "onet")):
            network = getattr(self._mtcnn, name)
            network.forward = self.watch.around(stage, network.forward)

    def __call__(self, image: RgbImage) -> list[Face]:
        with (
            _Replaced(detect_face, "imresample", self.watch, _sampling),
            _Replaced(detect_face, "batched_nms", self.watch, "NMS"),
            _Replaced(detect_face, "batched_nms_numpy", self.watch, "NMS"),
            torch.no_grad(),
        ):
            boxes, confidences, landmarks = self._mtcnn.detect(image, landmarks=True)
        if boxes is None:
            return []
        height, width = image.shape[:2]
        clipped = np.clip(np.asarray(boxes, np.float32), 0, [width, height, width, height]).tolist()
        return [
            Face((x1, y1, x2, y2), float(confidence), np.asarray(points, np.float32))
            for (x1, y1, x2, y2), confidence, points in zip(clipped, confidences, landmarks, strict=True)
        ]


class _Replaced:
    """A context in which a function of a module or class is timed."""

    def __init__(self, owner: Any, name: str, watch: Stopwatch, stage: str | Callable[..., str]) -> None:
        self._owner, self._name, self._original = owner, name, getattr(owner, name)
        self._timed = watch.around(stage, self._original)

    def __enter__(self) -> None:
        setattr(self._owner, self._name, self._timed)

    def __exit__(self, *_: object) -> None:
        setattr(self._owner, self._name, self._original)


def _sampling(_: Any, size: tuple[int, int]) -> str:
    return "crops" if size in {(24, 24), (48, 48)} else "pyramid"


def run(detector: Ours | Reference, images: Sequence[RgbImage], repeats: int) -> Timed:
    """Detect in all frames, once more than is counted."""
    rounds = []
    for _ in range(repeats + 1):
        before = dict(detector.watch.seconds)
        start = time.perf_counter()
        faces = [detector(image) for image in images]
        total = time.perf_counter() - start
        stages = {name: detector.watch.seconds[name] - before[name] for name in STAGES}
        stages |= {"total": total, "other": total - sum(stages.values())}
        rounds.append({name: 1e3 * seconds / len(images) for name, seconds in stages.items()})
    return Timed(faces, min(rounds[1:], key=lambda ms: ms["total"]))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How one detector's faces are those of another, for faces of at least a size.

    Attributes:
        n: the other's faces.
        overlaps: IoU with the best of ours, ``[n]``; a face is found from 0.5.
        distances: of the farthest landmark of a found face, in pixels.
    """

    n: int
    overlaps: NDArray[np.float64]
    distances: NDArray[np.float64]

    @property
    def recall(self) -> float:
        return float(np.mean(self.overlaps >= _FOUND_IOU)) if self.n else float("nan")


def compare(ours: Sequence[Sequence[Face]], theirs: Sequence[Sequence[Face]], settings: FaceSettings) -> Agreement:
    """What of the reference's faces is found; such as deepscan would score, by size and confidence."""
    overlaps, distances = [], []
    for found, wanted in zip(ours, theirs, strict=True):
        for face in wanted:
            if face.size_px < settings.min_face_px or face.confidence < settings.min_confidence:
                continue
            best = max(found, key=lambda other, face=face: iou(other.box, face.box), default=None)  # type: ignore[misc]
            overlaps.append(0.0 if best is None else iou(best.box, face.box))
            if best is not None and overlaps[-1] >= _FOUND_IOU:
                distances.append(float(np.linalg.norm(best.landmarks - face.landmarks, axis=1).max()))
    return Agreement(len(overlaps), np.array(overlaps), np.array(distances))


class Search(FaceFinder):
    """The faces that a prediction finds, frame by frame."""

    def __init__(self, runtime: Any, settings: FaceSettings) -> None:
        super().__init__(settings, runtime=runtime)
        self._found: list[list[Face]] = []

    def detect(self, images: Sequence[RgbImage], *, close_up: bool = False) -> list[list[Face]]:
        found = super().detect(images, close_up=close_up)
        self._found += found
        return found

    def follow(self, images: Sequence[RgbImage], before: Sequence[Sequence[Face]]) -> list[list[Face] | None]:
        found = super().follow(images, before)
        self._found += [faces for faces in found if faces is not None]
        return found

    def faces(self, frames: Sequence[Frame]) -> list[list[Face]]:
        """Of every frame of a clip."""
        self._found = []
        media = MediaInfo(Path(), "video", *frames[0].image.shape[1::-1], None, None)
        PeopleSearch(media, iter(frames), self, CropSettings(), TrackSettings()).run()
        return self._found


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Time face detection against facenet-pytorch's MTCNN.")
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP", help="videos (default: those of footage.py)")
    parser.add_argument("--frames", type=int, default=8, help="frames of each (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="counted runs of deepscan (%(default)s)")
    parser.add_argument("--no-times", dest="times", action="store_false", help="only the search, and no times")
    parser.add_argument("--side", type=int, default=FaceSettings().detect_side_px, help="detect_side_px (%(default)s)")
    options = parser.parse_args(arguments)
    if options.frames < 1 or options.repeats < 1:
        parser.error("--frames and --repeats are at least 1")
    settings = FaceSettings(detect_side_px=options.side)
    # What a process does by itself where no other runs; OpenCV shall not add threads of its own.
    cv2.setNumThreads(torch.get_num_threads())
    reference = Reference()
    runtimes = ("torch", *(["openvino"] if is_installed() else []))
    detectors = {name: Ours(name, settings) for name in runtimes if options.times}
    search = Search(runtimes[-1], settings)
    times: list[list[str]] = []
    agreement: list[list[str]] = []
    searched: list[Agreement] = []
    failed = False
    try:
        clips = options.clips or [make_clip(CLIPS[name], default_folder()) for name in ("1080p", "480p")]
    except DeepscanError as error:
        print(error, file=sys.stderr)
        return 3
    for clip in clips:
        try:
            sampled = list(sample_frames(clip, options.frames))
        except DeepscanError as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        images = [frame.image for frame in sampled]
        wanted = run(reference, images, 1) if options.times else Timed([reference(image) for image in images], {})
        if options.times:
            times.append(_times_row(clip, images, "facenet-pytorch", wanted, wanted))
        for name, detector in detectors.items():
            found = run(detector, images, options.repeats)
            times.append(_times_row(clip, images, name, found, wanted))
            agreement.append(_agreement_row(clip, name, compare(found.faces, wanted.faces, settings)))
        searched.append(compare(search.faces(sampled), wanted.faces, settings))
        agreement.append(_agreement_row(clip, "search", searched[-1]))
    facts = machine()
    print(f"{facts['cpu']}, {facts['cores']} cores, {torch.get_num_threads()} threads, load {facts['load_average']}\n")
    if times:
        print("Milliseconds a frame:\n")
        print(markdown(["clip", "size", "detector", *STAGES, "faster by"], times))
    size = f"{settings.min_face_px} px and more"
    print(f"\nfacenet-pytorch's faces of {size}, in deepscan's (IoU; landmarks in px, the farthest of five):\n")
    print(markdown(["clip", "runtime", "faces", "found", "IoU median", "IoU 5 %", "px median", "px 95 %"], agreement))
    n, n_found = sum(one.n for one in searched), sum(int((one.overlaps >= _FOUND_IOU).sum()) for one in searched)
    if n:
        print(f"\nAll clips, as a prediction searches: {n_found} of {n} faces found ({n_found / n:.2%}).")
    return 3 if failed else 0


def _times_row(clip: Path, images: Sequence[RgbImage], name: str, timed: Timed, reference: Timed) -> list[str]:
    size = f"{images[0].shape[1]}x{images[0].shape[0]}"
    ratio = reference.ms["total"] / timed.ms["total"]
    return [clip.stem[:24], size, name, *(f"{timed.ms[stage]:.1f}" for stage in STAGES), f"{ratio:.1f}"]


def _agreement_row(clip: Path, name: str, result: Agreement) -> list[str]:
    row = [clip.stem[:24], name, str(result.n), "-" if not result.n else f"{result.recall:.1%}"]
    if not len(result.distances):
        return row + ["-"] * 4
    boxes = result.overlaps[result.overlaps >= _FOUND_IOU]
    return [
        *row,
        *(f"{np.quantile(boxes, q):.3f}" for q in (0.5, 0.05)),
        *(f"{np.quantile(result.distances, q):.1f}" for q in (0.5, 0.95)),
    ]


if __name__ == "__main__":
    sys.exit(main())
