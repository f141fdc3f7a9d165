"""The crop rule, checked against pictures whose every pixel is known."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscan.config import CropSettings
from deepscan.extract.crops import Square, brightness, crop_face, crop_square, face_square
from deepscan.types import Face

PLAIN = {"margin": 0.0, "shift_y": 0.0}


def make_face(box, eyes=((0, 0), (1, 0))):
    landmarks = np.array([*eyes, (0, 0), (0, 0), (0, 0)], np.float32)
    return Face(tuple(float(v) for v in box), 1.0, landmarks)


def ramp(width, height):
    """Red grows by 1 a pixel to the right, green by 1 a pixel down."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Where the square lies


@given(
    st.tuples(st.floats(100, 300), st.floats(100, 300), st.floats(10, 90), st.floats(10, 90)),
    st.floats(-0.5, 1),
    st.floats(-0.5, 0.5),
)
def test_square_of_a_box_far_from_the_edge(position, margin, shift):
    x, y, width, height = position
    box = (x, y, x + width, y + height)
    square = face_square(make_face(box), (600, 600, 3), CropSettings(margin=margin, shift_y=shift))
    assert square.side == pytest.approx(max(width, height) * (1 + margin))
    assert square.centre == pytest.approx((x + width / 2, y + height / 2 + shift * height))
    assert square.angle == 0


@pytest.mark.parametrize(
    ("box", "centre"),
    [
        ((0, 40, 20, 60), (20, 50)),
        ((80, 40, 100, 60), (80, 50)),
        ((40, 0, 60, 20), (50, 20)),
        ((85, 85, 100, 105), (80, 80)),
    ],
)
def test_at_the_edge_the_square_moves_inside(box, centre):
    settings = CropSettings(margin=1.0, shift_y=0)
    square = face_square(make_face(box), (100, 100, 3), settings)
    assert square.side == 40
    assert square.centre == centre


def test_moved_inside_no_pixel_is_invented():
    image = noise(100, 100)
    crop = crop_face(image, make_face((0, 0, 32, 32)), CropSettings(size_px=64, margin=1.0, shift_y=0))
    assert np.array_equal(crop, image[:64, :64])


def test_a_square_larger_than_the_frame_is_centred():
    square = face_square(make_face((0, 0, 80, 80)), (100, 60, 3), CropSettings(margin=0.5, shift_y=0))
    assert square.side == 120
    assert square.centre == (30, 50)


def test_settings_reach_the_crop():
    image = noise(200, 200)
    face = make_face((60, 60, 100, 110))
    base = crop_face(image, face, CropSettings(size_px=32))
    for changes in ({"margin": 0.3}, {"shift_y": 0.2}):
        assert not np.array_equal(base, crop_face(image, face, CropSettings(size_px=32, **changes)))


# What is in it


@pytest.mark.parametrize("size", [32, 57, 64])
def test_a_square_of_its_own_size_is_copied(size):
    image = noise(150, 120)
    face = make_face((20, 30, 20 + size, 30 + size))
    crop = crop_face(image, face, CropSettings(size_px=size, **PLAIN))
    assert np.array_equal(crop, image[30 : 30 + size, 20 : 20 + size])


@pytest.mark.parametrize("side", [16, 40, 64, 70, 96.0, 97.3, 128, 200, 213.7])
def test_a_crop_of_a_ramp_is_the_ramp(side):
    size, centre = 64, (124.3, 121.8)
    crop = crop_square(ramp(250, 250), Square(centre, side, 0.0), size).astype(float)
    # Output pixel i has its centre (i + 0.5) * side / size from the square's edge; source pixel x at x + 0.5.
    steps = (np.arange(size) + 0.5) * side / size - side / 2 - 0.5
    error_x = crop[..., 0] - (centre[0] + steps)[None, :]
    error_y = crop[..., 1] - (centre[1] + steps)[:, None]
    assert np.abs([error_x, error_y]).max() <= 1
    assert np.abs([error_x.mean(), error_y.mean()]).max() < 0.35  # no shift hides in the tolerance


