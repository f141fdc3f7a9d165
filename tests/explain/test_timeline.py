"""Series over time, gaps, and what could have been missed."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maderesults import person, result

from deepscan.explain.timeline import (
    is_gap,
    missed_segment_s,
    sampled_times_s,
    sampling_step_s,
    telling_frames,
    timeline,
)
from deepscan.types import Segment, VerdictLabel


def test_a_person_has_times_probabilities_and_own_segments():
    first = person(1, [0.5, 1.5, 2.5], [0.1, 0.9, 0.8])
    second = person(2, [0.5, 1.5], [0.2, 0.3], verdict=VerdictLabel.REAL)
    segments = (Segment(1, 1.5, 2.5, 0.85),)
    found = timeline(result([first, second], duration_s=10.0, frames_sampled=10, segments=segments))
    assert (found.duration_s, found.step_s) == (10.0, 1.0)
    one, two = found.people
    assert (one.id, one.verdict, one.probability) == (1, first.verdict, first.probability)
    assert (one.times_s, one.probabilities) == ((0.5, 1.5, 2.5), (0.1, 0.9, 0.8))
    assert (one.segments, two.segments) == (segments, ())
    assert (one.pieces, one.gaps) == (((0, 3),), ())


def test_a_line_breaks_where_somebody_was_out_of_sight_for_more_than_two_steps():
    track = person(1, [0.5, 1.5, 3.5, 6.5, 7.5], [0.5] * 5)
    (one,) = timeline(result([track], duration_s=10.0, frames_sampled=10)).people
    assert one.pieces == ((0, 3), (3, 5))
    assert one.gaps == ((3.5, 6.5),)
    assert is_gap(3.5, 6.5, 1.0)
    assert not is_gap(1.5, 3.54, 1.0)


def test_an_image_has_no_time_to_miss_anything_in():
    found = timeline(result([person(1, [0.0], [0.9])], kind="image", duration_s=None, frames_sampled=1))
    assert (found.duration_s, found.step_s, found.missed_s) == (0.0, None, None)
    assert found.people[0].pieces == ((0, 1),)


def test_a_video_without_people_still_says_what_was_looked_at():
    found = timeline(result([], duration_s=8.0, frames_sampled=4))
    assert found.people == ()
    assert found.missed_s == pytest.approx(4.0)


def test_frames_off_their_times_may_miss_more():
    found = result([], duration_s=8.0, frames_sampled=4, sampling_shift_s=0.5)
    assert timeline(found).missed_s == pytest.approx(5.0)


def test_the_step_is_learned_from_the_sightings_where_the_length_is_not_known():
    tracks = [person(1, [0.0, 0.4, 0.8], [0.5] * 3), person(2, [0.4, 1.2], [0.5] * 2)]
    found = result(tracks, duration_s=None, frames_sampled=4)
    assert sampling_step_s(found) == pytest.approx(0.4)
    assert timeline(found).duration_s == 1.2
    assert sampling_step_s(replace(found, tracks=())) is None
    assert sampled_times_s(replace(found, tracks=())) == []


def test_sampled_times_are_the_middles_of_equal_stretches():
    assert sampled_times_s(result([], duration_s=4.0, frames_sampled=4)) == [0.5, 1.5, 2.5, 3.5]


@pytest.mark.parametrize(
    ("times", "run", "expected"),
    [
        ([5.0], 1, 5.0),
        ([1.0, 2.0, 8.0, 9.0], 1, 6.0),
        ([1.0, 2.0, 8.0, 9.0], 2, 7.0),
        ([2.0], 2, 10.0),
        ([], 1, 10.0),
        ([7.0, 1.0], 1, 6.0),
        ([-3.0, 12.0], 1, 10.0),
    ],
)
def test_the_longest_stretch_that_could_be_missed(times, run, expected):
    assert missed_segment_s(times, 10.0, run=run) == expected


@settings(max_examples=25)
@given(st.lists(st.integers(0, 40), max_size=8, unique=True), st.integers(1, 3))
def test_nothing_longer_can_be_missed_and_something_as_long_can(quarters, run):
    times = np.array(sorted(quarters)) / 4
    longest = missed_segment_s(list(times), 10.0, run=run)
    starts = np.arange(0, 10, 0.125)
    # Open stretches on a grid twice as fine as the times: the brute answer is exact.
    lengths = [
        end - start
        for start in starts
        for end in np.arange(start + 0.125, 10.0625, 0.125)
        if ((times > start) & (times < end)).sum() < run
    ]
    assert longest == pytest.approx(max(lengths))


def test_impossible_questions_are_refused():
    with pytest.raises(ValueError, match="Invalid run"):
        missed_segment_s([1.0], 2.0, run=0)
    with pytest.raises(ValueError, match="Invalid duration"):
        missed_segment_s([1.0], -2.0)


@pytest.mark.parametrize("n", [1, 2, 4, 9])
@pytest.mark.parametrize("length", [0, 1, 3, 4, 32, 1000])
def test_the_telling_frames_are_the_strongest_but_not_all_of_one_moment(n, length):
    rising = [i / 1000 for i in range(length)]
    chosen = telling_frames(rising, n)
    assert len(chosen) == min(n, length)
    assert list(chosen) == sorted(chosen, reverse=True)
    assert not chosen or chosen[0] == length - 1
    assert all(a - b >= length // n / 2 for a, b in itertools.pairwise(chosen))
