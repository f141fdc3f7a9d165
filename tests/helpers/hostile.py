"""Media that is hard to read, made on the spot: formats of all kinds, odd files, and damage to them.

:func:`formats` and :func:`oddities` give recipes, :func:`mutated` damages the bytes of a file. Everything follows from
its arguments: the same seed gives the same bytes.
"""

from __future__ import annotations

import io
import os
import random
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import clips
import numpy as np
from PIL import Image
from pillow_heif import register_heif_opener

Mutation = Callable[[bytes, random.Random], bytes]

N_FRAMES = 8
FPS = 10
ANIMATED = {".webp": "WEBP", ".png": "PNG", ".avif": "AVIF"}
CONTAINERS = {
    ".mp4": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".flv": "flv",
    ".ts": "mpegts",
    ".wmv": "asf",
}
# Of each codec the encoder, and settings that make it quick.
CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "ultrafast", "crf": "18"}),
    "hevc": ("libx265", {"preset": "ultrafast", "crf": "18", "x265-params": "log-level=none:pools=1"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "18", "b": "0"}),
    "av1": ("libsvtav1", {"preset": "11", "crf": "20", "svtav1-params": "lp=1"}),
    "mpeg4": ("mpeg4", {"qscale": "2"}),
    "mjpeg": ("mjpeg", {"qscale": "2"}),
}
PIXELS = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuva420p")


class CannotWrite(Exception):  # noqa: N818 - a fact about the installed FFmpeg
    """The installed FFmpeg does not write this; the message names codec and container."""


@dataclass(frozen=True)
class Case:
    """One file that can be made.

    Attributes:
        name: with its extension.
        write: makes it at a path; raises :class:`CannotWrite`.
        reasons: why it may be refused; empty where it must be read.
        numbers: that the frames show, where all must come; None where some may be missing.
        shapes: ``(height, width)`` that frames may have as displayed; empty for any.
        duration_s: of the whole, None for any.
    """

    name: str
    write: Callable[[Path], object]
    reasons: frozenset[str] = frozenset()
    numbers: tuple[int, ...] | None = tuple(range(N_FRAMES))
    shapes: tuple[tuple[int, int], ...] = ()
    duration_s: float | None = None
    slow: bool = False


def formats() -> Iterator[Case]:
    """Every container x codec x pixel format of the codec; what FFmpeg does not write says so when it is made."""
    for suffix in CONTAINERS:
        for codec in CODECS:
            for pixels in PIXELS:
                if pixels != "yuv420p" and not _takes(codec, pixels):
                    continue
                common = pixels == "yuv420p" or (suffix == ".mkv" and codec not in ("av1", "hevc"))
                yield Case(
                    f"{codec}-{pixels}{suffix}",
                    lambda path, codec=codec, pixels=pixels: encode(path, codec, pixels),
                    shapes=((64, 128),),
                    slow=not common,
                )


def _stored(codec: str, pixels: str) -> str:
    full = {"yuv420p": "yuvj420p", "yuv422p": "yuvj422p", "yuv444p": "yuvj444p"}
    return full.get(pixels, pixels) if codec == "mjpeg" else pixels


def _takes(codec: str, pixels: str) -> bool:
    """Whether there is an encoder of a codec, and it takes such pixels."""
    encoder, _ = CODECS[codec]
    if encoder not in av.codecs_available:
        return False
    known = [known.name for known in av.Codec(encoder, "w").video_formats or []]
    return _stored(codec, pixels) in known


