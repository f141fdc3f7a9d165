from __future__ import annotations

import logging
import struct
import zlib

import clips
import kinds
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pillow_heif import from_bytes, register_heif_opener

from deepscan.config import MediaLimits
from deepscan.errors import MediaError
from deepscan.extract.file_facts.facts import file_facts
from deepscan.extract.file_kinds import IMAGE_SUFFIXES
from deepscan.extract.video.frames import probe, sample_frames

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".mpo": "MPO",
    ".apng": "PNG",
    ".hif": "HEIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".jp2": "JPEG2000",
}
LOSSLESS = {".png", ".apng", ".bmp", ".tif", ".tiff", ".jp2"}
register_heif_opener()
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
    Image.fromarray(portrait).save(path, FORMATS[suffix], **({} if suffix in LOSSLESS else {"quality": 95}))
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


@pytest.fixture
def warned(caplog):
    caplog.set_level(logging.WARNING, logger="deepscan")
    return lambda: [r.getMessage() for r in caplog.records]


@pytest.mark.parametrize(
    ("suffix", "keep"),
    [(s, k) for s in (".jpg", ".png", ".webp", ".bmp", ".heic", ".avif", ".tif") for k in (0.02, 0.5, 0.95)
     if (s, k) != (".jpg", 0.95)],
)  # fmt: skip
def test_truncated_image_is_unreadable(tmp_path, portrait, capfd, suffix, keep):
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    Image.fromarray(portrait).save(whole, FORMATS[suffix])
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(MediaError, match=f"cut{suffix}") as caught:
        list(sample_frames(path, 1))
    assert caught.value.reason == "unreadable"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lost", [2, 200, 2000])
def test_jpeg_without_its_last_bytes_is_shown_as_viewers_do(tmp_path, portrait, warned, lost, progressive):
    path = tmp_path / "cut.jpg"
    Image.fromarray(portrait).save(path, quality=92, progressive=progressive)
    path.write_bytes(path.read_bytes()[:-lost])
    assert np.abs(only_frame(path)[:480].astype(int) - portrait[:480]).mean() < 4
    (message,) = warned()
    assert message.startswith("cut.jpg: the end of the file is missing")


def test_half_a_jpeg_says_how_much_is_missing(tmp_path, portrait):
    path = tmp_path / "half.jpg"
    Image.fromarray(portrait).save(path, quality=92)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"4\d% of the picture is missing") as caught:
        list(sample_frames(path, 1))
    assert caught.value.reason == "unreadable"


# What phones and cameras store


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_tiles_of_a_phones_photo_are_put_together(tmp_path, portrait, turns):
    whole = np.asarray(Image.fromarray(portrait).resize((384, 256)))
    path = kinds.write_tiled_heic(tmp_path / "phone.heic", whole, 128, turns=turns)
    info, shown = probe(path), np.rot90(whole, turns)
    assert (info.kind, info.height_px, info.width_px) == ("image", *shown.shape[:2])
    assert np.abs(only_frame(path).astype(int) - shown).mean() < 3


@pytest.mark.parametrize(("transfer", "number"), [("pq", 16), ("hlg", 18)])
def test_photo_of_high_dynamic_range(tmp_path, portrait, transfer, number):
    picture = portrait[32:224, 128:320]
    light = (picture / 255.0) ** 2.4 @ kinds.TO_BT2020.T * 203
    signal = np.round(kinds.hdr_signal(light, transfer).clip(0, 1) * 65535).astype(np.uint16)
    heif = from_bytes("RGB;16", (192, 192), signal.tobytes())
    path = tmp_path / "camera.hif"
    heif.save(path, quality=95, color_primaries=9, transfer_characteristics=number, matrix_coefficients=9)
    assert np.abs(only_frame(path).astype(int) - picture).mean() < 6


def test_facts_of_a_phones_photo(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "ACME"
    Image.fromarray(clips.quadrants()).save(tmp_path / "phone.heic", exif=exif)
    facts = file_facts(tmp_path / "phone.heic")
    assert facts.kind == "image"
    assert ("Make", "ACME") in {(tag.name, tag.value) for tag in facts.tags}


def test_motion_photo_is_judged_by_its_picture_and_its_video_is_mentioned(tmp_path, portrait_image, face_clip):
    path = tmp_path / "motion.jpg"
    path.write_bytes(portrait_image.read_bytes() + face_clip.read_bytes())
    assert only_frame(path).shape == (512, 512, 3)
    assert (probe(path).kind, probe(path).other_pictures, probe(portrait_image).other_pictures) == ("image", 1, 0)


@pytest.mark.parametrize(("suffix", "name"), [(".jpg", "MPO"), (".tif", "TIFF")])
def test_more_pictures_are_mentioned(tmp_path, portrait, suffix, name):
    path = tmp_path / f"two{suffix}"
    second = [Image.fromarray(np.ascontiguousarray(portrait[::-1]))]
    Image.fromarray(portrait).save(path, name, save_all=True, append_images=second)
    assert np.abs(only_frame(path).astype(int) - portrait).mean() < 6
    assert probe(path).other_pictures == 1


def test_raw_photo_is_not_judged_by_its_preview(tmp_path):
    path = tmp_path / "raw.dng"
    Image.new("RGB", (160, 120)).save(path, "TIFF", tiffinfo={254: 1})
    with pytest.raises(MediaError, match="raw file") as caught:
        only_frame(path)
    assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("head", [b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n"])
def test_what_is_not_read_is_named(tmp_path, head):
    path = tmp_path / "new.jxl"
    path.write_bytes(head + bytes(100))
    with pytest.raises(MediaError, match="JPEG XL"):
        probe(path)


def test_photo_of_more_pixels_than_the_limit_is_read_at_half_its_size(tmp_path, portrait):
    path = tmp_path / "huge.jpg"
    Image.new("L", (12_000, 9_000), 128).save(path)  # a phone's 108 megapixels
    assert (probe(path).width_px, probe(path).height_px) == (6000, 4500)
    assert only_frame(path).shape == (4500, 6000, 3)
    Image.fromarray(portrait).save(path, quality=95)
    small = np.asarray(Image.fromarray(portrait).resize((256, 256), Image.Resampling.BOX))
    (frame,) = sample_frames(path, 1, MediaLimits(max_pixels=512 * 512 - 1))
    assert np.abs(frame.image.astype(int) - small).mean() < 4


def test_picture_over_the_limit_says_how_to_allow_it(tmp_path):
    path = tmp_path / "ten.png"
    Image.new("RGB", (10, 10)).save(path)
    with pytest.raises(MediaError, match="--max pixels=100"):
        probe(path, MediaLimits(max_pixels=99))


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
    b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00mif1heicmiaf\x00\x00\x01\x98meta",
    b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avifmif1miafMA1B\x00\x00\x016meta",
    b"II*\x00\x08\x00\x00\x00",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n",
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
