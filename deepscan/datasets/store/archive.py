"""What the store is made of: tars, pictures and texts; the same bytes wherever written, read without trusting them.

Only what the store needs of the tar format is written and accepted: plain files with short ASCII names, one after the
other, and two blocks of zeros at the end. Anything else (links, folders, extended headers, compression, bytes after the
end) is refused, nothing is ever unpacked to disk, and no more is read than a member of the store can have.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import cv2
import numpy as np

from deepscan.errors import DeepscanError, OutputError
from deepscan.files import temporary_beside
from deepscan.types import RgbImage

ImageFormat = Literal["jpeg", "png"]
ENDINGS: dict[ImageFormat, str] = {"jpeg": "jpg", "png": "png"}

_BLOCK = 512
_END = bytes(2 * _BLOCK)
# The largest crops are 1024 x 1024: 3 MiB as a PNG of noise. 10,000 sightings are 4 MB of JSON.
_LARGEST_CROP = 1 << 23
_LARGEST_JSON = 1 << 24
_TO_ESCAPE = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(?:\\|u([0-9a-f]{4}))")


class StoreError(DeepscanError):
    """A file of the store cannot be read, is damaged, cut short, or none of ours."""

    reason = "store"


def damaged(path: Path, cause: str) -> StoreError:
    """The error for a file whose content is not as it was written."""
    return StoreError(f"{path} is damaged or no file of the store", cause, "Delete it and run the preprocessing again.")


@dataclass(frozen=True, slots=True)
class Member:
    """Where a member's data lies in a tar."""

    name: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Where the next member begins."""
        return self.offset + self.size + -self.size % _BLOCK


def write_members(file: BinaryIO, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a whole tar of (name, data), one at a time."""
    for name, data in members:
        info = tarfile.TarInfo(name)  # mode 644, nobody's, at the start of time
        info.size = len(data)
        file.write(info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
        file.write(data)
        file.write(bytes(-len(data) % _BLOCK))
    file.write(_END)


def list_members(path: Path) -> list[Member]:
    """The members of a tar, by its headers alone.

    Raises:
        StoreError: it cannot be read, or is not exactly what :func:`write_members` writes.
    """
    members: list[Member] = []
    try:
        if not path.is_file():
            raise StoreError(f"{path} cannot be read", "there is no such file", "Run the preprocessing again.")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            position = 0
            while (block := file.read(_BLOCK)).strip(b"\0") or len(block) < _BLOCK:
                member = _member(path, block, position + _BLOCK)
                if member.end + len(_END) > size:
                    raise damaged(path, f"it ends inside of {member.name}")
                members.append(member)
                position = file.seek(member.end)
            if position + len(_END) != size or file.read(_BLOCK) != _END[_BLOCK:]:
                raise damaged(path, "it does not end where its members do")
    except OSError as error:
        raise _unreadable(path, error) from error
    return members


def read_members(path: Path, members: Sequence[Member]) -> Iterator[bytes]:
    """The data of these members, one at a time.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            for member in members:
                file.seek(member.offset)
                data = file.read(member.size)
                if len(data) != member.size:
                    raise damaged(path, f"it ends inside of {member.name}")
                yield data
    except OSError as error:
        raise _unreadable(path, error) from error


# Pictures and texts


def encode_crop(crop: RgbImage, image: ImageFormat, jpeg_quality: int) -> bytes:
    """A crop as a file.

    JPEGs are not subsampled in colour: the video already was, and halving it twice blurs what a detector looks for.
    """
    options = []
    if image == "jpeg":
        options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    encoded, data = cv2.imencode(f".{ENDINGS[image]}", np.ascontiguousarray(crop[..., ::-1]), options)
    if not encoded:
        raise ValueError(f"A crop of shape {crop.shape} cannot be kept as {image}.")
    return bytes(data)


def decode_crop(path: Path, data: bytes, side: int) -> RgbImage:
    """A crop, decoded only when its header has the right size: a small file can claim to be a huge picture."""
    if _declared_size(data) == (side, side):
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error:
            image = None
        if image is not None and image.shape == (side, side, 3):
            return image[..., ::-1]
    raise damaged(path, f"a crop is no picture of {side} x {side} pixels")


def escape_text(text: str) -> str:
    r"""Any text as one line of valid UTF-8, so that :func:`unescape_text` gives it back.

    A backslash is doubled; control characters, line separators and lone surrogates (how Python shows the bytes of a
    file name that are no UTF-8: byte ``E9`` is ``\udce9``) become ``\uXXXX``. All other texts stay as they are.
    """
    return _TO_ESCAPE.sub(lambda match: "\\\\" if match[0] == "\\" else f"\\u{ord(match[0]):04x}", text)


def unescape_text(text: str) -> str:
    """The text that was given to :func:`escape_text`."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)) if match[1] else "\\", text)


# Files


@contextmanager
def replacing(path: Path, mark: str = "") -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` when the block ends, and is on the disk by then.

    If the block fails nothing has changed. What a killed run left of the same file is removed. For ``mark`` see
    :func:`deepscan.files.temporary_beside`.

    Raises:
        OutputError: it cannot be written; the message says so of a full disk.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".{glob.escape(path.name[:40])}.*.tmp"):
            stale.unlink(missing_ok=True)
        with temporary_beside(path, mark) as temporary, temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except (OSError, OutputError) as error:
        raise output_error(path, error) from error


def output_error(path: Path, error: OSError | OutputError) -> OutputError:
    """What a failed write means to a person."""
    cause = error.__cause__ if isinstance(error, OutputError) else error
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"{path} cannot be written",
            "the disk is full" if cause.errno == errno.ENOSPC else "the disk quota is used up",
            "Make room and run the same command again: what is done stays done.",
        )
    if isinstance(error, OutputError):
        return error
    return OutputError(f"{path} cannot be written", error.strerror or str(error))


def _declared_size(data: bytes) -> tuple[int, int] | None:
    """Height and width by the header of a PNG or JPEG."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while at + 9 <= len(data) and data[at] == 0xFF:
        if 0xC0 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC4, 0xC8, 0xCC):  # a frame header
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _member(path: Path, block: bytes, offset: int) -> Member:
    try:
        info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.TarError, ValueError) as error:
        raise damaged(path, f"what begins at byte {offset - _BLOCK:,} is no header") from error
    limit = _LARGEST_JSON if info.name.endswith(".json") else _LARGEST_CROP
    if info.type != tarfile.REGTYPE or not 0 <= info.size <= limit:
        raise damaged(path, f"{info.name!r} is no plain file of at most {limit:,} bytes")
    return Member(info.name, offset, info.size)


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path} cannot be read", error.strerror or str(error), "Check the disk and its permissions.")
