"""Figures of a corpus: how many videos of which kind, what was lost, what real and fake differ in, what to warn of."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepscan.datasets.readers.base import FAKE, REAL, SPLITS
from deepscan.datasets.store.manifest import ManifestRow
from deepscan.report.html.figures import round_step

LABEL_NAMES = {REAL: "real", FAKE: "fake"}

_IMBALANCE = 0.65
_MANY_LOST = 0.1
_LOST_GAP = 0.1
_FEW = 20
_MAX_BINS, _MAX_INTEGER = 24, 20
_OUTSIDE_PERCENT = 0.5
_KS_LIMIT = 0.2
# Chance alone exceeds this times sqrt(1/n + 1/m) once in a thousand: a few values always differ in something.
_KS_CHANCE = 1.95
_AXIS_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of videos, by status, and of people (tracks) in those that are ok."""

    videos: int = 0
    ok: int = 0
    skipped: int = 0
    failed: int = 0
    people: int = 0


@dataclass(frozen=True, slots=True)
class CorpusCounts:
    """The counts of a manifest.

    Attributes:
        total: of all rows.
        kinds: by (dataset, method, label, split), sorted; label is a name, split empty where none was assigned.
        usable: by split and label, the videos that are ok; splits without any are left out.
    """

    total: Counts
    kinds: tuple[tuple[tuple[str, str, str, str], Counts], ...]
    usable: tuple[tuple[str, dict[str, int]], ...]

    @property
    def datasets(self) -> list[str]:
        """Names of the corpora."""
        return sorted({kind[0] for kind, _ in self.kinds})

    @property
    def labels(self) -> dict[str, int]:
        """Videos that are ok, by label."""
        return {name: sum(counts[name] for _, counts in self.usable) for name in LABEL_NAMES.values()}


def count_rows(rows: Sequence[ManifestRow]) -> CorpusCounts:
    """Count what is in a manifest."""
    kinds: dict[tuple[str, str, str, str], list[ManifestRow]] = defaultdict(list)
    for row in rows:
        kinds[row.dataset, row.method, LABEL_NAMES[row.label], row.split or ""].append(row)
    splits: tuple[str, ...] = (*SPLITS, "")
    ordered = sorted(kinds.items(), key=lambda kind: (*kind[0][:3], splits.index(kind[0][3])))
    usable: Counter[tuple[str, int]] = Counter((row.split or "", row.label) for row in rows if row.status == "ok")
    return CorpusCounts(
        _counts(rows),
        tuple((kind, _counts(members)) for kind, members in ordered),
        tuple(
            (split, {name: usable[split, label] for label, name in LABEL_NAMES.items()})
            for split in splits
            if any(usable[split, label] for label in LABEL_NAMES)
        ),
    )


def _counts(rows: Sequence[ManifestRow]) -> Counts:
    status = Counter(row.status for row in rows)
    people = sum(row.n_tracks for row in rows)
    return Counts(len(rows), status["ok"], status["skipped"], status["failed"], people)


def label_warnings(rows: Sequence[ManifestRow]) -> Iterator[tuple[str, str]]:
    """What training would suffer from: what is the case, and what it means."""
    usable = [row for row in rows if row.status == "ok"]
    if not usable:
        yield "There is nothing to train on.", "No video has a usable face."
        return
    labels = Counter(row.label for row in usable)
    if len(labels) == 1:
        yield f"All usable videos are {LABEL_NAMES[usable[0].label]}.", "A detector needs both labels to learn from."
        return
    imbalance = _imbalance(labels)
    if imbalance:
        yield (
            f"{imbalance} of the usable videos are {LABEL_NAMES[labels.most_common(1)[0][0]]}.",
            "A detector that always says so is right that often: balance or weigh the labels in training, and go by "
            "AUC or balanced accuracy.",
        )
    splits = {split: Counter(row.label for row in usable if row.split == split) for split in SPLITS}
    for split, counts in splits.items():
        missing = [name for each, name in LABEL_NAMES.items() if not counts[each]]
        if len(missing) == 1:
            yield f"There is no usable {missing[0]} video in {split}.", "Each split needs both labels."
        elif not imbalance and (share := _imbalance(counts)):
            yield (
                f"{share} of the usable videos in {split} are {LABEL_NAMES[counts.most_common(1)[0][0]]}.",
                ("All videos together are balanced, so the splits were not divided alike."),
            )
    if any(splits["train"].values()) and not any(splits["val"].values()):
        yield "There is no usable video in val.", "Training needs some to choose the best epoch by."


def loss_warnings(rows: Sequence[ManifestRow]) -> Iterator[tuple[str, str]]:
    """What was lost on the way, where it is much or takes one label more than the other; as :func:`label_warnings`."""
    status = Counter(row.status for row in rows)
    if status["skipped"] > _MANY_LOST * len(rows):
        share = percent(status["skipped"], len(rows))
        yield (
            f"{share} of the videos have no usable face.",
            "See the reasons below; the settings can let in smaller and less certain faces.",
        )
    if status["failed"] > _MANY_LOST * len(rows):
        yield f"{percent(status['failed'], len(rows))} of the videos could not be read.", "See the reasons below."
    lost = {label: [row.status != "ok" for row in rows if row.label == label] for label in LABEL_NAMES}
    shares = [sum(each) / len(each) for each in lost.values() if len(each) >= _FEW]
    if len(shares) == len(LABEL_NAMES) and abs(shares[0] - shares[1]) > _LOST_GAP:
        real, fake = (percent(sum(each), len(each)) for each in lost.values())
        yield f"{real} of the real videos were lost, and {fake} of the fake.", "What is left is a biased choice."


