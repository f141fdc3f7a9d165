"""Pictures and frames that are in memory already, where there is no file to read."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deepscan.errors import MediaError
from deepscan.extract.images.stills import as_displayed
from deepscan.extract.video.sampling import choose, frames_for
from deepscan.types import Frame, Kind, MediaInfo, RgbImage

Source = str | os.PathLike[str] | Image.Image | RgbImage | Iterable[tuple[float, RgbImage]]

_TAKES = (
    "a path, a PIL image, an RGB array (uint8 [height, width, 3]), an iterable of (time_s, RGB array) pairs, "
    "or a list of these"
)


@dataclass(frozen=True, slots=True)
class InMemory:
    """One picture, or the sampled frames of a video; ``name`` takes the place of a path."""

    name: str
    kind: Kind
    frames: tuple[Frame, ...]
    duration_s: float | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def media(self) -> MediaInfo:
        """What a container would say."""
        height, width = self.frames[0].image.shape[:2]
        return MediaInfo(Path(self.name), self.kind, width, height, self.duration_s, None)


def is_frames(source: object) -> bool:
    """Whether a list is one video, of (time_s, array) pairs, and no list of inputs."""
    return isinstance(source, list | tuple) and bool(source) and _is_pair(source[0])


def check_source(source: object) -> None:
    """Raises TypeError for what no detector takes; what an iterable yields is looked at when it is read."""
    if isinstance(source, str | os.PathLike | Image.Image) or is_frames(source):
        return
    if isinstance(source, np.ndarray):
        _check_array(source)
    elif isinstance(source, list | bytes) or not isinstance(source, Iterable):
        raise _wrong(type(source).__name__)


def read_source(source: Any, label: str, n_frames: int, min_segment_s: float | None = None) -> Path | InMemory:
    """What a detector looks through.

    Args:
        source: see :data:`Source`; arrays are copied.
        label: distinguishes inputs that have no path.
        n_frames: of more frames so many are taken, spread evenly; of an iterator not more than twice as many are held.
        min_segment_s: see :func:`deepscan.extract.video.sampling.frames_for`.

    Raises:
        TypeError: it is none of them.
        ValueError: times do not rise, or frames differ in size.
        MediaError: the image cannot be decoded, or there are no frames.
    """
    check_source(source)
    if isinstance(source, str | os.PathLike):
        return Path(source)
    if isinstance(source, Image.Image):
        return InMemory(f"<image{label}>", "image", (Frame(_pixels(source, f"<image{label}>"), 0.0, 0),))
    if isinstance(source, np.ndarray):
        return InMemory(f"<array{label}>", "image", (Frame(np.array(source, order="C"), 0.0, 0),))
    name = f"<frames{label}>"
    pairs, duration_s = _thinned(source, n_frames, min_segment_s)
    if not pairs:
        raise MediaError(f"{name}: there are no frames", reason="no_frames")
    return InMemory(
        name, "video", tuple(Frame(image, time_s, i) for i, (time_s, image) in enumerate(pairs)), duration_s
    )


def _thinned(
    source: Iterable[Any], n_frames: int, min_segment_s: float | None
) -> tuple[list[tuple[float, RgbImage]], float]:
    """The frames that are taken, and the time from the first to the last of all."""
    kept: list[tuple[float, RgbImage]] = []
    step, time_s = 1, 0.0
    for i, (time_s, image) in enumerate(_checked(source)):
        if i % step:
            continue
        kept.append((time_s, np.array(image, order="C")))  # whoever yields it may fill the same array again
        if len(kept) >= 2 * frames_for(n_frames, time_s - kept[0][0], min_segment_s):
            kept, step = kept[::2], 2 * step
    if not kept:
        return kept, 0.0
    start_s, duration_s = kept[0][0], time_s - kept[0][0]
    ticks = np.array([round((kept_s - start_s) * 1e9) for kept_s, _ in kept], np.int64)
    n_wanted = frames_for(n_frames, duration_s, min_segment_s)
    return [kept[i] for i in choose(ticks, round(duration_s * 1e9), n_wanted)], duration_s


def _checked(source: Iterable[Any]) -> Iterator[tuple[float, RgbImage]]:
    before, shape = -math.inf, None
    for pair in source:
        if not _is_pair(pair):
            raise _wrong(f"an iterable of {type(pair).__name__}")
        time_s, image = float(pair[0]), pair[1]
        _check_array(image)
        if not (before < time_s < math.inf):
            raise ValueError(f"Times have to rise: {time_s} s comes after {before} s.")
        if shape not in (None, image.shape):
            raise ValueError(f"Frames have to be of one size: {image.shape} comes after {shape}.")
        before, shape = time_s, image.shape
        yield time_s, image


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and isinstance(value[0], Real)
        and isinstance(value[1], np.ndarray)
    )


def _check_array(array: Any) -> None:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise _wrong(f"an array {array.dtype} {list(array.shape)}")


def _wrong(description: str) -> TypeError:
    return TypeError(f"predict takes {_TAKES}; not {description}")


def _pixels(image: Image.Image, name: str) -> RgbImage:
    try:
        return as_displayed(image)
    except Exception as error:  # on damaged files Pillow raises whatever its decoders run into
        raise MediaError(f"{name}: cannot be read", "the image is damaged or incomplete") from error
