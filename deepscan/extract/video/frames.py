"""Reading videos and stills: what is in a file, and N frames spread evenly over it.

One pass over the packets learns every frame's timestamp without decoding any;
:mod:`deepscan.extract.video.sampling` then plans which frames to take and where a seek is quicker than decoding on.
Timestamps are the file's own, so clips of variable frame rate come out right. Frames are handed out one by
one and none is kept.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Set as AbstractSet
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from deepscan.config import DEFAULT_LIMITS, MediaLimits
from deepscan.extract.images.stills import image_size, is_animated_webp, jpeg_table, more_in_still, read_image
from deepscan.extract.video import sampling
from deepscan.extract.video.animation import read_animation, sample_animation
from deepscan.extract.video.container import (
    Care,
    check_duration,
    check_pixels,
    checked_kind,
    declared_duration_s,
    nothing_decodes,
    opened,
    other_pictures,
    packets,
    quiet_ffmpeg,
)
from deepscan.extract.video.damage import Damage
from deepscan.extract.video.frame_times import NEVER_SEEK, FrameTimes, read_timeline
from deepscan.extract.video.picture import Adjacent, Display
from deepscan.extract.video.sampling import Step
from deepscan.types import Coverage, Frame, MediaInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from deepscan.extract.video.sampling import Ticks
    from deepscan.types import RgbImage

log = logging.getLogger(__name__)

# Decoders that drop frames no other frame depends on when asked packet by packet. Others read the setting
# once when they are opened (dav1d) and would lose the frames we want.
SKIPPING_CODECS = frozenset({"h264", "hevc"})

# Damage is looked for where frames are to be taken; where it is found they are taken elsewhere, so often at most.
_MOST_ROUNDS = 6
# A damaged file is read as a whole up to so many frames: an index is not to be trusted there.
_READ_WHOLE_FRAMES = 20_000


class _SeekError(Exception):
    """A seek did not lead where the file's index says: its frames must be reached by decoding on."""


class _DamageError(Exception):
    """A frame does not decode as it should."""


class _InterlacedError(Exception):
    """A frame shows two moments: for one of them the frames beside it are needed."""


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
        others, table = more_in_still(path, limits.max_pixels), jpeg_table(path, limits.max_pixels)
        return MediaInfo(path, "image", width, height, None, 1, others, table)
    if is_animated_webp(path):
        webp = read_animation(path, limits)
        return MediaInfo(path, "video", webp.width_px, webp.height_px, webp.end_ms / 1000, len(webp.starts_ms))
    with quiet_ffmpeg():
        with opened(path, limits, "one") as (container, stream):
            # Whatever its time: raw streams have none.
            _, frame = next(_decoded(container, stream, in_order=range(sys.maxsize)), (None, None))
            width, height = Display(stream).size(frame) if frame is not None else (0, 0)
            duration_s = declared_duration_s(container, stream)
            n_frames, n_others = stream.frames or None, other_pictures(container, stream)
        if frame is None or duration_s is None:
            # Rare: a damaged file, or a recording that was never closed (webm from a browser).
            timeline = read_timeline(path, limits)
            if frame is None:
                raise nothing_decodes(path)
            duration_s, n_frames = timeline.duration_s, len(timeline.pts)
        check_duration(path, duration_s, limits)
        check_pixels(path, width, height, limits)
        return MediaInfo(path, "video", width, height, duration_s, n_frames, n_others)


