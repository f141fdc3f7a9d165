"""How much of a face its crop lets one see: light, size, sharpness and what compression has left of the fine detail.

Crops are measured at one fixed size, so that what is measured does not hang on the size a detector takes. Each measure
is the lower, the less is seen; which values are too low is a matter of the detector, see :mod:`deepscan.verdict`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from deepscan.extract.crops import resized
from deepscan.extract.people import Person
from deepscan.types import RgbImage

REFERENCE_PX = 128
# Sigmas of the Gaussians: fine detail is what the first takes away, the middle scale what the second does of the rest.
_FINE_PX, _MIDDLE_PX = 1.0, 2.5
_TILE_PX = 8
# Mean square (of grey levels) of the middle band in which there is nothing to follow: rounding alone.
_FLAT = 0.05


@dataclass(frozen=True, slots=True)
class Visibility:
    """Of each sighting of a person, ``float64 [T]`` each.

    Attributes:
        luma: mean of the crop, in [0, 255].
        face_px: shorter side of the face in the source.
        sharpness, detail: median and lower quartile of :func:`edges_kept`.
    """

    luma: NDArray[np.float64]
    face_px: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    detail: NDArray[np.float64]


def visibility(person: Person) -> Visibility:
    """What can be seen of a person."""
    sightings = person.track.sightings
    edges = np.array([edges_kept(crop) for crop in person.crops]).reshape(-1, 2)
    return Visibility(
        np.array([sighting.brightness for sighting in sightings]),
        np.array([sighting.face.size_px for sighting in sightings]),
        edges[:, 0],
        edges[:, 1],
    )


def edges_kept(crop: RgbImage) -> tuple[float, float]:
    """How far the edges of the middle scale go on in the fine detail: median and lower quartile over small tiles.

    In each tile it is the slope of the fine band on the middle one. So neither contrast nor how many edges there are
    counts, nor a few strong ones; noise, which is in the fine band but hardly follows the middle one, raises it. Blur
    and small sources lower it everywhere, encoders first in the tiles where there is little to see.

    Args:
        crop: RGB ``uint8 [S, S, 3]``, of any size.
    """
    at_size = resized(crop[None], REFERENCE_PX)[0]
    grey = cv2.cvtColor(at_size, cv2.COLOR_RGB2GRAY).astype(np.float32)
    smooth = cv2.GaussianBlur(grey, (0, 0), _FINE_PX)
    fine, middle = grey - smooth, smooth - cv2.GaussianBlur(grey, (0, 0), _MIDDLE_PX)
    size = (REFERENCE_PX // _TILE_PX,) * 2
    together, alone = (cv2.resize(middle * band, size, interpolation=cv2.INTER_AREA) for band in (fine, middle))
    median, quartile = np.percentile(together / (alone + _FLAT), (50, 25))
    return float(median), float(quartile)