@pytest.mark.parametrize("angle", [-0.6, -0.2, 0.3, 0.7])
@pytest.mark.parametrize("side", [40, 64, 120])
def test_a_rotated_crop_of_a_ramp_is_the_rotated_ramp(angle, side):
    image, size = ramp(250, 250), 64
    centre = (125.0, 122.0)
    crop = crop_square(image, Square(centre, side, angle), size).astype(float)
    u, v = np.meshgrid(*[(np.arange(size) + 0.5) * side / size - side / 2] * 2)
    x = centre[0] + math.cos(angle) * u - math.sin(angle) * v - 0.5
    y = centre[1] + math.sin(angle) * u + math.cos(angle) * v - 0.5
    assert np.abs(crop[..., 0] - x).max() <= 1
    assert np.abs(crop[..., 1] - y).max() <= 1


def centroid(image, channel):
    """Centre of mass of one channel, in continuous coordinates (pixel 0 spans 0 to 1)."""
    weight = image[..., channel].astype(float)
    weight[weight < 40] = 0
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def dots(points, size=240):
    """A soft dot at each of up to three points, one colour each, exact to a fraction of a pixel."""
    y, x = np.mgrid[:size, :size] + 0.5
    channels = [255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 18) for px, py in points]
    channels += [np.zeros((size, size))] * (3 - len(points))
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


@settings(max_examples=25)
@given(
    st.tuples(st.floats(105, 135), st.floats(103, 133)),
    st.floats(60, 140),
    st.floats(-0.7, 0.7),
    st.integers(48, 128),
)
def test_to_crop_says_where_pixels_land(centre, side, angle, size):
    points = np.array([(centre[0] - 12, centre[1] - 9), (centre[0] + 14, centre[1] - 3)], np.float32)
    square = Square(centre, side, angle)
    crop = crop_square(dots(points), square, size)
    mapped = square.to_crop(points, size)
    assert mapped.dtype == np.float32
    for channel in range(2):
        assert np.abs(centroid(crop, channel) - mapped[channel]).max() < 0.35 * max(1, size / side)


def test_to_crop_of_centre_and_corners():
    square = Square((50.0, 60.0), 40.0, 0.0)
    points = np.array([(50, 60), (30, 40), (70, 80)], np.float32)
    assert square.to_crop(points, 100).tolist() == [[50, 50], [0, 0], [100, 100]]


@pytest.mark.parametrize("degrees", [-40, -20, 0, 15, 44])
def test_aligned_eyes_are_level(degrees):
    a = math.radians(degrees)
    eyes = [
        (120 - 20 * math.cos(a), 110 - 20 * math.sin(a)),
        (120 + 20 * math.cos(a), 110 + 20 * math.sin(a)),
    ]
    image, face = dots(eyes), make_face((80, 70, 160, 170), eyes)
    crop = crop_face(image, face, CropSettings(size_px=96, margin=-0.15, align="eyes"))
    left, right = centroid(crop, 0), centroid(crop, 1)
    assert abs(left[1] - right[1]) < 0.4
    assert right[0] - left[0] == pytest.approx(40 * 96 / 85, abs=0.6)
    upright = crop_face(image, face, CropSettings(size_px=96, align="none"))
    slope = centroid(upright, 1) - centroid(upright, 0)
    assert math.degrees(math.atan2(slope[1], slope[0])) == pytest.approx(degrees, abs=1)


@pytest.mark.parametrize(("degrees", "used"), [(70, 45), (-80, -45)])
def test_rotation_is_limited(degrees, used):
    a = math.radians(degrees)
    face = make_face((80, 70, 160, 170), [(100, 100), (100 + 20 * math.cos(a), 100 + 20 * math.sin(a))])
    assert math.degrees(face_square(face, (240, 240, 3), CropSettings(align="eyes")).angle) == pytest.approx(used)


def test_what_does_not_fit_is_mirrored():
    image = noise(40, 40)
    crop = crop_square(image, Square((20.0, 20.0), 64.0, 0.0), 64)
    assert np.array_equal(crop, cv2.copyMakeBorder(image, 12, 12, 12, 12, cv2.BORDER_REFLECT_101))


