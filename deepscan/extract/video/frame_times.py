"""When a video's frames are shown, learned from its packets without decoding any."""

from __future__ import annotations

import logging
from array import array
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deepscan.errors import MediaError
from deepscan.extract.video.container import Clock, check_duration, declared_duration_s, demuxed, is_avi, opened
from deepscan.extract.video.damage import Damage

if TYPE_CHECKING:
    from fractions import Fraction
    from pathlib import Path

    from av.container import InputContainer
    from av.video.stream import VideoStream

    from deepscan.config import MediaLimits
    from deepscan.extract.video.sampling import Ticks

# The messages of reading a video have one name, however many modules it takes.
log = logging.getLogger("deepscan.extract.video.frames")

NEVER_SEEK: Ticks = np.empty(0, dtype=np.int64)


class FrameTimes(NamedTuple):
    """Every frame's timestamp, known without decoding.

    ``pts`` is sorted and distinct, ``keys`` too, ``end`` is when the last frame leaves the screen; all
    in ticks of ``time_base``. ``in_order`` is set where the file has no usable timestamps of its own: the
    k-th decoded frame then has the k-th entry, and there is no telling where a seek led. ``lost`` are times of frames
    whose packets are marked as damaged, or that look back at one; ``cut_off_s`` is what the header promises beyond
    the last frame.
    """

    pts: Ticks
    keys: Ticks
    end: int
    time_base: Fraction
    in_order: bool
    lost: frozenset[int] = frozenset()
    cut_off_s: float = 0.0

    @property
    def duration_s(self) -> float:
        return float((self.end - int(self.pts[0])) * self.time_base) if len(self.pts) else 0.0

    def shown_ticks(self) -> Ticks:
        """How long each frame is on the screen, ``int64 [F]``."""
        return np.diff(self.pts, append=max(self.end, int(self.pts[-1])))


def read_timeline(path: Path, limits: MediaLimits, *, warn: bool = False) -> FrameTimes:
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
    if declared_s is None or timeline.duration_s >= declared_s - slack_s:
        return timeline
    if warn:
        log.warning(
            "%s: ends after %.1f of %.1f s; the file is cut off, only that part is examined",
            path.name,
            timeline.duration_s,
            declared_s,
        )
    return timeline._replace(cut_off_s=declared_s - timeline.duration_s)


def _scan(path: Path, container: InputContainer, stream: VideoStream, limits: MediaLimits) -> FrameTimes:
    times, keys = array("q"), array("q")
    end: int | None = None
    # AVI stores no timestamps, only an order; what FFmpeg makes up for reordered frames is wrong.
    in_order = is_avi(container) and bool(stream.codec_context.has_b_frames)
    clock, damage = Clock(stream.time_base), Damage()
    for packet in demuxed(path, container, stream, limits, clock):
        in_order |= packet.pts is None
        candidates = (packet.dts, packet.pts) if in_order else (packet.pts,)
        # No time at all becomes 0, and is told by the repetition below.
        ticks = next((ticks for ticks in candidates if ticks is not None), 0)
        damage.packet(ticks, is_key=packet.is_keyframe)
        if packet.is_corrupt:
            damage.hit()
            continue  # a part of it is missing
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
    # In a file of several recordings a time leads to several places.
    seekable = NEVER_SEEK if clock.joined else np.unique(np.array(keys, dtype=np.int64))
    # Those without times of their own are numbered anew: which of them are damaged is found out by decoding.
    lost = frozenset() if in_order else frozenset(damage.lost.intersection(distinct.tolist()))
    return FrameTimes(distinct, seekable, end or 0, time_base, in_order, lost)