def sample_frames(
    path: Path,
    n_frames: int,
    limits: MediaLimits = DEFAULT_LIMITS,
    *,
    nearby_share: float = 0.0,
    examined: Callable[[Coverage], None] | None = None,
) -> Iterator[Frame]:
    """``n_frames`` frames spread evenly over the whole video, in time order; all of them if it has fewer.

    From damage to the next keyframe none are taken: they are spread over what remains.

    Args:
        path: a video, or a still image, which gives one frame at 0 s.
        n_frames: how many frames to take, at least 1. Frame i is the one nearest to
            ``(i + 0.5) / n_frames`` of the duration.
        limits: what to refuse.
        nearby_share: how far from that time a frame may be, in shares of the spacing, where it is reached sooner: a
            keyframe in place of one that many others have to be decoded for.
        examined: called once after the last frame of a video, with how much of it the frames stand for.

    Yields:
        Frames with a C-contiguous RGB ``uint8 [H, W, 3]`` image, as displayed (:mod:`deepscan.extract.video.picture`),
        and the true time in seconds from the start of the stream. One at a time: memory does not grow with the video.

    A file that is cut off or damaged gives what can be decoded and a warning on the ``deepscan`` logger.

    Raises:
        ValueError: at once, if ``n_frames`` is less than 1.
        MediaError: at the first frame, with the reasons of :func:`probe`.
    """
    if n_frames < 1:
        raise ValueError(f"Invalid n_frames ({n_frames}). Supported are whole numbers from 1.")
    return _sampled(path, n_frames, limits, nearby_share, examined)


def _sampled(
    path: Path,
    n_frames: int,
    limits: MediaLimits,
    nearby_share: float,
    examined: Callable[[Coverage], None] | None,
) -> Iterator[Frame]:
    if checked_kind(path, limits) == "image":
        yield Frame(read_image(path, limits.max_pixels), time_s=0.0, index=0)
        return
    if is_animated_webp(path):
        for index, (image, time_s) in enumerate(sample_animation(path, n_frames, limits)):
            yield Frame(image, time_s, index)
        return
    with quiet_ffmpeg():
        timeline = read_timeline(path, limits, warn=True)
        lost = set(timeline.lost)
        start = int(timeline.pts[0])
        n_given = 0
        for step, image in _taken(path, timeline, n_frames, limits, nearby_share, lost):
            time_s, shift_s = (float(ticks * timeline.time_base) for ticks in (step.pts - start, step.shift))
            yield Frame(image, time_s, n_given, step.seek_to is not None, shift_s)
            n_given += 1
        if not n_given:
            raise nothing_decodes(path, damaged=bool(lost))
        coverage = _coverage(timeline, lost)
        if coverage.damaged_s:
            log.warning(
                "%s: %.1f of %.1f s are damaged and left out", path.name, coverage.damaged_s, coverage.duration_s
            )
        if examined is not None:
            examined(coverage)


def _coverage(timeline: FrameTimes, lost: set[int]) -> Coverage:
    damaged = timeline.shown_ticks()[np.isin(timeline.pts, list(lost))].sum() if lost else 0
    damaged_s = float(int(damaged) * timeline.time_base)
    return Coverage(timeline.duration_s + timeline.cut_off_s, damaged_s, timeline.cut_off_s)


def _taken(
    path: Path, timeline: FrameTimes, n_frames: int, limits: MediaLimits, nearby_share: float, lost: set[int]
) -> Iterator[tuple[Step, RgbImage]]:
    """Plan and follow the plan; where a seek misleads, reach what is left in one pass from the start; where there is
    damage, take other frames. ``lost`` grows by the times of frames that are found to be damaged."""
    keys = NEVER_SEEK if timeline.in_order else timeline.keys
    after = int(timeline.pts[0]) - 1
    care: Care
    if lost:
        steps, care = _undamaged(path, timeline, n_frames, after, limits, lost), "one"
    else:
        steps = sampling.plan(
            timeline.pts, timeline.end, keys, n_frames, sampling.SEEK_COST_FRAMES, nearby_share=nearby_share
        )
        # After a seek the first pictures may look back at what was not decoded: that is no damage.
        care = "all" if any(step.seek_to is not None for step in steps) else "none"
    is_interlaced = False
    while True:
        n_done = 0
        try:
            for step, image in follow_plan(path, timeline, steps, limits, care, is_interlaced=is_interlaced):
                yield step, image
                after = step.pts
                n_done += 1
        except _SeekError:
            log.debug("%s: its index is wrong, reading it from the start", path.name)
            care = "one" if care == "one" else "none"
            steps = [Step(step.pts, None, step.shift) for step in steps[n_done:]]
        except _InterlacedError:
            is_interlaced = True
            exact = sampling.plan(timeline.pts, timeline.end, keys, n_frames, sampling.SEEK_COST_FRAMES)
            steps = [step for step in exact if step.pts > after]
        except _DamageError:
            log.debug("%s: it is damaged, reading it with care", path.name)
            care = "one"
            steps = _undamaged(path, timeline, len(steps) - n_done, after, limits, lost)
        else:
            return