def test_mirrored_at_one_edge():
    image = noise(100, 100)
    crop = crop_square(image, Square((16.0, 50.0), 64.0, 0.0), 64)
    assert np.array_equal(crop, cv2.copyMakeBorder(image, 0, 0, 16, 0, cv2.BORDER_REFLECT_101)[18:82, :64])


def test_no_black_border():
    image = np.full((50, 80, 3), 200, np.uint8)
    for side in (60, 100, 400):
        crop = crop_square(image, Square((40.0, 25.0), float(side), 0.4), 48)
        assert crop.min() >= 199


# Scale


@pytest.mark.parametrize("side", [128.0, 200.0, 301.7])
@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_strong_reduction_averages(side, angle):
    checkers = (np.indices((320, 320)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = np.repeat(checkers[..., None], 3, axis=2)
    crop = crop_square(image, Square((160.0, 160.0), side, angle), 32).astype(float)
    assert abs(crop.mean() - 127.5) < 2
    assert crop.std() < 20  # a sampled checkerboard would have 127


def test_reduction_keeps_the_mean_of_every_cell():
    image = noise(256, 256)
    crop = crop_square(image, Square((128.0, 128.0), 256.0, 0.0), 32)
    cells = image.reshape(32, 8, 32, 8, 3).mean(axis=(1, 3))
    assert np.abs(crop - cells).max() <= 1.5


def test_enlarging_is_smooth():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 240
    row = crop_square(image, Square((20.0, 20.0), 8.0, 0.0), 64)[32, :, 0].astype(int)
    assert (np.diff(row) >= 0).all()
    assert np.diff(row).max() <= 40
    assert (row[0], row[-1]) == (0, 240)


# Anything goes in, a crop comes out

anywhere = st.floats(-3000, 3000)


sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
eyes_anywhere = st.tuples(st.tuples(anywhere, anywhere), st.tuples(anywhere, anywhere))


@settings(max_examples=80)
@given(sizes, st.tuples(anywhere, anywhere, anywhere, anywhere), eyes_anywhere, st.floats(-0.5, 2))
def test_any_box_gives_a_crop(size, box, eyes, margin):
    image = np.full((*size, 3), 77, np.uint8)
    for align in ("none", "eyes"):
        crop = crop_face(image, make_face(box, eyes), CropSettings(size_px=33, margin=margin, align=align))
        assert crop.shape == (33, 33, 3)
        assert crop.dtype == np.uint8
        assert (np.abs(crop.astype(int) - 77) <= 1).all()


@settings(max_examples=80)
@given(sizes, st.tuples(anywhere, anywhere), st.floats(0.01, 3000), st.floats(-0.8, 0.8))
def test_any_square_gives_a_crop(size, centre, side, angle):
    crop = crop_square(np.full((*size, 3), 77, np.uint8), Square(centre, side, angle), 32)
    assert crop.shape == (32, 32, 3)
    assert crop.dtype == np.uint8
    assert (np.abs(crop.astype(int) - 77) <= 1).all()


@pytest.mark.parametrize("far", [1e5, 1e7, 1e12])
def test_absurd_boxes(far):
    image = np.full((20, 30, 3), 77, np.uint8)
    for box in [
        (-far, -far, far, far),
        (far, far, far + 9, far + 9),
        (-far, 0, -far + 5, 5),
        (far, far, -far, -far),
    ]:
        assert (crop_face(image, make_face(box), CropSettings(size_px=32)) == 77).all()


def test_the_frame_is_left_alone(portrait):
    before = portrait.copy()
    crop = crop_face(portrait, make_face((180, 60, 270, 170)), CropSettings(size_px=90, margin=0.0))
    crop[:] = 0
    assert np.array_equal(portrait, before)


def test_brightness_is_luma():
    for colour, luma in [
        ((255, 255, 255), 255),
        ((255, 0, 0), 76.2),
        ((0, 255, 0), 149.7),
        ((0, 0, 255), 29.1),
    ]:
        assert brightness(np.full((4, 4, 3), colour, np.uint8)) == pytest.approx(luma, abs=0.1)
