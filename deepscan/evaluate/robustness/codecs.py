"""Pictures and sequences through a real encoder and back: what training degrades with and robustness measures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from deepscan.extract.video.container import quiet_ffmpeg
from deepscan.types import Frame, RgbImage

# A still has no neighbours to be predicted from: it is shown this long, and the frame in the middle is taken.
STILL_FRAMES = 8
STILL_RATE = 25.0

_TICKS = 90_000
_BT601, _LIMITED = 6, 1
# How much of a second's bits the encoder may spend at once; short clips would otherwise never feel the limit.
_BUFFER_S = 0.25
_PIXELS = {"libx264": "yuv420p", "libx265": "yuv420p", "libx264rgb": "rgb24"}


@dataclass(frozen=True, slots=True)
class Coding:
    """Settings of an encoder; one thread, so that the same frames give the same bytes.

    Attributes:
        codec: ``libx264`` (H.264, preset veryfast) or ``libx265`` (HEVC, preset superfast), both 8 bit 4:2:0 in BT.601;
            ``libx264rgb`` keeps every value.
        crf: constant quality, 0 best, 51 worst.
        bits_per_px: average rate instead: bits for each pixel of each frame, also the peak over a quarter second.
    """

    codec: Literal["libx264", "libx265", "libx264rgb"]
    crf: float | None = None
    bits_per_px: float | None = None

    def options(self, width: int, height: int, rate: float) -> dict[str, str]:
        """Of the encoder, for frames of this size."""
        if self.codec == "libx264rgb":
            return {"qp": "0", "preset": "ultrafast"}
        options = {"preset": "veryfast" if self.codec == "libx264" else "superfast"}
        limits = {}
        if self.crf is not None:
            options["crf"] = f"{self.crf:g}"
        if self.bits_per_px is not None:
            bits = max(2000, round(self.bits_per_px * width * height * rate))
            options |= {"b": str(bits), "maxrate": str(bits), "bufsize": str(max(1000, round(bits * _BUFFER_S)))}
            buffer_kbit = max(1, round(bits * _BUFFER_S / 1000))
            limits = {"bitrate": str(round(bits / 1000)), "vbv-maxrate": str(round(bits / 1000))}
            limits["vbv-bufsize"] = str(buffer_kbit)
        if self.codec == "libx264":
            # Of pictures whose half is no multiple of its blocks, x264's macroblock tree reads what lies beside them in
            # memory: the same frames would now and then give other bytes.
            options["x264-params"] = "mbtree=0"
        if self.codec == "libx265":
            # Its own log goes past FFmpeg's; its own pool of threads too.
            for name in ("b", "maxrate", "bufsize"):
                options.pop(name, None)
            more = {"log-level": "none", "pools": "none", "frame-threads": "1", **limits}
            options["x265-params"] = ":".join(f"{key}={value}" for key, value in more.items())
        return options


LOSSLESS = Coding("libx264rgb")


def jpeg_round_trip(image: RgbImage, quality: int) -> RgbImage:
    """An image RGB ``uint8 [H, W, 3]`` as JPEG leaves it at a quality from 1 to 100."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)


def h264_round_trip(crops: NDArray[np.uint8], crf: int) -> NDArray[np.uint8]:
    """A sequence RGB ``uint8 [T, S, S, 3]`` as H.264 leaves it at this quality, 0 best, 51 worst.

    A single one is a clip of one frame, without the neighbours that :func:`coded` gives a still.
    """
    frames = (Frame(crop, number / STILL_RATE, number) for number, crop in enumerate(crops))
    coding = Coding("libx264", crf=crf)
    return np.stack([frame.image for frame in _round_trip(frames, coding, STILL_RATE, crops.shape[1:])])


def write_clip(target: Path | IO[bytes], frames: Iterable[Frame], coding: Coding, rate: float) -> list[Frame]:
    """Encode frames at their own times.

    Args:
        target: file to write, in MP4. An odd side grows by one pixel, as 4:2:0 needs.
        frames: all of one size, in time order.
        coding: of the encoder.
        rate: frames a second, for its rate control.

    Returns:
        The frames that were written, without their pictures (each ``[0, 0, 3]``), in order.
    """
    written = []
    blank = np.empty((0, 0, 3), np.uint8)
    name = str(target) if isinstance(target, Path) else target
    with quiet_ffmpeg(), av.open(name, "w", format="mp4") as container:
        stream: Any = None
        last = -1
        for frame in frames:
            image = _even(frame.image)
            if stream is None:
                stream = _stream(container, image, coding, rate)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if coding.codec != "libx264rgb":
                picture = picture.reformat(
                    format="yuv420p", dst_colorspace="itu601", src_color_range="JPEG", dst_color_range="MPEG"
                )
            last = max(last + 1, round(frame.time_s * _TICKS))
            picture.time_base, picture.pts = Fraction(1, _TICKS), last
            container.mux(stream.encode(picture))
            written.append(Frame(blank, frame.time_s, frame.index))
        if stream is None:
            raise ValueError("Invalid clip (no frames). Supported is one frame or more.")
        container.mux(stream.encode(None))
    return written


def coded(frames: Iterable[Frame], coding: Coding, rate: float) -> Iterator[Frame]:
    """Frames as the encoder leaves them, with their own times and indices; a single one as a still, see above.

    Args:
        frames: in time order, all of one size, which is kept.
        coding: of the encoder.
        rate: frames a second.

    Raises:
        ValueError: the encoder lost a frame.
    """
    given = iter(frames)
    start = [frame for _, frame in zip(range(2), given, strict=False)]
    if not start:
        return
    shape = start[0].image.shape
    if len(start) == 1:
        still = [Frame(start[0].image, i / STILL_RATE, i) for i in range(STILL_FRAMES)]
        decoded = list(_round_trip(still, coding, STILL_RATE, shape))
        yield Frame(decoded[STILL_FRAMES // 2].image, start[0].time_s, start[0].index)
        return

    def everything() -> Iterator[Frame]:
        yield from start
        yield from given

    yield from _round_trip(everything(), coding, rate, shape)


def _round_trip(frames: Iterable[Frame], coding: Coding, rate: float, shape: tuple[int, ...]) -> Iterator[Frame]:
    with tempfile.TemporaryFile(prefix="deepscan-") as file:
        written = write_clip(file, frames, coding, rate)
        file.seek(0)
        n = 0
        with quiet_ffmpeg(), av.open(file, "r") as container:
            for n, picture in enumerate(container.decode(video=0), 1):
                image = picture.to_ndarray(format="rgb24")[: shape[0], : shape[1]]
                if n <= len(written):
                    before = written[n - 1]
                    yield Frame(np.ascontiguousarray(image), before.time_s, before.index)
    if n != len(written):
        raise ValueError(f"{len(written)} frames were encoded, {n} came back.")


def _stream(container: Any, image: RgbImage, coding: Coding, rate: float) -> Any:
    height, width = image.shape[:2]
    frames_a_second = Fraction(rate).limit_denominator(1001)
    stream = container.add_stream(coding.codec, rate=frames_a_second, options=coding.options(width, height, rate))
    stream.height, stream.width, stream.pix_fmt = height, width, _PIXELS[coding.codec]
    context = stream.codec_context
    context.thread_count = 1
    context.time_base = Fraction(1, _TICKS)
    if coding.codec != "libx264rgb":
        context.colorspace, context.color_range = _BT601, _LIMITED
    return stream


def _even(image: RgbImage) -> RgbImage:
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return image
    return np.asarray(cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)