def _imbalance(count: Counter[int]) -> str | None:
    """The share of the more frequent label, where it is too large."""
    most = max(count.values(), default=0)
    return percent(most, count.total()) if most > _IMBALANCE * count.total() else None


def by_reason(lost: Iterable[tuple[str, str, str]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sort (reason, name, message) into (reason, all of its names and messages), the most frequent reason first."""
    reasons: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for reason, name, message in lost:
        reasons[reason].append((name, message))
    return sorted(reasons.items(), key=lambda each: (-len(each[1]), each[0]))


def percent(part: float, total: float) -> str:
    """A share that is not rounded to none or all."""
    share = part / total if total else 0.0
    shown = min(max(share, 0.001), 0.999) if 0 < share < 1 else share
    return f"{100 * shown:.1f}\u00a0%"


@dataclass(frozen=True, slots=True)
class Histogram:
    """One group of values: how many, their median, and the share of them in each bin."""

    group: str
    count: int
    median: float
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Histograms of all groups over one axis.

    Attributes:
        histograms: of each group that has values.
        ticks: of the axis: position in [0, 1], and what is written there. What lies outside of the axis is counted in
            its first or last bin, and the tick says so.
        ks: two-sample Kolmogorov-Smirnov statistic in [0, 1] of the first two groups; None with only one.
        differs: whether ``ks`` is above 0.2, and above what chance gives with so few values.
    """

    histograms: tuple[Histogram, ...]
    ticks: tuple[tuple[float, str], ...]
    ks: float | None
    differs: bool


def distribution(groups: Mapping[str, Sequence[float]], *, integers: bool = False) -> Distribution | None:
    """The histograms of finite values by group, and how far they differ.

    Args:
        groups: name -> values; empty ones are left out.
        integers: they are counts; each then gets a bin of its own, the last one for 20 and more.

    Returns:
        The histograms; None without any values.
    """
    values = {name: np.asarray(group, np.float64) for name, group in groups.items() if len(group)}
    if not values:
        return None
    together = np.concatenate(list(values.values()))
    edges, ticks = _integer_axis(together) if integers else _axis(together)
    histograms = []
    for name, group in values.items():
        counts, _ = np.histogram(np.clip(group, edges[0], edges[-1]), edges)
        shares = tuple((counts / len(group)).tolist())
        histograms.append(Histogram(name, len(group), float(np.median(group)), shares))
    if len(values) < 2:
        return Distribution(tuple(histograms), ticks, None, differs=False)
    first, second = list(values.values())[:2]
    ks = ks_statistic(first, second)
    limit = max(_KS_LIMIT, _KS_CHANCE * math.sqrt(1 / len(first) + 1 / len(second)))
    return Distribution(tuple(histograms), ticks, ks, ks > limit)


def ks_statistic(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Largest distance between the empirical distribution functions of values ``[n]`` and ``[m]``, in [0, 1]."""
    both = np.concatenate([first, second])
    left, right = (np.searchsorted(np.sort(values), both, "right") / len(values) for values in (first, second))
    return float(np.abs(left - right).max())


def _axis(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[tuple[float, str], ...]]:
    """Bins over nearly all values, so that a single outlier does not squeeze the rest; ticks at round numbers."""
    low, high = (float(v) for v in np.percentile(values, [_OUTSIDE_PERCENT, 100 - _OUTSIDE_PERCENT]))
    # Equal values still get an axis of some width.
    step = round_step(max(high - low, abs(high) * 0.02, 1e-3) / 3)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if first == last:
        first, last = (first - 1, last) if low > 0 else (first, last + 1)
    # Few different values in many bins look like a comb.
    per_step = max(1, min(_MAX_BINS, len(np.unique(values)) // 2) // (last - first))
    edges = np.linspace(first * step, last * step, (last - first) * per_step + 1)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    texts = {number: f"{number * step:,.{digits}f}" for number in range(first, last + 1)}
    every = math.ceil((last - first) * (max(map(len, texts.values())) + 2) / _AXIS_CHARACTERS)
    texts = {number: text for number, text in texts.items() if (number - first) % every == 0}
    if last in texts and values.max() > edges[-1]:
        texts[last] += "+"
    if values.min() < edges[0]:
        texts[first] = f"\u2264{texts[first]}"
    return edges, tuple(((number - first) / (last - first), text) for number, text in texts.items())


def _integer_axis(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[tuple[float, str], ...]]:
    """A bin for every whole number, its tick in the middle."""
    last = int(min(_MAX_INTEGER, values.max()))
    first = min(max(0, int(values.min())), last)
    numbers = range(first, last + 1)
    more = "+" if values.max() > last else ""
    ticks = (
        ((number - first + 0.5) / len(numbers), f"{number}{more if number == last else ''}")
        for number in numbers[:: math.ceil(len(numbers) / 10)]
    )
    return np.arange(first, last + 2, dtype=np.float64) - 0.5, tuple(ticks)
