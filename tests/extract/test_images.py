from __future__ import annotations

import struct
import zlib

import clips
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from deepscan.config import MediaLimits
from deepscan.errors import MediaError
from deepscan.extract.video import IMAGE_SUFFIXES, probe, sample_frames

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}
SIZE_LIMIT = MediaLimits().max_pixels


def only_frame(path):
    (frame,) = sample_frames(path, 32)
    assert (frame.time_s, frame.index) == (0.0, 0)
    assert frame.image.dtype == np.uint8
    assert frame.image.flags.c_contiguous
    return frame.image


def png(width, height, *, data=b""):
    """A PNG of any declared size, with as little behind it as wanted."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_every_image_suffix_is_tested():
    assert set(FORMATS) == IMAGE_SUFFIXES


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_format(tmp_path, portrait, suffix):
    path = tmp_path / f"still{suffix}"
    Image.fromarray(portrait).save(path, FORMATS[suffix], **({"quality": 95} if suffix != ".png" else {}))
    info = probe(path)
    assert (info.kind, info.width_px, info.height_px, info.duration_s) == ("image", 512, 512, None)
    assert np.abs(only_frame(path).astype(int) - portrait).mean() < 4


@pytest.mark.parametrize(
    ("orientation", "shown"),
    [(1, "rgbw"), (2, "grwb"), (3, "wbgr"), (4, "bwrg"), (5, "rbgw"), (6, "brwg"), (7, "wgbr"), (8, "gwrb")],
)
def test_exif_orientation(tmp_path, orientation, shown):
    path = tmp_path / "phone.jpg"
    image = Image.fromarray(clips.quadrants((96, 64)))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, quality=95)
    frame = only_frame(path)
    assert clips.corner_colours(frame) == shown
    assert frame.shape == ((96, 64, 3) if orientation >= 5 else (64, 96, 3))
    assert (probe(path).width_px, probe(path).height_px) == (frame.shape[1], frame.shape[0])


def test_broken_exif_does_not_matter(tmp_path):
    path = tmp_path / "exif.jpg"
    Image.fromarray(clips.quadrants()).save(path, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff", quality=95)
    assert clips.corner_colours(only_frame(path)) == "rgbw"


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    # Black to white from left to right survives every mode.
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 3, axis=2).repeat(16, axis=0)
    suffix, options = (".jpg", {"quality": 95}) if mode in {"CMYK", "YCbCr"} else (".png", {})
    path = tmp_path / f"mode{suffix}"
    Image.fromarray(ramp).convert(mode).save(path, **options)
    frame = only_frame(path).astype(int)
    assert frame.shape == (16, 64, 3)
    assert frame[:, :8].mean() < 30
    assert frame[:, -8:].mean() > 225
    assert np.abs(frame - frame.mean(axis=2, keepdims=True)).max() <= 4


def test_sixteen_bit_grey_is_scaled(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 0x1234, 0x8000, 0xFFFF]], dtype=np.uint16)).save(path)
    assert only_frame(path)[0, :, 0].tolist() == [0, 0x12, 0x80, 0xFF]


def test_one_pixel(tmp_path):
    path = tmp_path / "dot.png"
    Image.new("RGB", (1, 1), (10, 20, 30)).save(path)
    assert only_frame(path).tolist() == [[[10, 20, 30]]]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.95])
def test_truncated_image_is_unreadable(tmp_path, portrait, capfd, suffix, keep):
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    Image.fromarray(portrait).save(whole, FORMATS[suffix])
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(MediaError, match=f"cut{suffix}") as caught:
        list(sample_frames(path, 1))
    assert caught.value.reason == "unreadable"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("side", [100_000, 12_000, 8_200], ids=lambda side: f"{side:,} px")
@pytest.mark.parametrize("read", [probe, lambda path: list(sample_frames(path, 1))], ids=["probe", "sample"])
def test_image_bomb_is_refused_from_its_header(tmp_path, read, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side))
    with pytest.raises(MediaError, match=r"bomb\.png: is too large") as caught:
        read(path)
    assert caught.value.reason == "too_large"


def test_limit_of_pixels_is_the_callers(tmp_path):
    path = tmp_path / "ten.png"
    Image.new("RGB", (10, 10)).save(path)
    assert len(list(sample_frames(path, 1, MediaLimits(max_pixels=100)))) == 1
    with pytest.raises(MediaError, match="10 x 10 pixels, over the limit of 99") as caught:
        list(sample_frames(path, 1, MediaLimits(max_pixels=99)))
    assert caught.value.reason == "too_large"


HEADS = [
    b"",
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    png(8, 8)[:33],
    b"RIFF\x40\x00\x00\x00WEBPVP8L",
    b"BM" + bytes(12) + b"\x28\x00\x00\x00",
    b"GIF89a\x08\x00\x08\x00\x80\x00\x00",
    b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp41",
    b"\x1aE\xdf\xa3",
    b"RIFF\x40\x00\x00\x00AVI LIST",
]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(HEADS), st.binary(min_size=1, max_size=400))
def test_any_bytes_give_frames_or_a_media_error(tmp_path, head, tail):
    path = tmp_path / "noise.bin"
    path.write_bytes(head + tail)
    try:
        frames = list(sample_frames(path, 4))
    except MediaError as error:
        assert error.reason in {"unreadable", "no_video_stream", "no_frames", "too_large"}
        assert str(error).startswith("noise.bin: ")
    else:
        assert len(frames) <= 4
