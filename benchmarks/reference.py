"""The yardstick: a deepfake detector as one writes it from facenet-pytorch's README, and as many a report has it.

    python benchmarks/reference.py CLIP...

32 evenly spaced frames by seeking in OpenCV, MTCNN on each full-size frame, InceptionResnetV1 on its crops frame by
frame, an LSTM over the frames. It is neither tuned nor slowed down: library defaults wherever there are any. Its
weights are random apart from MTCNN's, as the others are a download: it is a yardstick for time, its probability means
nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from facenet_pytorch import MTCNN, InceptionResnetV1
from measure import markdown
from PIL import Image
from torch import Tensor, nn

from deepscan.errors import DeepscanError, MediaError

FRAMES = 32
STAGES = ("decode", "detect", "backbone", "lstm", "total")


@dataclass(frozen=True, slots=True)
class ReferenceResult:
    """One run over one video.

    Attributes:
        probability: of random weights; None where no face was found.
        n_frames: frames that could be read.
        n_faces: faces found in all of them.
        timing_s: wall seconds in ``decode`` (seeking, RGB), ``detect`` (finding and cropping), ``backbone``, ``lstm``
            and ``total``.
        cpu_s: the same in seconds of processor time, summed over all threads.
    """

    probability: float | None
    n_frames: int
    n_faces: int
    timing_s: dict[str, float]
    cpu_s: dict[str, float]


class ReferencePipeline:
    """The networks, loaded once.

    Args:
        n_frames: frames sampled from each video.
    """

    def __init__(self, n_frames: int = FRAMES) -> None:
        self.n_frames = n_frames
        self.mtcnn = MTCNN(keep_all=True)
        self.resnet = InceptionResnetV1(pretrained=None).eval()
        # One layer, small against the rest: a heavier one would only make the yardstick longer.
        self.lstm = nn.LSTM(512, 256, batch_first=True).eval()
        self.classifier = nn.Linear(256, 1).eval()

    def run(self, path: str | Path) -> ReferenceResult:
        """Judge one video.

        Raises:
            MediaError: OpenCV cannot read it.
        """
        watch = _Watch()
        n_frames = n_faces = 0
        features = []
        with watch.stage("total"), torch.no_grad():
            for image in self._frames(Path(path), watch):
                n_frames += 1
                with watch.stage("detect"):
                    faces = self._faces(image)
                if faces is None:
                    continue
                n_faces += len(faces)
                with watch.stage("backbone"):
                    features.append(self.resnet(faces).mean(dim=0))
            probability = None
            if features:
                with watch.stage("lstm"):
                    states, _ = self.lstm(torch.stack(features).unsqueeze(0))
                    probability = torch.sigmoid(self.classifier(states[:, -1])).item()
        return ReferenceResult(probability, n_frames, n_faces, watch.wall_s, watch.cpu_s)

    def _faces(self, image: Image.Image) -> Tensor | None:
        """Crops ``float32 [n, 3, 160, 160]``; None without a face. MTCNN crashes where all it has are empty boxes."""
        try:
            faces: Tensor | None = self.mtcnn(image)
        except (RuntimeError, ValueError):
            return None
        return faces

    def _frames(self, path: Path, watch: _Watch) -> Iterator[Image.Image]:
        """The sampled frames; one that cannot be read is left out."""
        with watch.stage("decode"):
            video = cv2.VideoCapture(str(path))
            total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        try:
            if total < 1:
                raise MediaError(f"{path.name}: cannot be read", "OpenCV finds no frames in it", "Convert it to mp4.")
            for position in np.linspace(0, total - 1, self.n_frames).astype(int):
                with watch.stage("decode"):
                    video.set(cv2.CAP_PROP_POS_FRAMES, int(position))
                    success, frame = video.read()
                    image = Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)) if success else None
                if image is not None:
                    yield image
        finally:
            video.release()


class _Watch:
    """Adds up wall and processor seconds by stage."""

    def __init__(self) -> None:
        self.wall_s = dict.fromkeys(STAGES, 0.0)
        self.cpu_s = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall_s[name] += time.perf_counter() - wall
        self.cpu_s[name] += time.process_time() - cpu


def main(arguments: list[str] | None = None) -> int:
    """Print seconds by stage for each clip."""
    parser = argparse.ArgumentParser(description="Time a plain facenet-pytorch pipeline; its weights are random.")
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP", help="videos")
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames of each video (%(default)s)")
    options = parser.parse_args(arguments)
    if options.frames < 1:
        parser.error("--frames is at least 1")
    pipeline, rows, failed = ReferencePipeline(options.frames), [], False
    for clip in options.clips:
        try:
            result = pipeline.run(clip)
        except DeepscanError as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        seconds = [f"{result.timing_s[stage]:.2f}" for stage in STAGES]
        rows.append([clip.name, str(result.n_frames), str(result.n_faces), *seconds])
    print(f"Seconds by stage, random weights, {torch.get_num_threads()} torch threads:\n")
    print(markdown(["clip", "frames", "faces", *STAGES], rows))
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
