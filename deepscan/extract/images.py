"""Still images: size and pixels as they are displayed.

Pillow rather than OpenCV reads them: it tells a truncated file from a whole one (OpenCV fills the rest with
grey), knows the size before decoding, and its libraries do not write to stderr.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from deepscan.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deepscan.records import RgbImage

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_EXIF_ORIENTATION = 0x0112


class Orientation(NamedTuple):
    """How stored pixels become displayed ones: rows and columns swapped first, then the flips."""

    swap: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, image: RgbImage) -> RgbImage:
        """``uint8 [H, W, 3]`` as it is displayed, C-contiguous (``[W, H, 3]`` if swapped)."""
        if self.swap:
            image = image.transpose(1, 0, 2)
        image = image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        return np.ascontiguousarray(image)


# The eight values that EXIF defines; 6 and 8 are a phone held upright.
_ORIENTATIONS = {
    1: Orientation(),
    2: Orientation(flip_x=True),
    3: Orientation(flip_x=True, flip_y=True),
    4: Orientation(flip_y=True),
    5: Orientation(swap=True),
    6: Orientation(swap=True, flip_x=True),
    7: Orientation(swap=True, flip_x=True, flip_y=True),
    8: Orientation(swap=True, flip_y=True),
}


def is_image(head: bytes) -> bool:
    """Whether a file that starts with ``head`` (32 bytes are enough) is a JPEG, PNG, WebP or BMP."""
    # "BM" alone also starts many a text; the size of the header that follows tells.
    bmp = head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in {12, 40, 52, 56, 64, 108, 124}
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return bmp or webp or head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))


def image_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """Width and height in pixels as displayed, from the header alone.

    Raises:
        MediaError: ``unreadable``, or ``too_large`` for more than ``max_pixels``.
    """
    with _opened(path, max_pixels) as image:
        width, height = image.size
        return (height, width) if _orientation(image).swap else (width, height)


def read_image(path: Path, max_pixels: int) -> RgbImage:
    """A still as RGB ``uint8 [H, W, 3]``, turned as its EXIF says; transparency is dropped, 16 bits become 8.

    Raises:
        MediaError: ``unreadable``, or ``too_large`` for more than ``max_pixels``, before anything is decoded.
    """
    with _opened(path, max_pixels) as image:
        turn = _orientation(image)
        if image.mode.startswith("I"):
            # Pillow's own conversion of 16-bit grey clips at 255 instead of scaling.
            grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
            return turn.apply(np.repeat(grey[:, :, None], 3, axis=2))
        return turn.apply(np.array(image.convert("RGB"), dtype=np.uint8))


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """The image with only its header read; whatever goes wrong in the block comes out as a MediaError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with path.open("rb") as file:
                # Pillow makes room for a WebP's whole canvas as soon as it is opened.
                _check_size(path, *_webp_size(file.read(32)), max_pixels)
                file.seek(0)
                with Image.open(file, formats=_FORMATS) as image:
                    _check_size(path, *image.size, max_pixels)
                    yield image
    except MediaError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(path, "its header claims more than 178 million pixels", max_pixels) from None
    except Exception as error:
        # Everything: on damaged files Pillow raises whatever its parsers run into, even SyntaxError.
        raise MediaError(
            f"{path.name}: cannot be read",
            "the image is damaged or incomplete",
            "Get the original file again, or open it in an image viewer and save a copy.",
            reason="unreadable",
        ) from error


def _check_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _too_large(path, f"it is {width:,} x {height:,} pixels", max_pixels)


def _webp_size(head: bytes) -> tuple[int, int]:
    """Width and height by a WebP's first 32 bytes; 0 x 0 if they are none (RFC 9649, sections 2.5 to 2.7)."""
    if not (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return 0, 0
    kind, data = head[12:16], head[20:]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF


def _too_large(path: Path, why: str, max_pixels: int) -> MediaError:
    return MediaError(
        f"{path.name}: is too large",
        f"{why}, over the limit of {max_pixels:,}",
        "Scale it down first.",
        reason="too_large",
    )


def _orientation(image: Image.Image) -> Orientation:
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - a broken EXIF block is no reason to refuse the picture
        value = 1
    return _ORIENTATIONS.get(value, Orientation())
