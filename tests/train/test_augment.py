"""Augmentation: drawn once, applied alike."""

from __future__ import annotations

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscan.train.augment import AugmentParameters, augment, augment_region, draw_augmentation
from deepscan.train.recipe import AugmentSettings

seeds = st.integers(0, 10_000)
NOTHING = AugmentParameters(
    flip=False,
    scale=1.0,
    angle=0.0,
    shift=(0.0, 0.0),
    gain=1.0,
    gamma=1.0,
    saturation=1.0,
    warmth=0.0,
    grey=False,
    blur=0.0,
    reduction=1.0,
    interpolation=cv2.INTER_AREA,
    noise=0.0,
    jpeg_quality=0,
    h264_crf=0,
    cutout=None,
    seed=0,
)


@pytest.fixture(scope="module")
def crop(portrait):
    return np.ascontiguousarray(portrait[60:188, 160:288])


def draw(seed):
    return draw_augmentation(np.random.default_rng(seed))


def apply(crop, size=None, **changes):
    return augment(crop, replace(NOTHING, **changes), size or crop.shape[0])


@given(seeds)
def test_a_seed_gives_the_same_parameters(seed):
    assert draw(seed) == draw(seed)
    assert draw(seed) != draw(seed + 1)


@settings(max_examples=40)
@given(seed=seeds, size=st.sampled_from([32, 96, 112, 160]))
def test_shape_type_and_determinism(crop, seed, size):
    before = crop.copy()
    out = augment(crop, draw(seed), size)
    assert out.shape == (size, size, 3)
    assert out.dtype == np.uint8
    assert np.array_equal(out, augment(crop, draw(seed), size))
    assert np.array_equal(crop, before)


@settings(max_examples=30)
@given(seed=seeds)
def test_a_real_and_its_fake_stay_aligned(crop, seed):
    # Where both had the same pixels they have them after; what differs stays in its place.
    parameters = replace(draw(seed), cutout=None)
    assert np.array_equal(augment(crop, parameters, 96), augment(crop.copy(), parameters, 96))
    exact = replace(parameters, jpeg_quality=0, blur=0.0, reduction=1.0)
    fake = crop.copy()
    fake[50:78, 50:78] = 255 - fake[50:78, 50:78]
    mark = np.zeros_like(crop)
    mark[50:78, 50:78] = 255
    geometry = {name: getattr(exact, name) for name in ("flip", "scale", "angle", "shift")}
    touched = cv2.dilate(apply(mark, 96, **geometry), np.ones((3, 3))).max(axis=2) > 0
    differs = (augment(crop, exact, 96) != augment(fake, exact, 96)).any(axis=2)
    assert differs.any()
    assert not (differs & ~touched).any()


def test_nothing_changes_nothing(crop):
    assert np.array_equal(apply(crop), crop)


def test_without_change_a_size_is_a_plain_resize(crop):
    assert np.abs(apply(crop, 64).astype(int) - cv2.resize(crop, (64, 64))).mean() < 1.5
    large = apply(crop, 192).astype(int)
    assert np.abs(large - cv2.resize(crop, (192, 192))).mean() < 1.5


def test_flip(crop):
    assert np.array_equal(apply(crop, flip=True), crop[:, ::-1])


def test_scale_angle_and_shift_move_the_picture():
    dot = np.zeros((129, 129, 3), np.uint8)
    dot[62:67, 92:97] = 255  # 30 px right of the centre

    def placed(**changes):
        y, x = np.nonzero(apply(dot, **changes)[..., 0] > 100)
        return x.mean() - 64, y.mean() - 64

    assert placed() == pytest.approx((30, 0), abs=0.6)
    assert placed(scale=1.1) == pytest.approx((33, 0), abs=0.6)
    assert placed(shift=(0.05, -0.03)) == pytest.approx((30 + 6.45, -3.87), abs=0.6)
    assert placed(angle=90.0) == pytest.approx((0, -30), abs=0.6)
    assert placed(flip=True) == pytest.approx((-30, 0), abs=0.6)


def test_light_and_colour(crop):
    assert apply(crop, gain=1.3).mean() > crop.mean()
    assert apply(crop, gain=0.7).mean() < crop.mean()
    assert apply(crop, gamma=0.8).mean() > crop.mean()
    warm = apply(crop, warmth=10.0).astype(int) - crop
    assert warm[..., 0].mean() > 5
    assert warm[..., 2].mean() < -5
    assert (warm[..., 1] == 0).all()
    grey = apply(crop, grey=True, saturation=1.4)
    assert np.abs(np.diff(grey.astype(int), axis=2)).max() <= 1

    def colour(image):
        return np.ptp(image.astype(int), axis=2).mean()

    assert colour(apply(crop, saturation=0.6)) < colour(crop) < colour(apply(crop, saturation=1.4))


def detail(image):
    return cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F).std()


