"""The frames of a corpus' item, whatever it is kept as: a video, an image, a file in a tar, a folder of images."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deepscan.config import MediaLimits
from deepscan.datasets.readers.base import CorpusItem
from deepscan.datasets.store.tar_members import read_member
from deepscan.errors import MediaError
from deepscan.extract.images.stills import image_size, read_image
from deepscan.extract.isolation.client import probe, sample_frames
from deepscan.extract.video.container import checked_kind
from deepscan.extract.video.sampling import evenly
from deepscan.types import Frame, MediaInfo

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenItem:
    """An item that is open.

    Attributes:
        media: what is known without decoding all of it.
        frames: sampled evenly, in time order; can be read once.
        stills: whether these are pictures, which faces may fill, rather than a video.
    """

    media: MediaInfo
    frames: Iterator[Frame]
    stills: bool


@contextmanager
def opened_item(item: CorpusItem, n_frames: int, limits: MediaLimits) -> Iterator[OpenItem]:
    """Open an item of a corpus for the length of the block.

    Args:
        item: of which ``path``, ``member`` and ``frames`` say where its content is.
        n_frames: sampled evenly, all if there are fewer.
        limits: what to refuse.

    Raises:
        MediaError: it cannot be read; also while its frames are read.
    """
    if item.frames:
        yield _folder(item, n_frames, limits)
    elif item.member is None:
        yield _file(item.path, n_frames, limits)
    else:
        try:
            data = read_member(item.path, item.member, limits.max_bytes)
        except OSError as error:
            raise MediaError(f"{item.path.name}: cannot be read", error.strerror or str(error)) from error
        with tempfile.TemporaryDirectory(prefix="deepscan-") as folder:
            # Its own name, as messages show it; the last part alone cannot lead out of the folder.
            path = Path(folder) / Path(item.member).name
            path.write_bytes(data)
            yield _file(path, n_frames, limits)


def _file(path: Path, n_frames: int, limits: MediaLimits) -> OpenItem:
    media = probe(path, limits)
    return OpenItem(media, sample_frames(path, n_frames, limits), media.kind == "image")


def _folder(item: CorpusItem, n_frames: int, limits: MediaLimits) -> OpenItem:
    """A video that is kept as images. Their times are not known: they count as one a second."""
    total = len(item.frames)
    indices = evenly(total, n_frames)
    for index in indices:
        checked_kind(item.frames[index], limits)
    width, height = image_size(item.frames[indices[0]], limits.max_pixels)
    return OpenItem(
        MediaInfo(item.path, "video", width, height, None, total), _pictures(item, indices, limits), stills=True
    )


def _pictures(item: CorpusItem, indices: list[int], limits: MediaLimits) -> Iterator[Frame]:
    damaged: list[MediaError] = []
    n_good = 0
    for index in indices:
        try:
            image = read_image(item.frames[index], limits.max_pixels)
        except MediaError as error:
            damaged.append(error)
            continue
        yield Frame(image, time_s=float(index), index=n_good)
        n_good += 1
    if not n_good:
        raise damaged[0]
    if damaged:
        log.warning("%s: %d of %d frames are damaged, first: %s", item.video_id, len(damaged), len(indices), damaged[0])
