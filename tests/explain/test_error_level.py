"""Error level: what was compressed differently stands out, in the whole frame and around the face."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from deepscan.explain.error_level import error_level


@pytest.fixture
def pasted():
    """A picture that was a JPEG, with a square of fresh noise in it, and the box of that."""
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(60, 190, (24, 32, 3), dtype=np.uint8))
    buffer = BytesIO()
    rough.resize((320, 240), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=60)
    image = np.array(Image.open(buffer).convert("RGB"))
    image[80:144, 120:184] = rng.integers(60, 190, (64, 64, 3), dtype=np.uint8)
    return image, (120.0, 80.0, 184.0, 144.0)


def test_a_part_of_another_history_stands_out(pasted):
    image, box = pasted
    level = error_level(image, box, 1.5)
    assert level.frame.shape == image.shape
    inside = level.frame[80:144, 120:184].mean()
    outside = np.delete(
        level.frame.reshape(-1, 3), np.flatnonzero(np.pad(np.ones((64, 64), bool), ((80, 96), (120, 136)))), 0
    )
    assert inside > 4 * outside.mean()
    assert level.frame.max() == 255  # brightened to be seen
    assert level.factor > 1
    assert level.time_s == 1.5
    assert level.face.shape == (240, 240, 3)
    assert level.face[120, 120].any()


def test_without_a_face_and_without_a_difference():
    plain = np.full((40, 40, 3), 128, np.uint8)
    level = error_level(plain)
    assert level.face is None
    assert not level.frame.any()
