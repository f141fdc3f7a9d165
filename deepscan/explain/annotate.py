"""The input with its answer drawn into it: boxes, people, running probabilities, the verdict as a word.

A video keeps its frame rate, its timestamps and its sound, whose packets are copied as they are. Everything goes
through PyAV, which brings FFmpeg's libraries with it: no ``ffmpeg`` program is needed. Pictures come out as they are
displayed, so that the result needs no rotation; H.264 asks for even sides, and an odd one grows by a pixel. Subtitles
and further pictures in the file are not kept.

Nothing is drawn that was not measured: between two sampled frames a box moves evenly, but never beyond a person's
first or last sighting, nor where the person was out of sight for longer than two sampling steps. The running
probability is that of the nearest sampled frame.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from deepscan.config import DEFAULT_LIMITS, MediaLimits
from deepscan.errors import OutputError
from deepscan.explain.draw import COLOURS, WORDS, draw_banner, draw_box, draw_label, style_for
from deepscan.explain.timeline import is_gap, sampling_step_s
from deepscan.explain.writer import CONTAINERS, Sound, video_writer
from deepscan.extract.isolation.client import probe, sample_frames
from deepscan.files import write_atomically
from deepscan.text import percent
from deepscan.types import Box, FrameResult, MediaInfo, Result, RgbImage, TrackResult, VerdictLabel

_IMAGE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
Band = tuple[float, float] | None
# Times in reports are rounded to milliseconds.
_SAME_TIME_S = 0.002


@dataclass(frozen=True, slots=True)
class Annotated:
    """What was written.

    Attributes:
        path: of the file.
        n_frames: in it.
        encoder: FFmpeg's name of it; None for an image.
        sound: what became of it.
    """

    path: Path
    n_frames: int
    encoder: str | None
    sound: Sound


class Sight(NamedTuple):
    """One person at one moment: where, and the sampled frame that is nearest in time."""

    box: Box
    nearest: FrameResult


def annotate(
    path: Path,
    result: Result,
    out: Path,
    *,
    band: Band = None,
    limits: MediaLimits = DEFAULT_LIMITS,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> Annotated:
    """Write an annotated copy of a video or image. Memory does not grow with the length.

    Args:
        path: of the input that was judged.
        result: of that input.
        out: file to write, replaced whole or not at all: .mp4, .mov or .mkv for a video; .png, .jpg or .webp for an
            image.
        band: of the detector, see :func:`deepscan.text.percent`.
        limits: on the input, as for the prediction.
        on_progress: called after every frame with the number written so far and, where the container tells, of all.

    Raises:
        MediaError: the input cannot be read.
        OutputError: the result is an error, ``out`` is the input or of no such kind, or cannot be written.
    """
    if result.verdict is VerdictLabel.ERROR:
        raise OutputError(
            f"{path.name} cannot be annotated", result.message or "it was not judged", "Judge it again first."
        )
    media = probe(path, limits)
    _check_target(path, out, media)
    if media.kind == "video":
        return _annotate_video(path, result, out, media, band, limits, on_progress)
    for frame in sample_frames(path, 1, limits):
        image = draw(frame.image.copy(), result, 0.0, band)
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, format=_IMAGE_FORMATS[out.suffix.lower()], quality=95)
        write_atomically(out, buffer.getvalue())
        if on_progress is not None:
            on_progress(1, 1)
    return Annotated(out, 1, None, "none")


def default_suffix(result: Result) -> str:
    """Extension of an annotated copy: ``.mp4`` or ``.png``."""
    return ".png" if result.kind == "image" else ".mp4"


def draw(image: RgbImage, result: Result, time_s: float, band: Band = None) -> RgbImage:
    """Draw what a result says of one moment into a frame.

    Args:
        image: RGB ``uint8 [H, W, 3]`` as displayed, changed in place.
        result: of the input.
        time_s: of the frame.
        band: of the detector.
    """
    style, step = style_for(image), sampling_step_s(result)
    for track in result.tracks:
        sight = sight_at(track, time_s, step)
        if sight is not None:
            colour = COLOURS[track.verdict]
            draw_box(image, sight.box, colour, style)
            lines = [f"person {track.id}: {WORDS[track.verdict]} {percent(track.probability, band)}"]
            if result.kind == "video":
                lines.append(f"this frame alone {percent(sight.nearest.probability)}")
            draw_label(image, sight.box, lines, colour, style)
    draw_banner(image, banner_texts(result, band), COLOURS[result.verdict], style)
    return image


def banner_texts(result: Result, band: Band = None) -> tuple[str, ...]:
    """The verdict in words, for pictures with room and for those with less; the report says why."""
    word = WORDS[result.verdict]
    if result.probability is None:
        return f"deepscan: {word}", word
    shown = percent(result.probability, band)
    return f"deepscan: {word}, P(fake) {shown}", f"{word} {shown}", word


def sight_at(track: TrackResult, time_s: float, step_s: float | None) -> Sight | None:
    """Where a person is at a moment, or None where that is not known.

    Args:
        track: of the person.
        time_s: the moment.
        step_s: between sampled frames, see :func:`deepscan.explain.timeline.sampling_step_s`.
    """
    frames = track.frames
    after = bisect_left(frames, time_s, key=lambda frame: frame.time_s)
    near = [frames[i] for i in (after - 1, after) if 0 <= i < len(frames)]
    # The earlier of two that are equally near.
    nearest = min(near, key=lambda frame: abs(frame.time_s - time_s), default=None)
    if nearest is None:
        return None
    if abs(nearest.time_s - time_s) <= _SAME_TIME_S:
        return Sight(nearest.box, nearest)
    if len(near) < 2 or is_gap(near[0].time_s, near[1].time_s, step_s):
        return None
    share = (time_s - near[0].time_s) / (near[1].time_s - near[0].time_s)
    return Sight(_between(near[0].box, near[1].box, share), nearest)


def _between(first: Box, second: Box, share: float) -> Box:
    x1, y1, x2, y2 = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return x1, y1, x2, y2


def _annotate_video(
    path: Path,
    result: Result,
    out: Path,
    media: MediaInfo,
    band: Band,
    limits: MediaLimits,
    on_progress: Callable[[int, int | None], None] | None,
) -> Annotated:
    n_frames = 0
    size = (media.width_px + media.width_px % 2, media.height_px + media.height_px % 2)
    with video_writer(path, out, size, limits) as writer:
        # More frames than any video has: all of them, one at a time, with the times that the result's are of.
        for frame in sample_frames(path, sys.maxsize, limits):
            image = draw(frame.image.copy(), result, frame.time_s, band)
            writer.write(_fitted(image, size), frame.time_s)
            n_frames += 1
            if on_progress is not None:
                on_progress(n_frames, media.n_frames)
    return Annotated(out, n_frames, writer.encoder, writer.sound)


def _fitted(image: RgbImage, size: tuple[int, int]) -> RgbImage:
    """An image as ``size`` (width, height): one pixel of edge is added; a picture that changes its size is scaled."""
    right, bottom = size[0] - image.shape[1], size[1] - image.shape[0]
    if (right, bottom) == (0, 0):
        return image
    if 0 <= right <= 1 and 0 <= bottom <= 1:
        return cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _check_target(path: Path, out: Path, media: MediaInfo) -> None:
    supported: Sequence[str] = list(CONTAINERS) if media.kind == "video" else list(_IMAGE_FORMATS)
    if out.suffix.lower() not in supported:
        raise OutputError(
            f"{out} cannot be written",
            f"an annotated {media.kind} is one of {', '.join(supported)}",
            f"Name it {out.with_suffix(supported[0]).name}.",
        )
    if out.exists() and out.samefile(path):
        raise OutputError(f"{out} cannot be written", "it is the input itself", "Give another name.")