@pytest.mark.parametrize(
    "changes", [{"blur": 1.2}, {"reduction": 2.5}, {"reduction": 2.5, "interpolation": cv2.INTER_LINEAR}]
)
def test_blur_and_reduction_take_detail(crop, changes):
    assert detail(apply(crop, **changes)) < 0.8 * detail(crop)


def test_noise_is_that_of_the_seed(crop):
    noisy = apply(crop, noise=6.0, seed=1)
    assert np.array_equal(noisy, apply(crop, noise=6.0, seed=1))
    assert not np.array_equal(noisy, apply(crop, noise=6.0, seed=2))
    middle = (crop > 40) & (crop < 215)
    assert (noisy.astype(int) - crop)[middle].std() == pytest.approx(6, abs=0.5)


def test_jpeg_keeps_colours(crop):
    error = {q: np.abs(apply(crop, jpeg_quality=q).astype(int) - crop).mean() for q in (30, 90)}
    assert 0 < error[90] < error[30] < 15
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    assert np.abs(apply(red, jpeg_quality=90).astype(int) - red).max() <= 6


def test_jpeg_is_that_of_an_rgb_picture():
    # A codec keeps brightness and coarsens colour; with red and blue exchanged on the way in, artefacts come out
    # that no real file has.
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    _, data = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])
    expected = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(apply(crop, jpeg_quality=70), expected)


def test_cutout_fills_a_rectangle(crop):
    out = apply(crop, cutout=(0.25, 0.5, 0.25, 0.125))
    hole = np.zeros(crop.shape[:2], bool)
    hole[64:80, 32:64] = True
    assert np.array_equal(out[~hole], crop[~hole])
    assert len(np.unique(out[hole].reshape(-1, 3), axis=0)) == 1
    at_edge = apply(crop, cutout=(0.79, 0.79, 0.4, 0.4))
    assert at_edge.shape == crop.shape


@given(seeds)
def test_the_next_frame_keeps_what_a_camera_keeps(seed):
    first = draw(seed)
    second = first.next_frame(np.random.default_rng(seed + 1))
    moved = {"scale", "angle", "shift", "gain", "jpeg_quality", "seed"}
    for name in {f.name for f in fields(first)} - moved:
        assert getattr(second, name) == getattr(first, name), name
    assert second.scale == pytest.approx(first.scale, rel=0.08)
    assert second.angle == pytest.approx(first.angle, abs=6)
    assert second.shift == pytest.approx(first.shift, abs=0.05)
    assert second.gain == pytest.approx(first.gain, rel=0.06)
    assert second.seed != first.seed
    if first.jpeg_quality:
        assert abs(second.jpeg_quality - first.jpeg_quality) <= 4
        assert 20 <= second.jpeg_quality <= 98
    else:
        assert second.jpeg_quality == 0


def test_every_augmentation_is_drawn_now_and_then():
    drawn = [draw(seed) for seed in range(600)]
    for name in ("grey", "blur", "noise", "jpeg_quality", "cutout"):
        assert 0 < np.mean([bool(getattr(p, name)) for p in drawn]) < 0.7, name
    assert 0 < np.mean([p.reduction > 1 for p in drawn]) < 0.7
    assert np.mean([p.flip for p in drawn]) == pytest.approx(0.5, abs=0.06)
    for p in drawn:
        assert 0.85 < p.scale < 1.25
        assert p.jpeg_quality == 0 or 20 <= p.jpeg_quality <= 98
        assert p.reduction >= 1
    assert {p.interpolation for p in drawn} == {
        cv2.INTER_AREA,
        cv2.INTER_LINEAR,
        cv2.INTER_CUBIC,
        cv2.INTER_NEAREST,
    }


def test_a_map_moves_with_its_crop():
    spot = np.zeros((64, 64), np.float32)
    spot[10:20, 30:44] = 1
    crop = np.repeat((spot * 255).astype(np.uint8)[..., None], 3, axis=2)
    p = replace(NOTHING, flip=True, scale=1.1, angle=8.0, shift=(0.05, -0.02))
    moved = augment(crop, p, 48)[..., 0] / 255
    assert np.abs(moved - augment_region(spot, p, 48)).max() < 0.02


def test_cutouts_lie_on_the_face():
    """Over a part of it, never over all of it."""
    drawn = [draw_augmentation(np.random.default_rng(seed), AugmentSettings(cutout=1.0)).cutout for seed in range(200)]
    for x, y, width, height in drawn:
        assert width * height < 0.15
        assert 0.1 < x + width / 2 < 0.95
        assert 0.15 < y + height / 2 < 0.98


def test_no_strength_leaves_the_crop():
    chances = dict.fromkeys(("flip", "blur", "reduction", "noise", "jpeg", "h264", "grey", "cutout"), 0.0)
    crop = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    p = draw_augmentation(np.random.default_rng(1), AugmentSettings(strength=0.0, **chances))
    assert np.array_equal(augment(crop, p, 32), crop)
