"""Heat as colour over pictures: on the crop that the network saw, and back in the frame it was cut from.

The picture below is shown in grey, so that colour means heat and nothing else; where there is no heat the picture
stays as clear as it was. The colours (viridis) rise in brightness and are told apart with any colour vision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from deepscan.extract.crops import Square
from deepscan.types import RgbImage

COLOUR_MAP = cv2.COLORMAP_VIRIDIS
_OPACITY = 0.75


def overlay_crop(crop: RgbImage, heat: NDArray[np.float32], opacity: float = _OPACITY) -> RgbImage:
    """A crop with its heat.

    Args:
        crop: RGB ``uint8 [S, S, 3]``.
        heat: ``float32 [h, w]`` in [0, 1], stretched to the crop where it is coarser.
        opacity: of the hottest place, in [0, 1].

    Returns:
        RGB ``uint8 [S, S, 3]``.
    """
    if heat.shape != crop.shape[:2]:
        heat = cv2.resize(heat, (crop.shape[1], crop.shape[0]), interpolation=cv2.INTER_LINEAR)
    return _blend(crop, heat, opacity)


def overlay_frame(
    frame: RgbImage,
    faces: Sequence[tuple[NDArray[np.float32], Square]],
    opacity: float = _OPACITY,
) -> RgbImage:
    """A frame with the heat of its faces, each where its crop was cut; where crops overlap the hotter counts.

    Args:
        frame: RGB ``uint8 [H, W, 3]``.
        faces: heat ``float32 [S, S]`` in [0, 1] and the square of its crop, see
            :func:`deepscan.extract.crops.face_square`.
        opacity: of the hottest place, in [0, 1].

    Returns:
        RGB ``uint8 [H, W, 3]``.
    """
    heat = np.zeros(frame.shape[:2], np.float32)
    for face_heat, square in faces:
        heat = np.maximum(heat, heat_in_frame(face_heat, square, frame.shape))
    return _blend(frame, heat, opacity)


def heat_in_frame(heat: NDArray[np.float32], square: Square, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Heat of a crop in the pixels of its frame; 0 outside of the crop.

    Args:
        heat: ``float32 [S, S]``.
        square: where the crop was cut.
        shape: of the frame, ``(H, W, ...)``.

    Returns:
        ``float32 [H, W]``.
    """
    height, width = shape[:2]
    size = heat.shape[0]
    reach = square.side / 2 * (abs(math.cos(square.angle)) + abs(math.sin(square.angle))) + 1
    x, y = square.centre
    left, right = max(0, math.floor(x - reach)), min(width, math.ceil(x + reach))
    top, bottom = max(0, math.floor(y - reach)), min(height, math.ceil(y + reach))
    out = np.zeros((height, width), np.float32)
    if right <= left or bottom <= top:
        return out
    # The rule is asked where each pixel's centre lies in the crop: it is written in one place only.
    grid_y, grid_x = np.mgrid[top:bottom, left:right].astype(np.float32) + np.float32(0.5)
    points = square.to_crop(np.stack([grid_x.ravel(), grid_y.ravel()], axis=1), size)
    inside = ((points >= 0) & (points <= size)).all(axis=1).reshape(grid_x.shape)
    sources = (points - np.float32(0.5)).reshape(*grid_x.shape, 2)
    region = cv2.remap(heat, sources[..., 0], sources[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    out[top:bottom, left:right] = np.where(inside, region, 0)
    return out


def colour(heat: NDArray[np.float32]) -> RgbImage:
    """Colours of heat ``float32 [H, W]`` in [0, 1], RGB ``uint8 [H, W, 3]``."""
    levels = np.rint(np.clip(heat, 0, 1) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, COLOUR_MAP), cv2.COLOR_BGR2RGB)


def _blend(image: RgbImage, heat: NDArray[np.float32], opacity: float) -> RgbImage:
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    share = (np.clip(heat, 0, 1) * np.float32(opacity))[..., None]
    mixed = colour(heat).astype(np.float32) * share + grey.astype(np.float32) * (1 - share)
    return np.rint(mixed).astype(np.uint8)
