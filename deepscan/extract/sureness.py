"""Whether what was followed is a person: MTCNN now and then takes a wall or hair for a face, for several frames.

Four signs are looked at over the whole track. A person shows all of them, somebody in passing, in profile or in poor
light may lack one, and what lacks two is no person for sure. How often that is right is measured by
``benchmarks/false_people.py``; see docs/formats.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from deepscan.types import Face, Sighting, Sureness

# Half of the sightings of a person are at least so sure; patterns are sure once, not mostly.
_MEDIAN_CONFIDENCE = 0.98
# A person is seen in so many of a shot's sampled frames, and in this share of them.
_SIGHTINGS, _SHARE = 4, 0.2
# Eyes apart in widths of the box; from eyes to mouth, and how far the middle of these is below the box's, in its
# heights: least and most.
_EYES_APART, _EYES_TO_MOUTH, _BELOW_MIDDLE = (0.08, 0.58), (0.28, 0.48), (-0.03, 0.19)
# The nose lies between eyes and mouth; as a head turns, both move to one side of the box, the eyes by
# so many times what the nose moves against them, give or take this share of its width.
_NOSE_DOWN, _TURN, _OFF_MIDDLE = (0.1, 0.8), 1.4, 0.14
# Cheeks are brighter than eyes by so many standard deviations of the face's brightness, both sides together.
_EYES_DARKER = 0.25


def sureness(sightings: Sequence[Sighting], n_with_eyes: int, shot_frames: int) -> Sureness:
    """How sure it is that a track is a person.

    Args:
        sightings: at least one.
        n_with_eyes: how many of them look so, see :func:`has_eyes`.
        shot_frames: sampled frames of the shot that the track is in.
    """
    n = len(sightings)
    signs = (
        float(np.median([s.face.confidence for s in sightings])) >= _MEDIAN_CONFIDENCE,
        2 * sum(has_proportions(s.face) for s in sightings) >= n,
        2 * n_with_eyes >= n,
        n >= min(_SIGHTINGS, shot_frames / 2) and n >= _SHARE * shot_frames,
    )
    missing = signs.count(False)
    return "sure" if not missing else "unsure" if missing == 1 else "doubtful"


def has_proportions(face: Face) -> bool:
    """Whether the five landmarks lie in the box as those of a face do; they do not where the picture cuts it off."""
    width, height = max(face.width_px, 1e-6), max(face.height_px, 1e-6)
    left, right, nose, mouth_left, mouth_right = np.asarray(face.landmarks, np.float64)
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    length = max(math.dist(eyes, mouth), 1e-6)
    down = (mouth - eyes) / length
    aside = np.array([down[1], -down[0]])
    middle = np.array([face.box[0] + face.box[2], face.box[1] + face.box[3]]) / 2
    return bool(
        right[0] > left[0]
        and mouth_right[0] > mouth_left[0]
        and _within(math.dist(left, right) / width, _EYES_APART)
        and _within(length / height, _EYES_TO_MOUTH)
        and _within(((eyes + mouth) / 2 - middle) @ down / height, _BELOW_MIDDLE)
        and _within((nose - eyes) @ down / length, _NOSE_DOWN)
        and abs((eyes - middle) @ aside - _TURN * (nose - eyes) @ aside) <= _OFF_MIDDLE * width
    )


def has_eyes(look: NDArray[np.float32], face: Face) -> bool:
    """Whether the eyes are darker than the cheeks.

    Args:
        look: the box's pixels, scaled to any ``float32 [S, S, 3]``, of zero mean and unit variance.
        face: with its landmarks.
    """
    side = look.shape[0]
    x1, y1, _, _ = face.box
    size = np.array([max(face.width_px, 1e-6), max(face.height_px, 1e-6)])
    points = (np.asarray(face.landmarks, np.float64) - (x1, y1)) / size * side
    brightness = np.ascontiguousarray(look.mean(axis=2))
    darker = [_mean_at(brightness, (points[i] + points[i + 3]) / 2) - _mean_at(brightness, points[i]) for i in (0, 1)]
    return sum(darker) / 2 >= _EYES_DARKER


def _mean_at(brightness: NDArray[np.float32], point: NDArray[np.float64]) -> float:
    """Of the three by three pixels around a point, which is taken into the picture."""
    x, y = np.clip(point - 0.5, 0, brightness.shape[0] - 1)
    return float(cv2.getRectSubPix(brightness, (3, 3), (float(x), float(y))).mean())


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]
