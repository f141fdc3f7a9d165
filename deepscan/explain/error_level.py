"""Error level: how much one more JPEG changes a picture, place by place.

Parts that were pasted in, drawn or compressed differently can stand out from what is around them; so do edges, text and
fine texture. After a platform has encoded the whole again little of it is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageChops

from deepscan.extract.pictures import thumbnail
from deepscan.types import Box, RgbImage

QUALITY = 90
MEANING = (
    "A part that was pasted in or compressed differently can be brighter or darker than similar surfaces around it; "
    "edges and texture are bright anyway, and after an upload or in a video the picture often shows nothing: it proves "
    "neither that something was changed nor that nothing was."
)
_FULL_PERCENTILE = 99.9  # of the differences: what is shown as white


@dataclass(frozen=True, slots=True)
class ErrorLevel:
    """Differences, brightened to be seen.

    Attributes:
        frame: of the whole picture, RGB ``uint8 [H, W, 3]``.
        face: of one face and what is around it, RGB ``uint8 [S, S, 3]``; None without a box.
        time_s: of the frame.
        factor: by which the differences were multiplied.
    """

    frame: RgbImage
    face: RgbImage | None
    time_s: float
    factor: float


def error_level(image: RgbImage, box: Box | None = None, time_s: float = 0.0) -> ErrorLevel:
    """Compress a picture once more and take the difference.

    Args:
        image: RGB ``uint8 [H, W, 3]`` as decoded: scaled or compressed again it shows that instead.
        box: of a face in it.
        time_s: of the frame.
    """
    picture, buffer = Image.fromarray(image), BytesIO()
    picture.save(buffer, format="JPEG", quality=QUALITY, subsampling=0)
    with Image.open(buffer) as again:
        difference = np.asarray(ImageChops.difference(picture, again.convert("RGB")), np.float32)
    factor = 255.0 / max(1.0, float(np.percentile(difference, _FULL_PERCENTILE)))
    shown = np.rint(np.clip(difference * factor, 0, 255)).astype(np.uint8)
    return ErrorLevel(shown, None if box is None else thumbnail(shown, box), time_s, factor)
