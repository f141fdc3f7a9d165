"""Pictures as data URIs, within a budget: a page of hundreds of inputs must still open and be mailed."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from deepscan.extract.crops import at_most, brightness
from deepscan.types import Box, RgbImage

_JPEG_QUALITY = 82
_DARK, _STRONGEST_GAMMA = 110.0, 0.4  # mean luma below which a face is brightened, and by how much at most


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is shown of one input.

    Attributes:
        pictures: of each person, one of them with a whole frame.
        side_px: of them.
        frame_px: longer side of whole frames.
        people: with a card of their own; the others are counted.
        max_bytes: of all pictures together, as they stand in the file.
    """

    pictures: int
    side_px: int
    frame_px: int
    people: int
    max_bytes: int


# A page of its own; a file of up to ten inputs; a file of more.
_PLANS = (
    (1, Plan(4, 240, 800, 24, 3_000_000)),
    (10, Plan(4, 160, 640, 16, 1_000_000)),
    (None, Plan(2, 96, 320, 6, 160_000)),
)


def plan_for(n_inputs: int) -> Plan:
    """How much of each is shown where so many inputs share a file."""
    return next(plan for most, plan in _PLANS if most is None or n_inputs <= most)


class Album:
    """The pictures of one input; counts those for which there is no room."""

    def __init__(self, max_bytes: int) -> None:
        self._room = max_bytes
        self.left_out = 0

    def add(self, image: RgbImage, side_px: int) -> str | None:
        """A picture as a data URI; None, and counted, once the budget is spent.

        Args:
            image: RGB ``uint8 [H, W, 3]``.
            side_px: it is scaled down to at most so many pixels.
        """
        source = data_uri(image, side_px)
        if len(source) > self._room:
            self.left_out += 1
            return None
        self._room -= len(source)
        return source


def brightened(image: RgbImage, box: Box | None = None) -> tuple[RgbImage, bool]:
    """An image in which a dark face can be seen, and whether it was brightened.

    Args:
        image: RGB ``uint8 [H, W, 3]``.
        box: of the face; None for the whole.
    """
    x1, y1, x2, y2 = (max(0, round(v)) for v in box or (0, 0, image.shape[1], image.shape[0]))
    face = image[y1:y2, x1:x2]
    luma = brightness(face) if face.size else _DARK
    if luma >= _DARK:
        return image, False
    gamma = max(_STRONGEST_GAMMA, np.log(_DARK / 255) / np.log(max(luma, 1.0) / 255))
    table = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return cv2.LUT(image, table), True


def data_uri(image: RgbImage, side_px: int) -> str:
    """An image RGB ``uint8 [H, W, 3]`` as a small JPEG in a data URI."""
    small = np.ascontiguousarray(at_most(image, side_px)[..., ::-1])
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(bytes(data)).decode("ascii")
