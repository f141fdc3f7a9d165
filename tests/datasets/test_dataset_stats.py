"""Counts of a manifest, what they warn of, and how values differ between labels."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import item

from deepscan.datasets.dataset_stats import (
    Counts,
    by_reason,
    count_rows,
    distribution,
    ks_statistic,
    label_warnings,
    loss_warnings,
    percent,
)
from deepscan.datasets.store.manifest import ManifestRow


def rows(counts, *, split="train", status="ok", n_tracks=1):
    """So many (real, fake) videos."""
    facts = {"store": "store/00/x.tar", "n_tracks": n_tracks} if status == "ok" else {"reason": "no_face"}
    return [
        ManifestRow.of(item(f"{split}-{status}-{label}-{n}", label=label, split=split), status, **facts)
        for label, count in enumerate(counts)
        for n in range(count)
    ]


def test_counts():
    counts = count_rows([*rows((3, 2), n_tracks=2), *rows((1, 0), status="skipped"), *rows((0, 4), split=None)])
    assert counts.total == Counts(videos=10, ok=9, skipped=1, failed=0, people=14)
    assert counts.kinds == (
        (("dfdc", "fake", "fake", "train"), Counts(2, 2, 0, 0, 4)),
        (("dfdc", "fake", "fake", ""), Counts(4, 4, 0, 0, 4)),
        (("dfdc", "fake", "real", "train"), Counts(4, 3, 1, 0, 6)),
    )
    assert counts.usable == (("train", {"real": 3, "fake": 2}), ("", {"real": 0, "fake": 4}))
    assert counts.labels == {"real": 3, "fake": 6}
    assert counts.datasets == ["dfdc"]


def test_splits_are_in_the_order_of_their_use():
    counts = count_rows([*rows((1, 1), split="test"), *rows((1, 1), split="val"), *rows((1, 1))])
    assert [split for split, _ in counts.usable] == ["train", "val", "test"]


VAL = rows((2, 2), split="val")


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ([], ["There is nothing to train on."]),
        (rows((2, 2), status="skipped"), ["There is nothing to train on."]),
        (rows((3, 0)), ["All usable videos are real."]),
        (rows((0, 3)), ["All usable videos are fake."]),
        ([*rows((30, 30)), *VAL], []),
        ([*rows((35, 65)), *VAL], []),
        ([*rows((20, 80)), *VAL], ["78.8\u00a0% of the usable videos are fake."]),
        ([*rows((80, 20)), *VAL], ["78.8\u00a0% of the usable videos are real."]),
        (rows((30, 30)), ["There is no usable video in val."]),
        (rows((30, 30), split="test"), []),
        (rows((30, 30), split=None), []),
        ([*rows((30, 30)), *rows((0, 5), split="val")], ["There is no usable real video in val."]),
        (
            [*rows((30, 30)), *VAL, *rows((2, 0), split="test"), *rows((0, 2), split="test", status="skipped")],
            ["There is no usable fake video in test."],
        ),
        ([*rows((30, 30)), *rows((1, 3), split="val")], ["75.0\u00a0% of the usable videos in val are fake."]),
    ],
)
def test_labels(manifest, expected):
    assert [summary for summary, _ in label_warnings(manifest)] == expected
    assert all(meaning for _, meaning in label_warnings(manifest))


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ([], []),
        ([*rows((90, 90)), *rows((10, 10), status="skipped")], []),
        ([*rows((80, 80)), *rows((20, 20), status="skipped")], ["20.0\u00a0% of the videos have no usable face."]),
        ([*rows((80, 80)), *rows((20, 20), status="failed")], ["20.0\u00a0% of the videos could not be read."]),
        (
            [*rows((100, 86)), *rows((0, 14), status="skipped")],
            ["0.0\u00a0% of the real videos were lost, and 14.0\u00a0% of the fake."],
        ),
        ([*rows((100, 8)), *rows((0, 2), status="skipped")], []),  # ten fakes tell nothing
    ],
)
def test_losses(manifest, expected):
    assert [summary for summary, _ in loss_warnings(manifest)] == expected


def test_by_reason():
    lost = [("b", "1", ""), ("a", "2", "x"), ("c", "3", ""), ("c", "4", "")]
    assert by_reason(lost) == [("c", [("3", ""), ("4", "")]), ("a", [("2", "x")]), ("b", [("1", "")])]


@pytest.mark.parametrize(
    ("part", "total", "text"),
    [(0, 0, "0.0"), (0, 5, "0.0"), (5, 5, "100.0"), (1, 3, "33.3"), (1, 10**6, "0.1"), (10**6 - 1, 10**6, "99.9")],
)
def test_a_share_is_not_rounded_to_none_or_all(part, total, text):
    assert percent(part, total) == f"{text}\u00a0%"


def test_a_row_of_each_method_is_counted_apart():
    other = [replace(row, method="FaceSwap", video_id=f"x{n}") for n, row in enumerate(rows((0, 2)))]
    kinds = count_rows([*rows((0, 1)), *other]).kinds
    assert [(kind[1], counts.videos) for kind, counts in kinds] == [("FaceSwap", 2), ("fake", 1)]


# Distributions


values = st.lists(st.floats(0, 1e6), min_size=1, max_size=40)


@settings(max_examples=40)
@given(st.lists(st.sampled_from(range(9)), min_size=2, max_size=40), st.lists(st.floats(0, 9), min_size=2, max_size=40))
def test_ks_is_that_of_scipy(first, second):
    from scipy.stats import ks_2samp

    expected = ks_2samp(first, second, method="asymp").statistic
    assert ks_statistic(np.array(first), np.array(second)) == pytest.approx(expected)


@given(st.dictionaries(st.sampled_from(["real", "fake"]), values, min_size=1), st.booleans())
def test_any_values_have_a_distribution(groups, integers):
    groups = {name: [round(v) for v in group] if integers else group for name, group in groups.items()}
    drawn = distribution(groups, integers=integers)
    assert [(each.group, each.count) for each in drawn.histograms] == [(n, len(group)) for n, group in groups.items()]
    for each in drawn.histograms:
        assert sum(each.shares) == pytest.approx(1)
        assert len(each.shares) <= (21 if integers else 24)
    assert drawn.ticks
    assert all(0 <= position <= 1 for position, _ in drawn.ticks)


def test_bars_are_shares_of_their_own_group():
    drawn = distribution({"real": [1, 1, 1, 2], "fake": [1, 2] * 50}, integers=True)
    assert [each.shares for each in drawn.histograms] == [(0.75, 0.25), (0.5, 0.5)]
    assert [each.median for each in drawn.histograms] == [1, 1.5]
    assert drawn.ticks == ((0.25, "1"), (0.75, "2"))


def test_one_outlier_does_not_squeeze_the_rest():
    drawn = distribution({"real": [*np.linspace(50, 60, 999), 100_000.0]})
    assert [text for _, text in drawn.ticks] == ["50", "52", "54", "56", "58", "60+"]
    assert min(drawn.histograms[0].shares) > 0
    drawn = distribution({"real": [*np.linspace(50, 60, 999), 0.0]})
    assert next(text for _, text in drawn.ticks) == "≤50"


@pytest.mark.parametrize("value", [0.0, 1.0, 100.0, 1080.0, 1e6])
def test_equal_values_are_one_bar_on_an_axis_that_holds_them(value):
    drawn = distribution({"real": [value] * 5, "fake": [value] * 3})
    assert drawn.ks == 0
    assert not drawn.differs
    low, high = (float(drawn.ticks[end][1].replace(",", "")) for end in (0, -1))
    assert low <= value <= high
    assert high <= value or value == 0
    assert sorted(drawn.histograms[0].shares)[-1] == 1


def test_few_different_values_make_few_bars():
    shares = [100 * n / 32 for n in range(16, 33)] * 20
    assert min(distribution({"real": shares}).histograms[0].shares) > 0


def test_counts_above_twenty_share_a_bar():
    drawn = distribution({"real": [1, 5, 400]}, integers=True)
    assert len(drawn.histograms[0].shares) == 20
    assert drawn.ticks[-1][1] in ("19", "20+")
    assert distribution({"real": [30, 40]}, integers=True).ticks[0][1] == "20+"


def test_ticks_do_not_run_into_each_other():
    for scale in (0.001, 0.01, 1, 700, 1e5):
        drawn = distribution({"real": scale * np.random.default_rng(0).uniform(0.9, 1, 500)})
        ends = [(264 * at - 3.2 * len(text), 264 * at + 3.2 * len(text)) for at, text in drawn.ticks]
        assert all(before[1] < after[0] for before, after in pairwise(ends)), drawn.ticks


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