def encode(
    path: Path,
    codec: str,
    pixels: str = "yuv420p",
    frames: Iterable[clips.Rgb] | None = None,
    *,
    fps: int = FPS,
    times_s: Sequence[float] | None = None,
    container_options: dict[str, str] | None = None,
    gop: int | None = None,
) -> Path:
    """Write frames (numbered ones by default) in one stream.

    Raises:
        CannotWrite: this build of FFmpeg has no such encoder, or it does not go with the pixels or the container.
    """
    encoder, options = CODECS[codec]
    description = f"{encoder} with {pixels} in {CONTAINERS.get(path.suffix, path.suffix)}"
    if path.suffix == ".ts" and codec in ("vp9", "av1", "mjpeg"):
        raise CannotWrite(f"mpegts has no name for {encoder}: it is written as data of no kind")
    if encoder not in av.codecs_available:
        raise CannotWrite(f"no encoder for {description}")
    stored = _stored(codec, pixels)
    if not _takes(codec, pixels):
        raise CannotWrite(f"{encoder} does not write {pixels} (for {path.suffix})")
    frames = clips.numbered_frames(N_FRAMES) if frames is None else frames
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints its settings to stderr otherwise
    try:
        with av.open(str(path), "w", format=CONTAINERS.get(path.suffix), options=container_options or {}) as container:
            stream: Any = None
            for i, image in enumerate(frames):
                if stream is None:
                    stream = container.add_stream(encoder, rate=fps, options=dict(options))
                    stream.height, stream.width = image.shape[:2]
                    stream.pix_fmt = stored
                    stream.codec_context.thread_count = 1
                    if gop is not None:
                        stream.codec_context.gop_size = gop
                    if times_s is not None:
                        stream.codec_context.time_base = Fraction(1, 1000)
                container.mux(stream.encode(_frame(image, stored, i, fps, times_s)))
            if stream is not None:
                container.mux(stream.encode(None))
    except (av.FFmpegError, ValueError) as error:
        raise CannotWrite(f"FFmpeg refuses {description}: {error}") from error
    return path


def _frame(image: clips.Rgb, pixels: str, i: int, fps: int, times_s: Sequence[float] | None = None) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format=pixels)
    if times_s is None:
        frame.time_base, frame.pts = Fraction(1, fps), i
    else:
        frame.time_base, frame.pts = Fraction(1, 1000), round(times_s[i] * 1000)
    return frame


# Odd files


def oddities() -> Iterator[Case]:
    """Files that are unusual or wrong in one respect each."""
    numbers = tuple(range(N_FRAMES))
    damaged = frozenset({"unreadable", "no_frames"})
    for codec, suffix, size in [
        ("h264", ".mkv", (127, 63)),
        ("vp9", ".webm", (127, 63)),
        ("mpeg4", ".avi", (125, 61)),
        ("mjpeg", ".mov", (121, 67)),
        ("hevc", ".mp4", (129, 65)),
        ("av1", ".mp4", (127, 65)),
    ]:
        pixels = "yuv444p" if codec in ("h264", "hevc") else "yuv420p"
        yield Case(
            f"odd-size-{codec}{suffix}",
            lambda p, c=codec, x=pixels, s=size: encode(p, c, x, clips.numbered_frames(N_FRAMES, s)),
            shapes=((size[1], size[0]),),
        )
    for codec, suffix in [("h264", ".mp4"), ("vp9", ".webm"), ("mjpeg", ".avi"), ("hevc", ".ts"), ("av1", ".mkv")]:
        yield Case(
            f"one-frame-{codec}{suffix}",
            lambda p, c=codec: encode(p, c, frames=clips.numbered_frames(1)),
            numbers=(0,),
        )
    for fps in (1, 240):
        for codec, suffix in [("h264", ".mp4"), ("vp9", ".webm"), ("mpeg4", ".avi")]:
            yield Case(
                f"{fps}-per-second-{codec}{suffix}",
                lambda p, c=codec, f=fps: encode(p, c, fps=f),
                numbers=numbers,
                duration_s=N_FRAMES / fps,
            )
    times = [0, 0.03, 0.06, 0.9, 0.95, 1.7, 1.71, 3.0]
    for codec, suffix in [("h264", ".mp4"), ("vp9", ".mkv"), ("mpeg4", ".mov")]:
        yield Case(f"variable-rate-{codec}{suffix}", lambda p, c=codec: encode(p, c, times_s=times), numbers=numbers)
    for angle in (90, 180, 270):
        yield Case(
            f"rotated-{angle}.mp4",
            lambda p, a=angle: clips.write_video(p, [clips.quadrants((96, 64))] * 4, rotation=a),
            numbers=None,
            shapes=((96, 64) if angle % 180 else (64, 96),),
        )
    for codec, suffix in [("vp9", ".webm"), ("mjpeg", ".mkv"), ("h264", ".ts")]:
        yield Case(
            f"new-size-midway-{codec}{suffix}",
            lambda p, c=codec: changing_size(p, c),
            numbers=None,
            shapes=((64, 128), (96, 192)),
        )
    for name, change in {"zeroed": bytes, "shifted": _shifted, "random": _random_bytes}.items():
        for suffix, mark in [(".mp4", b"stco"), (".mp4", b"stsz"), (".mkv", b"\x1c\x53\xbb\x6b"), (".avi", b"idx1")]:
            label = mark.decode("latin-1") if mark.isalnum() else "cues"
            yield Case(
                f"index-{name}-{label}{suffix}",
                lambda p, m=mark, c=change: broken_index(p, m, c),
                reasons=damaged,
                numbers=None,
            )
    for suffix in (".mp4", ".mkv", ".ts"):
        yield Case(f"negative-times{suffix}", negative_times, numbers=numbers if suffix == ".mkv" else None)
    for name, value in {"none": 0, "short": 1, "endless": 0xFFFFFFFE}.items():
        yield Case(f"duration-{name}.mp4", lambda p, v=value: wrong_duration(p, v), numbers=numbers)
    for suffix in (".mkv", ".avi"):
        yield Case(f"two-videos{suffix}", two_videos, numbers=numbers, shapes=((96, 192),))
    # Here the first is marked as the one that is shown.
    yield Case("two-videos.mp4", two_videos, numbers=None, shapes=((48, 64),))
    yield Case("cover-only.mp4", cover_only, reasons=frozenset({"no_video_stream"}), numbers=None)
    yield Case(
        "8k.mp4",
        lambda p: encode(p, "h264", frames=clips.numbered_frames(4, (7680, 4320)), fps=2),
        numbers=tuple(range(4)),
        shapes=((4320, 7680),),
        duration_s=2.0,
        slow=True,
    )


