"""The cascade of MTCNN (Zhang et al., IEEE SPL 2016): windows of a frame, then candidates, then faces.

Its boxes are those of facenet-pytorch's MTCNN, most of whose time goes to other things than its networks: to a pooling
call for every candidate, and to a pyramid that is sampled from the whole frame at every level. Here levels and
candidates are sampled from the frame and its halves, all candidates of an octave in one call; the pyramid begins where
it is needed, and all its levels go through the first network at once; and the networks see few sizes of input, as a
runtime prepares itself for every new one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepscan.extract.faces.boxes import Floats, Indices, Octaves, corrected, has_pixels, squared, suppress
from deepscan.extract.faces.pyramid import STRIDE_PX, WINDOW_PX, Canvas, canvas_of, run_pyramids
from deepscan.runtimes import Network
from deepscan.types import RgbImage

# Sizes that a network has not seen cost a runtime 5 to 70 ms, as much as a frame: candidates go in pieces of these.
_PIECES = (64, 16, 4)
# Patterns give tens of thousands of windows. The surest so many are kept of a level and of a frame: in frames with 130
# faces of 40 to 66 px none was lost.
_WINDOWS_A_LEVEL = 1024
_CANDIDATES_A_FRAME = 1024
# Candidates whose pixels are held at once: 7 MB for the third network.
_CANDIDATES_AT_ONCE = 256
# Shares of intersection from which a box hides a less sure one, after each network; of the smaller box after the last.
# After the first within a level only: windows of two levels never share so much that facenet-pytorch would see it.
_SAME_WINDOW, _SAME_CANDIDATE, _SAME_FACE = 0.5, 0.7, 0.7
# Where a face may be shortly after: factors of its box's side, and shifts of its middle in shares of the side.
_FOLLOWED = (
    (1.0, 0.0, 0.0),
    (0.8, 0.0, 0.0),
    (1.25, 0.0, 0.0),
    (1.0, -0.15, 0.0),
    (1.0, 0.15, 0.0),
    (1.0, 0.0, -0.15),
    (1.0, 0.0, 0.15),
)


@dataclass(frozen=True, slots=True)
class Detections:
    """What the cascade finds in one frame, surest first.

    Attributes:
        boxes: ``float32 [n, 4]`` in pixels of the frame; they may reach beyond it.
        confidences: ``float32 [n]`` in [0, 1].
        landmarks: ``float32 [n, 5, 2]``.
    """

    boxes: Floats
    confidences: Floats
    landmarks: Floats


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Square boxes ``float32 [N, 4]``, their logits ``[N]``, and the frame of each, ``[N]``, in ascending order."""

    boxes: Floats
    logits: Floats
    frames: Indices

    def __getitem__(self, chosen: NDArray[np.bool_] | Indices | slice) -> _Candidates:
        return _Candidates(self.boxes[chosen], self.logits[chosen], self.frames[chosen])

    def of_frames(self) -> list[Indices]:
        """Where each frame's candidates are."""
        firsts = np.flatnonzero(np.diff(self.frames, prepend=-1))
        return np.split(np.arange(len(self.frames)), firsts[1:]) if len(firsts) else []


