"""Faces linked through time: who is the same person from one sampled frame to the next.

Sampled frames may be a fraction of a second or many seconds apart, so position alone does not do: a link weighs
overlap, distance, size and the look of the face together. A cut ends every track. A detection that appears once, where
it could have been confirmed and was not, is no person; nor is one that comes and goes and was never sure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from deepscan.config import TrackSettings
from deepscan.extract.sureness import has_eyes, sureness
from deepscan.types import Box, Face, Frame, RgbImage, Sighting, Track

_LOOK_SIDE_PX = 16
# Beyond this gap between sampled frames where a face was says little about where it will be.
_POSITION_MEMORY_S = 2.0


@dataclass(slots=True)
class _Growing:
    """A track under construction."""

    sightings: list[Sighting]
    look: NDArray[np.float32]
    last_index: int
    n_with_eyes: int


@dataclass(slots=True)
class _Shot:
    """An unbroken run of sampled frames."""

    n_frames: int = 0
    tracks: list[_Growing] = field(default_factory=list)


class Tracker:
    """Links faces frame by frame; hold nothing but small descriptors of the past.

    Call :meth:`add` for every sampled frame in time order, also those without a face, then :meth:`finish`.
    """

    def __init__(self, settings: TrackSettings | None = None) -> None:
        self.settings = settings or TrackSettings()
        self._shots: list[_Shot] = []
        self._histogram: NDArray[np.float32] | None = None
        # Of frames that were asked for and are still to be added.
        self._histograms: dict[int, NDArray[np.float32]] = {}

    def add(self, frame: Frame, faces: Sequence[Face], brightness: Sequence[float] | None = None) -> None:
        """Add a sampled frame and the faces found in it.

        Args:
            frame: only looked at now, never kept; its index is its own.
            faces: of this frame.
            brightness: mean luma of each face's crop, kept in its sighting.
        """
        (cut,) = self.cuts([frame])
        self._histogram = self._histograms.pop(frame.index)
        if cut:
            self._shots.append(_Shot())
        shot = self._shots[-1]
        shot.n_frames += 1
        looks = [_look(frame.image, face.box) for face in faces]
        sightings = [
            Sighting(frame.index, frame.time_s, face, brightness[i] if brightness is not None else 128.0)
            for i, face in enumerate(faces)
        ]
        alive = [t for t in shot.tracks if frame.index - t.last_index <= self.settings.max_gap_frames + 1]
        matches = self._match(alive, sightings, looks)
        for i, (sighting, look) in enumerate(zip(sightings, looks, strict=True)):
            track = matches.get(i)
            with_eyes = has_eyes(look, sighting.face)
            if track is None:
                shot.tracks.append(_Growing([sighting], look, frame.index, int(with_eyes)))
            else:
                track.sightings.append(sighting)
                track.look = 0.7 * track.look + 0.3 * look
                track.last_index = frame.index
                track.n_with_eyes += with_eyes

    def cuts(self, frames: Sequence[Frame]) -> list[bool]:
        """Whether each of the frames that are added next, in this order, begins another shot than the one before."""
        before, cuts = self._histogram, []
        for frame in frames:
            now = self._histograms.get(frame.index)
            if now is None:
                now = self._histograms[frame.index] = _histogram(frame.image)
            cuts.append(before is None or _hellinger(now, before) >= self.settings.cut_distance)
            before = now
        return cuts

    def finish(self) -> list[Track]:
        """The people, in order of first appearance, then what is doubtful; numbered from 1."""
        kept = [
            Track(0, tuple(t.sightings), sureness(t.sightings, t.n_with_eyes, shot.n_frames))
            for shot in self._shots
            for t in shot.tracks
            if self._is_person(t, shot)
        ]
        kept.sort(key=lambda t: (t.sureness == "doubtful", t.sightings[0].frame_index, t.sightings[0].face.box[0]))
        return [replace(track, id=number) for number, track in enumerate(kept, 1)]

    def _match(
        self, tracks: list[_Growing], sightings: list[Sighting], looks: list[NDArray[np.float32]]
    ) -> dict[int, _Growing]:
        """Best pairs first, each track and each face once."""
        pairs = sorted(
            (
                (_similarity(track, sighting, look), t, s)
                for t, track in enumerate(tracks)
                for s, (sighting, look) in enumerate(zip(sightings, looks, strict=True))
            ),
            reverse=True,
        )
        matches: dict[int, _Growing] = {}
        used: set[int] = set()
        for similarity, t, s in pairs:
            if similarity < self.settings.min_similarity:
                break
            if t not in used and s not in matches:
                matches[s] = tracks[t]
                used.add(t)
        return matches

    def _is_person(self, track: _Growing, shot: _Shot) -> bool:
        clearest = max(s.face.confidence for s in track.sightings)
        sure = clearest >= self.settings.sure_confidence
        if len(track.sightings) == 1:
            return sure and shot.n_frames == 1
        often = len(track.sightings) >= self.settings.min_share * shot.n_frames
        return sure or (often and clearest >= self.settings.min_confidence)


def _similarity(track: _Growing, sighting: Sighting, look: NDArray[np.float32]) -> float:
    """How well a face continues a track, in [0, 1]."""
    last = track.sightings[-1]
    a, b = last.face.box, sighting.face.box
    size = math.sqrt(max(1.0, last.face.width_px * last.face.height_px))
    next_size = math.sqrt(max(1.0, sighting.face.width_px * sighting.face.height_px))
    ratio = min(size, next_size) / max(size, next_size)
    if ratio < 0.4:
        return 0.0
    distance = math.dist(_centre(a), _centre(b)) / max(size, next_size)
    # Overlap when the faces overlap, nearness when they moved apart: half a face away is still likely the same.
    position = max(iou(a, b), math.exp(-distance))
    appearance = max(0.0, float((track.look * look).mean()))
    memory = math.exp(-max(0.0, sighting.time_s - last.time_s) / _POSITION_MEMORY_S)
    weight = 0.3 + 0.4 * memory  # of position against look
    return (weight * position + (1 - weight) * appearance) * math.sqrt(ratio)


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _look(image: RgbImage, box: Box) -> NDArray[np.float32]:
    """A small colour patch of the face, zero mean and unit variance: its product with another is their correlation."""
    x1, y1, x2, y2 = box
    left, top = max(0, int(x1)), max(0, int(y1))
    patch = image[top : max(top + 1, math.ceil(y2)), left : max(left + 1, math.ceil(x2))]
    small = cv2.resize(patch, (_LOOK_SIDE_PX, _LOOK_SIDE_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    return small / (float(small.std()) + 1e-3)


def _histogram(image: RgbImage) -> NDArray[np.float32]:
    """Colour histogram of a frame (hue x saturation x value), sums to 1."""
    # Sixteen pixels for each of the small picture's: an average over all of a large frame's takes 2 ms.
    some = cv2.resize(image, (256, 144), interpolation=cv2.INTER_NEAREST)
    small = cv2.resize(some, (64, 36), interpolation=cv2.INTER_AREA)
    hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
    histogram = cv2.calcHist([hsv], [0, 1, 2], None, [8, 4, 8], [0, 180, 0, 256, 0, 256]).ravel()
    # Neighbouring bins share a little, so that a slow change of light is no cut.
    histogram = cv2.GaussianBlur(histogram.reshape(32, 8), (3, 1), 0.8).ravel()
    total = float(histogram.sum())
    return (histogram / total if total else histogram).astype(np.float32)


def _hellinger(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return math.sqrt(max(0.0, 1.0 - float(np.sqrt(a * b).sum())))
