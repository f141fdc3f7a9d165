"""Suppression, correction and sampling of candidates, against plain ways to do the same."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import nms

from deepscan.extract.faces.boxes import Octaves, corrected, has_pixels, squared, suppress


def random_boxes(seed, n, size=200):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, size, (n, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, size / 2, (n, 2))], axis=1).astype(np.float32)
    return boxes, rng.permutation(n).astype(np.float32) / n


def plain_suppression(boxes, scores, threshold, smaller, extra):
    kept = []
    for i in np.argsort(-scores):
        for j in kept:
            a, b = boxes[i], boxes[j]
            common = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + extra, 0))
            areas = [np.prod(box[2:] - box[:2] + extra) for box in (a, b)]
            if common > threshold * (min(areas) if smaller else sum(areas) - common):
                break
        else:
            kept.append(i)
    return kept


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 80), threshold=st.sampled_from([0.1, 0.3, 0.5, 0.7]))
def test_suppression_is_that_of_torchvision(seed, n, threshold):
    boxes, scores = random_boxes(seed, n)
    wanted = nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
    assert suppress(boxes, scores, threshold).tolist() == wanted.tolist()


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), extra=st.sampled_from([0, 1]))
def test_suppression_by_the_smaller_box(seed, n, extra):
    boxes, scores = random_boxes(seed, n)
    wanted = plain_suppression(boxes, scores, 0.7, smaller=True, extra=extra)
    assert suppress(boxes, scores, 0.7, of="smaller", extra_px=extra).tolist() == wanted


def test_a_box_hidden_by_a_hidden_one_stays():
    """Greedy: the middle one of the chain goes, and with it its claim on the last."""
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10], [12, 0, 22, 10]], np.float32)
    assert suppress(boxes, np.array([0.9, 0.8, 0.7, 0.6], np.float32), 0.3).tolist() == [0, 2]


def test_nothing_to_suppress():
    assert suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).tolist() == []


def test_squares_keep_the_middle():
    boxes = np.array([[10, 20, 30, 100], [0, 0, 7, 3]], np.float32)
    np.testing.assert_allclose(squared(boxes), [[-20, 20, 60, 100], [0, -2, 7, 5]])


def test_corrections_are_shares_of_the_sides():
    boxes = np.array([[10, 20, 30, 60]], np.float32)
    shares = np.array([[0.1, -0.1, 0.5, 0]], np.float32)
    np.testing.assert_allclose(corrected(boxes, shares, 0), [[12, 16, 40, 60]])
    np.testing.assert_allclose(corrected(boxes, shares, 1), [[12.1, 15.9, 40.5, 60]])


def test_which_boxes_have_pixels():
    image = np.zeros((50, 100, 3), np.uint8)
    boxes = [
        ([10, 10, 20, 20], True),
        ([-30, -30, 1.5, 1.5], True),  # the first pixel
        ([-30, -30, 0.9, 9], False),
        ([100.5, 10, 130, 30], True),  # the last column
        ([101, 10, 130, 30], False),
        ([10, 51, 20, 60], False),
        ([20, 10, 18, 30], False),
        ([np.nan, 10, 20, 20], False),
        ([10, 10, np.inf, 20], False),
    ]
    kept = has_pixels(np.array([b for b, _ in boxes], np.float32), image)
    assert kept.tolist() == [inside for _, inside in boxes]
    assert np.isfinite(Octaves(image).crops(np.array([b for b, inside in boxes if inside], np.float32), 24)).all()


# Sampling


@pytest.mark.parametrize("side", [24, 48])
@pytest.mark.parametrize("size", [12, 24, 30, 48, 77, 96, 150, 230])
def test_crops_look_like_the_mean_of_their_pixels(portrait, size, side):
    """As facenet-pytorch samples them; from 12 to 230 pixels, whole and cut by every edge of the frame."""
    places = [(180, 60), (-size // 3, 40), (100, -size // 4), (512 - size // 2, 300), (200, 512 - size // 2)]
    boxes = np.array([[x, y, x + size, y + size] for x, y in places], np.float32) + 0.7
    crops = Octaves(portrait).crops(boxes, side)
    assert crops.shape == (len(places), side, side, 3)
    assert crops.dtype == np.float32
    for box, crop in zip(boxes.astype(int), crops, strict=True):
        x1, y1 = max(box[0], 1) - 1, max(box[1], 1) - 1
        part = torch.from_numpy(portrait[y1 : box[3], x1 : box[2]].copy()).permute(2, 0, 1).float()
        wanted = torch.nn.functional.adaptive_avg_pool2d(part, side).permute(1, 2, 0).numpy()
        assert np.abs(crop - wanted).mean() < 7
        if box[:2].min() < 1 or box[2:].max() > 512:
            continue
        # Nothing is shifted: a pixel further to a side is worse.
        for axis in (0, 1):
            shifted = [np.abs(np.roll(wanted, by, axis) - crop)[2:-2, 2:-2].mean() for by in (-1, 0, 1)]
            assert np.argmin(shifted) == 1


def test_crops_of_many_sizes_keep_their_order(portrait):
    boxes, _ = random_boxes(3, 1400, 400)
    crops = Octaves(portrait).crops(boxes, 24)
    for i in range(0, 1400, 100):
        np.testing.assert_array_equal(Octaves(portrait).crops(boxes[i : i + 1], 24)[0], crops[i])
    assert Octaves(portrait).crops(boxes[:0], 24).shape == (0, 24, 24, 3)


@pytest.mark.parametrize("shape", [(512, 512), (511, 333), (64, 2000), (25, 25)])
@pytest.mark.parametrize("factor", [1.0, 0.9, 0.51, 0.5, 0.3, 0.13, 0.05])
def test_what_a_small_picture_is_sampled_from(portrait, shape, factor):
    """It has at least the small one's pixels, and no more than twice as many a side unless it cannot be halved."""
    image = np.ascontiguousarray(cv2.resize(portrait, shape[::-1]))
    source = Octaves(image).image_for(factor)
    ratio = source.shape[0] / (shape[0] * factor)
    assert ratio > 0.95 or source.shape[0] >= shape[0] * factor - 1
    assert ratio < 2.01 or min(source.shape[:2]) < 48
    assert Octaves(image).image_for(1.0) is not None
    assert np.array_equal(Octaves(image).image_for(1.0), image)
