"""What can be seen of a face: what each measure follows, and what leaves it as it is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from deepscan.evaluate.robustness.corruptions import CHANGES, change_crops
from deepscan.extract.people import Person
from deepscan.extract.visibility import edges_kept, visibility
from deepscan.types import Face, Sighting, Track


@pytest.fixture(scope="module")
def crop(portrait):
    """A face of 128 px with the grain of a camera."""
    cut = cv2.resize(portrait[60:316, 130:386], (128, 128), interpolation=cv2.INTER_AREA)
    return np.clip(cut + np.random.default_rng(0).normal(0, 2, cut.shape), 0, 255).astype(np.uint8)


def changed(crop, name, strength):
    return change_crops(CHANGES[name], strength, crop[None], seed=0)[0][0]


@pytest.mark.parametrize(("name", "strengths"), [("blur", (0.7, 1, 1.5, 2)), ("rescale", (0.75, 0.5, 0.35, 0.25))])
def test_sharpness_falls_with_blur_and_with_small_sources(crop, name, strengths):
    values = [edges_kept(crop)[0], *(edges_kept(changed(crop, name, strength))[0] for strength in strengths)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.8 * values[0]


def test_noise_does_not_pass_for_blur_and_dim_light_hardly_does(crop):
    as_it_was = edges_kept(crop)[0]
    assert edges_kept(changed(crop, "noise", 10))[0] > as_it_was
    assert edges_kept(changed(crop, "darken", 0.5))[0] == pytest.approx(as_it_was, rel=0.06)


def test_encoders_empty_the_quiet_parts_first(crop):
    sharpness, detail = edges_kept(crop)
    coded = edges_kept(changed(crop, "h264-crf", 38))
    assert coded[1] < 0.9 * detail
    assert coded[1] / detail < coded[0] / sharpness


def test_the_size_of_a_crop_does_not_count(crop):
    twice = cv2.resize(crop, (256, 256), interpolation=cv2.INTER_NEAREST)
    assert edges_kept(twice) == pytest.approx(edges_kept(crop), rel=0.01)


def test_every_sighting_is_measured(crop):
    face = Face((0.0, 0.0, 50.0, 70.0), 0.99, np.zeros((5, 2), np.float32))
    track = Track(1, tuple(Sighting(i, i / 8, face, 100.0 + i) for i in range(2)))
    seen = visibility(Person(track, np.stack([crop, changed(crop, "blur", 3)])))
    assert seen.luma.tolist() == [100, 101]
    assert seen.face_px.tolist() == [50, 50]
    assert seen.sharpness[1] < 0.8 * seen.sharpness[0]
    assert len(seen.detail) == 2


def test_a_crop_without_anything_in_it_has_no_detail():
    assert edges_kept(np.full((40, 40, 3), 90, np.uint8)) == pytest.approx((0, 0), abs=1e-6)
