"""The clips that the benchmarks run on, made on the spot: nothing is downloaded.

    python benchmarks/footage.py [--folder DIR] [--long-s SECONDS]

People with moving heads before a photograph that moves too, with drifting light and sensor noise, in H.264 as cameras
and web sites write it: 30 frames/s, crf 23, a keyframe every 250 frames. The face is scikit-image's portrait of the
astronaut Eileen Collins (NASA, public domain); of its other photographs, the one behind her ("coffee", CC0) is neither
the busiest nor the plainest for a face detector. Clips are kept in a folder below the system's temporary one, by their
parameters.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from deepscan.errors import DeepscanError, OutputError
from deepscan.extract.video.frames import probe
from deepscan.files import temporary_beside
from deepscan.version import install_command

Rgb = NDArray[np.uint8]

# Raised whenever the same parameters give another picture: old files are then made anew.
REVISION = 1
GOP_FRAMES = 250
# Of the face in the portrait, in its pixels.
_FACE_X, _FACE_Y, _FACE_HEIGHT = 224.0, 117.0, 110.0
_SEGMENT_S = 20.0


@dataclass(frozen=True, slots=True)
class Footage:
    """What a clip shows and how it is encoded.

    Attributes:
        width_px, height_px: size of the frames, even numbers.
        seconds: length.
        people: how many, side by side.
        fps: frames a second.
        crf: constant rate factor of libx264.
        face_share: height of a face as a share of the frame's; less where the people would not fit side by side.
        max_kbit_s: bit rate that is not exceeded; None for what ``crf`` gives.
        gop_frames: from keyframe to keyframe at most.
    """

    width_px: int
    height_px: int
    seconds: float = 10.0
    people: int = 1
    fps: int = 30
    crf: int = 23
    face_share: float = 0.25
    max_kbit_s: int | None = None
    gop_frames: int = GOP_FRAMES

    def __post_init__(self) -> None:
        if self.width_px < 32 or self.height_px < 32 or self.width_px % 2 or self.height_px % 2:
            raise ValueError(f"Invalid size ({self.width_px}x{self.height_px}). Supported are even numbers from 32.")
        if self.n_frames < 1 or self.people < 1:
            raise ValueError(f"Invalid clip ({self.n_frames} frames, {self.people} people). Supported is 1 or more.")

    @property
    def n_frames(self) -> int:
        return round(self.seconds * self.fps)

    @property
    def face_px(self) -> float:
        """Height of a face."""
        return min(self.face_share * self.height_px, 0.45 * self.width_px / self.people)

    @property
    def name(self) -> str:
        """File name without ending: all parameters, so that other ones mean another file."""
        people = "1person" if self.people == 1 else f"{self.people}people"
        rate = "" if self.max_kbit_s is None else f"-max{self.max_kbit_s}k"
        rate += "" if self.gop_frames == GOP_FRAMES else f"-gop{self.gop_frames}"
        return (
            f"{self.width_px}x{self.height_px}-{self.seconds:g}s-{people}-{self.fps}fps"
            f"-face{self.face_share:g}-crf{self.crf}{rate}-r{REVISION}"
        )


CLIPS: dict[str, Footage] = {
    "1080p": Footage(1920, 1080),
    "720p": Footage(1280, 720),
    "phone": Footage(1080, 1920),
    "480p": Footage(640, 480),
}
# Faces large enough that nobody in so small a picture is left out as blurred: encodes differ from run to run.
SHORT_CLIPS: dict[str, Footage] = {
    "landscape": Footage(480, 270, seconds=2.0, face_share=0.5),
    "portrait": Footage(270, 480, seconds=2.0, face_share=0.5),
}


def default_folder() -> Path:
    """Where clips are kept unless told otherwise."""
    return Path(tempfile.gettempdir()) / "deepscan-benchmarks"


def make_clip(footage: Footage, folder: Path) -> Path:
    """The clip in ``folder``, encoded first if it is not there; it appears whole or not at all.

    Raises:
        DeepscanError: scikit-image, which has the portrait, is not installed.
        OutputError: the clip cannot be written.
    """
    path = _place(folder, f"{footage.name}.mp4")
    if not path.exists():
        with temporary_beside(path) as temporary:
            _encode(footage, temporary)
    return path


def make_long_video(footage: Footage, folder: Path, segment_s: float = _SEGMENT_S) -> Path:
    """A video of at least ``footage.seconds``: a short segment, encoded once, over and over without encoding again.

    Args:
        footage: set ``max_kbit_s``, so that an hour stays small.
        folder: where it and its segment are kept.
        segment_s: length of the segment.

    Raises:
        DeepscanError, OutputError: as :func:`make_clip`.
    """
    segment = replace(footage, seconds=min(segment_s, footage.seconds))
    copies = math.ceil(footage.n_frames / segment.n_frames)
    path = _place(folder, f"{segment.name}-x{copies}.mp4")
    if not path.exists():
        source = make_clip(segment, folder)
        with temporary_beside(path) as temporary:
            _repeat(source, segment, copies, temporary)
    return path


def frames(footage: Footage) -> Iterator[Rgb]:
    """The frames of a clip before it is encoded, RGB ``uint8 [H, W, 3]``; one at a time."""
    size = footage.width_px, footage.height_px
    rng = np.random.default_rng(11)
    canvas = _background(round(1.2 * size[0]), round(1.2 * size[1]))
    grain = [rng.normal(0, 2.0, (size[1], size[0], 3)).astype(np.int16) for _ in range(4)]
    cutout = _cutout(_sample("astronaut"))
    people = [np.ascontiguousarray(cutout[:, ::-1]) if i % 2 else cutout for i in range(footage.people)]
    for index in range(footage.n_frames):
        time_s = index / footage.fps
        pan = (-0.1 * size[0] * (1 + np.sin(0.35 * time_s)), -0.1 * size[1] * (1 + np.cos(0.5 * time_s)))
        shift = np.array([[1, 0, pan[0]], [0, 1, pan[1]]], np.float64)
        image = cv2.warpAffine(canvas, shift, size, flags=cv2.INTER_LINEAR)
        for i, person in enumerate(people):
            _paste(image, person, _pose(footage, i, time_s))
        image = cv2.convertScaleAbs(image, alpha=0.95 + 0.05 * math.sin(1.1 * time_s))
        yield np.asarray(cv2.add(image, grain[index % len(grain)], dtype=cv2.CV_8U), np.uint8)


class _Pose(NamedTuple):
    """Where a person is: middle of the face in the frame, frame px per portrait px, roll in degrees."""

    x: float
    y: float
    scale: float
    roll: float
    mirrored: bool


def _pose(footage: Footage, person: int, time_s: float) -> _Pose:
    """People sway, lean in and out and tilt their heads, each in a rhythm of their own."""
    face, t = footage.face_px, time_s + 1.7 * person
    return _Pose(
        x=footage.width_px * (person + 0.5) / footage.people
        + face * (0.18 * math.sin(1.3 * t) + 0.02 * math.sin(7 * t)),
        y=footage.height_px * 0.4 + face * (0.1 * math.cos(1.7 * t) + 0.02 * math.cos(6.3 * t)),
        scale=face / _FACE_HEIGHT * (1 + 0.06 * math.sin(0.9 * t)),
        roll=4 * math.sin(0.8 * t),
        mirrored=person % 2 == 1,
    )


def _paste(image: Rgb, person: Rgb, pose: _Pose) -> None:
    """Draw a person, RGBA ``uint8 [h, w, 4]``, into an RGB frame, in place."""
    height, width = image.shape[:2]
    face_x = person.shape[1] - _FACE_X if pose.mirrored else _FACE_X
    matrix = cv2.getRotationMatrix2D((face_x, _FACE_Y), pose.roll, pose.scale)
    matrix[:, 2] += (pose.x - face_x, pose.y - _FACE_Y)
    corners = np.array([[x, y, 1] for x in (0, person.shape[1]) for y in (0, person.shape[0])]) @ matrix.T
    left, top = (int(max(0, math.floor(v))) for v in corners.min(axis=0))
    right, bottom = (int(min(e, math.ceil(v))) for e, v in zip((width, height), corners.max(axis=0), strict=True))
    matrix[:, 2] -= (left, top)
    drawn = cv2.warpAffine(person, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    part = image[top:bottom, left:right]
    alpha = drawn[:, :, 3:].astype(np.uint16)
    part[:] = ((drawn[:, :, :3] * alpha + part * (255 - alpha)) // 255).astype(np.uint8)


def _sample(name: str) -> Rgb:
    """A picture that comes with scikit-image, RGB ``uint8 [H, W, 3]``."""
    try:
        import skimage.data
    except ImportError as error:
        raise DeepscanError(
            "The benchmark clips cannot be made", "scikit-image is not installed", install_command("test")
        ) from error
    return np.asarray(getattr(skimage.data, name)(), dtype=np.uint8)


def _cutout(portrait: Rgb) -> Rgb:
    """The person without the picture's own background, RGBA ``uint8 [512, 512, 4]``; roughly, with a soft edge."""
    mask = np.zeros(portrait.shape[:2], np.uint8)
    cv2.ellipse(mask, (222, 110), (78, 105), 0, 0, 360, 255, cv2.FILLED)
    cv2.ellipse(mask, (230, 460), (205, 285), 0, 0, 360, 255, cv2.FILLED)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 5), np.uint8)
    return np.ascontiguousarray(np.dstack([portrait, mask]))


