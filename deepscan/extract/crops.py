"""The crop rule: from a frame and a face to the square the network sees.

This is the only margin, alignment and resize code. Prediction, preprocessing and training all call
:func:`crop_face`, with settings that travel in the detector's card.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from deepscan.config import CropSettings
from deepscan.types import Face, RgbImage

# Above this reduction a bilinear warp skips source pixels and aliases; the region is averaged down first.
_MAX_WARP_REDUCTION = 1.5


@dataclass(frozen=True, slots=True)
class Square:
    """Where a crop lies in its frame: centre and side in source pixels, rotation in radians."""

    centre: tuple[float, float]
    side: float
    angle: float

    def scaled(self, scale: float) -> Square:
        """The same in a frame that is smaller or larger."""
        return Square((self.centre[0] * scale, self.centre[1] * scale), self.side * scale, self.angle)

    def to_crop(self, points: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
        """Map frame points ``[n, 2]`` to pixels of a crop of ``size_px``."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        offset = points - np.asarray(self.centre, np.float32)
        rotated = offset @ np.array([[cos, -sin], [sin, cos]], np.float32)
        return (rotated * (size_px / self.side) + size_px / 2).astype(np.float32)


def face_square(face: Face, shape: tuple[int, ...], settings: CropSettings) -> Square:
    """The square around a face in a frame of ``shape`` ``(H, W, ...)``.

    Its side is the longer side of the box times ``1 + margin``. At the frame's edge the square moves inwards, as far
    as it fits: real pixels beat invented ones.

    Args:
        face: box and landmarks in pixels of the frame.
        shape: of the frame.
        settings: margin, shift and alignment.
    """
    x1, y1, x2, y2 = face.box
    side = max(x2 - x1, y2 - y1, 1.0) * (1 + settings.margin)
    angle = _eye_angle(face) if settings.align == "eyes" else 0.0
    height, width = shape[:2]
    centre_y = (y1 + y2) / 2 + settings.shift_y * (y2 - y1)
    return Square((_inside((x1 + x2) / 2, side, width), _inside(centre_y, side, height)), side, angle)


def crop_face(image: RgbImage, face: Face, settings: CropSettings) -> RgbImage:
    """Cut the square around a face: :func:`face_square`, then :func:`crop_square`.

    Args:
        image: RGB ``uint8 [H, W, 3]``.
        face, settings: as for :func:`face_square`.

    Returns:
        RGB ``uint8 [size_px, size_px, 3]``.
    """
    return crop_square(image, face_square(face, image.shape, settings), settings.size_px)


def crop_square(image: RgbImage, square: Square, size_px: int) -> RgbImage:
    """Cut a square out of RGB ``uint8 [H, W, 3]`` as ``[size_px, size_px, 3]``.

    Downscaling averages (no aliasing), upscaling is bilinear. What lies outside the frame is mirrored, so that no
    black border tells the network where the face was.
    """
    centre, side, angle = square.centre, square.side, square.angle
    height, width = image.shape[:2]
    # Work on the part of the frame that the (rotated) square covers: the rest is never touched.
    reach = side / 2 * (abs(math.cos(angle)) + abs(math.sin(angle))) + 2
    left, top = max(0, math.floor(centre[0] - reach)), max(0, math.floor(centre[1] - reach))
    right, bottom = min(width, math.ceil(centre[0] + reach)), min(height, math.ceil(centre[1] + reach))
    if right <= left or bottom <= top:  # a box wholly outside the frame: mirror from the nearest pixel
        left, top = min(left, width - 1), min(top, height - 1)
        right, bottom = max(right, left + 1), max(bottom, top + 1)
    region = image[top:bottom, left:right]
    scale_x = scale_y = 1.0
    reduction = side / size_px
    if reduction > _MAX_WARP_REDUCTION:
        target = (max(1, round(region.shape[1] / reduction)), max(1, round(region.shape[0] / reduction)))
        scale_x, scale_y = target[0] / region.shape[1], target[1] / region.shape[0]
        region = cv2.resize(region, target, interpolation=cv2.INTER_AREA)
    # Output pixel centres -> source: rotate and scale about the centre. OpenCV wants the inverse map's form.
    step = side / size_px
    cos, sin = math.cos(angle) * step, math.sin(angle) * step
    half = (size_px - 1) / 2
    cx, cy = centre[0] - 0.5 - left, centre[1] - 0.5 - top
    to_source = np.array(
        [[cos, -sin, cx - cos * half + sin * half], [sin, cos, cy - sin * half - cos * half]],
        dtype=np.float64,
    )
    to_source[0] *= scale_x
    to_source[1] *= scale_y
    to_source[:, 2] += 0.5 * (np.array([scale_x, scale_y]) - 1)  # pixel centres, not corners
    crop: NDArray[np.uint8] = cv2.warpAffine(
        region,
        to_source,
        (size_px, size_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101 if min(region.shape[:2]) > 1 else cv2.BORDER_REPLICATE,
    )
    return crop


def resized(crops: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Crops ``uint8 [T, S, S, 3]`` as ``[T, size_px, size_px, 3]``: averaged down, or interpolated up."""
    if crops.shape[1] == size_px:
        return crops
    interpolation = cv2.INTER_AREA if crops.shape[1] > size_px else cv2.INTER_LINEAR
    return np.stack([cv2.resize(crop, (size_px, size_px), interpolation=interpolation) for crop in crops])


def at_most(image: RgbImage, side_px: int) -> RgbImage:
    """An image whose longer side is at most so many pixels; never enlarged."""
    share = side_px / max(image.shape[:2])
    if share >= 1:
        return image
    size = (max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def brightness(crop: RgbImage) -> float:
    """Mean luma (BT.601) of an RGB image, in [0, 255]."""
    red, green, blue, _ = cv2.mean(crop)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _inside(centre: float, side: float, extent: int) -> float:
    """Move a square's centre along one axis so that it lies within ``[0, extent]``, or into the middle."""
    if side >= extent:
        return extent / 2
    return min(max(centre, side / 2), extent - side / 2)


def _eye_angle(face: Face) -> float:
    """Angle of the line through the eyes, in radians, at most 45 degrees: beyond that landmarks are not trusted."""
    (left_x, left_y), (right_x, right_y) = face.landmarks[0], face.landmarks[1]
    angle = math.atan2(float(right_y - left_y), float(right_x - left_x))
    return max(-math.pi / 4, min(math.pi / 4, angle))
