"""From a decoded frame to the picture that a player shows: aspect, lines of two moments, high dynamic range, rotation.

What a frame needs is told by its own flags and those of its stream; an ordinary one needs none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation, VideoReformatter

from deepscan.extract.images.hdr import HLG, PQ, tone_mapped
from deepscan.extract.images.stills import Orientation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from deepscan.types import RgbImage

# Less is the rounding of an encoder's arithmetic; more than the widest is no aspect of a picture.
_SQUARE_WITHIN, _WIDEST = 0.01, 5.0
# Of ITU-T H.273, as files and FFmpeg have them.
_BT709_PRIMARIES, _UNSPECIFIED_MATRIX = 1, 2
_MOST_SIDE_DATA_TYPES = 64


class Adjacent:
    """Decoded frames with their times, one after the other, and a look at those before and after the last one.

    Args:
        frames: none of them skipped, where they are interlaced.

    Attributes:
        before: the frame before the last one, where that one is interlaced; None for any other.
    """

    def __init__(self, frames: Iterator[tuple[int, VideoFrame]]) -> None:
        self._frames = frames
        self.before: VideoFrame | None = None
        self._here: VideoFrame | None = None
        self._ahead: tuple[int, VideoFrame] | None = None

    def __iter__(self) -> Iterator[tuple[int, VideoFrame]]:
        return self

    def __next__(self) -> tuple[int, VideoFrame]:
        self.before, self._here = self._here, None
        taken, self._ahead = self._ahead or next(self._frames), None
        if taken[1].interlaced_frame:
            self._here = taken[1]
        else:
            self.before = None
        return taken

    def after(self) -> VideoFrame | None:
        """The frame that comes next, which is decoded now; None at the end."""
        self._ahead = self._ahead or next(self._frames, None)
        return self._ahead[1] if self._ahead else None


class Display:
    """Makes RGB pictures, as they are displayed, of one stream's frames.

    Args:
        stream: opened; its container tells the shape of a pixel.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._aspect = _pixel_aspect(stream)
        self._to_rgb = VideoReformatter()

    def size(self, frame: VideoFrame) -> tuple[int, int]:
        """Width and height in pixels that :meth:`picture` gives."""
        width, height = self._scaled(frame)
        return (height, width) if _orientation(frame).swap else (width, height)

    def picture(self, frame: VideoFrame, frames: Adjacent) -> RgbImage:
        """A frame as RGB ``uint8 [H, W, 3]``, C-contiguous: pixels square, one moment, SDR, rotated.

        Args:
            frame: the one that ``frames`` gave last.
            frames: where it comes from; one more may be taken.
        """
        turn, transfer = _orientation(frame), frame.color_trc
        if frame.interlaced_frame:
            frame = _of_one_moment(frame, frames.before, frames.after())
        to: dict[str, Any] = {}
        width, height = self._scaled(frame)
        if (width, height) != (frame.width, frame.height):
            to = {"width": width, "height": height, "interpolation": Interpolation.BICUBIC}
        if transfer in (PQ, HLG):
            return turn.apply(self._sdr(frame, transfer, to))
        # The frame's own colour matrix and range are used. Where none is flagged that is BT.601, limited range,
        # as in FFmpeg and OpenCV, which decoded the datasets that detectors are trained on.
        rgb = self._to_rgb.reformat(
            frame, format="rgb24", src_color_range=frame.color_range, dst_color_range="JPEG", **to
        ).to_ndarray()
        return turn.apply(np.asarray(rgb, dtype=np.uint8))

    def _scaled(self, frame: VideoFrame) -> tuple[int, int]:
        """A frame's size with square pixels, before rotation; none of its pixels is lost."""
        width, height = frame.width, frame.height
        return (round(width * self._aspect), height) if self._aspect >= 1 else (width, round(height / self._aspect))

    def _sdr(self, frame: VideoFrame, transfer: int, to: dict[str, Any]) -> RgbImage:
        if frame.colorspace == _UNSPECIFIED_MATRIX:
            to = {**to, "src_colorspace": "BT2020"}
        deep = self._to_rgb.reformat(
            frame, format="rgb48le", src_color_range=frame.color_range, dst_color_range="JPEG", **to
        ).to_ndarray()
        return tone_mapped(np.asarray(deep, dtype=np.uint16), transfer, wide=frame.color_primaries != _BT709_PRIMARIES)


def _pixel_aspect(stream: VideoStream) -> float:
    """Width of a pixel by its height; 1 where none is told, or none that can be."""
    ratio = stream.sample_aspect_ratio
    aspect = float(ratio) if ratio else 1.0
    return 1.0 if abs(aspect - 1) <= _SQUARE_WITHIN or not 1 / _WIDEST <= aspect <= _WIDEST else aspect


def _of_one_moment(frame: VideoFrame, before: VideoFrame | None, after: VideoFrame | None) -> VideoFrame:
    """The lines of a frame's first moment, and between them what the frames around it have there, where nothing moves,
    or else what they suggest."""
    if before is None or after is None or not _is_like(frame, before) or not _is_like(frame, after):
        # Bwdif and yadif weave the two moments of a frame that stands alone; this one looks at no other.
        return _filtered([frame], [("estdif", "mode=frame:parity=auto:deint=interlaced")])[0]
    return _filtered([before, frame, after], [("bwdif", "mode=send_frame:parity=auto:deint=interlaced")])[1]


def _is_like(frame: VideoFrame, other: VideoFrame) -> bool:
    return (frame.width, frame.height, frame.format.name) == (other.width, other.height, other.format.name)


def _filtered(frames: list[VideoFrame], filters: list[tuple[str, str]]) -> list[VideoFrame]:
    """What filters that give a frame for a frame make of these."""
    first = frames[0]
    graph = av.filter.Graph()
    last = source = graph.add_buffer(
        width=first.width, height=first.height, format=first.format, time_base=first.time_base
    )
    for name, options in [*filters, ("buffersink", "")]:
        following = graph.add(name, options or None)
        last.link_to(following)
        last = following
    graph.configure()
    for frame in [*frames, None]:
        source.push(frame)
    return [cast("VideoFrame", last.pull()) for _ in frames]


def _orientation(frame: VideoFrame) -> Orientation:
    """From the display matrix itself rather than from an angle: phones also store mirrored pictures."""
    try:
        data: Any = frame.side_data
    except ValueError:
        # It holds something that PyAV has no name for, as Exif or the eye of a spatial video: that is taken off.
        known: set[Any] = {kind.value for kind in SideDataType}
        strange = [number for number in range(_MOST_SIDE_DATA_TYPES) if number not in known]
        data = _filtered([frame], [("sidedata", f"mode=delete:type={number}") for number in strange])[0].side_data
    matrix = data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    # Rows (a b u), (c d v), (x y w): a stored point (p, q) is displayed at (a p + c q + x, b p + d q + y).
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(swap=True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(flip_x=a < 0, flip_y=d < 0)