def changing_size(path: Path, codec: str) -> Path:
    """Half of the frames in one size, half in another, in one stream."""
    encoder, options = CODECS[codec]
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    try:
        with av.open(str(path), "w", format=CONTAINERS[path.suffix]) as container:
            stream: Any = container.add_stream(encoder, rate=FPS, options=dict(options))
            stream.width, stream.height, stream.pix_fmt = 128, 64, pixels
            for part, size in enumerate([(128, 64), (192, 96)]):
                context: Any = av.CodecContext.create(encoder, "w")
                context.width, context.height = size
                context.pix_fmt, context.time_base, context.framerate = pixels, Fraction(1, FPS), FPS
                context.options, context.thread_count = dict(options), 1
                start = part * N_FRAMES // 2
                images = clips.numbered_frames(N_FRAMES, size)
                made = [_frame(image, pixels, i, FPS) for i, image in enumerate(images)]
                for frame in [*made[start : start + N_FRAMES // 2], None]:
                    for packet in context.encode(frame):
                        packet.stream, packet.time_base = stream, Fraction(1, FPS)
                        container.mux(packet)
    except (av.FFmpegError, ValueError) as error:
        raise CannotWrite(f"FFmpeg refuses {encoder} of two sizes in {path.suffix}: {error}") from error
    return path


def _shifted(data: bytes) -> bytes:
    return data[1:] + data[:1]


def _random_bytes(data: bytes) -> bytes:
    return random.Random(len(data)).randbytes(len(data))


def broken_index(path: Path, mark: bytes, change: Callable[[bytes], bytes]) -> Path:
    """What follows the last ``mark`` and its length is changed, up to 64 bytes."""
    options = {"reserve_index_space": "1024"} if path.suffix == ".mkv" else None
    encode(path, "mpeg4", container_options=options, gop=2)
    data = path.read_bytes()
    at = data.rindex(mark) + len(mark) + 8
    part = data[at : at + 64]
    path.write_bytes(data[:at] + change(part)[: len(part)].ljust(len(part), b"\0") + data[at + len(part) :])
    return path


def negative_times(path: Path) -> Path:
    """The first frames lie before the zero of the file's clock."""
    return encode(
        path,
        "mpeg4",
        times_s=[-0.4 + i / FPS for i in range(N_FRAMES)],
        container_options={"avoid_negative_ts": "disabled"},
    )


def wrong_duration(path: Path, ticks: int) -> Path:
    """All three headers of an mp4 that hold a duration say this one."""
    encode(path, "h264")
    data = bytearray(path.read_bytes())
    for box, offset in [(b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)]:
        at = data.index(box) + offset
        data[at : at + 4] = struct.pack(">I", ticks)
    path.write_bytes(data)
    return path


def two_videos(path: Path) -> Path:
    """A small stream of plain grey, then a larger one of numbered frames."""
    with av.open(str(path), "w", format=CONTAINERS[path.suffix]) as container:
        streams: list[Any] = []
        for size in [(64, 48), (192, 96)]:
            stream: Any = container.add_stream("mpeg4", rate=FPS, options={"qscale": "2"})
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            streams.append(stream)
        for i, image in enumerate(clips.numbered_frames(N_FRAMES, (192, 96))):
            for stream, picture in zip(streams, [np.full((48, 64, 3), 99, np.uint8), image], strict=True):
                container.mux(stream.encode(_frame(picture, "yuv420p", i, FPS)))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def cover_only(path: Path) -> Path:
    """Sound with a cover picture."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        cover: Any = container.add_stream("mjpeg", rate=1, width=64, height=64, pix_fmt="yuvj420p")
        cover.disposition = av.stream.Disposition.attached_pic.value
        container.mux(cover.encode(_frame(clips.quadrants((64, 64)), "yuvj420p", 0, 1)))
        container.mux(cover.encode(None))
        clips.write_silence(container, sound, 1.0)
    return path


# Damage


def seeds() -> dict[str, bytes]:
    """Small files of every container and several codecs, with a face in them, by extension and codec."""
    import tempfile

    made: dict[str, bytes] = {}
    images = list(clips.moving_portrait(6, (160, 160), 4))
    with tempfile.TemporaryDirectory(prefix="deepscan-seeds-") as folder:
        for codec, suffix in [
            ("h264", ".mp4"),
            ("hevc", ".mp4"),
            ("av1", ".mp4"),
            ("mpeg4", ".mov"),
            ("mjpeg", ".mov"),
            ("h264", ".mkv"),
            ("mpeg4", ".mkv"),
            ("vp9", ".webm"),
            ("av1", ".webm"),
            ("mjpeg", ".avi"),
            ("mpeg4", ".avi"),
            ("h264", ".flv"),
            ("h264", ".ts"),
        ]:
            try:
                path = encode(Path(folder) / f"seed{suffix}", codec, frames=images)
            except CannotWrite:
                continue  # the tests of the formats say so
            made[f"{codec}{suffix}"] = path.read_bytes()
        path = clips.write_video(Path(folder) / "seed.gif", images[:3])
        made["gif.gif"] = path.read_bytes()
    still, *moving = (Image.fromarray(image) for image in images[:3])
    register_heif_opener()
    for suffix, name, options in [
        (".jpg", "JPEG", {"quality": 80}),
        (".jpg", "JPEG", {"quality": 80, "progressive": True}),
        (".png", "PNG", {}),
        (".webp", "WEBP", {"quality": 70}),
        (".webp", "WEBP", {"lossless": True}),
        (".bmp", "BMP", {}),
        (".heic", "HEIF", {}),
        (".avif", "AVIF", {}),
        (".tif", "TIFF", {"compression": "tiff_lzw"}),
        (".jp2", "JPEG2000", {}),
        *((suffix, name, {"save_all": True, "append_images": moving}) for suffix, name in ANIMATED.items()),
    ]:
        buffer = io.BytesIO()
        still.save(buffer, name, **options)
        made[f"{name.lower()}{'-' + next(iter(options)) if options else ''}{len(made)}{suffix}"] = buffer.getvalue()
    return made


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """Up to 64 bits, somewhere or all near the beginning."""
    out = bytearray(data)
    reach = len(out) if rng.random() < 0.5 else min(len(out), 1024)
    for _ in range(rng.choice([1, 2, 4, 16, 64])):
        out[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return bytes(out)


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Cut off, anywhere."""
    return data[: rng.randrange(len(data))]


_BOXES = (
    b"ftyp moov mvhd trak tkhd mdia mdhd hdlr minf stbl stsd avc1 avcC hvc1 hev1 hvcC av01 av1C mp4v esds jpeg stts "
    b"ctts stss stsc stsz stco co64 elst edts mdat moof traf trun udta meta RIFF LIST hdrl avih strl strh strf movi "
    b"idx1 00dc IHDR IDAT IEND WEBP VP8L VP8X JUNK"
).split()
_EBML = (
    b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x11\x4d\x9b\x74", b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\xae",
    b"\xe0", b"\xb0", b"\xba", b"\x63\xa2", b"\x1f\x43\xb6\x75", b"\xe7", b"\xa3", b"\x1c\x53\xbb\x6b", b"\xbb",
)  # fmt: skip
_LENGTHS = (0, 1, 7, 8, 9, 0x7F, 0x80, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)


def lie_about_length(data: bytes, rng: random.Random) -> bytes:
    """A box, chunk, element or segment says another length, or a field near its start another value."""
    out = bytearray(data)
    marks = [mark for mark in (*_BOXES, *_EBML) if mark in data[: 1 << 16]]
    if data.startswith(b"\xff\xd8"):
        marks = [bytes([0xFF, kind]) for kind in (0xC0, 0xC2, 0xC4, 0xDA, 0xDB, 0xE0) if bytes([0xFF, kind]) in data]
    if not marks:
        return replace_word(data, rng)
    for _ in range(rng.choice([1, 1, 2, 3])):
        mark = rng.choice(marks)
        at = data.find(mark, rng.randrange(max(1, data.rfind(mark) + 1)))
        if at < 0:
            continue
        # Before the mark in mp4 and PNG, after it in the others; further on lie counts and sizes.
        position = at + rng.choice([-4, len(mark), len(mark), len(mark) + 4 * rng.randrange(12)])
        value = rng.choice([*_LENGTHS, rng.getrandbits(32), rng.randrange(1, 4 * len(data))])
        packed = struct.pack(rng.choice(["<I", ">I"]), value & 0xFFFFFFFF)
        if 0 <= position <= len(out) - 4:
            out[position : position + 4] = packed
    return bytes(out)


def replace_word(data: bytes, rng: random.Random) -> bytes:
    """Four bytes near the beginning are a number that is likely to hurt."""
    out = bytearray(data)
    at = rng.randrange(max(1, min(len(out), 2048) - 4))
    out[at : at + 4] = struct.pack(rng.choice(["<I", ">I"]), rng.choice(_LENGTHS))
    return bytes(out)


def move_parts(data: bytes, rng: random.Random) -> bytes:
    """A part is taken out, doubled, emptied, filled with noise or put elsewhere."""
    start, end = sorted(rng.sample(range(len(data) + 1), 2))
    end = min(end, start + rng.choice([4, 64, 1024, 1 << 20]))
    part = data[start:end]
    kind = rng.randrange(5)
    if kind == 0:
        return data[:start] + data[end:]
    if kind == 1:
        return data[:end] + part * rng.randrange(1, 4) + data[end:]
    if kind == 2:
        return data[:start] + bytes(len(part)) + data[end:]
    if kind == 3:
        return data[:start] + rng.randbytes(len(part)) + data[end:]
    rest = data[:start] + data[end:]
    at = rng.randrange(len(rest) + 1)
    return rest[:at] + part + rest[at:]


MUTATIONS: tuple[Mutation, ...] = (flip_bits, truncate, lie_about_length, lie_about_length, replace_word, move_parts)


@dataclass(frozen=True)
class Mutant:
    """A damaged file: its name says from what and how."""

    name: str
    data: bytes


def mutated(made: dict[str, bytes], n: int, seed: int) -> Iterator[Mutant]:
    """``n`` damaged files, every seed and every kind of damage in turn; some are damaged twice."""
    names = sorted(made)
    for number in range(n):
        rng = random.Random(f"{seed}/{number}")
        name = names[number % len(names)]
        first = MUTATIONS[(number // len(names)) % len(MUTATIONS)]
        chosen = [first, *([rng.choice(MUTATIONS)] if rng.random() < 0.25 else [])]
        data = made[name]
        for mutation in chosen:
            data = mutation(data, rng) or data[:1]
        mutations = "+".join(mutation.__name__ for mutation in chosen)
        stem, _, suffix = name.rpartition(".")
        yield Mutant(f"{number:05}-{stem}-{mutations}.{suffix}", data)