def _undamaged(
    path: Path, timeline: FrameTimes, n_frames: int, after: int, limits: MediaLimits, lost: set[int]
) -> list[Step]:
    """A plan for frames after the time ``after`` that no damage reaches, found by decoding; ``lost`` grows."""
    shown: set[int] = set()
    absent: set[int] = set()
    steps: list[Step] = []
    may_seek = not timeline.in_order and len(timeline.pts) > _READ_WHOLE_FRAMES
    for _ in range(_MOST_ROUNDS):
        useless = np.array(sorted(lost | absent), dtype=np.int64)
        usable = (timeline.pts > after) & ~np.isin(timeline.pts, useless)
        keys = np.setdiff1d(timeline.keys, useless) if may_seek else NEVER_SEEK
        steps = sampling.plan(timeline.pts, timeline.end, keys, n_frames, sampling.SEEK_COST_FRAMES, usable)
        if all(step.pts in shown for step in steps):
            break
        try:
            came = _shown(path, timeline, steps, limits, lost)
        except _SeekError:
            may_seek = False
            continue
        shown |= came
        absent.update(step.pts for step in steps if step.pts not in came)
    return [step for step in steps if step.pts in shown and step.pts not in lost]


def _shown(path: Path, timeline: FrameTimes, steps: list[Step], limits: MediaLimits, lost: set[int]) -> set[int]:
    """Times of the frames that come out on the way of a plan; ``lost`` grows by those that damage reaches."""
    in_order = timeline.pts if timeline.in_order else None
    came: set[int] = set()
    with opened(path, limits, "one") as (container, stream):
        damage = Damage()
        starts = [i for i, step in enumerate(steps) if i == 0 or step.seek_to is not None]
        for start, end in zip(starts, [*starts[1:], len(steps)], strict=True):
            seek_to = steps[start].seek_to
            if seek_to is not None:
                try:
                    container.seek(seek_to, stream=stream)
                except av.FFmpegError:
                    raise _SeekError from None
                damage.restart(seek_to)
            # What is read from the start is read to its end: then one round tells all.
            last = steps[end - 1].pts if len(starts) > 1 else timeline.end
            times: list[int] = []
            with closing(_decoded(container, stream, in_order=in_order, damage=damage)) as frames:
                for pts, _ in frames:
                    if seek_to is not None and pts > seek_to and seek_to not in damage.lost:
                        raise _SeekError
                    seek_to = None
                    # Frames come in the order of time: one that is later than what follows has another one's time.
                    while times and times[-1] > pts:
                        damage.lost.add(times.pop())
                    times.append(pts)
                    came.add(pts)
                    if pts >= last:
                        break
    lost |= damage.lost
    return came


