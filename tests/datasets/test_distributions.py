"""Histograms and the distance between two of them."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscan.datasets.distributions import PLOT, distribution, ks_statistic

LEFT, RIGHT, TOP, BASE = PLOT
values = st.lists(st.floats(0, 1e6), min_size=1, max_size=40)


def heights(bars):
    """The heights of a path's bars, in units of the plot."""
    assert re.fullmatch(r"M\S+ \S+(V\S+?H\S+?)+V\S+", bars.path)
    return [BASE - float(height) for height in re.findall(r"V([\d.]+)H", bars.path)]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(range(9)), min_size=2, max_size=40), st.lists(st.floats(0, 9), min_size=2, max_size=40))
def test_ks_is_that_of_scipy(first, second):
    from scipy.stats import ks_2samp

    expected = ks_2samp(first, second, method="asymp").statistic
    assert ks_statistic(np.array(first), np.array(second)) == pytest.approx(expected)


@given(st.dictionaries(st.sampled_from(["real", "fake"]), values, min_size=1), st.booleans())
def test_any_values_can_be_drawn(groups, whole):
    found = distribution(
        {name: [round(v) for v in group] if whole else group for name, group in groups.items()}, whole=whole
    )
    assert [(bars.group, bars.count) for bars in found.bars] == [(name, len(group)) for name, group in groups.items()]
    for bars in found.bars:
        numbers = [float(number) for number in re.findall(r"[\d.]+", bars.path)]
        assert all(np.isfinite(numbers))
        assert all(0 <= height <= BASE - TOP + 0.05 for height in heights(bars))
        assert len(heights(bars)) <= 24 if not whole else 21
    assert max(height for bars in found.bars for height in heights(bars)) == pytest.approx(BASE - TOP, abs=0.06)
    assert found.ticks
    assert all(LEFT <= place <= RIGHT for place, _ in found.ticks)
    assert all(TOP <= height < BASE and 0 < share <= 1 for height, share in found.gridlines)


def test_bars_are_shares_of_their_own_group():
    found = distribution({"real": [1, 1, 1, 2], "fake": [1, 2] * 50}, whole=True)
    real, fake = map(heights, found.bars)
    whole = BASE - TOP
    assert real == pytest.approx([whole, whole / 3], abs=0.06)
    assert fake == pytest.approx([whole * 2 / 3, whole * 2 / 3], abs=0.06)
    assert [text for _, text in found.ticks] == ["1", "2"]
    assert found.bars[0].median == 1
    assert found.bars[1].median == 1.5
    assert [share for _, share in found.gridlines] == pytest.approx([0.2, 0.4, 0.6])


def test_one_outlier_does_not_squeeze_the_rest():
    found = distribution({"real": [*np.linspace(50, 60, 999), 100_000.0]})
    assert [text for _, text in found.ticks] == ["50", "52", "54", "56", "58", "60+"]
    assert min(heights(found.bars[0])) > 0
    found = distribution({"real": [*np.linspace(50, 60, 999), 0.0]})
    assert next(text for _, text in found.ticks) == "≤50"


@pytest.mark.parametrize("value", [0.0, 1.0, 100.0, 1080.0, 1e6])
def test_equal_values_are_one_bar_on_an_axis_that_holds_them(value):
    found = distribution({"real": [value] * 5, "fake": [value] * 3})
    assert found.ks == 0
    assert not found.differs
    low, high = (float(found.ticks[end][1].replace(",", "")) for end in (0, -1))
    assert low <= value <= high
    assert high <= value or value == 0
    assert sum(height > 0 for height in heights(found.bars[0])) == 1


def test_few_different_values_make_few_bars():
    shares = [100 * n / 32 for n in range(16, 33)] * 20
    assert min(heights(distribution({"real": shares}).bars[0])) > 0


def test_counts_above_twenty_share_a_bar():
    found = distribution({"real": [1, 5, 400]}, whole=True)
    assert len(heights(found.bars[0])) == 20
    assert found.ticks[-1][1] in ("19", "20+")
    assert distribution({"real": [30, 40]}, whole=True).ticks[0][1] == "20+"


def test_ticks_do_not_run_into_each_other():
    for scale in (0.001, 0.01, 1, 700, 1e5):
        found = distribution({"real": scale * np.random.default_rng(0).uniform(0.9, 1, 500)})
        ends = [(place - 3.2 * len(text), place + 3.2 * len(text)) for place, text in found.ticks]
        assert all(before[1] < after[0] for before, after in pairwise(ends)), found.ticks


def test_what_counts_as_different():
    rng = np.random.default_rng(0)
    real = rng.normal(0, 1, 500) + 10
    assert not distribution({"real": real, "fake": rng.normal(10.1, 1, 500)}).differs
    far = distribution({"real": real, "fake": rng.normal(11, 1, 500)})
    assert far.differs
    assert far.ks == pytest.approx(0.38, abs=0.06)
    few = distribution({"real": [1.0, 2.0, 3.0], "fake": [4.0, 5.0, 6.0]})
    assert few.ks == 1  # three of each may well fall apart by chance
    assert not few.differs


def test_without_values():
    assert distribution({"real": [], "fake": []}) is None
    one = distribution({"real": [], "fake": [1.0]})
    assert one.ks is None
    assert not one.differs
