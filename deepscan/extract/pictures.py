"""Pictures of one file for people to look at, kept while its frames pass by: it need not be decoded again for them.

They are kept as JPEG, which takes about as much memory as the crops that the network sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from deepscan.extract.crops import Square, at_most, crop_square
from deepscan.types import Box, Face, Frame, RgbImage

FRAME_SIDE_PX, FACE_SIDE_PX = 960, 240
_MARGIN = 0.25  # of a face around its box: it is recognised with its hair
_JPEG_QUALITY = 95

# Of a crop: the sampled frame's index and the face's box.
CropKey = tuple[int, Box]


@dataclass(frozen=True, slots=True)
class KeepPictures:
    """What is kept: whole frames, at most 960 pixels on their longer side; faces, 240 pixels square; and as it was
    decoded the frame in which a face is largest."""

    frames: bool = False
    faces: bool = False
    largest: bool = False


@dataclass(frozen=True, slots=True)
class _KeptFrame:
    jpeg: bytes
    shape: tuple[int, ...]
    time_s: float


@dataclass(frozen=True, slots=True)
class LargestFace:
    """A frame RGB ``uint8 [H, W, 3]`` as it was decoded, its time, and the box of its largest face."""

    image: RgbImage
    time_s: float
    box: Box


class Pictures:
    """Collects what is wanted of every sampled frame.

    Attributes:
        largest: the frame in which a face is largest; None without one, and where it was not to be kept.
    """

    def __init__(self, keep: KeepPictures) -> None:
        self._keep = keep
        self._frames: dict[int, _KeptFrame] = {}
        self._faces: dict[CropKey, bytes] = {}
        self.largest: LargestFace | None = None
        self._largest_px = 0.0

    def add(self, frame: Frame, faces: Sequence[Face]) -> None:
        """A frame and the faces in it."""
        if self._keep.frames:
            jpeg = _encoded(at_most(frame.image, FRAME_SIDE_PX))
            self._frames[frame.index] = _KeptFrame(jpeg, frame.image.shape, frame.time_s)
        if self._keep.faces:
            self._faces.update({(frame.index, f.box): _encoded(thumbnail(frame.image, f.box)) for f in faces})
        face = max(faces, key=lambda face: face.size_px, default=None) if self._keep.largest else None
        if face is not None and face.size_px > self._largest_px:
            self._largest_px, self.largest = face.size_px, LargestFace(frame.image.copy(), frame.time_s, face.box)

    def add_turned(self, turned: Pictures, box: Callable[[int, Box], Box]) -> None:
        """The faces of frames that were turned; ``box`` leads back to the picture as displayed."""
        self._faces.update({(index, box(index, b)): jpeg for (index, b), jpeg in turned._faces.items()})

    def frame(self, index: int) -> tuple[RgbImage, tuple[int, ...], float] | None:
        """A sampled frame RGB ``uint8 [H, W, 3]`` as kept, the shape that it had, and its time in seconds."""
        kept = self._frames.get(index)
        return None if kept is None else (_decoded(kept.jpeg), kept.shape, kept.time_s)

    def face(self, key: CropKey) -> RgbImage | None:
        """A face, RGB ``uint8 [240, 240, 3]``."""
        jpeg = self._faces.get(key)
        return None if jpeg is None else _decoded(jpeg)


def thumbnail(image: RgbImage, box: Box) -> RgbImage:
    """The face in a box of a frame RGB ``uint8 [H, W, 3]``, with what is around it, ``[240, 240, 3]``."""
    x1, y1, x2, y2 = box
    side = max(x2 - x1, y2 - y1, 1.0) * (1 + 2 * _MARGIN)
    return crop_square(image, Square(((x1 + x2) / 2, (y1 + y2) / 2), side, 0.0), FACE_SIDE_PX)


def _encoded(image: RgbImage) -> bytes:
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return bytes(data)


def _decoded(jpeg: bytes) -> RgbImage:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return np.ascontiguousarray(np.asarray(image, np.uint8)[..., ::-1])
