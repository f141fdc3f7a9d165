"""Files inside of uncompressed tars, read where they lie; nothing is unpacked."""

from __future__ import annotations

import hashlib
import logging
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from deepscan.errors import MediaError

log = logging.getLogger(__name__)

_PIECE = 1 << 20


def file_stamp(path: Path) -> str:
    """Size and modification time of a file in a few words.

    Raises:
        OSError: it is not there.
    """
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"


def member_sha256(path: Path, name: str) -> str:
    """Hex sha256 of a file in a tar; raises as :func:`read_member`."""
    digest = hashlib.sha256()
    for data in _pieces(path, name):
        digest.update(data)
    return digest.hexdigest()


def read_member(path: Path, name: str, max_bytes: int | None) -> bytes:
    """The content of a file in a tar.

    Raises:
        MediaError: it is not in there, is cut off, or is larger than ``max_bytes`` (``too_large``).
        OSError: the tar cannot be read.
    """
    size = _position(path, name)[1]
    if max_bytes is not None and size > max_bytes:
        raise MediaError(
            f"{name} in {path.name}: is too large",
            f"it has {size:,} bytes, over the limit of {max_bytes:,}",
            reason="too_large",
        )
    return b"".join(_pieces(path, name))


def _pieces(path: Path, name: str) -> Iterator[bytes]:
    offset, left = _position(path, name)
    with path.open("rb") as file:
        file.seek(offset)
        while left and (data := file.read(min(left, _PIECE))):
            yield data
            left -= len(data)
    if left:
        raise MediaError(f"{path.name}: cannot be read", f"it ends inside of {name!r}", "Get the file again.")


def _position(path: Path, name: str) -> tuple[int, int]:
    offset, size = _positions(path, file_stamp(path)).get(name, (0, 0))
    if not size:
        raise MediaError(f"{path.name}: cannot be read", f"there is no {name!r} in it", "Get the file again.")
    return offset, size


@lru_cache(maxsize=2)
def _positions(path: Path, _stamp: str) -> dict[str, tuple[int, int]]:
    """Where the files in a tar lie. Kept, as the members of one come one after the other."""
    positions = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for entry in archive:
                if entry.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
                    positions[entry.name] = entry.offset_data, entry.size
    except (tarfile.TarError, EOFError):
        log.warning("%s cannot be read to its end; its whole members are used", path)
    return positions
