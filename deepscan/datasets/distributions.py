"""How a quantity is distributed in each of several groups: what a histogram needs to be drawn, and how far they differ.

Groups are compared by the shares of their members, so that ten thousand fakes and a hundred reals can be told apart by
shape rather than by height. The geometry is that of an SVG of :data:`VIEW_BOX`; colours are left to the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VIEW_BOX = (320, 140)
PLOT = (36.0, 300.0, 8.0, 116.0)
"""Left, right, upper and lower edge of the bars in the view box; what is written has the rest."""

_LEFT, _RIGHT, _TOP, _BASE = PLOT
_CHARACTER = 6.5
_MOST_BINS = 24
_MOST_WHOLE = 20
_OUTSIDE_PERCENT = 0.5
_KS_LIMIT = 0.2
# Chance alone exceeds this times sqrt(1/n + 1/m) once in a thousand: a few values always differ in something.
_KS_CHANCE = 1.95


@dataclass(frozen=True, slots=True)
class Bars:
    """One group: how many values, their median, and its outline as an SVG path."""

    group: str
    count: int
    median: float
    path: str


@dataclass(frozen=True, slots=True)
class Distribution:
    """Histograms of all groups over one axis.

    Attributes:
        bars: of each group that has values.
        ticks: of the axis: place in the view box, and what is written there. What lies outside of the axis is counted
            in its first or last bin, and the tick says so.
        gridlines: heights in the view box, and the share of the group's values that each stands for.
        ks: two-sample Kolmogorov-Smirnov statistic in [0, 1] of the first two groups; None with only one.
        differs: whether ``ks`` is above 0.2, and above what chance gives with so few values.
    """

    bars: tuple[Bars, ...]
    ticks: tuple[tuple[float, str], ...]
    gridlines: tuple[tuple[float, float], ...]
    ks: float | None
    differs: bool


def distribution(groups: Mapping[str, Sequence[float]], *, whole: bool = False) -> Distribution | None:
    """The histograms of finite values by group.

    Args:
        groups: name -> values; empty ones are left out.
        whole: they are counts; each then gets a bin of its own, the last one for 20 and more.

    Returns:
        The histograms; None without any values.
    """
    values = {name: np.asarray(group, np.float64) for name, group in groups.items() if len(group)}
    if not values:
        return None
    together = np.concatenate(list(values.values()))
    edges, ticks = _whole_axis(together) if whole else _axis(together)
    shares = {
        name: np.histogram(np.clip(group, edges[0], edges[-1]), edges)[0] / len(group) for name, group in values.items()
    }
    top, gridlines = _heights(max(float(share.max()) for share in shares.values()))
    bars = tuple(
        Bars(name, len(group), float(np.median(group)), _outline(shares[name] / top)) for name, group in values.items()
    )
    ks = None
    differs = False
    if len(values) > 1:
        first, second = list(values.values())[:2]
        ks = ks_statistic(first, second)
        differs = ks > max(_KS_LIMIT, _KS_CHANCE * math.sqrt(1 / len(first) + 1 / len(second)))
    return Distribution(bars, ticks, gridlines, ks, differs)


def ks_statistic(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Largest distance between two empirical distribution functions, in [0, 1].

    Args:
        first, second: values ``[n]`` and ``[m]``, neither empty.
    """
    both = np.concatenate([first, second])
    one, other = (np.searchsorted(np.sort(values), both, "right") / len(values) for values in (first, second))
    return float(np.abs(one - other).max())


def _axis(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[tuple[float, str], ...]]:
    """Bins over nearly all values, so that a single outlier does not squeeze the rest; ticks at round numbers."""
    low, high = (float(v) for v in np.percentile(values, [_OUTSIDE_PERCENT, 100 - _OUTSIDE_PERCENT]))
    # Equal values still get an axis of some width.
    step = _round_step(max(high - low, abs(high) * 0.02, 1e-3) / 3)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if first == last:
        first, last = (first - 1, last) if low > 0 else (first, last + 1)
    # Few different values in many bins look like a comb.
    most_bins = min(_MOST_BINS, len(np.unique(values)) // 2)
    per_step = max(1, most_bins // (last - first))
    edges = np.linspace(first * step, last * step, (last - first) * per_step + 1)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    texts = {number: f"{number * step:,.{digits}f}" for number in range(first, last + 1)}
    width = _CHARACTER * (max(map(len, texts.values())) + 2)
    every = math.ceil((last - first) * width / (_RIGHT - _LEFT))
    texts = {number: text for number, text in texts.items() if (number - first) % every == 0}
    if last in texts and values.max() > edges[-1]:
        texts[last] += "+"
    if values.min() < edges[0]:
        texts[first] = f"≤{texts[first]}"
    return edges, tuple((_across((n - first) / (last - first)), text) for n, text in texts.items())


def _whole_axis(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[tuple[float, str], ...]]:
    """A bin for every whole number, its tick in the middle."""
    first, last = max(0, int(values.min())), int(min(_MOST_WHOLE, values.max()))
    first = min(first, last)
    numbers = range(first, last + 1)
    edges = np.arange(first, last + 2, dtype=np.float64) - 0.5
    shown = numbers[:: math.ceil(len(numbers) / 10)]
    more = "+" if values.max() > last else ""
    ticks = ((_across((n - first + 0.5) / len(numbers)), f"{n}{more if n == last else ''}") for n in shown)
    return edges, tuple(ticks)


def _heights(most: float) -> tuple[float, tuple[tuple[float, float], ...]]:
    """The share that the top of the plot stands for, and gridlines at round shares below it."""
    step = _round_step(most / 2)
    lines = [number * step for number in range(1, int(most / step + 1e-9) + 1)]
    return most, tuple((_up(line / most), line) for line in lines)


def _outline(heights: NDArray[np.float64]) -> str:
    """Bars of heights in [0, 1], side by side, as one closed outline."""
    places = [_across(number / len(heights)) for number in range(len(heights) + 1)]
    steps = (f"V{_up(float(height)):g}H{place:g}" for height, place in zip(heights, places[1:], strict=True))
    return f"M{places[0]:g} {_BASE:g}{''.join(steps)}V{_BASE:g}"


def _round_step(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is at most ``most``."""
    power = 10.0 ** math.floor(math.log10(most) + 1e-9)
    return power * next((factor for factor in (5, 2) if factor * power <= most * (1 + 1e-9)), 1)


def _across(share: float) -> float:
    return round(_LEFT + share * (_RIGHT - _LEFT), 1)


def _up(share: float) -> float:
    return round(_BASE - share * (_BASE - _TOP), 1)
