"""Faces in frames: from pixels to :class:`deepscan.types.Face`, with MTCNN's cascade in between.

Here is what the cascade is not made for: tiny pictures and huge ones, faces that fill theirs, boxes beyond the edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from deepscan.config import FaceSettings
from deepscan.extract.faces.boxes import Octaves
from deepscan.extract.faces.cascade import Cascade, Detections
from deepscan.extract.faces.mtcnn import load_networks
from deepscan.runtimes import RuntimeName
from deepscan.types import Face, RgbImage

# The smallest picture that the detector looks at; smaller ones are padded to this with their own edge. The largest:
# what is larger is scaled down.
_MIN_SIDE_PX, _MAX_SIDE_PX = 64, 8192
# MTCNN was trained on faces with surroundings. A face that fills its picture is found better, and its box is not cut
# off at the edge, when the picture is first widened on each side by this share with its own edge.
_CLOSE_UP_PAD = 0.27
_CLOSE_UP_SHARE = 0.6
# To lose none of the faces that are large enough to be scored, they are looked for from this share of the size on.
_SURELY_FOUND_FROM = 0.72


class FaceFinder:
    """Finds faces in batches of RGB frames of any, also mixed, sizes. Several threads may use it.

    Args:
        settings: sizes and thresholds.
        device: torch device for the three networks.
        runtime: what runs them; torch does where this one cannot.

    Raises:
        ModelError: facenet-pytorch, with whose wheel the weights come, is missing or damaged.
    """

    def __init__(
        self, settings: FaceSettings | None = None, device: str = "cpu", runtime: RuntimeName = "torch"
    ) -> None:
        self.settings = settings or FaceSettings()
        self.cascade = Cascade(*load_networks(runtime, device), thresholds=self.settings.thresholds)

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
        results = [self._detect_widened(image) for image in images]
        rest = [i for i, faces in enumerate(results) if not faces]
        for i, faces in zip(rest, self._detect_all([images[i] for i in rest]), strict=True):
            results[i] = faces
        return results

    def glance(self, images: Sequence[RgbImage], smallest_px: float) -> list[list[Face]]:
        """The faces of at least ``smallest_px`` of every image, as :meth:`detect` gives them, in a single look."""
        return self._detect_at_once(images, [smallest_px] * len(images))

    def follow(self, images: Sequence[RgbImage], before: Sequence[Sequence[Face]]) -> list[list[Face] | None]:
        """Find again the faces of frames shortly before, in about a sixth of the time that :meth:`detect` takes.

        For frames close together only: after 0.1 s no face of 123 was lost, after 0.25 s one of 118, after 0.5 s four
        of 123. A face that was not there before is not found: look with :meth:`detect` at every second frame at least.

        Args:
            images: RGB ``uint8 [H, W, 3]`` of the same scenes, shortly after.
            before: the faces of each scene, in pixels of an image of the same size.

        Returns:
            For each image its faces as :meth:`detect` gives them; None where there were none before, or not all were
            found again surely: :meth:`detect` has to look.
        """
        prepared = [_prepared(image) for image in images]
        boxes = [
            np.array([f.box for f in faces], np.float32).reshape(-1, 4) / scale
            for faces, (_, scale) in zip(before, prepared, strict=True)
        ]
        results: list[list[Face] | None] = []
        for start in range(0, len(images), self.settings.batch_frames):
            part = slice(start, start + self.settings.batch_frames)
            followed = self.cascade.follow([image for image, _ in prepared[part]], boxes[part])
            for each, (_, scale), image, last in zip(followed, prepared[part], images[part], before[part], strict=True):
                faces = self._faces(each, scale, image.shape)
                results.append(faces if last and _all_there(last, faces) else None)
        return results

    def _detect_widened(self, image: RgbImage) -> list[Face]:
        """The face that fills a picture, with others as large; none where nothing does."""
        # Such a face is large enough for sure in a picture of the detection size.
        small = Octaves(image).image_for(min(1.0, self.settings.detect_side_px / max(image.shape[:2])))
        scale = image.shape[1] / small.shape[1]
        shorter = min(small.shape[:2])
        pad = round(_CLOSE_UP_PAD * max(small.shape[:2]))
        widened = cv2.copyMakeBorder(small, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        faces = self._detect_at_once([widened], [max(self._smallest_px(widened), _CLOSE_UP_SHARE / 2 * shorter)])[0]
        faces = _moved(faces, pad, small.shape)
        if not faces or max(faces[0].width_px, faces[0].height_px) < _CLOSE_UP_SHARE * shorter:
            return []
        return [_scaled(face, scale) for face in faces]

    def _detect_all(self, images: Sequence[RgbImage]) -> list[list[Face]]:
        """Boxes are clipped to the images.

        Faces too small to be scored are looked for only where there is no other: it takes as long again.
        """
        results: list[list[Face]] = []
        usable_px = _SURELY_FOUND_FROM * self.settings.min_face_px
        for start in range(0, len(images), self.settings.batch_frames):
            chunk = images[start : start + self.settings.batch_frames]
            smallest = [self._smallest_px(image) for image in chunk]
            detected = self._detect_at_once(chunk, [max(px, usable_px) for px in smallest])
            again = [i for i, px in enumerate(smallest) if px < usable_px and not detected[i]]
            if again:
                small = self._detect_at_once([chunk[i] for i in again], [smallest[i] for i in again])
                for i, faces in zip(again, small, strict=True):
                    detected[i] = faces
            results += detected
        return results

    def _detect_at_once(self, images: Sequence[RgbImage], smallest_px: Sequence[float]) -> list[list[Face]]:
        prepared = [_prepared(image) for image in images]
        sizes = [smallest / scale for smallest, (_, scale) in zip(smallest_px, prepared, strict=True)]
        detections = self.cascade.detect([image for image, _ in prepared], sizes)
        return [
            self._faces(each, scale, image.shape)
            for each, (_, scale), image in zip(detections, prepared, images, strict=True)
        ]

    def _smallest_px(self, image: RgbImage) -> float:
        """The smallest face that is looked for, in pixels of the image."""
        return self.settings.detector_min_px * max(1.0, max(image.shape[:2]) / self.settings.detect_side_px)

    def _faces(self, detections: Detections, scale: float, shape: tuple[int, ...]) -> list[Face]:
        height, width = shape[:2]
        boxes = np.clip(detections.boxes * np.float32(scale), 0, np.array([width, height, width, height], np.float32))
        landmarks = detections.landmarks * np.float32(scale)
        faces = []
        for (x1, y1, x2, y2), confidence, points in zip(
            boxes.tolist(), detections.confidences.tolist(), landmarks, strict=True
        ):
            if not (math.isfinite(confidence) and confidence >= self.settings.min_confidence):
                continue
            if x2 - x1 < 1 or y2 - y1 < 1:  # found in the padding
                continue
            faces.append(Face((x1, y1, x2, y2), min(1.0, confidence), points))
        return sorted(faces, key=lambda f: f.size_px, reverse=True)


@lru_cache(maxsize=1)
def cached_finder(settings: FaceSettings) -> FaceFinder:
    """One a worker process: its networks are loaded once."""
    return FaceFinder(settings)


def _all_there(last: Sequence[Face], faces: Sequence[Face]) -> bool:
    """Whether every known face has one whose middle it holds."""
    middles = [((f.box[0] + f.box[2]) / 2, (f.box[1] + f.box[3]) / 2) for f in faces]
    return all(any(f.box[0] < x < f.box[2] and f.box[1] < y < f.box[3] for x, y in middles) for f in last)


def _prepared(image: RgbImage) -> tuple[RgbImage, float]:
    """A picture that the cascade takes, and how many pixels of the image one of its pixels is."""
    height, width = image.shape[:2]
    scale = max(1.0, max(height, width) / _MAX_SIDE_PX)
    if scale > 1:
        size = max(1, round(width / scale)), max(1, round(height / scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        height, width = image.shape[:2]
    if min(height, width) < _MIN_SIDE_PX:
        right, bottom = max(0, _MIN_SIDE_PX - width), max(0, _MIN_SIDE_PX - height)
        image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return image, scale


def _scaled(face: Face, scale: float) -> Face:
    x1, y1, x2, y2 = (scale * v for v in face.box)
    return Face((x1, y1, x2, y2), face.confidence, face.landmarks * np.float32(scale))


def _moved(faces: list[Face], pad: int, shape: tuple[int, ...]) -> list[Face]:
    """Faces of a widened picture in pixels of the picture itself; those whose middle is outside of it are left out."""
    height, width = shape[:2]
    moved = []
    for face in faces:
        x1, y1, x2, y2 = (v - pad for v in face.box)
        if 0 <= (x1 + x2) / 2 < width and 0 <= (y1 + y2) / 2 < height:
            moved.append(Face((x1, y1, x2, y2), face.confidence, face.landmarks - np.float32(pad)))
    return moved
