"""Still images: size and pixels as they are displayed.

Pillow rather than OpenCV reads them: it tells a truncated file from a whole one (OpenCV fills the rest with
grey), knows the size before decoding, and its libraries do not write to stderr.
"""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from deepscan.errors import MediaError
from deepscan.extract.images.hdr import HLG, PQ, tone_mapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from deepscan.types import RgbImage

log = logging.getLogger(__name__)

_JPEG_XL = "JPEG XL"
_STARTS = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "TIFF": (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"),
    "JPEG2000": (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    _JPEG_XL: (b"\x00\x00\x00\x0cJXL \r\n\x87\n", b"\xff\x0a"),
}
# Major brands of ISO 23008-12 and of AVIF; those of sequences are not here.
_BRANDS = {**dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2"), "HEIF"), b"avif": "AVIF"}
_EXIF_ORIENTATION = 0x0112
_WEBP_ANIMATED = 0x02
_MOST_CHUNKS = 10_000  # a picture has a handful; made to do harm, a file may have millions
_NEW_SUBFILE_TYPE, _DNG_VERSION = 0x00FE, 0xC612
# A JPEG that is larger than the limit by this factor at most is decoded at half its sides: phones make them.
_MOST_SCALED = 4
# Of a JPEG that is cut off, so much may be missing at most: of a larger part nobody knows what was there.
_MOST_LOST = 0.1
_JPEG_END = b"\xff\xd9"
_MOST_JPEG_BYTES = 1 << 28
# A motion photo's video is appended to the photo, or stands in it: a box of one of these brands, not at the beginning.
_VIDEO_BRANDS = (b"mp4", b"iso", b"qt  ", b"avc1", b"M4V ", b"3gp")
_LONGEST_FTYP = 64


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
    """Whether a file that starts with ``head`` (32 bytes are enough) is a still of a kind that is known here."""
    return _format(head) is not None


def moves(file: BinaryIO) -> bool:
    """Whether a picture file, at its start, is animated: a WebP or PNG of several pictures. (AVIF has a brand.)"""
    head = file.read(32)
    return _is_animated_png(file) if head.startswith(_STARTS["PNG"]) else _is_animated_webp(file, head)


def is_animated_webp(path: Path) -> bool:
    """Whether a readable file is a WebP of several pictures."""
    with path.open("rb") as file:
        return _is_animated_webp(file, file.read(32))


def _is_animated_webp(file: BinaryIO, head: bytes) -> bool:
    if head[:4] != b"RIFF" or head[8:16] != b"WEBPVP8X" or not head[20] & _WEBP_ANIMATED:
        return False
    return len(list(islice(webp_durations_ms(file), 2))) == 2


def webp_durations_ms(file: BinaryIO) -> Iterator[int]:
    """How long each picture of an animated WebP is shown, by its chunks (RFC 9649, section 2.7.1.1)."""
    at, n_others = 12, 0
    while n_others < _MOST_CHUNKS:
        file.seek(at)
        chunk = file.read(24)
        if len(chunk) < 24:
            return
        if chunk[:4] == b"ANMF":
            yield int.from_bytes(chunk[20:23], "little")
        else:
            n_others += 1
        size = int.from_bytes(chunk[4:8], "little")
        at += 8 + size + size % 2


def _is_animated_png(file: BinaryIO) -> bool:
    """By the chunks before the picture's data: acTL has the number of pictures."""
    at = 8
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        chunk = file.read(12)
        if len(chunk) < 12 or chunk[4:8] == b"IDAT":
            break
        if chunk[4:8] == b"acTL":
            return int.from_bytes(chunk[8:12], "big") > 1
        at += 12 + int.from_bytes(chunk[:4], "big")
    return False


def _format(head: bytes) -> str | None:
    """Pillow's name for what a file holds by its first bytes; None where that is no picture."""
    for name, starts in _STARTS.items():
        if head.startswith(starts):
            return name
    # "BM" alone also starts many a text; the size of the header that follows tells.
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in {12, 40, 52, 56, 64, 108, 124}:
        return "BMP"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] != b"ftyp":
        return None
    # Some programs give an AVIF the brand of any HEIF, and its own beside it.
    return "AVIF" if head[8:11] == b"mif" and b"avif" in head[16:] else _BRANDS.get(head[8:12])


def image_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """Width and height in pixels that :func:`read_image` gives, from the header alone.

    Raises:
        MediaError: ``unreadable``, or ``too_large`` for more than ``max_pixels``.
    """
    with _opened(path, max_pixels) as image:
        width, height = image.size
        return (height, width) if _orientation(image).swap else (width, height)


def more_in_still(path: Path, max_pixels: int) -> int:
    """How much a photo's file holds beside the picture that is judged: more pictures, a motion photo's video.

    Raises:
        MediaError: as :func:`image_size`.
    """
    with _opened(path, max_pixels) as image:
        is_photo = image.format in ("JPEG", "MPO", "HEIF")
        return getattr(image, "n_frames", 1) - 1 + (is_photo and _holds_video(path))


def jpeg_table(path: Path, max_pixels: int) -> tuple[int, ...] | None:
    """The 64 steps by which a JPEG's luminance is quantised, in rows of its blocks as :func:`read_image` shows them.

    None for other pictures, for one that is read at half its size, and where no block begins at the displayed corner.

    Raises:
        MediaError: as :func:`image_size`.
    """
    with _opened(path, max_pixels) as image:
        table = getattr(image, "quantization", {}).get(0, ())
        halved = bool(getattr(image, "decoderconfig", None))
        if len(table) != 64 or image.mode not in ("L", "RGB") or halved:
            return None
        turn = _orientation(image)
        width, height = image.size[::-1] if turn.swap else image.size
        if (turn.flip_x and width % 8) or (turn.flip_y and height % 8):
            return None
        steps = np.array(table).reshape(8, 8)
        return tuple(int(step) for step in (steps.T if turn.swap else steps).ravel())


def read_image(path: Path, max_pixels: int) -> RgbImage:
    """A still as RGB ``uint8 [H, W, 3]``, as it is displayed; transparency is dropped, 16 bits become 8.

    A JPEG of up to four times ``max_pixels`` is read at half its width and height. One that lacks up to a tenth of its
    rows is completed with what viewers show there, grey mostly, and a warning says so.

    Raises:
        MediaError: ``unreadable``, or ``too_large`` for more than ``max_pixels``, before anything is decoded.
    """
    with _opened(path, max_pixels) as image:
        turn = _orientation(image)
        bright = _high_dynamic_range(path, image)
        if bright is not None:
            return bright
        if image.mode.startswith("I"):
            return as_displayed(image)
        return turn.apply(_pixels(path, image))


def as_displayed(image: Image.Image) -> RgbImage:
    """A picture that Pillow has opened, as :func:`read_image` gives it; raises what Pillow's decoders raise."""
    if image.mode.startswith("I"):
        # Pillow's own conversion of 16-bit grey clips at 255 instead of scaling.
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return _orientation(image).apply(np.repeat(grey[:, :, None], 3, axis=2))
    return _orientation(image).apply(np.array(image.convert("RGB"), dtype=np.uint8))


def open_still(path: Path, file: BinaryIO) -> Image.Image:
    """A picture of any kind that is read here, of any size, with nothing but its header read.

    Args:
        path: for messages.
        file: opened, at its start.

    Raises:
        Exception: whatever Pillow's parsers run into; MediaError for what is known but not read.
    """
    head = file.read(32)
    file.seek(0)
    name = _format(head)
    if name == _JPEG_XL:
        raise _not_read(path, "JPEG XL is not among the formats that are read")
    if name == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    try:
        image = Image.open(file, formats=(name or "",))
    except Image.DecompressionBombError:
        if name != "JPEG":
            raise
        file.seek(0)
        image = JpegImageFile(file)
    if name == "TIFF" and _is_raw(head, image):
        raise _not_read(path, "it is a camera's raw file, whose picture is still to be developed")
    return image


def _not_read(path: Path, cause: str) -> MediaError:
    return MediaError(f"{path.name}: cannot be read", cause, "Convert it to JPEG or PNG.", reason="unreadable")


def _is_raw(head: bytes, image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    return head[8:10] == b"CR" or _DNG_VERSION in tags or tags.get(_NEW_SUBFILE_TYPE, 0) & 1


def _pixels(path: Path, image: Image.Image) -> RgbImage:
    try:
        return np.array(image.convert("RGB"), dtype=np.uint8)
    except OSError:
        if not isinstance(image, JpegImageFile) or path.stat().st_size > _MOST_JPEG_BYTES:
            raise
    with JpegImageFile(io.BytesIO(path.read_bytes() + _JPEG_END)) as ended:
        ended.draft(None, image.size)
        pixels = np.array(ended.convert("RGB"), dtype=np.uint8)
    # What is not there is of one colour, down from somewhere in a row of blocks.
    lost = np.argmin((pixels == pixels[-1]).all(axis=(1, 2))[::-1]) / len(pixels)
    if lost > _MOST_LOST:
        raise MediaError(
            f"{path.name}: cannot be read",
            f"it is cut off: {lost:.0%} of the picture is missing",
            "Get the whole file.",
            reason="unreadable",
        )
    log.warning("%s: the end of the file is missing; the picture is judged as viewers show it", path.name)
    return pixels


def _high_dynamic_range(path: Path, image: Image.Image) -> RgbImage | None:
    """A camera's HEIF in HLG or PQ as a screen without it shows it; None for any other picture."""
    profile = image.info.get("nclx_profile") or {}
    transfer = profile.get("transfer_characteristics")
    if image.format != "HEIF" or transfer not in (PQ, HLG):
        return None
    from pillow_heif import open_heif

    deep = np.asarray(open_heif(path, convert_hdr_to_8bit=False))[..., :3]
    if deep.dtype != np.uint16:
        deep = deep.astype(np.uint16) * 257
    return tone_mapped(deep, transfer, wide=profile.get("color_primaries") != 1)


def _holds_video(path: Path) -> bool:
    data = path.read_bytes() if path.stat().st_size <= _MOST_JPEG_BYTES else b""
    at = data.find(b"ftyp", 12)
    while at >= 0:
        if int.from_bytes(data[at - 4 : at], "big") <= _LONGEST_FTYP and data.startswith(_VIDEO_BRANDS, at + 4):
            return True
        at = data.find(b"ftyp", at + 4)
    return False


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """The image with only its header read; whatever goes wrong in the block comes out as a MediaError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with path.open("rb") as file:
                # Pillow makes room for a WebP's whole canvas as soon as it is opened.
                _check_size(path, *webp_size(file.read(32)), max_pixels)
                file.seek(0)
                with open_still(path, file) as image:
                    width, height = image.size
                    if max_pixels < width * height <= _MOST_SCALED * max_pixels:
                        image.draft(None, (width // 2, height // 2))  # of JPEG; others stay as they are
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
        raise _too_large(path, f"it is {width:,} x {height:,} pixels", max_pixels, width * height)


def webp_size(head: bytes) -> tuple[int, int]:
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


def _too_large(path: Path, cause: str, max_pixels: int, n_pixels: int | None = None) -> MediaError:
    return MediaError(
        f"{path.name}: is too large",
        f"{cause}, over the limit of {max_pixels:,}",
        "Scale it down first" + (f", or allow it with --max pixels={n_pixels}." if n_pixels else "."),
        reason="too_large",
    )


def _orientation(image: Image.Image) -> Orientation:
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - a broken EXIF block is no reason to refuse the picture
        value = 1
    return _ORIENTATIONS.get(value, Orientation())
