"""The pyramid on its canvas: what the first network sees of a level there is what it would see of the level alone."""

from __future__ import annotations

import clips
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscan.extract.faces import pyramid
from deepscan.extract.faces.boxes import Octaves
from deepscan.extract.faces.mtcnn import load_networks
from deepscan.extract.faces.pyramid import canvas_of, run_pyramids


def level_alone(octaves, level):
    """A level, with one more row and column of its edge where it has an odd side."""
    sampled = pyramid.resampled(octaves.image_for(level.scale), (level.width_px, level.height_px)).astype(np.float32)
    return np.pad(sampled, [(0, level.height_px % 2), (0, level.width_px % 2), (0, 0)], mode="edge")[None]


@pytest.mark.parametrize("shape", [(240, 320), (241, 323), (512, 100), (64, 64)])
def test_on_the_canvas_as_alone(shape):
    pnet, _, _ = load_networks()
    octaves = Octaves(np.ascontiguousarray(clips.portrait()[: shape[0], : shape[1]]))
    canvas = canvas_of(octaves.image, 20)
    assert len(canvas.levels) >= 3
    (outputs,) = run_pyramids(pnet, [octaves], [canvas])
    for level, output in zip(canvas.levels, outputs, strict=True):
        wanted = pnet(level_alone(octaves, level))[0][0]
        assert output.shape == wanted.shape
        np.testing.assert_allclose(output, wanted, atol=1e-4)


def test_frames_share_a_call_where_their_canvases_are_alike(monkeypatch):
    calls = []

    def pnet(x):
        calls.append(x.shape)
        # Each frame's own first pixel everywhere.
        return (np.tile(x[:, :1, :1, :1], (1, (x.shape[1] - 10) // 2, (x.shape[2] - 10) // 2, 5)),)

    sizes = [(240, 320), (480, 640), (239, 319), (12, 12), (240, 320)]
    octaves = [Octaves(np.full((*size, 3), 10 + i, np.uint8)) for i, size in enumerate(sizes)]
    canvases = [canvas_of(o.image, 20) for o in octaves]
    outputs = run_pyramids(pnet, octaves, canvases)
    assert sorted(shape[0] for shape in calls) == [1, 3]
    assert outputs[3] == []
    for i, maps in enumerate(outputs):
        assert len(maps) == len(canvases[i].levels)
        assert all((m == 10 + i).all() for m in maps)
    calls.clear()
    monkeypatch.setattr(pyramid, "MOST_PX", 1)
    run_pyramids(pnet, octaves, canvases)
    assert [shape[0] for shape in calls] == [1] * 4


@settings(deadline=None)
@given(
    width=st.integers(12, 4000), height=st.integers(12, 4000), smallest=st.floats(12, 400, allow_nan=False, width=32)
)
def test_levels_are_inside_and_apart(width, height, smallest):
    canvas = pyramid._canvas(width, height, pyramid._first_scale(smallest))
    taken = np.zeros([side // 2 for side in canvas.shape], np.bool_)
    for level in canvas.levels:
        assert level.left_px % 2 == level.top_px % 2 == 0
        rows, columns = (
            (first // 2, (first + size + 1) // 2)
            for first, size in ((level.top_px, level.height_px), (level.left_px, level.width_px))
        )
        assert rows[1] <= taken.shape[0]
        assert columns[1] <= taken.shape[1]
        part = taken[slice(*rows), slice(*columns)]
        assert not part.any()
        part[:] = True
    if canvas.levels and min(width, height) > 200 and smallest <= 40:
        assert taken.mean() > 0.6


@pytest.mark.parametrize(
    ("smallest", "first"), [(12, 20), (20, 28.2), (28.2, 39.8), (40, 56.1), (43, 56.1), (100, 111.6)]
)
def test_the_pyramid_begins_where_it_is_needed(smallest, first):
    """With a level of facenet-pytorch's, of faces at most 1.42 times as large as the smallest."""
    assert 12 / pyramid._first_scale(smallest) == pytest.approx(first, rel=0.005)
