from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscan.extract.video import sampling

gaps = st.lists(st.integers(1, 50), min_size=0, max_size=300)


@st.composite
def timelines(draw):
    """Timestamps of a clip of any frame rate, when it ends, and some of the frames as keyframes."""
    pts = np.cumsum([draw(st.integers(-1000, 1000)), *draw(gaps)]).astype(np.int64)
    is_key = np.array(draw(st.lists(st.booleans(), min_size=len(pts), max_size=len(pts))))
    return pts, int(pts[-1]) + draw(st.integers(0, 100)), pts[is_key]


def frames_decoded(pts, steps):
    """How many frames following the plan decodes, and how many seeks it makes."""
    n_decoded = n_seeks = 0
    here = -1
    for step in steps:
        target = int(np.searchsorted(pts, step.pts))
        if step.seek_to is not None:
            here = int(np.searchsorted(pts, step.seek_to)) - 1
            n_seeks += 1
        n_decoded += target - here
        here = target
    return n_decoded, n_seeks


@settings(max_examples=200)
@given(timelines(), st.integers(1, 100))
def test_choose_gives_distinct_frames_in_order_and_as_many_as_there_are(timeline, n):
    pts, end, _ = timeline
    picked = sampling.choose(pts, end, n)
    assert len(picked) == min(n, len(pts))
    assert (np.diff(picked) > 0).all()
    assert picked[0] >= 0
    assert picked[-1] < len(pts)


@settings(max_examples=200)
@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 40), st.integers(-99, 99))
def test_choose_spreads_over_the_whole_of_a_clip_of_constant_rate(n_frames, n, interval, start):
    pts = start + np.arange(n_frames, dtype=np.int64) * interval
    picked = sampling.choose(pts, int(pts[-1]) + interval, n)
    if n < n_frames:
        middles = start + (np.arange(n) + 0.5) * n_frames * interval / n
        # Nearest is half a frame off at most; where that one is taken, the next.
        assert np.abs(pts[picked] - middles).max() <= interval
        steps = np.diff(picked)
        assert n == 1 or steps.max() - steps.min() <= 1
    else:
        assert picked.tolist() == list(range(n_frames))


def test_choose_goes_by_time_not_by_frame_number():
    # 100 frames in the first second, then one a second for nine.
    pts = np.concatenate([np.arange(100) * 10, np.arange(1, 10) * 1000]).astype(np.int64)
    times = pts[sampling.choose(pts, 10_000, 5)]
    assert times.tolist() == [1000, 3000, 5000, 7000, 9000]


def test_choose_when_everything_happens_at_once():
    # Ten frames in 9 ticks, the last of which stays on the screen for long.
    pts = np.arange(10, dtype=np.int64)
    assert sampling.choose(pts, 1000, 3).tolist() == [7, 8, 9]


@settings(max_examples=200)
@given(timelines(), st.integers(1, 40), st.integers(0, 60))
def test_plan_never_costs_more_than_one_pass(timeline, n, seek_cost):
    pts, end, keys = timeline
    steps = sampling.plan(pts, end, keys, n, seek_cost)
    n_decoded, n_seeks = frames_decoded(pts, steps)
    one_pass = int(np.searchsorted(pts, steps[-1].pts)) + 1
    assert n_decoded + n_seeks * seek_cost <= one_pass


@settings(max_examples=200)
@given(timelines(), st.integers(1, 40), st.integers(0, 60))
def test_plan_seeks_only_forward_to_the_last_keyframe_before_its_frame(timeline, n, seek_cost):
    pts, end, keys = timeline
    steps = sampling.plan(pts, end, keys, n, seek_cost)
    assert [step.pts for step in steps] == pts[sampling.choose(pts, end, n)].tolist()
    before = None
    for step in steps:
        if step.seek_to is not None:
            assert step.seek_to == keys[keys <= step.pts].max()
            assert before is None or step.seek_to > before
        before = step.pts


