"""Self-blended images: what changes, where, and what stays."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscan.train.self_blend import blend_mask, draw_blend, self_blend

# The portrait's upper part and its landmarks as the detector finds them.
LANDMARKS = np.array([[200, 107], [246, 104], [226, 130], [207, 152], [246, 149]], np.float32)
EYE_DISTANCE = 46

seeds = st.integers(0, 10_000)


@pytest.fixture(scope="module")
def image(portrait):
    return np.ascontiguousarray(portrait[:240, 100:350])


@pytest.fixture(scope="module")
def landmarks():
    return LANDMARKS - np.float32([100, 0])


def draw(seed, **changes):
    return replace(draw_blend(np.random.default_rng(seed)), **changes)


def equal(a, b):
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


@given(seeds)
def test_a_seed_gives_the_same_parameters(seed):
    assert equal(draw(seed), draw(seed))
    assert not equal(draw(seed), draw(seed + 1))


@settings(max_examples=15)
@given(seed=seeds)
def test_shape_type_and_determinism(image, landmarks, seed):
    before = image.copy()
    blended = self_blend(image, landmarks, draw(seed))
    assert blended.shape == image.shape
    assert blended.dtype == np.uint8
    assert np.array_equal(blended, self_blend(image, landmarks, draw(seed)))
    assert np.array_equal(image, before)


@settings(max_examples=25)
@given(seed=seeds)
def test_with_a_changed_source_only_the_face_changes(image, landmarks, seed):
    parameters = draw(seed, change_source=True)
    mask = blend_mask(landmarks, image.shape[:2], parameters)
    blended = self_blend(image, landmarks, parameters)
    assert np.array_equal(blended[mask == 0], image[mask == 0])
    assert (mask == 0).mean() > 0.3
    # Almost nothing shows where the mask is almost nothing.
    faint = mask < 0.002
    assert np.abs(blended[faint].astype(int) - image[faint]).max() <= 1


@settings(max_examples=10)
@given(seed=seeds)
def test_with_a_changed_target_the_core_is_the_original(image, landmarks, seed):
    still = {"shift": (0.0, 0.0), "scale": 1.0, "ratio": 1.0}
    parameters = draw(seed, change_source=False, channel_shift=(15.0, -15.0, 10.0), **still)
    mask = blend_mask(landmarks, image.shape[:2], parameters)
    blended = self_blend(image, landmarks, parameters)
    core = mask > 0.999
    assert core.any()
    assert np.abs(blended[core].astype(int) - image[core]).max() <= 1
    outside = mask == 0
    assert np.abs(blended[outside].astype(int) - image[outside]).mean() > 2


def test_most_blends_change_the_face_visibly(image, landmarks):
    changes = []
    for seed in range(30):
        parameters = draw(seed)
        inside = blend_mask(landmarks, image.shape[:2], parameters) > 0.5
        blended = self_blend(image, landmarks, parameters)
        change = np.abs(blended.astype(int) - image)
        changes.append(max(change[inside].mean(), change[~inside].mean()))
    assert np.mean(np.array(changes) > 1) > 0.8
    assert max(changes) < 60


def test_a_blend_that_changes_nothing_is_the_picture(image, landmarks):
    nothing = draw(
        0,
        channel_shift=(0.0, 0.0, 0.0),
        hue=0.0,
        saturation=1.0,
        gain=1.0,
        bias=0.0,
        reduction=1.0,
        sharpen=0.0,
        shift=(0.0, 0.0),
        scale=1.0,
    )
    for change_source in (True, False):
        blended = self_blend(image, landmarks, replace(nothing, change_source=change_source))
        assert np.array_equal(blended, image)


def test_ratio_scales_the_change(image, landmarks):
    parameters = draw(3, change_source=True, channel_shift=(40.0, 0.0, 0.0), bias=0.0)
    full, half = (self_blend(image, landmarks, replace(parameters, ratio=r)).astype(float) - image for r in (1.0, 0.5))
    assert np.abs(half - full / 2).max() <= 1


@settings(max_examples=25)
@given(seed=seeds)
def test_the_mask_is_soft_and_lies_on_the_face(image, landmarks, seed):
    parameters = draw(seed)
    mask = blend_mask(landmarks, image.shape[:2], parameters)
    assert mask.shape == image.shape[:2]
    assert mask.dtype == np.float32
    assert mask.min() >= 0
    assert mask.max() == pytest.approx(1)
    y, x = np.nonzero(mask > 0.5)
    middle = landmarks.mean(axis=0)
    assert (np.abs(x - middle[0]) < 1.5 * EYE_DISTANCE).all()
    assert (y > landmarks[:2, 1].min() - 1.2 * EYE_DISTANCE).all()
    assert (y < landmarks[3:, 1].max() + 1.2 * EYE_DISTANCE).all()
    steps = max(np.abs(np.diff(mask, axis=0)).max(), np.abs(np.diff(mask, axis=1)).max())
    assert steps < 0.6  # no hard edge
    assert ((mask > 0.05) & (mask < 0.95)).any()


def test_regions_cover_what_they_say(landmarks):
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    at = {}
    for region in ("face", "inner", "lower", "upper"):
        parameters = draw(0, region=region, elastic=np.zeros((4, 4, 2), np.float32), blur=0.02, swell=1.0)
        mask = blend_mask(landmarks, (240, 250), parameters)
        at[region] = [float(mask[round(float(y)), round(float(x))]) for x, y in (eyes, mouth)]
    assert min(at["face"]) > 0.9
    assert at["upper"][0] > 0.9
    assert at["upper"][1] < 0.1
    assert at["lower"][1] > 0.9
    assert at["lower"][0] < 0.1
    assert at["inner"][1] > 0.9


@given(seeds)
def test_jittered_stays_close(seed):
    parameters = draw(seed)
    near = parameters.jittered(np.random.default_rng(seed + 1))
    kept = {"region", "blur", "channel_shift", "hue", "saturation", "reduction", "sharpen", "change_source"}
    moved = {f.name for f in fields(parameters)} - kept
    assert all(getattr(near, name) == getattr(parameters, name) for name in kept)
    assert moved == {"swell", "elastic", "ratio", "shift", "scale", "gain", "bias"}
    assert near.swell == pytest.approx(parameters.swell, rel=0.1)
    assert near.scale == pytest.approx(parameters.scale, rel=0.04)
    assert near.gain == pytest.approx(parameters.gain, rel=0.1)
    assert near.bias == pytest.approx(parameters.bias, abs=8)
    assert near.shift == pytest.approx(parameters.shift, abs=0.03)
    assert near.ratio == pytest.approx(parameters.ratio, abs=0.2)
    assert 0.1 <= near.ratio <= 1
    assert np.abs(near.elastic - parameters.elastic).max() < 0.03
    assert near.elastic.dtype == np.float32


def test_jitter_has_a_strength_and_a_seed():
    parameters = draw(1)
    near, same = (parameters.jittered(np.random.default_rng(5)) for _ in range(2))
    assert equal(near, same)
    assert equal(parameters.jittered(np.random.default_rng(5), strength=0.0), parameters)


def test_a_jittered_frame_looks_like_the_one_before(image, landmarks):
    rng = np.random.default_rng(0)
    for seed in range(6):
        parameters = draw(seed)
        first = self_blend(image, landmarks, parameters).astype(int)
        second = self_blend(image, landmarks, parameters.jittered(rng)).astype(int)
        assert np.abs(first - second).mean() < 6


@pytest.mark.parametrize("offset", [-150, 120, 2000])
def test_landmarks_partly_or_wholly_outside(image, landmarks, offset):
    blended = self_blend(image, landmarks + np.float32(offset), draw(2, change_source=True))
    assert blended.shape == image.shape
    if offset == 2000:
        assert np.array_equal(blended, image)


def test_landmarks_in_one_point(image):
    point = np.full((5, 2), 100, np.float32)
    blended = self_blend(image, point, draw(2, change_source=True))
    assert blended.shape == image.shape
    assert np.isfinite(blend_mask(point, image.shape[:2], draw(2))).all()


def test_one_grey_picture_stays_without_edges(landmarks):
    # Colour alone differs: from the rim inwards nothing but a smooth change.
    grey = np.full((240, 250, 3), 120, np.uint8)
    colour_only = {"reduction": 1.0, "sharpen": 0.0, "hue": 0.0, "saturation": 1.0, "gain": 1.0}
    blended = self_blend(grey, landmarks, draw(4, change_source=True, ratio=1.0, bias=20.0, blur=0.06, **colour_only))
    steps = np.abs(np.diff(blended.astype(int), axis=1)).max()
    assert 0 < steps <= 8
