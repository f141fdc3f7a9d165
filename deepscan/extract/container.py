"""Opening files safely: what is refused before anything is decoded, and in which words."""

from __future__ import annotations

import stat
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

import av
import av.error
import av.logging

from deepscan.errors import MediaError
from deepscan.extract.formats import suffixes_of
from deepscan.extract.images import is_image, moves
from deepscan.extract.nofile import no_file, no_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    from deepscan.config import MediaLimits
    from deepscan.records import Kind

# Self-contained formats only: FFmpeg also opens text as "video" (ANSI art) and playlists that make it read
# other files or the network. The audio formats are here to be told "no picture" rather than "unreadable".
_CONTAINERS = "mov,matroska,avi,gif,apng,flv,asf,mpeg,mpegts,ogg,mp3,wav,flac,aac"
_PNG = b"\x89PNG"


# Called for every packet that is read: whoever watches a decoder sees from it that there is progress.
on_packet: ContextVar[Callable[[], None]] = ContextVar("on_packet", default=lambda: None)


Care = Literal["all", "none", "one"]

VIDEO_SUFFIXES = suffixes_of(_CONTAINERS)


@contextmanager
def opened(path: Path, limits: MediaLimits, care: Care = "all") -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its main video stream, ready to decode; closed at the end.

    Args:
        path: of the file.
        limits: what to refuse.
        care: ``all`` makes the best of what does not decode, ``none`` fails at the first damage that the decoder
            notices, both on all cores. But frames that decode at the same time look at each other, and what they see
            of a damaged one depends on which was quicker: with ``one`` they decode one after the other.
    """
    try:
        container = av.open(
            str(path.absolute()),
            container_options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"},
            # A frame larger than its header says is refused inside the decoder, before it takes memory.
            options={"max_pixels": str(limits.max_pixels)},
            metadata_errors="replace",
        )
    except av.error.EOFError as error:
        raise MediaError(
            f"{path.name}: holds no frames",
            "it ends before the video begins",
            "The recording or download was cut off; get the file again.",
            reason="no_frames",
        ) from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{path.name}: cannot be read",
            "it is damaged, incomplete, or no video or image",
            "If it is a recording or download that was cut off, get the whole file; else convert it to mp4.",
            reason="unreadable",
        ) from error
    with container:
        stream = _main_stream(path, container)
        check_pixels(path, stream.width, stream.height, limits)
        stream.thread_type = "SLICE" if care == "one" else "AUTO"
        fails = {"err_detect": "explode"} if care == "none" else {}
        stream.codec_context.options = {"max_pixels": str(limits.max_pixels), **fails}
        yield container, stream


def _main_stream(path: Path, container: InputContainer) -> VideoStream:
    """The largest moving picture: cover art and thumbnails do not count."""
    pictures = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    moving = [s for s in container.streams.video if not s.disposition & pictures]
    if not moving:
        sound = bool(container.streams.audio)
        raise MediaError(
            f"{path.name}: has no video",
            "it holds only sound" if sound else "there are no moving pictures in it",
            "Give a file with moving pictures.",
            reason="no_video_stream",
        )
    known = [s for s in moving if s.codec_context is not None]
    if not known:
        raise MediaError(
            f"{path.name}: cannot be read",
            "its video is in a format this program cannot decode",
            "Convert it to mp4 (H.264) first.",
            reason="unreadable",
        )
    # An animated AVIF also holds a still, which comes first.
    return max(known, key=lambda s: (s.frames != 1, s.width * s.height))


def checked_kind(path: Path, limits: MediaLimits) -> Kind:
    """The kind of a regular, readable, non-empty file within ``limits``, by its first bytes."""
    name = path.name or str(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise no_regular_file(str(path), status.st_mode)
        if not status.st_size:
            raise MediaError(f"{name}: is empty", "", "Get the file again.", reason="empty_file")
        if limits.max_bytes is not None and status.st_size > limits.max_bytes:
            why = f"it is {status.st_size / 1e6:,.1f} MB, the limit is {limits.max_bytes / 1e6:,.1f} MB"
            hint = "Cut or compress it first; --max bytes=none lifts the limit."
            raise MediaError(f"{name}: is too large", why, hint, reason="too_large")
        with path.open("rb") as file:
            head = file.read(32)
            file.seek(0)
            still = is_image(head) and not moves(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a path no system can have
        raise no_file(str(path)) or MediaError(
            f"{name}: not found", "", "Check the path.", reason="not_found"
        ) from None
    except PermissionError:
        why = "permission denied"
        raise MediaError(
            f"{name}: cannot be read", why, "Allow yourself to read it first.", reason="unreadable"
        ) from None
    except OSError as error:
        why = error.strerror or "the disk reports an error"
        raise MediaError(f"{name}: cannot be read", why, "Copy it to another disk.", reason="unreadable") from error
    if head.startswith((b"GIF87a", b"GIF89a")):
        # FFmpeg refuses large ones without keeping the size, and we could not say why.
        width, height = (int.from_bytes(head[at : at + 2], "little") for at in (6, 8))
        check_pixels(path, width, height, limits)
    elif not still and head.startswith(_PNG):  # the same
        width, height = (int.from_bytes(head[at : at + 4], "big") for at in (16, 20))
        check_pixels(path, width, height, limits)
    return "image" if still else "video"


def check_pixels(path: Path, width: int, height: int, limits: MediaLimits) -> None:
    if width * height > limits.max_pixels:
        raise MediaError(
            f"{path.name}: is too large",
            f"its frames are {width:,} x {height:,} pixels, over the limit of {limits.max_pixels:,}",
            "Scale it down first; --max pixels=none lifts the limit.",
            reason="too_large",
        )


def check_duration(path: Path, duration_s: float | None, limits: MediaLimits) -> None:
    if duration_s is not None and limits.max_duration_s is not None and duration_s > limits.max_duration_s:
        raise MediaError(
            f"{path.name}: is too large",
            f"it runs for {duration_s:.0f} s, the limit is {limits.max_duration_s:.0f} s",
            "Cut out the part in question; --max duration=none lifts the limit.",
            reason="too_large",
        )


def check_frames(path: Path, n_frames: int, limits: MediaLimits) -> None:
    if limits.max_frames is not None and n_frames > limits.max_frames:
        raise MediaError(
            f"{path.name}: is too large",
            f"it holds more than {limits.max_frames:,} frames, which is the limit",
            "Cut out the part in question; --max frames=none lifts the limit.",
            reason="too_large",
        )


def nothing_decodes(path: Path) -> MediaError:
    return MediaError(
        f"{path.name}: cannot be read",
        "none of its frames can be decoded",
        "The file is damaged; get it again.",
        reason="unreadable",
    )


def packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """The stream's packets up to where the file is cut off, then the empty one that ends it."""
    step = on_packet.get()
    demuxed_packets = container.demux(stream)
    while True:
        try:
            packet = next(demuxed_packets, None)
        except av.FFmpegError:
            return  # what came before is what there is
        if packet is None:
            return
        step()
        yield packet


def demuxed(
    path: Path, container: InputContainer, stream: VideoStream, limits: MediaLimits
) -> Iterator[Packet[VideoStream]]:
    """The stream's packets that hold something.

    Raises:
        MediaError: there are more than ``limits`` allow (``too_large``).
    """
    n_packets = 0
    for packet in packets(container, stream):
        if packet.size:  # an empty one repeats the last frame
            n_packets += 1
            check_frames(path, n_packets, limits)
            yield packet


def is_avi(container: InputContainer) -> bool:
    return container.format.name == "avi"


def declared_duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    """How long the video should be, by its header."""
    if is_avi(container) and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)  # its duration is guessed from the file's size
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration is not None else None


@contextmanager
def quiet_ffmpeg() -> Iterator[None]:
    """FFmpeg's own messages go nowhere inside the block: ours name the file and say what to do."""
    before = av.logging.get_level()
    av.logging.set_level(None)
    try:
        yield
    finally:
        av.logging.set_level(before)
