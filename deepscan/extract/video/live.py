"""Frames of a camera, of a stream, or of a file that is shown again and again, as they come."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from PIL import Image

from deepscan.config import MediaLimits
from deepscan.errors import MediaError
from deepscan.extract.video.container import opened
from deepscan.extract.video.picture import Adjacent, Display
from deepscan.types import Frame, RgbImage

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Larger frames are scaled down: a window of them has to fit into memory.
MAX_SIDE_PX = 1920
_WAIT_S = 10.0
# What a stream may lead to: other addresses, never a file of this machine.
_PROTOCOLS = "rtsp,rtsps,rtp,rtmp,rtmps,srt,mmsh,tcp,udp,tls,http,https,crypto"
_STREAM = re.compile(r"(rtsps?|rtmps?|rtp|udp|tcp|srt|mms|https?)://", re.IGNORECASE)
_CAMERA = re.compile(r"(?:/dev/video)?([0-9]{1,2})")

# Pictures as they come, each made RGB only where it is taken, before the next one.
_Source = Iterator[Callable[[], RgbImage]]


def check_source(source: str) -> None:
    """Raises MediaError for what is neither a camera's number, nor an address of a stream, nor a file."""
    if not (_CAMERA.fullmatch(source) or _STREAM.match(source) or Path(source).is_file()):
        hint = "Give a camera's number, such as 0, an address such as rtsp://..., or a file, which is then looped."
        raise MediaError(f"{source}: is nothing to watch", "", hint, reason="no_stream")


def live_frames(source: str, every_s: float, limits: MediaLimits) -> Iterator[Frame]:
    """Frames as they come, at most one in ``every_s`` seconds, with their times since the first.

    Args:
        source: a camera's number, the address of a stream, or a file, which is shown at its own pace, again and again.
        every_s: frames between are passed over.
        limits: on the size of frames.

    Raises:
        MediaError: it cannot be opened, or is lost; ``no_stream``.
    """
    check_source(source)
    camera = _CAMERA.fullmatch(source)
    if camera is not None:
        pictures = _of_camera(source, int(camera[1]))
    elif _STREAM.match(source):
        pictures = _of_stream(source, limits)
    else:
        pictures = _of_file(Path(source), limits)
    start = due = 0.0
    index = 0
    for picture in pictures:
        now = time.monotonic()
        if not index:
            start = due = now
        if now < due:
            continue
        due = max(due + every_s, now)
        yield Frame(_scaled(picture()), now - start, index)
        index += 1


def _of_camera(source: str, number: int) -> _Source:
    import cv2

    capture = cv2.VideoCapture(number)
    try:
        if not capture.isOpened():
            raise _lost(source, "there is no such camera, or another program has it")
        while capture.grab():
            yield lambda: np.ascontiguousarray(capture.retrieve()[1][..., ::-1])
        raise _lost(source, "it gives no more pictures")
    finally:
        capture.release()


def _of_stream(source: str, limits: MediaLimits) -> _Source:
    options = {"protocol_whitelist": _PROTOCOLS, "max_pixels": str(limits.max_pixels)}
    if source.lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # a packet that is lost would be a damaged picture
    try:
        with av.open(source, container_options=options, timeout=(_WAIT_S, _WAIT_S)) as container:
            if not container.streams.video:
                raise _lost(source, "there are no pictures in it")
            stream = container.streams.video[0]
            stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
            yield from _pictures(container, stream, lambda _: None)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _lost(source, getattr(error, "strerror", None) or str(error)) from error


def _of_file(path: Path, limits: MediaLimits) -> _Source:
    while True:
        start, is_empty = time.monotonic(), True

        def pace(time_s: float, start: float = start) -> None:
            time.sleep(min(_WAIT_S, max(0.0, start + time_s - time.monotonic())))

        with opened(path, limits) as (container, stream):
            for picture in _pictures(container, stream, pace):
                is_empty = False
                yield picture
        if is_empty:
            raise _lost(str(path), "there are no pictures in it")


def _pictures(container: InputContainer, stream: VideoStream, pace: Callable[[float], None]) -> _Source:
    display = Display(stream)
    frames = Adjacent((frame.pts or 0, frame) for frame in container.decode(stream))
    for _, frame in frames:
        pace(frame.time or 0.0)
        yield lambda frame=frame: display.picture(frame, frames)  # type: ignore[misc]


def _scaled(image: RgbImage) -> RgbImage:
    height, width = image.shape[:2]
    scale = MAX_SIDE_PX / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def _lost(source: str, why: str) -> MediaError:
    return MediaError(f"{source}: cannot be watched", why, "Check that it runs, and its address.", reason="no_stream")
