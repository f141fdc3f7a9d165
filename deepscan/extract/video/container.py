"""Opening files safely: what is refused before anything is decoded, and in which words."""

from __future__ import annotations

import stat
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import av
import av.error
import av.logging

from deepscan.errors import MediaError
from deepscan.extract.file_kinds import no_file, no_regular_file
from deepscan.extract.images.stills import is_image, moves

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    from deepscan.config import MediaLimits
    from deepscan.types import Kind

# Self-contained formats only: FFmpeg also opens text as "video" (ANSI art) and playlists that make it read
# other files or the network. The audio formats are here to be told "no picture" rather than "unreadable".
# Streams without a container (of cameras and recorders) are told by their content, so they come last.
_CONTAINERS = (
    "mov,matroska,avi,gif,apng,flv,asf,mpeg,mpegts,ogg,mp3,wav,flac,aac,"
    "mxf,dv,ivf,nut,rm,yuv4mpegpipe,mpegvideo,m4v,h264,hevc"
)
# How the files begin that are read, where that can be told: such a file is damaged, any other is of another kind.
_KNOWN_STARTS = (b"RIFF", b"\x1aE\xdf\xa3", b"FLV", b"OggS", b"\x00\x00\x01", b"\x00\x00\x00\x01", b"GIF8", b"DKIF",
                 b"\x06\x0e\x2b\x34", b".RMF", b"YUV4MPEG2", b"nut/", b"\x30\x26\xb2\x75", b"\x1f\x07\x00")  # fmt: skip
_TS_SYNC, _TS_BYTES = 0x47, 188
_REORDER_S, _LEAP_S = 2, 12 * 3600

_SHORT_SHARE = 0.1  # a picture that lasts no longer than this share of another is a cover
_FRAGMENT_START_S = 0.5
_PNG = b"\x89PNG"


# Called for every packet that is read: whoever watches a decoder sees from it that there is progress.
on_packet: ContextVar[Callable[[], None]] = ContextVar("on_packet", default=lambda: None)


Care = Literal["all", "none", "one"]


@contextmanager
def opened(path: Path, limits: MediaLimits, care: Care = "all") -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its main video stream, ready to decode; closed at the end.

    Args:
        path: of the file.
        limits: what to refuse.
        care: ``all`` makes the best of what does not decode, ``none`` fails at the first damage that the decoder
            notices, both on all cores. But frames that decode at the same time look at each other, and what they see
            of a damaged one depends on which was quicker; parts of a frame that do so leave damage unmarked. With
            ``one`` all is decoded one after the other.
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
        if _has_known_start(path):
            cause, hint = "it is damaged or incomplete", "If a recording or download was cut off, get the whole file."
        else:
            cause = "it is no kind of file that this program reads"
            hint = "If it is a video, convert it to mp4; a recording or download may also have lost its beginning."
        raise MediaError(f"{path.name}: cannot be read", cause, hint, reason="unreadable") from error
    with container:
        stream = _main_stream(path, container)
        check_pixels(path, stream.width, stream.height, limits)
        stream.thread_type = "NONE" if care == "one" else "AUTO"
        fails = {"err_detect": "explode"} if care == "none" else {}
        stream.codec_context.options = {"max_pixels": str(limits.max_pixels), **fails}
        yield container, stream


def _main_stream(path: Path, container: InputContainer) -> VideoStream:
    """The moving picture that a player shows: the default one before the longest before the largest.

    Cover art and thumbnails do not count.
    """
    moving = _moving(container)
    if not moving:
        sound = bool(container.streams.audio)
        raise MediaError(
            f"{path.name}: has no video",
            "it holds only sound" if sound else "there are no moving pictures in it",
            "Give a file with moving pictures.",
            reason="no_video_stream",
        )
    decodable = [s for s in moving if s.codec_context is not None]
    if not decodable:
        raise MediaError(
            f"{path.name}: cannot be read",
            "its video is in a format this program cannot decode",
            "Convert it to mp4 (H.264) first.",
            reason="unreadable",
        )
    lasting = _lasting(decodable)
    default = [s for s in lasting if s.disposition & av.stream.Disposition.default] or lasting
    longest = max(_length_s(s) or 0.0 for s in default)
    return max(
        default, key=lambda s: ((_length_s(s) or 0.0) >= (1 - _SHORT_SHARE) * longest, s.width * s.height, -s.index)
    )


def other_pictures(container: InputContainer, stream: VideoStream) -> int:
    """How many moving pictures a file holds beside its main one; covers and thumbnails do not count."""
    return sum(other is not stream for other in _lasting(_moving(container)))


def _moving(container: InputContainer) -> list[VideoStream]:
    pictures = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    return [s for s in container.streams.video if not s.disposition & pictures]


def _lasting(streams: list[VideoStream]) -> list[VideoStream]:
    """Those that are no single picture beside a longer one, which is a cover without its mark."""
    longest = max((_length_s(s) or 0.0 for s in streams), default=0.0)
    several = any(s.frames > 1 for s in streams)
    return [
        s
        for s in streams
        if not (several and s.frames == 1)
        and ((length := _length_s(s)) is None or not longest or length > _SHORT_SHARE * longest)
    ]


