"""Pictures as data URIs, within a budget: a page of hundreds of inputs must still open and be mailed."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from deepscan.extract.crops import at_most
from deepscan.types import RgbImage

_JPEG_QUALITY = 82


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is shown of one input.

    Attributes:
        pictures: of each person.
        side_px: of them.
        frames: whole frames.
        frame_px: longer side of them.
        people: with a card of their own; the others are counted.
        values: rows of figures below a person's chart; none where there are more.
        max_bytes: of all pictures together, as they stand in the file.
    """

    pictures: int
    side_px: int
    frames: int
    frame_px: int
    people: int
    values: int
    max_bytes: int


# A page of its own; a file of up to ten inputs; a file of more.
_PLANS = (
    (1, Plan(8, 144, 4, 640, 24, 40, 3_000_000)),
    (10, Plan(6, 112, 2, 480, 16, 0, 1_000_000)),
    (None, Plan(3, 96, 1, 320, 6, 0, 160_000)),
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


def data_uri(image: RgbImage, side_px: int) -> str:
    """An image RGB ``uint8 [H, W, 3]`` as a small JPEG in a data URI."""
    small = np.ascontiguousarray(at_most(image, side_px)[..., ::-1])
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(bytes(data)).decode("ascii")
