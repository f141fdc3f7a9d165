"""One clip as the world's devices store it: pixels that are not square, lines of two moments, high dynamic range."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pillow_heif
from clips import Rgb
from numpy.typing import NDArray
from PIL import Image

FPS = 25
_QUALITY = {
    "libx264": {"preset": "veryfast", "crf": "6"},
    "libx265": {"preset": "ultrafast", "crf": "8"},
    "mpeg2video": {},
}
_ILDCT, _ILME = 0x40000, 0x20000000  # encode fields, look for motion between fields
_PQ, _HLG, _BT2020, _BT2020_MATRIX = 16, 18, 9, 9


def write_squeezed(path: Path, pictures: Iterable[Rgb], aspect: Fraction, codec: str = "libx264") -> Path:
    """Store pictures so that each pixel is ``aspect`` as wide as high; displayed they are as given."""

    def squeezed(picture: Rgb) -> Rgb:
        height, width = picture.shape[:2]
        size = (round(width / aspect), height) if aspect > 1 else (width, round(height * aspect))
        return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))

    return _write(path, (_yuv(squeezed(picture)) for picture in pictures), codec, aspect=aspect)


def write_interlaced(path: Path, pictures: Sequence[Rgb], codec: str) -> Path:
    """Store pictures, 50 a second, as 25 frames whose even lines are of one moment and the odd ones of the next."""

    def woven() -> Iterator[av.VideoFrame]:
        for first, second in zip(pictures[::2], pictures[1::2], strict=True):
            both = first.copy()
            both[1::2] = second[1::2]
            yield _top_field_first(_yuv(both))

    return _write(path, woven(), codec, flags=_ILDCT | _ILME)


def write_hdr(path: Path, pictures: Iterable[Rgb], transfer: str) -> Path:
    """Store pictures as a phone does in ``pq`` or ``hlg``: 10 bits of BT.2020, their white at 203 nits."""
    frames = (_hdr_frame(picture, transfer) for picture in pictures)
    return _write(path, frames, "libx265", transfer={"pq": _PQ, "hlg": _HLG}[transfer])


def write_motion_jpeg(path: Path, pictures: Iterable[Rgb], orientation: int) -> Path:
    """A time lapse of a camera's JPEGs, with their Exif, in avi or mov."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "ACME", orientation
    with av.open(str(path), "w") as container:
        stream: Any = None
        for i, picture in enumerate(pictures):
            if stream is None:
                stream = container.add_stream("mjpeg", rate=FPS)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuvj420p"
            data = io.BytesIO()
            Image.fromarray(picture).save(data, "JPEG", exif=exif, quality=95)
            packet = av.Packet(data.getvalue())
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, FPS), True
            packet.pts = packet.dts = i
            container.mux(packet)
    return path


def _write(
    path: Path,
    frames: Iterable[av.VideoFrame],
    codec: str,
    *,
    aspect: Fraction | None = None,
    flags: int = 0,
    transfer: int | None = None,
) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = None
        for i, frame in enumerate(frames):
            if stream is None:
                options = dict(_QUALITY[codec])
                if transfer is not None:
                    options["x265-params"] = f"log-level=none:colorprim=bt2020:colormatrix=bt2020nc:transfer={transfer}"
                elif codec == "libx265":
                    options["x265-params"] = "log-level=none"
                stream = container.add_stream(codec, rate=FPS, options=options)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
                context = stream.codec_context
                context.thread_count = 1
                context.flags |= flags
                if codec == "mpeg2video":
                    context.bit_rate, context.qmin, context.qmax = 20_000_000, 1, 2
                if aspect is not None:
                    context.sample_aspect_ratio = aspect
                if transfer is not None:
                    context.color_trc, context.color_primaries = transfer, _BT2020
                    context.colorspace = _BT2020_MATRIX
            frame.time_base, frame.pts = Fraction(1, FPS), i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _yuv(picture: Rgb) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return frame.reformat(format="yuv420p", src_color_range="JPEG", dst_color_range="MPEG")


def _top_field_first(frame: av.VideoFrame) -> av.VideoFrame:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, FPS))
    mark, sink = graph.add("setfield", "mode=tff"), graph.add("buffersink")
    source.link_to(mark)
    mark.link_to(sink)
    graph.configure()
    frame.time_base, frame.pts = Fraction(1, FPS), 0
    source.push(frame)
    marked = sink.pull()
    assert isinstance(marked, av.VideoFrame)
    return marked


