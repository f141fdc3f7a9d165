"""What a still image says of itself: format, EXIF, and how it was last compressed. No pixel is decoded."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from deepscan.errors import MediaError
from deepscan.extract.file_facts.metadata import Fact, Tag, camera_sign, shortened, software_sign, tags_of
from deepscan.extract.images.stills import image_size, open_still

# The luminance table of ITU-T T.81 (Annex K), which the IJG's library scales by a quality from 1 to 100. In the order
# of rows; Pillow gives tables in the same.
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_LONG_BYTES = 64
# Of an XMP block only these are told: the rest is long, and mostly of no use.
_XMP = re.compile(rb"(CreatorTool|DigitalSourceType|softwareAgent)(?:=\"|>)([^<\"]{1,200})")
_XMP_BYTES = 1 << 20


def image_facts(path: Path, max_pixels: int) -> tuple[tuple[Fact, ...], tuple[Fact, ...], tuple[Tag, ...], int]:
    """Plain facts, signs of editing, tags and how many tags are left out.

    Raises:
        MediaError: as :func:`deepscan.extract.images.stills.image_size`.
    """
    image_size(path, max_pixels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with path.open("rb") as file, open_still(path, file) as image:
                return _facts(image)
    except Exception as error:
        # Its header was whole a moment ago; on damaged files Pillow raises whatever its parsers run into.
        cause = "its metadata is damaged"
        raise MediaError(f"{path.name}: cannot be read", cause, "Get the original file again.") from error


def _facts(image: Image.Image) -> tuple[tuple[Fact, ...], tuple[Fact, ...], tuple[Tag, ...], int]:
    exif = _exif(image)
    groups = [("EXIF", exif), *_texts(image)]
    date = exif.get("DateTimeOriginal") or exif.get("DateTime") or "not said"
    facts = (
        Fact("Format", str(image.format), "The kind of file, told by its content, not by its name."),
        Fact("Picture", f"{image.width} x {image.height} px, {image.mode}", "Size as stored, before any rotation."),
        Fact("Taken", shortened(date, 60), "What the file says; any program can write any date, most platforms none."),
    )
    tables = getattr(image, "quantization", None)
    compression = (_compression(tables),) if tables else ()
    tags, left_out = tags_of(groups)
    return facts, (*compression, software_sign(groups), camera_sign(groups)), tags, left_out


def luminance_table(quality: int) -> list[int]:
    """The IJG's 64 steps of the luminance for a quality from 1 to 100, in rows."""
    share = 5000 // quality if quality < 50 else 200 - 2 * quality
    return [min(max((value * share + 50) // 100, 1), 255) for value in _LUMINANCE]


def jpeg_quality(table: Sequence[int]) -> tuple[int, bool]:
    """The IJG quality that a luminance table of 64 entries comes nearest to, and whether it is exactly that."""
    tables = {quality: luminance_table(quality) for quality in range(1, 101)}
    distances = {q: sum(abs(a - b) for a, b in zip(steps, table, strict=True)) for q, steps in tables.items()}
    best = min(distances, key=lambda quality: (distances[quality], -quality))
    return best, distances[best] == 0


def _compression(tables: Mapping[int, Sequence[int]]) -> Fact:
    table = tables.get(0)
    if table is None or len(table) != 64:
        return Fact("JPEG quality", "not known", "Its tables are not of the usual form.")
    quality, exact = jpeg_quality(table)
    if exact:
        meaning = (
            "The common library's tables, which programs and platforms use more than cameras. Of the last saving only."
        )
        return Fact("JPEG quality", f"{quality} of 100", meaning)
    meaning = "Tables of its own, as cameras, phones and some editors have them. The quality is a rough guess."
    return Fact("JPEG quality", f"about {quality} of 100", meaning)


def _exif(image: Any) -> dict[str, str]:
    """EXIF by name, without its binary parts; a broken block has none."""
    try:
        exif = image.getexif()
        every = {**dict(exif), **dict(exif.get_ifd(_EXIF_IFD))}
        has_gps = bool(exif.get_ifd(_GPS_IFD))
    except Exception:  # noqa: BLE001 - a broken EXIF block is no reason to have no facts
        return {}
    values = {
        ExifTags.TAGS.get(number, f"tag {number}"): _text(value)
        for number, value in every.items()
        if number not in (_EXIF_IFD, _GPS_IFD) and not (isinstance(value, bytes) and len(value) > _LONG_BYTES)
    }
    return {**values, **({"GPSInfo": "given"} if has_gps else {})}


def _texts(image: Any) -> list[tuple[str, dict[str, str]]]:
    """Texts of PNG and others, comments, and what an XMP block names."""
    texts = {str(name): _text(value) for name, value in image.info.items()
           if isinstance(value, str) or name == "comment"}  # fmt: skip
    texts.pop("XML:com.adobe.xmp", None)
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    data = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else bytes(xmp)
    named = {match[1].decode(): match[2].decode("utf-8", "replace") for match in _XMP.finditer(data[:_XMP_BYTES])}
    return [("image", texts), ("XMP", named)]


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return " ".join(str(value).replace("\x00", " ").split())
