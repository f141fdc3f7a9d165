"""Faces that lie on their side or upside down: the picture is turned for them, by quarters.

A few small frames are kept while nobody was seen upright, and looked at in the other three directions at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.sureness import has_proportions
from deepscan.types import Box, Face, Frame, RgbImage, Track

# Frames that are looked at, their longer side, and the smallest face there: together about a tenth of a search.
_FRAMES, _SIDE_PX, _FACE_PX = 3, 480, 28
_KEPT = 4 * _FRAMES
# Nothing that is not upright is found so surely; of a face that is turned right most sightings are at least so sure.
_UPRIGHT, _CLEAR = 0.999, 0.99


class SpareFrames:
    """Small copies of frames, spread over those that were added before anybody was surely seen upright."""

    def __init__(self) -> None:
        self._kept: list[RgbImage] = []
        self._step, self._n, self._upright = 1, 0, False

    def add(self, image: RgbImage, faces: Sequence[Face]) -> None:
        """A frame, RGB ``uint8 [H, W, 3]``, and the faces that were found in it."""
        if self._upright or any(face.confidence >= _UPRIGHT for face in faces):
            self._upright, self._kept = True, []
            return
        if self._n % self._step == 0:
            scale = min(1.0, _SIDE_PX / max(image.shape[:2]))
            size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
            self._kept.append(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
            if len(self._kept) > _KEPT:
                self._kept, self._step = self._kept[::2], 2 * self._step
        self._n += 1

    def quarters(self, finder: FaceFinder) -> int:
        """By how many quarters, counterclockwise, the frames have to be turned for clear faces; 0 for not at all."""
        n = min(_FRAMES, len(self._kept))
        chosen = [self._kept[i] for i in sorted({round((k + 0.5) * len(self._kept) / n - 0.5) for k in range(n)})]
        best = (0, 0.0, 0)
        for quarters in (1, 2, 3) if chosen else ():
            faces_of = finder.glance([_turned(image, quarters) for image in chosen], _FACE_PX)
            clear = [max((f.confidence for f in faces if has_proportions(f)), default=0.0) for faces in faces_of]
            clear = [confidence for confidence in clear if confidence >= _CLEAR]
            if 2 * len(clear) > len(chosen):
                best = max(best, (len(clear), sum(clear), quarters))
        return best[2]


class TurnedFrames:
    """Frames turned counterclockwise by quarters, and the way back to the pixels of the picture as displayed."""

    def __init__(self, frames: Iterator[Frame], quarters: int) -> None:
        self._frames, self._quarters = frames, quarters
        self._sizes: dict[int, tuple[int, int]] = {}

    @property
    def degrees(self) -> int:
        """By which the picture is turned clockwise."""
        return 360 - 90 * self._quarters

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        frame = next(self._frames)
        self._sizes[frame.index] = frame.image.shape[1], frame.image.shape[0]
        return replace(frame, image=_turned(frame.image, self._quarters))

    def close(self) -> None:
        """Close the file that they come from."""
        close = getattr(self._frames, "close", None)
        if close is not None:
            close()

    def box(self, index: int, box: Box) -> Box:
        """A box of the turned frame with this index, in the picture as displayed."""
        (xa, ya), (xb, yb) = self._back(index, np.array(box, np.float64).reshape(2, 2)).tolist()
        return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)

    def track(self, track: Track) -> Track:
        """A track of turned frames, in the picture as displayed."""
        sightings = []
        for s in track.sightings:
            landmarks = self._back(s.frame_index, np.asarray(s.face.landmarks, np.float64)).astype(np.float32)
            face = Face(self.box(s.frame_index, s.face.box), s.face.confidence, landmarks)
            sightings.append(replace(s, face=face))
        return replace(track, sightings=tuple(sightings))

    def _back(self, index: int, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points ``[N, 2]`` as (x, y)."""
        width, height = self._sizes[index]
        x, y = points[:, 0], points[:, 1]
        turned = {1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}
        return np.stack(turned[self._quarters], axis=1)


def _turned(image: RgbImage, quarters: int) -> RgbImage:
    return np.ascontiguousarray(np.rot90(image, quarters))
