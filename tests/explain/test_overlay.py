"""Heat over pictures: the way back through the crop rule, and what is painted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from deepscan.config import CropSettings
from deepscan.explain.overlay import colour, heat_in_frame, overlay_crop, overlay_frame
from deepscan.extract.crops import Square, crop_face, crop_square, face_square
from deepscan.types import Face

LEVEL = np.array([[90, 100], [130, 100], [110, 120], [95, 140], [125, 140]], np.float32)
TILTED = np.array([[92, 90], [130, 112], [104, 120], [84, 132], [112, 148]], np.float32)


def scene(blobs):
    """A grey frame ``[200, 240, 3]`` with soft round blobs at (x, y)."""
    frame = np.zeros((200, 240), np.float32)
    for x, y in blobs:
        cv2.circle(frame, (x, y), 6, 1.0, cv2.FILLED, cv2.LINE_AA)
    return np.rint(cv2.GaussianBlur(frame, (0, 0), 2) * 255).astype(np.uint8)[..., None].repeat(3, axis=2)


@pytest.mark.parametrize("size", [48, 128])
@pytest.mark.parametrize(
    ("settings", "landmarks"),
    [
        (CropSettings(margin=0.3), LEVEL),
        (CropSettings(margin=0.3, align="eyes"), TILTED),
        (CropSettings(margin=-0.1, shift_y=0.0, align="eyes"), LEVEL),
    ],
)
def test_heat_returns_to_where_its_crop_was_cut(settings, landmarks, size):
    frame = scene([(100, 105), (122, 131)])
    face = Face((80, 80, 140, 155), 1.0, landmarks)
    settings = settings.model_copy(update={"size_px": size})
    heat = crop_face(frame, face, settings)[..., 0].astype(np.float32) / 255
    back = heat_in_frame(heat, face_square(face, frame.shape, settings), frame.shape)
    assert back.shape == frame.shape[:2]
    assert np.abs(back - frame[..., 0] / 255).max() < (0.12 if size == 48 else 0.05)
    rows, columns = np.nonzero(back > 0.5)
    seen_rows, seen_columns = np.nonzero(frame[..., 0] > 127)
    assert rows.mean() == pytest.approx(seen_rows.mean(), abs=0.3)
    assert columns.mean() == pytest.approx(seen_columns.mean(), abs=0.3)


def test_outside_of_the_crop_there_is_no_heat():
    square = Square((60.0, 40.0), 20.0, 0.0)
    back = heat_in_frame(np.ones((32, 32), np.float32), square, (80, 100, 3))
    assert np.array_equal(back[30:50, 50:70], np.ones((20, 20)))
    assert back.sum() == 400


@pytest.mark.parametrize("centre", [(0.0, 0.0), (100.0, 80.0), (-300.0, 40.0)])
def test_a_crop_that_leaves_the_frame_is_cut_there(centre):
    back = heat_in_frame(np.ones((16, 16), np.float32), Square(centre, 30.0, 0.4), (80, 100))
    assert back.shape == (80, 100)
    assert (back.sum() > 0) == (centre[0] >= 0)
    assert back.max() <= 1


def test_where_there_is_no_heat_the_picture_is_its_own_grey():
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    painted = overlay_crop(crop, np.zeros((32, 32), np.float32))
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    assert np.array_equal(painted, grey[..., None].repeat(3, axis=2))


def test_the_hotter_the_brighter_on_any_ground():
    heat = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (8, 1))
    luma = cv2.cvtColor(colour(heat), cv2.COLOR_RGB2GRAY)[0].astype(int)
    assert np.all(np.diff(luma) >= 0)
    assert luma[-1] - luma[0] > 150
    painted = overlay_crop(np.full((8, 64, 3), 90, np.uint8), heat, opacity=1.0)
    assert np.array_equal(painted[:, -1], colour(heat)[:, -1])
    # Not a mixture of red and green, which many cannot tell apart: red follows green.
    assert np.corrcoef(colour(heat)[0, :, 1].astype(float), luma)[0, 1] > 0.95


def test_coarse_heat_is_stretched_to_the_crop():
    heat = np.zeros((4, 4), np.float32)
    heat[0, 3] = 1
    painted = overlay_crop(np.full((32, 32, 3), 100, np.uint8), heat)
    assert painted.shape == (32, 32, 3)
    assert not np.array_equal(painted[2, 29], [100, 100, 100])
    assert np.array_equal(painted[20, 10], [100, 100, 100])


def test_in_a_frame_each_face_has_its_own_heat_and_the_hotter_counts():
    frame = np.full((60, 120, 3), 80, np.uint8)
    left, right = Square((30.0, 30.0), 40.0, 0.0), Square((60.0, 30.0), 40.0, 0.0)
    weak, strong = np.full((16, 16), 0.2, np.float32), np.full((16, 16), 0.9, np.float32)
    both = overlay_frame(frame, [(weak, left), (strong, right)])
    assert np.array_equal(both, overlay_frame(frame, [(strong, right), (weak, left)]))
    only_left, only_right = overlay_frame(frame, [(weak, left)]), overlay_frame(frame, [(strong, right)])
    assert np.array_equal(both[:, :40], only_left[:, :40])
    assert np.array_equal(both[:, 40:], only_right[:, 40:])
    assert np.array_equal(overlay_frame(frame, []), frame)


def test_a_crop_and_its_frame_show_the_same_colours():
    frame = scene([(100, 105)])
    square = Square((105.0, 110.0), 64.0, 0.0)
    crop = crop_square(frame, square, 64)
    heat = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    in_frame = crop_square(overlay_frame(frame, [(heat, square)]), square, 64)
    assert np.abs(in_frame.astype(int) - overlay_crop(crop, heat).astype(int)).max() <= 2
