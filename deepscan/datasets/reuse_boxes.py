"""A fake cut at the faces of its original: most manipulations change a face and leave it where it is.

It saves the detection in every fake, and the crops of both show the same square of the same moment, so that they differ
by the manipulation alone. Where the two videos do not share their frames, the fake's own faces are found as usual.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from deepscan.datasets.store.store import StoredVideo, StoreSettings, VideoRecord
from deepscan.extract.crops import brightness, crop_face
from deepscan.extract.people import Extraction, Person
from deepscan.types import Frame, MediaInfo, RgbImage, Sighting

log = logging.getLogger(__name__)

# Two files of one frame each have no interval to go by.
_LONE_FRAME_S = 0.02


def reuse_people(
    media: MediaInfo, frames: Iterator[Frame], original: StoredVideo, settings: StoreSettings
) -> Extraction | None:
    """The people of a fake, at the boxes and landmarks of its original. Nothing is detected.

    It does not fit, and there is no answer, when

    * a frame of the fake has another displayed size than the original: the boxes are in its pixels;
    * another number of frames was sampled: one of the videos is shorter than that, or damaged;
    * a frame's time differs from that of the original's by more than half the sampling interval, so that another
      one of its frames is nearer. Of the original the times are known of the frames with a face. The interval is the
      original's length over its number of sampled frames; for a single frame the difference may be 20 ms.

    Only the frames themselves show this, for some at the last: what was cut until then is dropped. Frames are looked
    at one after the other and none is kept; what stays in memory are the crops.

    Args:
        media: what is known of the fake.
        frames: of the fake, sampled as those of the original, in time order. They are used up; after None the
            fake must be opened again.
        original: its file in the store.
        settings: of the run.

    Returns:
        The original's tracks with their numbers, boxes, landmarks and confidences, at the times and with the crops and
        their brightness of the fake; frames with a face, usable faces and the largest are counted among these
        boxes, and the time of detection is 0. Or None.

    Raises:
        ValueError: the original was extracted with other settings.
        MediaError: what the frames raise.
    """
    if original.settings != settings.for_boxes(None):
        raise ValueError(f"{original.path} was extracted with other settings than these.")
    cutter = _Cutter(original, settings)
    timing = {"decode": 0.0, "detect": 0.0}
    brightest = 0.0
    sampled = 0
    while (frame := _next(frames, timing)) is not None:
        misfit = cutter.cut(frame)
        if misfit is not None:
            break
        brightest = max(brightest, brightness(frame.image))
        sampled += 1
    else:
        misfit = cutter.missing(sampled)
    if misfit is not None:
        log.debug("%s: does not share the frames of %s: %s", media.path.name, original.video.video_id, misfit)
        return None
    sightings = [sighting for track in original.tracks for sighting in track.track.sightings]
    return Extraction(
        media=media,
        people=cutter.people(),
        frames_sampled=sampled,
        frames_with_face=len({sighting.frame_index for sighting in sightings}),
        n_usable=len(sightings),
        largest_px=max(sighting.face.size_px for sighting in sightings),
        brightness=brightest,
        timing_s=timing,
    )


class _Cutter:
    """Cuts the sightings of an original out of a fake's frames, one frame at a time."""

    def __init__(self, original: StoredVideo, settings: StoreSettings) -> None:
        self._original = original
        self._crop = settings.crop
        self._tolerance_s = _tolerance_s(original.video)
        # What has been cut of each track, and which of its sightings are in which frame.
        self._cut: list[list[tuple[Sighting, RgbImage]]] = [[] for _ in original.tracks]
        self._due: dict[int, list[tuple[int, Sighting]]] = {}
        for number, stored in enumerate(original.tracks):
            for sighting in stored.track.sightings:
                self._due.setdefault(sighting.frame_index, []).append((number, sighting))

    def cut(self, frame: Frame) -> str | None:
        """Cut what is due in this frame; why that cannot be, None if it can."""
        video = self._original.video
        height, width = frame.image.shape[:2]
        if (width, height) != (video.width_px, video.height_px):
            return f"frame {frame.index} is {width}x{height}, not {video.width_px}x{video.height_px}"
        if frame.index >= video.frames_sampled:
            return f"more than {video.frames_sampled} frames were sampled"
        for number, sighting in self._due.pop(frame.index, ()):
            if abs(frame.time_s - sighting.time_s) > self._tolerance_s:
                return f"frame {frame.index} is at {frame.time_s:.3f} s, not {sighting.time_s:.3f} s"
            crop = crop_face(frame.image, sighting.face, self._crop)
            reused = Sighting(frame.index, frame.time_s, sighting.face, brightness(crop))
            self._cut[number].append((reused, crop))
        return None

    def missing(self, sampled: int) -> str | None:
        """What is wanting after the last frame, None if nothing is."""
        if sampled != self._original.video.frames_sampled or self._due:
            return f"{sampled} frames were sampled, not {self._original.video.frames_sampled}"
        return None

    def people(self) -> tuple[Person, ...]:
        return tuple(
            Person(
                replace(stored.track, sightings=tuple(sighting for sighting, _ in cut)),
                np.stack([crop for _, crop in cut]),
            )
            for stored, cut in zip(self._original.tracks, self._cut, strict=True)
        )


def _tolerance_s(video: VideoRecord) -> float:
    """How far apart two frames may be, in seconds, that are to be the same."""
    # A video that is kept as images counts as one image a second.
    length_s = video.duration_s if video.duration_s is not None else video.n_frames
    if video.frames_sampled < 2 or length_s is None:
        return _LONE_FRAME_S
    return length_s / video.frames_sampled / 2


def _next(frames: Iterator[Frame], timing: dict[str, float]) -> Frame | None:
    start = time.perf_counter()
    frame = next(frames, None)
    timing["decode"] += time.perf_counter() - start
    return frame
