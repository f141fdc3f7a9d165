"""Traces of processing on copies made here: seen where they are, not where they are not, in the result and its JSON."""

from __future__ import annotations

import io
import json

import cv2
import jsonschema
import numpy as np
import pytest
from helpers.clips import portrait
from PIL import Image

from deepscan.config import PredictSettings
from deepscan.detector import load_detector
from deepscan.extract.images.stills import jpeg_table
from deepscan.extract.isolation.client import probe
from deepscan.extract.traces import (
    DOUBLE_JPEG_FROM,
    MOST_FRAMES,
    SCALED_UP_FROM,
    SCREEN_FROM,
    TraceMeter,
    double_jpeg,
    region_of,
    scaled_up,
    screen,
)
from deepscan.report.table import schema, to_json

MEGA = 10**8
BOX = (170.0, 60.0, 280.0, 180.0)


def jpeg(image, quality, **options):
    """A saved copy: its bytes, its pixels and its table."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, **options)
    with Image.open(buffer) as saved:
        return buffer.getvalue(), np.array(saved.convert("RGB")), tuple(saved.quantization[0])


def scaled(image, factor, how=cv2.INTER_AREA):
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=how)


@pytest.fixture(scope="module")
def pictures():
    """Never compressed nor scaled up: photographs and a drawing with the spectrum of one."""
    from skimage.data import astronaut, chelsea, coffee

    rng = np.random.default_rng(0)
    noise = np.fft.rfft2(rng.normal(size=(384, 384, 3)), axes=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(384)[:, None], np.fft.rfftfreq(384)[None]).clip(1 / 384)
    natural = np.fft.irfft2(noise / frequency[..., None], axes=(0, 1))
    natural = (natural / natural.std() * 40 + 128).clip(0, 255).astype(np.uint8)
    return [astronaut(), scaled(chelsea(), 0.8), scaled(coffee(), 0.8), natural]


@pytest.mark.parametrize("last", [90, 75])
def test_a_second_compression_is_seen_and_a_single_one_is_not(pictures, last):
    def value(image, qualities):
        for quality in qualities:
            _, image, table = jpeg(image, quality)
        return double_jpeg(region_of(image, None), table)

    single = [value(image, [last]) for image in pictures]
    double = [value(image, [first, last]) for image in pictures for first in (50, 65, 85)]
    assert np.mean(np.array(single) >= DOUBLE_JPEG_FROM) <= 0.05
    assert np.mean(np.array(double) >= DOUBLE_JPEG_FROM) >= 0.9


@pytest.mark.parametrize("quality", [None, 90, 75])
def test_scaling_up_by_two_is_seen_and_sharp_or_soft_originals_are_not(pictures, quality):
    def value(image):
        image = image if quality is None else jpeg(image, quality)[1]
        return scaled_up(region_of(image, None))

    originals = [*pictures, *(cv2.GaussianBlur(image, (0, 0), 0.7) for image in pictures)]
    filters = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
    copies = [scaled(scaled(image, 0.5), 2, how) for image in pictures for how in filters]
    assert np.mean([value(image) >= SCALED_UP_FROM for image in originals]) <= 0.05
    assert np.mean([value(image) >= SCALED_UP_FROM for image in copies]) >= 0.9


def test_the_grid_of_a_screen_is_seen_and_pictures_alone_are_not(pictures):
    # A camera's pixels and a screen's, which do not fit: what is left is a slow pattern across both directions.
    rows, columns = np.mgrid[0:384, 0:384]
    grid = np.cos(2 * np.pi * (0.31 * columns + 0.06 * rows)) * np.cos(2 * np.pi * (0.27 * rows - 0.05 * columns))
    for image in pictures:
        part = np.ascontiguousarray(image[:384, :384])
        filmed = part * (1 + 0.1 * grid[: part.shape[0], : part.shape[1], None])
        assert screen(region_of(jpeg(part, 85)[1], None)) < SCREEN_FROM
        assert screen(region_of(jpeg(filmed.clip(0, 255).astype(np.uint8), 85)[1], None)) >= SCREEN_FROM


def test_the_region_begins_with_a_block_and_has_the_face():
    image = np.zeros((1080, 1920, 3), np.uint8)
    image[500:560, 1500:1560] = 255
    region = region_of(image, (1500, 500, 1560, 560))
    assert region.shape == (512, 512)
    top, left = np.argwhere(region > 0)[0]
    assert ((500 - top) % 8, (1500 - left) % 8) == (0, 0)


def test_too_small_a_picture_has_no_value():
    small = np.zeros((80, 60), np.float32)
    assert double_jpeg(small, [16] * 64) is None
    assert scaled_up(small) is None
    assert screen(small) is None


def test_a_picture_of_one_colour_has_no_trace():
    flat = np.full((512, 512), 128, np.float32)
    assert double_jpeg(flat, [16] * 64) < DOUBLE_JPEG_FROM
    assert scaled_up(flat) < SCALED_UP_FROM
    assert screen(flat) < SCREEN_FROM


def test_few_frames_of_a_clip_are_measured_and_none_for_jpeg():
    image = portrait()
    measured = []

    class Counted(np.ndarray):
        def __getitem__(self, at):
            measured.append(at)
            return np.asarray(self)[at]

    meter = TraceMeter(None)
    for index in range(64):
        meter.add(index, image.view(Counted), BOX)
    assert len(measured) == MOST_FRAMES
    assert [(trace.code, trace.present) for trace in meter.finish()] == [("scaled_up", False), ("screen", False)]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_table_of_a_jpeg_as_it_is_displayed(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data, _, table = jpeg(portrait(), 80, exif=exif)
    (tmp_path / "photo.jpg").write_bytes(data)
    rows = np.reshape(table, (8, 8))
    expected = rows.T if orientation == 6 else rows
    assert jpeg_table(tmp_path / "photo.jpg", MEGA) == tuple(expected.ravel())
    assert probe(tmp_path / "photo.jpg").jpeg_table == tuple(expected.ravel())


def test_no_table_where_blocks_do_not_begin_at_the_corner(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    (tmp_path / "odd.jpg").write_bytes(jpeg(portrait()[:, :500], 80, exif=exif)[0])
    Image.fromarray(portrait()).save(tmp_path / "photo.png")
    assert jpeg_table(tmp_path / "odd.jpg", MEGA) is None
    assert jpeg_table(tmp_path / "photo.png", MEGA) is None


def test_a_half_read_jpeg_has_no_table(tmp_path):
    (tmp_path / "large.jpg").write_bytes(jpeg(portrait(), 80)[0])
    assert jpeg_table(tmp_path / "large.jpg", 512 * 512 // 2) is None


def test_the_result_has_the_traces_its_note_the_sentence_and_its_json_both(tmp_path):
    data = jpeg(jpeg(portrait(), 50)[1], 85)[0]
    (tmp_path / "twice.jpg").write_bytes(data)
    (tmp_path / "once.jpg").write_bytes(jpeg(portrait(), 85)[0])
    detector = load_detector("default", PredictSettings(tta=False))
    twice, once = detector.predict_many([tmp_path / "twice.jpg", tmp_path / "once.jpg"])
    assert [(trace.code, trace.present) for trace in twice.traces] == [
        ("double_jpeg", True), ("scaled_up", False), ("screen", False),
    ]  # fmt: skip
    assert len(once.traces) == 3
    assert not any(trace.present for trace in once.traces)
    assert [note.code for note in twice.notes] == ["double_jpeg"]
    assert once.notes == ()
    report = json.loads(to_json(detector.report([twice, once])))
    jsonschema.validate(report, schema())
    assert [trace["present"] for trace in report["results"][0]["traces"]] == [True, False, False]