@settings(max_examples=50)
@given(timelines(), st.integers(1, 40))
def test_plan_without_keyframes_or_with_dear_seeks_is_one_pass(timeline, n):
    pts, end, keys = timeline
    assert all(s.seek_to is None for s in sampling.plan(pts, end, keys[:0], n, 0))
    assert all(s.seek_to is None for s in sampling.plan(pts, end, keys, n, 10**9))


@pytest.mark.parametrize(("n_frames", "route"), [(300, "one pass"), (100_000, "seeks")], ids=["ten seconds", "an hour"])
def test_plan_takes_the_quicker_route_for_the_length(n_frames, route):
    pts = np.arange(n_frames, dtype=np.int64)
    steps = sampling.plan(pts, n_frames, pts[::250], 32)
    n_seeks = sum(s.seek_to is not None for s in steps)
    assert n_seeks <= 1 if route == "one pass" else n_seeks >= 31


@settings(max_examples=200)
@given(timelines(), st.integers(1, 40), st.integers(0, 60))
def test_frames_nearby_are_within_a_quarter_of_the_spacing_and_cost_less(timeline, n, seek_cost):
    pts, end, keys = timeline
    exact = sampling.plan(pts, end, keys, n, seek_cost)
    steps = sampling.plan(pts, end, keys, n, seek_cost, nearby_share=0.25)
    assert len(steps) == len(exact)
    assert (np.diff([step.pts for step in steps]) > 0).all()
    spacing = (max(end, int(pts[-1])) - int(pts[0])) / len(steps)
    for i, (step, at_its_time) in enumerate(zip(steps, exact, strict=True)):
        assert step.shift == step.pts - at_its_time.pts
        if step.shift:
            assert abs(step.pts - (int(pts[0]) + (i + 0.5) * spacing)) <= 0.25 * spacing * (1 + 1e-9)
    if steps != exact:
        assert frames_decoded(pts, steps)[0] < frames_decoded(pts, exact)[0]


@pytest.mark.parametrize("gop", [60, 300])
def test_of_an_hour_only_the_frames_that_are_taken_are_decoded(gop):
    pts = np.arange(108_000, dtype=np.int64)
    steps = sampling.plan(pts, 108_000, pts[::gop], 32, nearby_share=0.25)
    assert frames_decoded(pts, steps) == (32, 32)
    assert all(step.seek_to == step.pts for step in steps)


def test_where_keyframes_are_too_far_apart_decoding_ends_early():
    pts = np.arange(1800, dtype=np.int64)
    exact, nearby = (sampling.plan(pts, 1800, pts[::300], 32, nearby_share=share) for share in (0.0, 0.25))
    assert frames_decoded(pts, nearby)[0] <= 0.9 * frames_decoded(pts, exact)[0]


@pytest.mark.parametrize("keys", [[0], [0, 250], []], ids=["one", "two", "no index"])
def test_frames_are_at_their_times_where_moving_them_saves_little(keys):
    pts = np.arange(300, dtype=np.int64)
    index = np.array(keys, dtype=np.int64)
    assert sampling.plan(pts, 300, index, 32, nearby_share=0.25) == sampling.plan(pts, 300, index, 32)


@given(
    duration_s=st.floats(0.1, 20_000, allow_nan=False),
    min_segment_s=st.floats(0.05, 100),
    n_frames=st.integers(1, 64),
)
def test_no_stretch_of_the_length_escapes(duration_s, min_segment_s, n_frames):
    n = sampling.frames_for(n_frames, duration_s, min_segment_s)
    assert n_frames <= n <= max(n_frames, sampling.MOST_FRAMES)
    if n < sampling.MOST_FRAMES:
        assert sampling.SEGMENT_FRAMES * duration_s / n <= min_segment_s * (1 + 1e-9)


def test_more_frames_only_where_they_are_asked_for():
    assert sampling.frames_for(32, 3600.0, None) == 32
    assert sampling.frames_for(32, None, 2.0) == 32
    assert sampling.frames_for(32, 10.0, 2.0) == 32
    assert sampling.frames_for(32, 3600.0, 2.0) == 3600
    assert sampling.frames_for(32, 1e6, 2.0) == sampling.MOST_FRAMES
