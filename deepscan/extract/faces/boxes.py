"""Boxes of the face detector, all candidates at once: suppression, correction, and their pixels.

Boxes are ``float32 [N, 4]`` rows of x1, y1, x2, y2 in pixels of the frame, in the convention of the networks' training:
the pixels from ``trunc(x1) - 1`` to ``trunc(x2) - 1`` belong to a box.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from deepscan.types import RgbImage

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]
# No half is smaller than this.
_MIN_HALF_PX = 24
# What cv2.remap reads and writes at most.
MAX_SIDE_PX = 2**15 - 1


class Octaves:
    """A frame and its halves, from which everything smaller is sampled: at most two of its pixels fall on one.

    Attributes:
        image: the frame, RGB ``uint8 [H, W, 3]``, of sides up to ``MAX_SIDE_PX``.
    """

    def __init__(self, image: RgbImage) -> None:
        self.image = image
        # Each half as large as the one before; a last odd row or column is left out.
        self._halves = [image]

    def image_for(self, factor: float) -> RgbImage:
        """What a picture of ``factor`` times the frame's size, at most 1, is sampled from."""
        return self._halves[self._octave(factor)]

    def _octave(self, factor: float) -> int:
        """The last one that is not smaller than ``factor`` of the frame; made now if it has to be."""
        octave = math.floor(-math.log2(factor) + 1e-6)
        while octave >= len(self._halves):
            last = self._halves[-1]
            height, width = last.shape[0] // 2, last.shape[1] // 2
            if min(height, width) < _MIN_HALF_PX:
                return len(self._halves) - 1
            even = last[: 2 * height, : 2 * width]
            self._halves.append(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA))
        return octave

    def crops(self, boxes: Floats, side: int) -> Floats:
        """The boxes' pixels, each resampled to a square; what lies outside of the frame is left out of its box.

        Args:
            boxes: ``[N, 4]``, each with a pixel inside of the frame, see :func:`has_pixels`.
            side: of the squares.

        Returns:
            ``float32 [N, side, side, 3]`` in [0, 255].
        """
        low, high = extent(boxes, self.image)
        size = high - low
        out = np.empty((len(boxes), side, side, 3), np.float32)
        middles = (np.arange(side, dtype=np.float32) + 0.5) / side
        halvings = np.floor(np.log2(np.maximum(size.max(axis=1) / side, 1))).astype(np.intp)
        for n in np.flatnonzero(np.bincount(halvings)):
            chosen = np.flatnonzero(halvings == n)
            octave = self._octave(0.5 ** int(n))
            share = np.float32(0.5**octave)
            x, y = (
                np.asarray((low[chosen, i, None] + size[chosen, i, None] * middles) * share - 0.5, np.float32)
                for i in (0, 1)
            )
            at_once = MAX_SIDE_PX // side
            for start in range(0, len(chosen), at_once):
                part = slice(start, start + at_once)
                out[chosen[part]] = _sampled(self._halves[octave], x[part], y[part])
        return out


def _sampled(image: RgbImage, x: Floats, y: Floats) -> RgbImage:
    """Grids of columns ``x`` and rows ``y``, each ``[N, S]``, sampled bilinearly: ``uint8 [N, S, S, 3]``."""
    n, side = x.shape
    columns = np.repeat(x, side, axis=0)
    rows = np.repeat(y.reshape(-1, 1), side, axis=1)
    sampled = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled.reshape(n, side, side, 3)


def has_pixels(boxes: Floats, image: RgbImage) -> NDArray[np.bool_]:
    """Which boxes ``[N, 4]`` have a pixel inside of a frame, ``[N]``; none does that is not finite."""
    low, high = extent(boxes, image)
    return np.asarray((high > low).all(axis=1) & np.isfinite(boxes).all(axis=1))


def extent(boxes: Floats, image: RgbImage) -> tuple[Floats, Floats]:
    """First pixels and the first after the last, both (x, y) ``[N, 2]``, of boxes within a frame."""
    whole = np.trunc(boxes)
    height, width = image.shape[:2]
    return np.maximum(whole[:, :2], 1) - 1, np.minimum(whole[:, 2:], np.array([width, height], np.float32))


def suppress(
    boxes: Floats, scores: Floats, threshold: float, *, of: Literal["union", "smaller"] = "union", extra_px: float = 0
) -> Indices:
    """Greedy non-maximum suppression.

    Args:
        boxes: ``[N, 4]`` of one frame.
        scores: ``[N]``.
        threshold: a box goes when its intersection with a surer one that stays is more than this share.
        of: what the share is of: both boxes' union, or the smaller of them.
        extra_px: added to widths and heights.

    Returns:
        The boxes that stay, surest first.
    """
    order = np.argsort(-scores, kind="stable")
    if len(order) < 2:
        return order
    x1, y1, x2, y2 = boxes[order].T
    area = (x2 - x1 + extra_px) * (y2 - y1 + extra_px)
    width = np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1) + extra_px
    height = np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1) + extra_px
    common = np.maximum(width, 0) * np.maximum(height, 0)
    whole = area[:, None] + area - common if of == "union" else np.minimum(area[:, None], area)
    return order[_greedy(common > threshold * whole)]


def _greedy(overlaps: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of things ordered by worth those that overlap no better one which stays; from ``[N, N]`` to ``[N]``."""
    hides = np.triu(overlaps, 1)
    stays = np.ones(len(hides), np.bool_)
    # The fate of number N is settled in round N at the latest; mostly all are in three or four.
    while True:
        before = stays.copy()
        np.logical_not(hides[before].any(axis=0), out=stays)
        if np.array_equal(before, stays):
            return stays


def squared(boxes: Floats) -> Floats:
    """The boxes made square about their middles, with the longer side."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def corrected(boxes: Floats, shares: Floats, extra_px: float) -> Floats:
    """The boxes moved by a network's corrections.

    Args:
        boxes: ``[N, 4]``.
        shares: ``[N, 4]``, of each box's width (x1, x2) and height (y1, y2).
        extra_px: added to widths and heights.
    """
    size = boxes[:, 2:] - boxes[:, :2] + np.float32(extra_px)
    return boxes + shares * np.concatenate([size, size], axis=1)
