"""Animated WebP: the one kind of video that FFmpeg does not read. Pillow does.

How many pictures there are and how long each is shown is told by the file's own chunks (RFC 9649), so that nothing is
decoded to plan which to take.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from deepscan.config import MediaLimits
from deepscan.errors import MediaError
from deepscan.extract.images.stills import webp_durations_ms, webp_size
from deepscan.extract.video import sampling
from deepscan.extract.video.container import check_duration, check_frames, check_pixels, on_packet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deepscan.extract.video.sampling import Ticks
    from deepscan.types import RgbImage

# What is shown for as long or less is shown for a tenth of a second, as browsers do.
_TOO_SHORT_MS, _INSTEAD_MS = 10, 100


class Animation(NamedTuple):
    """Displayed size in pixels, when each picture begins and when the last one ends, in milliseconds."""

    width_px: int
    height_px: int
    starts_ms: Ticks
    end_ms: int


def read_animation(path: Path, limits: MediaLimits) -> Animation:
    """What an animated WebP holds, by its chunks.

    Raises:
        MediaError: ``too_large``.
    """
    with path.open("rb") as file:
        width, height = webp_size(file.read(32))
        check_pixels(path, width, height, limits)
        durations: list[int] = []
        for duration in webp_durations_ms(file):
            durations.append(duration if duration > _TOO_SHORT_MS else _INSTEAD_MS)
            check_frames(path, len(durations), limits)
    ends = np.cumsum(durations, dtype=np.int64)
    check_duration(path, int(ends[-1]) / 1000, limits)
    return Animation(width, height, ends - np.array(durations, dtype=np.int64), int(ends[-1]))


def sample_animation(path: Path, n_frames: int, limits: MediaLimits) -> Iterator[tuple[RgbImage, float]]:
    """Up to ``n_frames`` pictures spread evenly over time, RGB ``uint8 [H, W, 3]``, with their times in seconds.

    Raises:
        MediaError: ``too_large``, or ``unreadable``.
    """
    animation = read_animation(path, limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("WEBP",)) as image:
                for index in sampling.choose(animation.starts_ms, animation.end_ms, n_frames).tolist():
                    on_packet.get()()
                    image.seek(index)
                    yield np.array(image.convert("RGB"), dtype=np.uint8), int(animation.starts_ms[index]) / 1000
    except (OSError, EOFError, ValueError, SyntaxError) as error:
        raise MediaError(
            f"{path.name}: cannot be read",
            "the animation is damaged or incomplete",
            "Get the original file again.",
            reason="unreadable",
        ) from error
