"""Reading videos and stills: what is in a file, and N frames spread evenly over it.

One pass over the packets learns every frame's timestamp without decoding any;
:mod:`deepscan.extract.sampling` then plans which frames to take and where a seek is quicker than decoding on.
Timestamps are the file's own, so clips of variable frame rate come out right. Frames are handed out one by
one and none is kept.
"""

from __future__ import annotations

import logging
from array import array
from typing import TYPE_CHECKING, NamedTuple

import av
import numpy as np

from deepscan.config import DEFAULT_LIMITS, MediaLimits
from deepscan.errors import MediaError
from deepscan.extract import sampling
from deepscan.extract.animation import read_animation, sample_animation
from deepscan.extract.container import (
    VIDEO_SUFFIXES,
    Care,
    check_duration,
    check_pixels,
    checked_kind,
    declared_duration_s,
    demuxed,
    is_avi,
    nothing_decodes,
    opened,
    packets,
    quiet_ffmpeg,
)
from deepscan.extract.images import IMAGE_SUFFIXES, image_size, is_animated_webp, read_image
from deepscan.extract.picture import Adjacent, Display
from deepscan.extract.sampling import Step
from deepscan.records import Frame, MediaInfo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction
    from pathlib import Path

    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from deepscan.extract.sampling import Ticks
    from deepscan.records import RgbImage

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "probe", "sample_frames"]

log = logging.getLogger(__name__)

# Decoders that drop frames no other frame depends on when asked packet by packet. Others read the setting
# once when they are opened (dav1d) and would lose the frames we want.
_SKIPPING_CODECS = frozenset({"h264", "hevc"})

_NEVER_SEEK: Ticks = np.empty(0, dtype=np.int64)


class _Timeline(NamedTuple):
    """Every frame's timestamp, known without decoding.

    ``pts`` is sorted and distinct, ``keys`` too, ``end`` is when the last frame leaves the screen; all
    in ticks of ``time_base``. ``in_order`` is set where the file has no usable timestamps of its own: the
    k-th decoded frame then has the k-th entry, and there is no telling where a seek led.
    """

    pts: Ticks
    keys: Ticks
    end: int
    time_base: Fraction
    in_order: bool

    @property
    def duration_s(self) -> float:
        return float((self.end - int(self.pts[0])) * self.time_base) if len(self.pts) else 0.0


class _SeekError(Exception):
    """A seek did not lead where the file's index says: its frames must be reached by decoding on."""


class _DamageError(Exception):
    """A frame does not decode as it should."""


def probe(path: Path, limits: MediaLimits = DEFAULT_LIMITS) -> MediaInfo:
    """What a file holds: kind, displayed size in pixels, duration in seconds, number of frames if declared.

    The kind is decided by the content, not by the extension. The first frame is decoded, so that a file which
    passes here has something to show, and its size is the displayed one.

    Raises:
        MediaError: with the reason ``not_found``, ``not_a_file``, ``empty_file``, ``unreadable``,
            ``no_video_stream``, ``no_frames`` or ``too_large``.
    """
    if checked_kind(path, limits) == "image":
        width, height = image_size(path, limits.max_pixels)
        return MediaInfo(path, "image", width, height, None, 1)
    if is_animated_webp(path):
        found = read_animation(path, limits)
        return MediaInfo(path, "video", found.width_px, found.height_px, found.end_ms / 1000, len(found.starts_ms))
    with quiet_ffmpeg():
        with opened(path, limits, "one") as (container, stream):
            _, frame = next(_decoded(container, stream), (None, None))
            width, height = Display(stream).size(frame) if frame is not None else (0, 0)
            duration_s = declared_duration_s(container, stream)
            n_frames = stream.frames or None
        if frame is None or duration_s is None:
            # Rare: a damaged file, or a recording that was never closed (webm from a browser).
            timeline = _timeline(path, limits)
            if frame is None:
                raise nothing_decodes(path)
            duration_s, n_frames = timeline.duration_s, len(timeline.pts)
        check_duration(path, duration_s, limits)
        check_pixels(path, width, height, limits)
        return MediaInfo(path, "video", width, height, duration_s, n_frames)