def _length_s(stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return _tagged_end_s(stream)


def _tagged_end_s(stream: VideoStream) -> float | None:
    """When the stream ends by a tag of Matroska files, whose header only knows the longest stream's end."""
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _has_known_start(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(2 * _TS_BYTES)
    except OSError:
        return False
    is_ts = len(head) == 2 * _TS_BYTES and head[0] == head[_TS_BYTES] == _TS_SYNC
    return is_ts or head[4:8] in (b"ftyp", b"moov", b"mdat", b"moof", b"wide") or head.startswith(_KNOWN_STARTS)


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
            cause = f"it is {status.st_size / 1e6:,.1f} MB, the limit is {limits.max_bytes / 1e6:,.1f} MB"
            hint = "Cut or compress it first; --max bytes=none lifts the limit."
            raise MediaError(f"{name}: is too large", cause, hint, reason="too_large")
        with path.open("rb") as file:
            head = file.read(32)
            file.seek(0)
            still = is_image(head) and not moves(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a path no system can have
        raise no_file(str(path)) or MediaError(
            f"{name}: not found", "", "Check the path.", reason="not_found"
        ) from None
    except PermissionError:
        cause = "permission denied"
        raise MediaError(
            f"{name}: cannot be read", cause, "Allow yourself to read it first.", reason="unreadable"
        ) from None
    except OSError as error:
        cause = error.strerror or "the disk reports an error"
        raise MediaError(f"{name}: cannot be read", cause, "Copy it to another disk.", reason="unreadable") from error
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


def nothing_decodes(path: Path, *, damaged: bool = False) -> MediaError:
    return MediaError(
        f"{path.name}: cannot be read",
        "damage reaches every frame of it" if damaged else "none of its frames can be decoded",
        "The file is damaged; get it again.",
        reason="unreadable",
    )


class Clock:
    """One clock for a whole file: where a recording that was joined to another begins its own, time goes on.

    Attributes:
        joined: whether that happened.
    """

    def __init__(self, time_base: Fraction | None) -> None:
        base = time_base or Fraction(1)
        self._most_back, self._most_on = -round(_REORDER_S / base), round(_LEAP_S / base)
        self._last: int | None = None
        self._step = self._end = self._offset = 0
        self.joined = False

    def set(self, packet: Packet[VideoStream]) -> bool:
        """Have the next packet, in the order of the file, tell the time of the whole.

        Returns:
            Whether another recording begins with it.
        """
        ticks = packet.dts if packet.dts is not None else packet.pts
        if ticks is None:
            return False
        begins = False
        shown = packet.pts if packet.pts is not None else ticks
        if self._last is not None:
            step = ticks - self._last
            # Decoding times only rise; without them pictures that others look at come early. A leap over half a day
            # is what FFmpeg makes of a step back by a minute and more where it takes it for a clock that ran over.
            if step < self._most_back or (step < 0 and packet.is_keyframe) or step > self._most_on:
                begins = self.joined = True
                self._offset = self._end - shown
            elif step > 0:
                self._step = step
        self._last = ticks
        self._end = max(self._end, shown + (packet.duration or self._step) + self._offset)
        if self._offset:
            packet.pts = None if packet.pts is None else packet.pts + self._offset
            packet.dts = None if packet.dts is None else packet.dts + self._offset
        return begins


def packets(
    container: InputContainer, stream: VideoStream, clock: Clock | None = None
) -> Iterator[Packet[VideoStream]]:
    """The stream's packets up to where the file is cut off, then the empty one that ends it; their times never step
    back, see :class:`Clock`."""
    for other in container.streams:
        if other is not stream:
            other.discard = av.stream.Discard.all  # reading must not end where only the sound is missing
    step = on_packet.get()
    clock = clock or Clock(stream.time_base)
    demuxed_packets = container.demux(stream)
    marked_before = container.format.name == "mpegts"
    waiting: Packet[VideoStream] | None = None
    is_next_corrupt = False
    while True:
        try:
            packet = next(demuxed_packets, None)
        except av.FFmpegError:
            packet = None  # what came before is what there is
        begins = packet is not None and packet.size > 0 and clock.set(packet)
        if packet is not None and packet.size and marked_before:
            # FFmpeg sees the loss when it has read on, and marks the picture before the one that lost something.
            packet.is_corrupt, is_next_corrupt = is_next_corrupt and not begins, packet.is_corrupt
        if waiting is not None:
            # The end of a recording and the beginning of the next do not fit either: nothing is lost there.
            waiting.is_corrupt = not begins
            yield waiting
        if packet is None:
            return
        step()
        waiting = packet if packet.is_corrupt else None
        if waiting is None:
            yield packet


def demuxed(
    path: Path, container: InputContainer, stream: VideoStream, limits: MediaLimits, clock: Clock | None = None
) -> Iterator[Packet[VideoStream]]:
    """The stream's packets that hold something.

    Raises:
        MediaError: there are more than ``limits`` allow (``too_large``).
    """
    n_packets = 0
    for packet in packets(container, stream, clock):
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
    start_s = float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0
    if stream.duration is not None and stream.time_base is not None:
        length_s = float(stream.duration * stream.time_base)
        # The header of a piece of a running stream counts from the stream's beginning.
        is_piece = not stream.frames and "mov" in container.format.name and _FRAGMENT_START_S < start_s < length_s
        return length_s - start_s if is_piece else length_s
    end_s = _tagged_end_s(stream)
    if end_s is None and container.duration is not None:
        end_s = container.duration / av.time_base
    if end_s is not None and "matroska" in container.format.name:
        end_s = max(0.0, end_s - start_s)  # it says when the last picture ends
    return end_s


@contextmanager
def quiet_ffmpeg() -> Iterator[None]:
    """FFmpeg's own messages go nowhere inside the block: ours name the file and say what to do."""
    before = av.logging.get_level()
    av.logging.set_level(None)
    try:
        yield
    finally:
        av.logging.set_level(before)