class Cascade:
    """The three networks, one after the other. Several threads may use it.

    Args:
        pnet: ``float32 [N, H, W, 3]`` to ``[N, h, w, 5]``, see :mod:`deepscan.extract.faces.mtcnn_networks`.
        rnet: ``float32 [N, 24, 24, 3]`` to ``[N, 5]``.
        onet: ``float32 [N, 48, 48, 3]`` to ``[N, 15]``.
        thresholds: of each network's confidence, in [0, 1].
    """

    def __init__(self, pnet: Network, rnet: Network, onet: Network, thresholds: tuple[float, float, float]) -> None:
        self.pnet, self.rnet, self.onet = pnet, rnet, onet
        self._limits = [_logit(threshold) for threshold in thresholds]

    def detect(self, images: Sequence[RgbImage], smallest_px: Sequence[float]) -> list[Detections]:
        """Find faces.

        Args:
            images: RGB ``uint8 [H, W, 3]`` of any sizes.
            smallest_px: for each image the smallest face that is looked for; time goes with its inverse square.

        Returns:
            For each image what was found, whatever else is in the batch.
        """
        octaves = [Octaves(image) for image in images]
        canvases = [canvas_of(image, smallest) for image, smallest in zip(images, smallest_px, strict=True)]
        outputs = run_pyramids(self.pnet, octaves, canvases)
        parts = [
            self._windows(image, canvas, maps, i)
            for i, (image, canvas, maps) in enumerate(zip(images, canvases, outputs, strict=True))
        ]
        return self._refine(octaves, parts)

    def follow(self, images: Sequence[RgbImage], before: Sequence[Floats]) -> list[Detections]:
        """Find again the faces of frames shortly before, without the first network; new faces are not found.

        Args:
            images: RGB ``uint8 [H, W, 3]`` of any sizes.
            before: for each image the boxes ``float32 [n, 4]`` of faces that may still be there, about as they were.
        """
        octaves = [Octaves(image) for image in images]
        factors = np.array(_FOLLOWED, np.float32)
        parts = []
        for frame, (image, boxes) in enumerate(zip(images, before, strict=True)):
            squares = squared(boxes)
            side = (squares[:, 2:] - squares[:, :2])[:, None]
            middle = (squares[:, None, :2] + squares[:, None, 2:]) / 2 + side * factors[:, 1:]
            half = side * factors[:, :1] / 2
            tried = np.concatenate([middle - half, middle + half], axis=2).reshape(-1, 4)
            tried = tried[has_pixels(tried, image)]
            parts.append(_Candidates(tried, np.zeros(len(tried), np.float32), np.full(len(tried), frame, np.intp)))
        return self._refine(octaves, parts)

    def _windows(self, image: RgbImage, canvas: Canvas, outputs: Sequence[Floats], frame: int) -> _Candidates:
        """The windows of a frame in which the first network sees a face."""
        boxes, logits = [np.empty((0, 4), np.float32)], [np.empty(0, np.float32)]
        for level, maps in zip(canvas.levels, outputs, strict=True):
            rows, columns = np.nonzero(maps[..., 0] >= self._limits[0])
            if not len(rows):
                continue
            best = maps[rows, columns]
            if len(best) > _WINDOWS_A_LEVEL:
                surest = np.argpartition(best[:, 0], -_WINDOWS_A_LEVEL)[-_WINDOWS_A_LEVEL:]
                rows, columns, best = rows[surest], columns[surest], best[surest]
            first = np.stack([columns, rows], axis=1).astype(np.float32) * STRIDE_PX + 1
            window = np.floor(np.concatenate([first, first + (WINDOW_PX - 1)], axis=1) * np.float32(1 / level.scale))
            kept = suppress(window, best[:, 0], _SAME_WINDOW)
            boxes.append(corrected(window[kept], best[kept, 1:], 0))
            logits.append(best[kept, 0])
        squares, sureness = squared(np.concatenate(boxes)), np.concatenate(logits)
        usable = np.flatnonzero(has_pixels(squares, image))
        if len(usable) > _CANDIDATES_A_FRAME:
            usable = usable[np.argsort(-sureness[usable], kind="stable")[:_CANDIDATES_A_FRAME]]
        return _Candidates(squares[usable], sureness[usable], np.full(len(usable), frame, np.intp))

    def _refine(self, octaves: Sequence[Octaves], parts: Sequence[_Candidates]) -> list[Detections]:
        """The second and the third network on the candidates of all frames."""
        empty = np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32)
        detections = [Detections(*empty) for _ in octaves]
        if not parts:
            return detections
        candidates = _Candidates(
            np.concatenate([p.boxes for p in parts]),
            np.concatenate([p.logits for p in parts]),
            np.concatenate([p.frames for p in parts]),
        )
        candidates = self._second(octaves, candidates)
        out = _run(self.onet, octaves, candidates, 48, 15)
        passed = out[:, 0] > self._limits[2]
        out, candidates = out[passed], candidates[passed]
        boxes, logits = corrected(candidates.boxes, out[:, 1:5], 1), out[:, 0]
        size = candidates.boxes[:, 2:] - candidates.boxes[:, :2] + 1
        shares = out[:, 5:].reshape(-1, 2, 5).transpose(0, 2, 1)
        landmarks = size[:, None] * shares + candidates.boxes[:, None, :2] - 1
        for mine in candidates.of_frames():
            kept = mine[suppress(boxes[mine], logits[mine], _SAME_FACE, of="smaller", extra_px=1)]
            detections[candidates.frames[mine[0]]] = Detections(boxes[kept], _sigmoid(logits[kept]), landmarks[kept])
        return detections

    def _second(self, octaves: Sequence[Octaves], candidates: _Candidates) -> _Candidates:
        out = _run(self.rnet, octaves, candidates, 24, 5)
        passed = out[:, 0] > self._limits[1]
        out, candidates = out[passed], candidates[passed]
        boxes = squared(corrected(candidates.boxes, out[:, 1:], 1))
        kept = [np.empty(0, np.intp)]
        for mine in candidates.of_frames():
            # Suppression sees the boxes as they were before this network corrected them.
            stay = mine[suppress(candidates.boxes[mine], out[mine, 0], _SAME_CANDIDATE)]
            kept.append(stay[has_pixels(boxes[stay], octaves[candidates.frames[mine[0]]].image)])
        chosen = np.concatenate(kept)
        return _Candidates(boxes[chosen], out[chosen, 0], candidates.frames[chosen])


def _run(network: Network, octaves: Sequence[Octaves], candidates: _Candidates, side: int, width: int) -> Floats:
    """A network's output ``[N, width]`` for the candidates' pixels."""
    n = len(candidates.frames)
    out = np.empty((n, width), np.float32)
    for start in range(0, n, _CANDIDATES_AT_ONCE):
        part = candidates[start : start + _CANDIDATES_AT_ONCE]
        pixels = [octaves[part.frames[mine[0]]].crops(part.boxes[mine], side) for mine in part.of_frames()]
        out[start : start + _CANDIDATES_AT_ONCE] = _in_pieces(network, np.concatenate(pixels))
    return out


def _in_pieces(network: Network, pixels: Floats) -> Floats:
    """A network's output for ``[N, S, S, 3]``, in pieces of few sizes."""
    outputs, start = [], 0
    while start < len(pixels):
        left = len(pixels) - start
        size = next((p for p in _PIECES if p <= left), _PIECES[-1])
        piece = pixels[start : start + size]
        if left < size:
            piece = np.concatenate([piece, np.zeros((size - left, *piece.shape[1:]), np.float32)])
        outputs.append(network(piece)[0][:left])
        start += size
    return np.concatenate(outputs)


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def _logit(probability: float) -> float:
    if 0 < probability < 1:
        return math.log(probability / (1 - probability))
    return math.inf if probability >= 1 else -math.inf