def follow_plan(
    path: Path, timeline: FrameTimes, steps: list[Step], limits: MediaLimits, care: Care, *, is_interlaced: bool = False
) -> Iterator[tuple[Step, RgbImage]]:
    """The planned frames, with the steps that led to them."""
    planned = {step.pts: step for step in steps}
    needed = None if timeline.in_order else planned.keys()
    fails = care != "one"
    # Before a seek the decoder is emptied, instead of being fed until its threads give the frame.
    lasts = [step.pts for step, next_step in pairwise(steps) if next_step.seek_to is not None] + [
        max(planned, default=0)
    ]
    until = set() if timeline.in_order or is_interlaced or not fails else set(lasts)
    with opened(path, limits, care) as (container, stream):
        display = Display(stream)
        in_order = timeline.pts if timeline.in_order else None
        frames = Adjacent(_decoded(container, stream, needed, in_order, fails=fails, until=until))
        for step in steps:
            if step.seek_to is not None:
                try:
                    container.seek(step.seek_to, stream=stream)
                except av.FFmpegError:
                    raise _SeekError from None
                frames = Adjacent(_decoded(container, stream, needed, fails=fails, since=step.seek_to, until=until))
            pts, frame = next(
                (item for item in frames if item[0] >= step.pts and (fails or item[0] in planned)), (None, None)
            )
            if step.seek_to is not None and pts != step.pts:
                raise _SeekError
            if fails and needed is not None and pts != step.pts:
                raise _DamageError  # threads may lose a frame without a word
            if pts is None or frame is None:
                return
            if frame.interlaced_frame and until:
                raise _InterlacedError
            check_pixels(path, *display.size(frame), limits)
            yield (step if pts == step.pts else planned.get(pts, Step(pts))), display.picture(frame, frames)


def _decoded(
    container: InputContainer,
    stream: VideoStream,
    needed: AbstractSet[int] | None = None,
    in_order: Sequence[int] | Ticks | None = None,
    *,
    fails: bool = False,
    since: int | None = None,
    until: AbstractSet[int] = frozenset(),
    damage: Damage | None = None,
) -> Generator[tuple[int, VideoFrame], None, None]:
    """Decoded frames with their timestamps from where the container stands, damaged ones left out.

    With ``needed``, frames that are neither wanted nor needed for others may be skipped. With ``in_order``,
    frames get these timestamps one after the other instead of their own. A frame whose time is in ``until`` ends it.
    ``damage`` is told of every packet and mark.

    Raises:
        _DamageError: something is damaged, with ``fails``; not what is shown before ``since``, which a seek led to.
    """
    decoder = stream.codec_context
    damage = damage or Damage()
    skipping = needed is not None and decoder.name in SKIPPING_CODECS
    interlaced = False  # such a frame needs those beside it, too
    n_decoded = n_read = 0
    for packet in _up_to(until, packets(container, stream), stream):
        if packet.size:
            damage.packet(_ticks(packet, in_order, n_read) or 0, is_key=packet.is_keyframe)
            n_read += 1
        if packet.is_corrupt:
            damage.hit()
            continue  # cut off in its middle; feeding it loses the good frames that wait behind it
        if skipping:
            decoder.skip_frame = "DEFAULT" if needed is None or packet.pts in needed or interlaced else "NONREF"
        try:
            frames = packet.decode()
        except av.FFmpegError:
            if fails and (since is None or (packet.pts or 0) >= since):
                raise _DamageError from None
            damage.hit()
            continue  # the decoder picks up at a later packet
        for frame in frames:
            interlaced |= frame.interlaced_frame
            pts = _ticks(frame, in_order, n_decoded)
            n_decoded += 1
            if pts is None:
                continue
            if not frame.is_corrupt:
                yield pts, frame
            elif fails and (since is None or pts >= since):
                raise _DamageError
            else:
                damage.marked(pts)


def _up_to(
    last: AbstractSet[int], given: Iterator[Packet[VideoStream]], stream: VideoStream
) -> Iterator[Packet[VideoStream]]:
    """The packets up to one whose time is in ``last``, then an empty one, with which the decoder gives what it has."""
    for packet in given:
        yield packet
        if packet.pts in last:
            end: Any = av.Packet()
            end.stream = stream
            yield end
            return


def _ticks(part: Packet[VideoStream] | VideoFrame, in_order: Sequence[int] | Ticks | None, index: int) -> int | None:
    if in_order is not None:
        return int(in_order[index]) if index < len(in_order) else None
    return part.pts if part.pts is not None else part.dts