# BT.709 light as BT.2020 has it (Rec. ITU-R BT.2087), and the share of each colour in luminance (BT.2100).
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
_LUMA = np.array([0.2627, 0.6780, 0.0593])


def hdr_signal(nits: NDArray[np.float64], transfer: str) -> NDArray[np.float64]:
    """BT.2020 light on a display, ``[..., 3]`` in nits, as the signal of 0 to 1 that ``pq`` or ``hlg`` has for it."""
    if transfer == "pq":
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = (nits / 10_000) ** m1
        return ((c1 + c2 * root) / (1 + c3 * root)) ** m2
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    luminance = np.maximum(nits @ _LUMA / 1000, 1e-9)[..., None]
    scene = nits / 1000 * luminance ** (1 / 1.2 - 1)
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def _hdr_frame(picture: Rgb, transfer: str) -> av.VideoFrame:
    light = (picture / 255.0) ** 2.4 @ TO_BT2020.T * 203
    signal = np.round(hdr_signal(light, transfer).clip(0, 1) * 65535).astype(np.uint16)
    frame = av.VideoFrame.from_ndarray(signal, format="rgb48le")
    return frame.reformat(format="yuv420p10le", dst_colorspace="BT2020", src_color_range="JPEG", dst_color_range="MPEG")


def write_tiled_heic(path: Path, picture: Rgb, tile: int = 512, *, turns: int = 0) -> Path:
    """Store a picture as phones do: a grid of ``tile`` x ``tile`` pictures, turned anticlockwise by ``turns`` quarters
    to be displayed (ISO/IEC 23008-12). Its sides are multiples of ``tile``."""
    height, width = picture.shape[:2]
    rows, columns = height // tile, width // tile
    coded = [
        _coded_tile(picture[y : y + tile, x : x + tile]) for y in range(0, height, tile) for x in range(0, width, tile)
    ]
    tiles = [data for _, data in coded]
    grid = len(tiles) + 1
    n = len(tiles)

    def box(kind: bytes, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return struct.pack(">I", 8 + len(body)) + kind + body

    def full(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
        return box(kind, struct.pack(">I", version << 24 | flags), *parts)

    def entry(item: int, kind: bytes) -> bytes:
        return full(b"infe", struct.pack(">HH", item, 0), kind, b"\0", version=2, flags=int(item != grid))

    grid_data = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    properties = box(
        b"ipco",
        coded[0][0],
        full(b"ispe", struct.pack(">II", tile, tile)),
        full(b"ispe", struct.pack(">II", width, height)),
        box(b"irot", bytes([turns])),
    )
    uses = b"".join(struct.pack(">HBBB", item, 2, 0x81, 2) for item in range(1, grid))
    uses += struct.pack(">HBBB", grid, 2, 3, 0x84)

    def meta(start: int) -> bytes:
        places, at = [], start
        for i, data in enumerate(tiles):
            places.append(struct.pack(">HHHHII", i + 1, 0, 0, 1, at, len(data)))
            at += len(data)
        places.append(struct.pack(">HHHHII", grid, 1, 0, 1, 0, len(grid_data)))
        return full(
            b"meta",
            full(b"hdlr", bytes(4), b"pict", bytes(13)),
            full(b"pitm", struct.pack(">H", grid)),
            full(b"iloc", b"\x44\x00", struct.pack(">H", grid), *places, version=1),
            full(b"iinf", struct.pack(">H", grid), *(entry(i, b"hvc1") for i in range(1, grid)), entry(grid, b"grid")),
            full(b"iref", box(b"dimg", struct.pack(f">HH{n}H", grid, n, *range(1, grid)))),
            box(b"iprp", properties, full(b"ipma", struct.pack(">I", grid), uses)),
            box(b"idat", grid_data),
        )

    head = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    start = len(head) + len(meta(0)) + 8
    path.write_bytes(head + meta(start) + box(b"mdat", *tiles))
    return path


def _coded_tile(picture: Rgb) -> tuple[bytes, bytes]:
    """The ``hvcC`` box and the coded bytes of a picture."""
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(np.ascontiguousarray(picture))).save(
        file, quality=95, enc_params={"preset": "ultrafast"}
    )
    data = file.getvalue()
    boxes = []
    for kind in (b"hvcC", b"mdat"):
        at = data.index(kind) - 4
        boxes.append(data[at : at + int.from_bytes(data[at : at + 4], "big")])
    return boxes[0], boxes[1][8:]