def sample_frames(path: Path, n_frames: int, limits: MediaLimits = DEFAULT_LIMITS) -> Iterator[Frame]:
    """``n_frames`` frames spread evenly over the whole video, in time order; all of them if it has fewer.

    Args:
        path: a video, or a still image, which gives one frame at 0 s.
        n_frames: how many frames to take, at least 1. Frame i is the one nearest to
            ``(i + 0.5) / n_frames`` of the duration.
        limits: what to refuse.

    Yields:
        Frames with a C-contiguous RGB ``uint8 [H, W, 3]`` image, as displayed (:mod:`deepscan.extract.picture`), and
        the true time in seconds from the start of the stream. One at a time: memory does not grow with the video.

    A file that is cut off or damaged gives what can be decoded and a warning on the ``deepscan`` logger.

    Raises:
        ValueError: at once, if ``n_frames`` is less than 1.
        MediaError: at the first frame, with the reasons of :func:`probe`.
    """
    if n_frames < 1:
        raise ValueError(f"Invalid n_frames ({n_frames}). Supported are whole numbers from 1.")
    return _sampled(path, n_frames, limits)


def _sampled(path: Path, n_frames: int, limits: MediaLimits) -> Iterator[Frame]:
    if checked_kind(path, limits) == "image":
        yield Frame(read_image(path, limits.max_pixels), time_s=0.0, index=0)
        return
    if is_animated_webp(path):
        for index, (image, time_s) in enumerate(sample_animation(path, n_frames, limits)):
            yield Frame(image, time_s, index)
        return
    with quiet_ffmpeg():
        timeline = _timeline(path, limits, warn=True)
        keys = _NEVER_SEEK if timeline.in_order else timeline.keys
        steps = sampling.plan(timeline.pts, timeline.end, keys, n_frames, sampling.SEEK_COST_FRAMES)
        start = int(timeline.pts[0])
        n_given = 0
        for pts, image, sought in _taken(path, timeline, steps, limits):
            yield Frame(image, float((pts - start) * timeline.time_base), n_given, sought)
            n_given += 1
        if not n_given:
            raise nothing_decodes(path)
        if n_given < len(steps):
            log.warning(
                "%s: %d of %d frames could not be decoded; the file is damaged",
                path.name,
                len(steps) - n_given,
                len(steps),
            )


def _taken(
    path: Path, timeline: _Timeline, steps: list[Step], limits: MediaLimits
) -> Iterator[tuple[int, RgbImage, bool]]:
    """Follow the plan; where a seek misleads or a frame is damaged, reach what is left in one pass from the start."""
    # After a seek the first pictures may look back at what was not decoded: that is no damage.
    care: Care = "all" if any(step.seek_to is not None for step in steps) else "none"
    while True:
        n_done = 0
        try:
            for taken in _follow(path, timeline, steps, limits, care):
                yield taken
                n_done += 1
        except _SeekError:
            log.debug("%s: its index is wrong, reading it from the start", path.name)
            care = "none"
        except _DamageError:
            log.debug("%s: it is damaged, reading it from the start with care", path.name)
            care = "one"
        else:
            return
        steps = [Step(step.pts) for step in steps[n_done:]]


def _follow(
    path: Path, timeline: _Timeline, steps: list[Step], limits: MediaLimits, care: Care
) -> Iterator[tuple[int, RgbImage, bool]]:
    wanted = None if timeline.in_order else {step.pts for step in steps}
    with opened(path, limits, care) as (container, stream):
        display = Display(stream)
        in_order = timeline.pts if timeline.in_order else None
        frames = Adjacent(_decoded(container, stream, wanted, in_order, fails=care == "none"))
        for step in steps:
            if step.seek_to is not None:
                try:
                    container.seek(step.seek_to, stream=stream)
                except av.FFmpegError:
                    raise _SeekError from None
                frames = Adjacent(_decoded(container, stream, wanted, fails=care == "none"))
            pts, frame = next((taken for taken in frames if taken[0] >= step.pts), (None, None))
            if step.seek_to is not None and pts != step.pts:
                raise _SeekError
            if pts is None or frame is None:
                return
            check_pixels(path, *display.size(frame), limits)
            yield pts, display.picture(frame, frames), step.seek_to is not None


