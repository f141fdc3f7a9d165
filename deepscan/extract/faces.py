"""Faces in frames: MTCNN (Zhang et al., IEEE SPL 2016) from facenet-pytorch, whose weights come in its wheel.

The only file that knows facenet-pytorch's detector and its limits: it takes equal-sized frames only, crashes on images
under about 30 px, and answers with None or object arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepscan.config import FaceSettings
from deepscan.records import Face, RgbImage

# MTCNN's pyramid needs a side well above its 12 px window; smaller images are padded to this with their own edge.
_MIN_SIDE_PX = 64
_PYRAMID_FACTOR = 0.709
# MTCNN was trained on faces with surroundings. A face that fills its picture is found better, and its box is not cut
# off at the edge, when the picture is first widened on each side by this share with its own edge.
_CLOSE_UP_PAD = 0.27
_CLOSE_UP_SHARE = 0.6
_CANDIDATES_AT_ONCE = 256


class FaceFinder:
    """Finds faces in batches of RGB frames of any, also mixed, sizes.

    Args:
        settings: sizes and thresholds.
        device: torch device for the three networks.
    """

    def __init__(self, settings: FaceSettings | None = None, device: str = "cpu") -> None:
        from facenet_pytorch import MTCNN

        self.settings = settings or FaceSettings()
        # Patterned frames give thousands of candidates: together they would take hundreds of megabytes.
        self._mtcnn = MTCNN(
            keep_all=True,
            min_face_size=self.settings.detector_min_px,
            thresholds=list(self.settings.thresholds),
            factor=_PYRAMID_FACTOR,
            post_process=False,
            device=torch.device(device),
        ).eval()
        self._mtcnn.rnet, self._mtcnn.onet = _InPieces(self._mtcnn.rnet), _InPieces(self._mtcnn.onet)

    def detect(self, images: Sequence[RgbImage], *, close_up: bool = False) -> list[list[Face]]:
        """Detect the faces of every image.

        Args:
            images: RGB ``uint8 [H, W, 3]``, sizes may differ.
            close_up: look first, with the picture widened, for a face that fills it.

        Returns:
            For each image its faces, largest first, boxes clipped to the image; an empty list where there is none.
            The box of a face that fills the picture may reach beyond it.
        """
        if not close_up:
            return self._detect_all(images)
        # The look that finds what fills the picture is quick, and mostly the only one that is needed.
        found = [self._detect_widened(image) for image in images]
        rest = [i for i, faces in enumerate(found) if not faces]
        for i, faces in zip(rest, self._detect_all([images[i] for i in rest]), strict=True):
            found[i] = faces
        return found

    def _detect_widened(self, image: RgbImage) -> list[Face]:
        """The face that fills a picture, with others as large; none where nothing does."""
        shorter = min(image.shape[:2])
        pad = round(_CLOSE_UP_PAD * max(image.shape[:2]))
        widened = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        small, scale = self._prepare(widened)
        smallest = max(self.settings.detector_min_px, int(_CLOSE_UP_SHARE / 2 * shorter / scale))
        (result,) = self._detect_equal(small[None], smallest)
        faces = _moved(self._faces(*result, scale, widened.shape), pad, image.shape)
        return faces if faces and max(_sides(faces[0])) >= _CLOSE_UP_SHARE * shorter else []

    def _detect_all(self, images: Sequence[RgbImage]) -> list[list[Face]]:
        """Boxes are clipped to the images."""
        prepared = [self._prepare(image) for image in images]
        results: list[list[Face]] = [[] for _ in images]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for index, (small, _) in enumerate(prepared):
            by_shape.setdefault(small.shape, []).append(index)
        for indices in by_shape.values():
            for start in range(0, len(indices), self.settings.batch_frames):
                chunk = indices[start : start + self.settings.batch_frames]
                found = self._detect_equal(np.stack([prepared[i][0] for i in chunk]))
                for i, (boxes, confidences, landmarks) in zip(chunk, found, strict=True):
                    results[i] = self._faces(boxes, confidences, landmarks, prepared[i][1], images[i].shape)
        return results

    def _prepare(self, image: RgbImage) -> tuple[RgbImage, float]:
        """Scale down to the detection size and pad what is tiny; returns the image and source px per detection px."""
        height, width = image.shape[:2]
        scale = max(1.0, max(height, width) / self.settings.detect_side_px)
        if scale > 1.0:
            size = (max(1, round(width / scale)), max(1, round(height / scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            height, width = image.shape[:2]
        if min(height, width) < _MIN_SIDE_PX:
            right, bottom = max(0, _MIN_SIDE_PX - width), max(0, _MIN_SIDE_PX - height)
            image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        return image, scale

    def _detect_equal(
        self, batch: NDArray[np.uint8], smallest_px: int | None = None
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]]:
        """Boxes ``[n, 4]``, confidences ``[n]`` and landmarks ``[n, 5, 2]`` for each of ``[B, H, W, 3]``."""
        self._mtcnn.min_face_size = smallest_px or self.settings.detector_min_px
        with torch.inference_mode():
            boxes, confidences, landmarks = self._mtcnn.detect(batch, landmarks=True)
        empty = np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2), np.float32)
        out = []
        for box, confidence, points in zip(boxes, confidences, landmarks, strict=True):
            if box is None:
                out.append(empty)
            else:
                out.append(
                    (
                        np.asarray(box, np.float64),
                        np.asarray(confidence, np.float64),
                        np.asarray(points, np.float32),
                    )
                )
        return out

    def _faces(
        self,
        boxes: NDArray[np.float64],
        confidences: NDArray[np.float64],
        landmarks: NDArray[np.float32],
        scale: float,
        shape: tuple[int, ...],
    ) -> list[Face]:
        height, width = shape[:2]
        limit = np.array([width, height, width, height], dtype=np.float64)
        faces = []
        for box, confidence, points in zip(boxes, confidences, landmarks, strict=True):
            if not (math.isfinite(confidence) and confidence >= self.settings.min_confidence):
                continue
            x1, y1, x2, y2 = (float(v) for v in np.clip(box * scale, 0, limit))
            if x2 - x1 < 1 or y2 - y1 < 1:  # found in the padding
                continue
            faces.append(Face((x1, y1, x2, y2), min(1.0, float(confidence)), points * np.float32(scale)))
        return sorted(faces, key=lambda f: f.size_px, reverse=True)


class _InPieces(nn.Module):
    """A network that sees its batch a piece at a time; what it gives is the same."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs of all pieces of ``[N, 3, S, S]``, put together."""
        parts = [self.net(piece) for piece in torch.split(x, _CANDIDATES_AT_ONCE)]
        return tuple(torch.cat(outputs) for outputs in zip(*parts, strict=True))


def _sides(face: Face) -> tuple[float, float]:
    x1, y1, x2, y2 = face.box
    return x2 - x1, y2 - y1


def _moved(faces: list[Face], pad: int, shape: tuple[int, ...]) -> list[Face]:
    """Faces of a widened picture in pixels of the picture itself; those whose middle is outside of it are left out."""
    height, width = shape[:2]
    moved = []
    for face in faces:
        x1, y1, x2, y2 = (v - pad for v in face.box)
        if 0 <= (x1 + x2) / 2 < width and 0 <= (y1 + y2) / 2 < height:
            moved.append(Face((x1, y1, x2, y2), face.confidence, face.landmarks - np.float32(pad)))
    return moved
