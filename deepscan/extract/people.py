"""From a file to its people: sampled frames -> faces -> tracks, with one crop for every sighting.

Prediction and preprocessing both start here, so what is usable to the one is usable to the other. Frames are dropped
as soon as they have been looked at; what stays in memory are the crops.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepscan.config import CropSettings, TrackSettings
from deepscan.extract.crops import brightness, crop_face
from deepscan.extract.faces import FaceFinder
from deepscan.extract.tracks import Tracker
from deepscan.extract.video import MediaLimits, probe, sample_frames
from deepscan.records import Box, Frame, MediaInfo, RgbImage, Track

# A face this dark (mean luma of 255) shows a network sensor noise, not skin.
TOO_DARK_LUMA = 16.0
# A crowd must not fill the memory: of each frame the largest faces are kept.
_MAX_FACES_PER_FRAME = 16


@dataclass(frozen=True, slots=True)
class Person:
    """One track and its crops, RGB ``uint8 [T, S, S, 3]`` in the order of its sightings."""

    track: Track
    crops: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Extraction:
    """Everything found in one file.

    Attributes:
        media: what the container says.
        people: tracks with crops, in order of appearance.
        frames_sampled: frames looked at.
        frames_with_face: of these, frames with any detection.
        n_usable: detections large enough to be scored; the others were too small.
        largest_px: size of the largest detection.
        brightness: mean luma of the brightest sampled frame, in [0, 255].
        timing_s: seconds spent in ``decode`` and ``detect``.
    """

    media: MediaInfo
    people: tuple[Person, ...]
    frames_sampled: int
    frames_with_face: int
    n_usable: int
    largest_px: float
    brightness: float
    timing_s: dict[str, float]


def extract_people(
    path: Path,
    n_frames: int,
    finder: FaceFinder,
    crop: CropSettings,
    track: TrackSettings,
    limits: MediaLimits,
) -> Extraction:
    """Find the people of a video or image.

    Args:
        path: of the file.
        n_frames: sampled evenly over the whole duration.
        finder: its settings say which faces are large enough.
        crop: the crop rule.
        track: how faces become people.
        limits: on the file.

    Raises:
        MediaError: the file cannot be read.
    """
    media = probe(path, limits)
    frames = sample_frames(path, n_frames, limits)
    return find_people(media, frames, finder, crop, track, close_up=media.kind == "image")


def find_people(
    media: MediaInfo,
    frames: Iterator[Frame],
    finder: FaceFinder,
    crop: CropSettings,
    track: TrackSettings,
    *,
    close_up: bool = False,
) -> Extraction:
    """Find the people in frames that are sampled already.

    Args:
        media: what is known of their source.
        frames: in time order; each is dropped once looked at.
        finder, crop, track: as for :func:`extract_people`.
        close_up: look once more where a face fills the frame, as in crops and portraits.

    Raises:
        MediaError: what the frames raise.
    """
    timing = {"decode": 0.0, "detect": 0.0}
    tracker = Tracker(track)
    crops: dict[tuple[int, Box], RgbImage] = {}
    sampled = with_face = n_usable = 0
    largest = brightest = 0.0
    while batch := _next_batch(frames, finder.settings.batch_frames, timing):
        start = time.perf_counter()
        for frame, faces in zip(batch, finder.detect([f.image for f in batch], close_up=close_up), strict=True):
            sampled += 1
            with_face += bool(faces)
            brightest = max(brightest, brightness(frame.image))
            largest = max([largest, *(f.size_px for f in faces)])
            usable = [f for f in faces if f.size_px >= finder.settings.min_face_px][:_MAX_FACES_PER_FRAME]
            n_usable += len(usable)
            cut = [crop_face(frame.image, face, crop) for face in usable]
            tracker.add(frame, usable, [brightness(c) for c in cut])
            crops.update({(frame.index, face.box): c for face, c in zip(usable, cut, strict=True)})
        timing["detect"] += time.perf_counter() - start
    people = tuple(
        Person(t, np.stack([crops[s.frame_index, s.face.box] for s in t.sightings])) for t in tracker.finish()
    )
    return Extraction(media, people, sampled, with_face, n_usable, largest, brightest, timing)


def is_too_dark(track: Track) -> bool:
    """Whether most of a track's crops are too dark to judge."""
    return float(np.median([s.brightness for s in track.sightings])) < TOO_DARK_LUMA


def clear_people(found: Extraction) -> tuple[Person, ...]:
    """The people who can be judged: those who are not too dark."""
    return tuple(person for person in found.people if not is_too_dark(person.track))


def nobody_reason(found: Extraction) -> str:
    """Why nobody in a file can be judged: ``no_face``, ``no_stable_face``, ``face_too_small`` or ``too_dark``."""
    if found.frames_with_face == 0:
        return "too_dark" if found.brightness < TOO_DARK_LUMA else "no_face"
    if found.n_usable == 0:
        return "face_too_small"
    return "too_dark" if found.people else "no_stable_face"


def _next_batch(frames: Iterator[Frame], size: int, timing: dict[str, float]) -> list[Frame]:
    start = time.perf_counter()
    batch = list(islice(frames, size))
    timing["decode"] += time.perf_counter() - start
    return batch