def _decoded(
    container: InputContainer,
    stream: VideoStream,
    wanted: set[int] | None = None,
    in_order: Ticks | None = None,
    *,
    fails: bool = False,
) -> Iterator[tuple[int, VideoFrame]]:
    """Decoded frames with their timestamps from where the container stands, damaged ones left out.

    With ``wanted``, frames that are neither wanted nor needed for others may be skipped. With ``in_order``,
    frames get these timestamps one after the other instead of their own.

    Raises:
        _DamageError: something is damaged, with ``fails``.
    """
    decoder = stream.codec_context
    skipping = wanted is not None and decoder.name in _SKIPPING_CODECS
    interlaced = False  # such a frame needs those beside it, too
    n_seen = 0
    for packet in packets(container, stream):
        if packet.is_corrupt:
            continue  # cut off in its middle; feeding it loses the good frames that wait behind it
        if skipping:
            decoder.skip_frame = "DEFAULT" if wanted is None or packet.pts in wanted or interlaced else "NONREF"
        try:
            frames = packet.decode()
        except av.FFmpegError:
            if fails:
                raise _DamageError from None
            continue  # the decoder picks up at a later packet
        for frame in frames:
            interlaced |= frame.interlaced_frame
            pts = frame.pts if frame.pts is not None else frame.dts
            if in_order is not None:
                pts = int(in_order[n_seen]) if n_seen < len(in_order) else None
            n_seen += 1
            if pts is not None and not frame.is_corrupt:
                yield pts, frame


def _timeline(path: Path, limits: MediaLimits, *, warn: bool = False) -> _Timeline:
    """Read the packets of the video, decoding none; raises ``no_frames`` where there are none."""
    with opened(path, limits) as (container, stream):
        declared_s = declared_duration_s(container, stream)
        check_duration(path, declared_s, limits)
        # Containers know when their audio ends too; only a stream's own duration is exact.
        slack_s = 0.5 if stream.duration is not None else max(1.0, (declared_s or 0.0) / 10)
        timeline = _scan(path, container, stream, limits)
    if not len(timeline.pts):
        raise MediaError(
            f"{path.name}: holds no frames",
            "the video in it is empty",
            "The recording or download may have stopped before it began; get the file again.",
            reason="no_frames",
        )
    check_duration(path, timeline.duration_s, limits)
    if warn and declared_s is not None and timeline.duration_s < declared_s - slack_s:
        log.warning(
            "%s: ends after %.1f of %.1f s; the file is cut off, only that part is examined",
            path.name,
            timeline.duration_s,
            declared_s,
        )
    return timeline


def _scan(path: Path, container: InputContainer, stream: VideoStream, limits: MediaLimits) -> _Timeline:
    times, keys = array("q"), array("q")
    end: int | None = None
    # AVI stores no timestamps, only an order; what FFmpeg makes up for reordered frames is wrong.
    in_order = is_avi(container) and bool(stream.codec_context.has_b_frames)
    for packet in demuxed(path, container, stream, limits):
        if packet.is_corrupt:
            continue  # it is cut off
        in_order |= packet.pts is None
        candidates = (packet.dts, packet.pts) if in_order else (packet.pts,)
        # No time at all becomes 0, and is told by the repetition below.
        ticks = next((ticks for ticks in candidates if ticks is not None), 0)
        if packet.is_keyframe:
            keys.append(ticks)
        # Edit lists hide frames which others still need: they are decoded, and keyframes, but never shown.
        if not packet.is_discard:
            times.append(ticks)
            ends_at = ticks + (packet.duration or 0)
            end = ends_at if end is None else max(end, ends_at)
    time_base = stream.time_base
    assert time_base is not None  # noqa: S101 - every demuxed stream has one
    pts = np.sort(np.frombuffer(times, dtype=np.int64)) if times else np.empty(0, dtype=np.int64)
    distinct = np.unique(pts)
    # Without usable timestamps the frame rate is all there is to go by.
    if len(distinct) < (len(pts) if in_order else len(pts) / 2):
        rate = stream.average_rate or stream.guessed_rate or 25
        tick = max(1, round(1 / (rate * time_base)))
        in_order = True
        distinct = np.arange(len(pts), dtype=np.int64) * tick
        end = len(pts) * tick
    if len(distinct) > 1:
        end = max(end or 0, int(distinct[-1] + np.median(np.diff(distinct))))
    return _Timeline(distinct, np.unique(np.array(keys, dtype=np.int64)), end or 0, time_base, in_order)