def _background(width: int, height: int) -> Rgb:
    """A photograph that covers RGB ``uint8 [height, width, 3]``."""
    photo = _sample("coffee")
    scale = max(width / photo.shape[1], height / photo.shape[0])
    size = math.ceil(scale * photo.shape[1]), math.ceil(scale * photo.shape[0])
    interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(photo, size, interpolation=interpolation)[:height, :width], np.uint8)


def _place(folder: Path, name: str) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made", error.strerror or str(error), "Give another --folder.") from error
    return folder / name


def _encode(footage: Footage, path: Path) -> None:
    options = {"crf": str(footage.crf), "preset": "veryfast", "g": str(footage.gop_frames)}
    if footage.max_kbit_s is not None:
        options |= {"maxrate": f"{footage.max_kbit_s}k", "bufsize": f"{2 * footage.max_kbit_s}k"}
    with av.open(str(path), "w", format="mp4") as out:
        stream: Any = out.add_stream("libx264", rate=footage.fps, options=options)
        stream.width, stream.height, stream.pix_fmt = footage.width_px, footage.height_px, "yuv420p"
        for image in frames(footage):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))


def _repeat(source: Path, segment: Footage, copies: int, path: Path) -> None:
    """Put the packets of ``source`` into ``path`` several times, each time later by its length."""
    with av.open(str(path), "w", format="mp4") as out:
        stream: Any = None
        for copy in range(copies):
            with av.open(str(source)) as container:
                video: Any = container.streams.video[0]
                if stream is None:
                    stream = out.add_stream_from_template(video)
                later = round(copy * segment.n_frames / segment.fps / video.time_base)
                packet: Any
                for packet in container.demux(video):
                    if not packet.size:  # the end of the stream
                        continue
                    packet.pts, packet.dts = packet.pts + later, packet.dts + later
                    packet.stream = stream
                    out.mux(packet)


