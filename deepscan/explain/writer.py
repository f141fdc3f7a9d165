"""Writing a video through PyAV: frames encoded as they come, the source's sound copied packet by packet."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import av
import av.error
import numpy as np

from deepscan.config import MediaLimits
from deepscan.errors import OutputError
from deepscan.extract.images.stills import is_animated_webp
from deepscan.extract.video.container import opened, quiet_ffmpeg
from deepscan.files import temporary_beside
from deepscan.types import RgbImage

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

Sound = Literal["copied", "none", "left out"]

# FFmpeg's name of the container, by extension.
CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
# The first that the installed PyAV has. None reorders frames: the last packet is that of the last frame.
ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "veryfast", "crf": "20", "bf": "0"},
    "libopenh264": {"b": "4M"},
    "mpeg4": {"qscale": "3"},
}
_BT709, _LIMITED_RANGE = 1, 1
# MPEG-4's own limit on the denominator of a time base, and what takes its place: the usual frame rates fall on it.
_MAX_MPEG4_TICKS, _MPEG4_BASE = 65_535, Fraction(1, 60_000)
# A last frame that would be shown for longer is one whose followers are lost.
_MAX_LAST_S = Fraction(2)
# Encoders put this much silence before the sound; it is no reason to move the picture.
_PRIMING_S = Fraction(1, 10)


@contextmanager
def video_writer(source: Path, out: Path, size: tuple[int, int], limits: MediaLimits) -> Iterator[VideoWriter]:
    """A writer whose file appears at ``out`` when the block ends without error, and not at all otherwise.

    Args:
        source: video whose timing and sound are kept.
        out: its extension is one of :data:`CONTAINERS`.
        size: width and height in pixels, even numbers.
        limits: on the source.

    Raises:
        MediaError: the source cannot be opened.
        OutputError: the file cannot be written, or there is no encoder.
    """
    try:
        with quiet_ffmpeg(), temporary_beside(out) as temporary, _timing(source, limits) as (given, stream):
            try:
                name = CONTAINERS[out.suffix.lower()]
                options = {} if name == "matroska" else {"movflags": "+faststart"}
                with av.open(str(temporary), "w", format=name, options=options) as target:
                    writer = VideoWriter(target, given, stream, size)
                    yield writer
                    writer.finish()
            except av.FFmpegError as error:
                raise OutputError(
                    f"{out} cannot be written", error.strerror or str(error), "Check the space on the disk."
                ) from error
    finally:
        # PyAV's containers and streams refer to each other: an encoder's frames (200 MB at 1080p) would wait for the
        # garbage collector, and those of the next video come on top.
        gc.collect()


@contextmanager
def _timing(source: Path, limits: MediaLimits) -> Iterator[tuple[Any, Any]]:
    """The source's container and main stream; of an animated WebP, which FFmpeg does not open, what stands for them."""
    if is_animated_webp(source):
        silent = SimpleNamespace(streams=SimpleNamespace(audio=[]), name=source.name)
        rate = {"average_rate": None, "guessed_rate": None, "time_base": Fraction(1, 1000)}
        yield silent, SimpleNamespace(start_time=0, duration=None, **rate)
        return
    with opened(source, limits) as container_and_stream:
        yield container_and_stream


