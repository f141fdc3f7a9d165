"""Small clips made on the spot. The face is scikit-image's `astronaut` (NASA, public domain, offline)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]

# What each extension is written with unless a test asks otherwise.
CODECS = {
    ".mp4": "libx264",
    ".mov": "mpeg4",
    ".mkv": "libx264",
    ".avi": "mjpeg",
    ".webm": "libvpx-vp9",
    ".gif": "gif",
}
_PIXELS = {"mjpeg": "yuvj420p", "gif": "rgb8"}
_OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "18"},
    "libx265": {"preset": "ultrafast", "crf": "20", "x265-params": "log-level=none"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
    "mpeg4": {"qscale": "3"},
}
_TICKS = 1000  # time base of clips with given timestamps, and of the checks on them

# Top-left 3x3 part of the matrix in an mp4's track header, by the angle the picture is turned clockwise to be
# shown (ISO/IEC 14496-12); "mirror" is a selfie camera's left-right flip.
_MATRICES = {
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
    "mirror": (-1, 0, 0, 1),
}


def portrait() -> Rgb:
    """NASA portrait, RGB uint8 [512, 512, 3]; the face is about 100 px high around (224, 115)."""
    from skimage.data import astronaut

    return np.asarray(astronaut(), dtype=np.uint8)


def other_person(image: Rgb | None = None) -> Rgb:
    """The portrait mirrored and recoloured: somebody else, as far as following people goes."""
    image = portrait() if image is None else image
    tinted = image[:, ::-1].astype(np.float32) * np.array([0.7, 0.95, 1.25], dtype=np.float32)
    return np.ascontiguousarray(tinted.clip(0, 255).astype(np.uint8))


def moving_portrait(
    n_frames: int,
    size: tuple[int, int] = (320, 240),
    shift_px: float = 1.0,
    image: Rgb | None = None,
) -> Iterator[Rgb]:
    """A window of ``size`` (width, height) gliding over the portrait, ``shift_px`` a frame to the right and
    back; the face stays whole inside it."""
    image = portrait() if image is None else image
    width, height = size
    # The astronaut's face is at x 224, her mirror image's at 512 - 224; the window swings 60 px around it.
    face_x = 224 if np.array_equal(image, portrait()) else image.shape[1] - 224
    for i in range(n_frames):
        swing = abs((i * shift_px + 60) % 120 - 60)
        left = int(np.clip(face_x - width / 2 - 30 + swing, 0, image.shape[1] - width))
        yield np.ascontiguousarray(image[:height, left : left + width])


def two_people_frames(n_frames: int, size: tuple[int, int] = (480, 240)) -> Iterator[Rgb]:
    """Two people side by side, each moving a little."""
    half = (size[0] // 2, size[1])
    left = moving_portrait(n_frames, half, 0.5)
    right = moving_portrait(n_frames, half, 0.5, other_person())
    for a, b in zip(left, right, strict=True):
        yield np.hstack([a, b])


def texture_frames(n_frames: int, size: tuple[int, int] = (320, 240)) -> Iterator[Rgb]:
    """Moving waves of colour: something to look at, nobody in it."""
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    for i in range(n_frames):
        waves = [np.sin(x / (9 + 4 * c) + i / 5) + np.cos(y / (13 - 3 * c) - i / 7) for c in range(3)]
        yield (127 + 60 * np.stack(waves, axis=2)).astype(np.uint8)


def numbered_frames(n_frames: int, size: tuple[int, int] = (128, 64)) -> Iterator[Rgb]:
    """Frames that carry their number as ten black or white bars, readable after any codec."""
    width, height = size
    for i in range(n_frames):
        bits = [(i >> bit) & 1 for bit in range(10)]
        row = np.repeat(np.array(bits, dtype=np.uint8) * 215 + 20, width // 10)
        row = np.pad(row, (0, width - len(row)))
        yield np.ascontiguousarray(np.broadcast_to(row[None, :, None], (height, width, 3)))


def frame_number(image: Rgb) -> int:
    """The number that :func:`numbered_frames` wrote."""
    step = image.shape[1] // 10
    bars = image[:, : step * 10].mean(axis=(0, 2)).reshape(10, step)[:, 1:-1].mean(axis=1)
    return sum(1 << bit for bit, value in enumerate(bars) if value > 127)


def quadrants(size: tuple[int, int] = (96, 64)) -> Rgb:
    """Red, green (top), blue, white (bottom): tells every rotation and mirroring apart."""
    width, height = size
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[: height // 2, : width // 2] = (200, 30, 30)
    image[: height // 2, width // 2 :] = (30, 200, 30)
    image[height // 2 :, : width // 2] = (30, 30, 200)
    image[height // 2 :, width // 2 :] = (220, 220, 220)
    return image


def corner_colours(image: Rgb) -> str:
    """Names of the corners in reading order, such as ``"rgbw"`` for :func:`quadrants` as made."""
    height, width = image.shape[:2]
    names = {"r": (200, 30, 30), "g": (30, 200, 30), "b": (30, 30, 200), "w": (220, 220, 220)}
    places = [(y, x) for y in (height // 8, -height // 8) for x in (width // 8, -width // 8)]
    return "".join(
        min(names, key=lambda n: float(np.abs(image[area].astype(float) - names[n]).sum())) for area in places
    )


def write_video(
    path: Path,
    frames: Iterable[Rgb],
    fps: int = 25,
    codec: str | None = None,
    *,
    pts: Sequence[float] | None = None,
    rotation: int | str | None = None,
    audio: bool = False,
    gop: int | None = None,
    colorspace: str | None = None,
    full_range: bool = False,
    pixel_aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write RGB ``uint8 [H, W, 3]`` frames; the extension picks container and codec.

    Args:
        pts: each frame's time in seconds, for variable frame rate.
        rotation: 90, 180, 270 (clockwise, as a player shows it) or ``"mirror"``; mp4 and mov only.
        audio: add a track of silence as long as the video.
        gop: frames from keyframe to keyframe.
        colorspace: ``"bt601"`` or ``"bt709"``, converted to and flagged.
        pixel_aspect: width of a pixel by its height, flagged only.
    """
    codec = codec or CODECS[path.suffix]
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = None
        sound: Any = None
        n_frames = 0
        for i, image in enumerate(frames):
            if stream is None:
                stream = _video_stream(container, codec, fps, image, options)
                if gop is not None:
                    stream.codec_context.gop_size = gop
                if pts is not None:
                    stream.codec_context.time_base = Fraction(1, _TICKS)
                if colorspace is not None:
                    stream.codec_context.colorspace = {"bt601": 6, "bt709": 1}[colorspace]
                    stream.codec_context.color_range = 2 if full_range else 1
                if pixel_aspect is not None:
                    stream.codec_context.sample_aspect_ratio = pixel_aspect
                if audio:
                    sound = container.add_stream("aac", rate=16000, layout="mono")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            target = {"bt601": "itu601", "bt709": "itu709", None: None}[colorspace]
            frame = frame.reformat(
                format=stream.pix_fmt,
                dst_colorspace=target,
                src_color_range="JPEG",
                dst_color_range="JPEG" if full_range or stream.pix_fmt == "yuvj420p" else "MPEG",
            )
            if pts is not None:
                frame.time_base, frame.pts = Fraction(1, _TICKS), round(pts[i] * _TICKS)
            else:
                frame.time_base, frame.pts = Fraction(1, fps), i
            container.mux(stream.encode(frame))
            n_frames += 1
        if sound is not None:
            write_silence(container, sound, seconds=n_frames / fps)
        if stream is not None:
            container.mux(stream.encode(None))
    if rotation is not None:
        turn(path, rotation)
    return path


def write_audio(path: Path, seconds: float = 1.0) -> Path:
    """A file with sound only."""
    with av.open(str(path), "w") as container:
        write_silence(container, container.add_stream("aac", rate=16000, layout="mono"), seconds)
    return path


def _video_stream(container: Any, codec: str, fps: int, image: Rgb, options: dict[str, str] | None) -> Any:
    stream = container.add_stream(codec, rate=fps, options={**_OPTIONS.get(codec, {}), **(options or {})})
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt = _PIXELS.get(codec, "yuv420p")
    stream.codec_context.thread_count = 1
    return stream


def write_silence(container: Any, stream: Any, seconds: float) -> None:
    """Fill an open container's audio stream."""
    for start in range(0, int(seconds * 16000), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def turn(path: Path, rotation: int | str) -> None:
    """Have a finished mp4 or mov shown turned; see :func:`write_video`."""
    _set_matrix(path, _MATRICES[rotation])


def _set_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write the display matrix into the first track header ourselves, so that no library's idea of the sign
    of an angle is both writer and judge."""
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd") + 4
    at = header + 40 + (12 if data[header] == 1 else 0)
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
