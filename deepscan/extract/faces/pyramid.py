"""The pyramid of MTCNN's first network: a frame's levels, side by side on one canvas.

A runtime prepares itself for every size of input that it has not just seen, which takes as long as a small level does.
On one canvas all levels go through in one call, for several frames at once, and all calls for a video have one size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from deepscan.extract.faces.boxes import Floats, Octaves
from deepscan.runtimes import Network
from deepscan.types import RgbImage

WINDOW_PX, STRIDE_PX = 12, 2
# Each level of the pyramid has half as many pixels as the one before. All levels are of the pyramid that begins with
# faces of 20 px, facenet-pytorch's default: its candidates, and so its boxes, come out.
_FACTOR = 0.709
_FIRST_FACE_PX = 20.0
# The first network finds faces well below a level's nominal size. With this share, of 323 faces between the smallest
# asked for and 1.5 times that, none was lost; with 2, 4 %.
LARGEST_FIRST_LEVEL = 1.42
# Sides of canvases are multiples of this: pictures of about one size share one.
_CANVAS_STEP_PX = 32
# Pixels that go through the network at once: its layers then take some 40 MB.
MOST_PX = 2**19


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a pyramid and its place on the canvas.

    Attributes:
        scale: of the level, to the frame.
        width_px: of the level.
        height_px: of the level.
        left_px: on the canvas; even, as all places are: the network looks at every second pixel.
        top_px: on the canvas.
    """

    scale: float
    width_px: int
    height_px: int
    left_px: int
    top_px: int

    def windows(self, maps: Floats) -> Floats:
        """The network's output for this level ``[h, w, 5]``, out of that for the canvas.

        Without windows that reach beyond the level; by one pixel they may, as in facenet-pytorch.
        """
        top, left = self.top_px // STRIDE_PX, self.left_px // STRIDE_PX
        rows, columns = ((side - 9) // 2 for side in (self.height_px, self.width_px))
        return maps[top : top + rows, left : left + columns]


@dataclass(frozen=True, slots=True)
class Canvas:
    """Where the levels of frames of one size are; ``shape`` is (height, width)."""

    shape: tuple[int, int]
    levels: tuple[Level, ...]

    def draw(self, octaves: Octaves, out: Floats) -> None:
        """Sample all levels of a frame.

        Args:
            octaves: of the frame.
            out: ``float32 [H, W, 3]`` of the canvas, its pixels in [0, 255]; between the levels it stays as it is.
        """
        for level in self.levels:
            sampled = resampled(octaves.image_for(level.scale), (level.width_px, level.height_px))
            rows, columns = (
                slice(level.top_px, level.top_px + level.height_px),
                slice(level.left_px, level.left_px + level.width_px),
            )
            out[rows, columns] = sampled
            # One more pixel, for the windows that reach it.
            if level.height_px % 2:
                out[rows.stop, columns] = sampled[-1]
            if level.width_px % 2:
                out[rows, columns.stop] = sampled[:, -1]
                if level.height_px % 2:
                    out[rows.stop, columns.stop] = sampled[-1, -1]


def run_pyramids(pnet: Network, octaves: Sequence[Octaves], canvases: Sequence[Canvas]) -> list[list[Floats]]:
    """The first network on every level of every frame.

    Args:
        pnet: ``float32 [N, H, W, 3]`` to ``[N, h, w, 5]``, see :mod:`deepscan.extract.faces.mtcnn_networks`.
        octaves: of the frames, of any sizes.
        canvases: of the frames, see :func:`canvas_of`.

    Returns:
        For each frame the network's output for each level, in the order of its canvas's levels.
    """
    outputs: list[list[Floats]] = [[] for _ in octaves]
    groups: dict[tuple[int, int], list[int]] = {}
    for i, canvas in enumerate(canvases):
        if canvas.levels:
            groups.setdefault(canvas.shape, []).append(i)
    for (height, width), members in groups.items():
        at_once = max(1, MOST_PX // (height * width))
        for start in range(0, len(members), at_once):
            part = members[start : start + at_once]
            pixels = np.zeros((len(part), height, width, 3), np.float32)
            for i, out in zip(part, pixels, strict=True):
                canvases[i].draw(octaves[i], out)
            for i, maps in zip(part, pnet(pixels)[0], strict=True):
                outputs[i] = [level.windows(maps) for level in canvases[i].levels]
    return outputs


def canvas_of(image: RgbImage, smallest_px: float) -> Canvas:
    """The pyramid of a frame that finds faces from ``smallest_px`` on."""
    return _canvas(image.shape[1], image.shape[0], _first_scale(smallest_px))


@lru_cache(maxsize=256)
def _canvas(width_px: int, height_px: int, scale: float) -> Canvas:
    """The pyramid of frames of one size from a scale down; no levels where that is too small for a window."""
    sizes = []
    while min(width_px, height_px) * scale >= WINDOW_PX:
        sizes.append((scale, int(width_px * scale + 1), int(height_px * scale + 1)))
        scale *= _FACTOR
    if not sizes:
        return Canvas((0, 0), ())
    positions = _packed([(_even(width), _even(height)) for _, width, height in sizes])
    levels = tuple(Level(*size, *position) for size, position in zip(sizes, positions, strict=True))
    right = max(level.left_px + _even(level.width_px) for level in levels)
    bottom = max(level.top_px + _even(level.height_px) for level in levels)
    return Canvas((_rounded_up(bottom), _rounded_up(right)), levels)


def _first_scale(smallest_px: float) -> float:
    """Of the largest level that is needed to find faces from ``smallest_px`` on."""
    scale = WINDOW_PX / _FIRST_FACE_PX
    while WINDOW_PX / (scale * _FACTOR) <= smallest_px * LARGEST_FIRST_LEVEL:
        scale *= _FACTOR
    return scale


def _packed(sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Places (left, top) for rectangles (width, height) from large to small, none wider than the first.

    Each goes to the uppermost free rectangle that holds it, and leaves one to its right and one below. The levels of a
    pyramid fill nine tenths.
    """
    free: list[tuple[int, int, int, float]] = [(0, 0, sizes[0][0], math.inf)]  # top, left, width, height
    positions = []
    for width, height in sizes:
        top, left, free_width, free_height = min(f for f in free if f[2] >= width and f[3] >= height)
        free.remove((top, left, free_width, free_height))
        free += [
            (top, left + width, free_width - width, height),
            (top + height, left, free_width, free_height - height),
        ]
        positions.append((left, top))
    return positions


def resampled(source: RgbImage, size: tuple[int, int]) -> RgbImage:
    """A picture resampled to (width, height)."""
    return np.asarray(cv2.resize(source, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _even(side_px: int) -> int:
    return side_px + side_px % 2


def _rounded_up(side_px: int) -> int:
    return -(-side_px // _CANVAS_STEP_PX) * _CANVAS_STEP_PX