class VideoWriter:
    """Encodes frames into an open container; made by :func:`video_writer`.

    Attributes:
        encoder: FFmpeg's name of it.
        sound: what became of the source's; final at the end.
    """

    def __init__(
        self, target: OutputContainer, source: InputContainer, timing: VideoStream, size: tuple[int, int]
    ) -> None:
        start = _start(timing) or Fraction(0)
        first_sound = min((s for s in map(_start, source.streams.audio) if s is not None), default=start)
        # Sound that begins before the picture moves the picture, not itself: files start at 0.
        origin = first_sound if first_sound < start - _PRIMING_S else start
        self._delay = start - origin
        length = None if timing.duration is None or timing.time_base is None else timing.duration * timing.time_base
        self._end = None if length is None else self._delay + length
        self._target = target
        self.encoder, self._stream = _video_stream(target, timing, size)
        self._base: Fraction = self._stream.codec_context.time_base
        self._sound = _SoundCopy(source, target, origin)
        self._last_pts = -1
        self._held: Any = None

    @property
    def sound(self) -> Sound:
        return self._sound.state

    def write(self, image: RgbImage, time_s: float) -> None:
        """Add a frame: RGB ``uint8 [H, W, 3]`` of the writer's size, shown from ``time_s`` on."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        # Converted to what the stream is flagged as: players do not have to guess.
        frame = frame.reformat(
            format="yuv420p", dst_colorspace="itu709", src_color_range="JPEG", dst_color_range="MPEG"
        )
        now = Fraction(time_s) + self._delay
        # Of two frames that fall on one tick the later moves on.
        self._last_pts = max(round(now / self._base), self._last_pts + 1)
        frame.time_base, frame.pts = self._base, self._last_pts
        self._mux(self._stream.encode(frame))
        self._sound.copy_until(now)

    def finish(self) -> None:
        """Write what the encoder holds back, and the rest of the sound."""
        self._mux(self._stream.encode(None))
        if self._held is not None:
            rest = None if self._end is None else self._end - self._last_pts * self._base
            if rest is not None and 0 < rest <= _MAX_LAST_S:
                self._held.duration = max(1, round(rest / self._base))
            self._target.mux_one(self._held)
        self._sound.copy_until(None)

    def _mux(self, packets: Sequence[Any]) -> None:
        """All but the newest: containers learn from the next packet how long one lasts; the last has to say it."""
        for packet in packets:
            if self._held is not None:
                self._target.mux_one(self._held)
            self._held = packet


class _SoundCopy:
    """Copies the packets of all sound tracks that the target takes, in step with the picture."""

    def __init__(self, source: InputContainer, target: OutputContainer, origin: Fraction) -> None:
        self._target, self._origin, self._name = target, origin, Path(source.name).name
        self._streams: dict[int, Stream] = {}
        for stream in source.streams.audio:
            codec = stream.codec_context.codec.canonical_name if stream.codec_context is not None else "unknown"
            if codec in target.supported_codecs:
                self._streams[stream.index] = target.add_stream_from_template(stream)
            else:
                log.warning(
                    "%s: its sound (%s) does not fit into %s and is left out", self._name, codec, target.format.name
                )
        taken = [stream for stream in source.streams.audio if stream.index in self._streams]
        self._packets: Iterator[Any] | None = source.demux(taken) if taken else None
        self._next: Any = None
        self.state: Sound = "copied" if taken else "left out" if source.streams.audio else "none"

    def copy_until(self, time: Fraction | None) -> None:
        """Copy packets that start up to ``time``, in seconds from the origin; None for all that are left."""
        while self._packets is not None:
            try:
                packet = self._next or next(self._packets, None)
                self._next = None
                if packet is None:
                    self._packets = None
                elif packet.dts is not None and packet.time_base is not None:
                    if time is not None and packet.dts * packet.time_base - self._origin > time:
                        self._next = packet
                        return
                    self._copy(packet)
            except av.FFmpegError:
                log.warning("%s: its sound is damaged and ends early", self._name)
                self._packets = None

    def _copy(self, packet: Any) -> None:
        shift = round(self._origin / packet.time_base)
        packet.dts -= shift
        if packet.pts is not None:
            packet.pts -= shift
        packet.stream = self._streams[packet.stream.index]
        self._target.mux_one(packet)


def _start(stream: Any) -> Fraction | None:
    """When a stream begins, in seconds, where its container says so."""
    return None if stream.start_time is None or stream.time_base is None else stream.start_time * stream.time_base


def _video_stream(target: OutputContainer, timing: VideoStream, size: tuple[int, int]) -> tuple[str, Any]:
    """The encoder's name, and a stream of ``size`` at the frame rate and on the time base of another."""
    rate = timing.average_rate or timing.guessed_rate or Fraction(25)
    name = next((name for name in ENCODERS if name in av.codecs_available), None)
    if name is None:
        raise OutputError(
            "The video cannot be written",
            f"the installed PyAV has none of the encoders {', '.join(ENCODERS)}",
            "Install PyAV from PyPI: pip install --force-reinstall av",
        )
    base = timing.time_base
    assert base is not None  # noqa: S101 - every demuxed stream has one
    if name == "mpeg4" and base.denominator > _MAX_MPEG4_TICKS:
        base = _MPEG4_BASE
    stream: Any = target.add_stream(name, rate=rate, options=ENCODERS[name])
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.thread_type = "AUTO"
    context = stream.codec_context
    context.time_base = base
    context.colorspace, context.color_range = _BT709, _LIMITED_RANGE
    return name, stream