def long_footage(seconds: float, size: tuple[int, int] = (1920, 1080), gop_frames: int = GOP_FRAMES) -> Footage:
    """A long video as web sites keep them: an hour of 1080p takes less than 400 MB."""
    return Footage(*size, seconds=seconds, crf=26, max_kbit_s=750, gop_frames=gop_frames)


@dataclass(frozen=True, slots=True)
class Clip:
    """A video to measure on."""

    name: str
    path: Path
    width_px: int
    height_px: int
    duration_s: float

    def to_json(self) -> dict[str, Any]:
        """For a report, which tells no folder of this machine."""
        return {**asdict(self), "path": self.path.name}


def read_clips(paths: Sequence[Path]) -> list[Clip]:
    """The videos to measure on, each looked into first.

    Raises:
        MediaError: one cannot be read.
    """
    facts = [probe(path) for path in paths]
    return [
        Clip(path.name, path, media.width_px, media.height_px, media.duration_s or 0.0)
        for path, media in zip(paths, facts, strict=True)
    ]


def clips_for(paths: Sequence[Path], folder: Path, *, short: bool) -> list[Clip]:
    """These videos; without any the benchmark's own."""
    if paths:
        return read_clips(paths)
    made = SHORT_CLIPS if short else CLIPS
    clips = read_clips([make_clip(footage, folder) for footage in tqdm(made.values(), "clips")])
    return [replace(clip, name=name) for clip, name in zip(clips, made, strict=True)]


def main(arguments: list[str] | None = None) -> int:
    """Make the clips and print where they are."""
    parser = argparse.ArgumentParser(description="Make the clips that the benchmarks run on.")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="where they are kept (%(default)s)")
    parser.add_argument("--long-s", type=float, help="also a 1080p video of this many seconds")
    options = parser.parse_args(arguments)
    if options.long_s is not None and options.long_s < 1:
        parser.error("--long-s is at least 1")
    try:
        for footage in CLIPS.values():
            print(make_clip(footage, options.folder))
        if options.long_s is not None:
            print(make_long_video(long_footage(options.long_s), options.folder))
    except DeepscanError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
