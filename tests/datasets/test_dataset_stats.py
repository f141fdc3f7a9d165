"""Counts of a manifest, and what they warn of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stored import item

from deepscan.datasets.dataset_stats import Counts, by_reason, count_rows, label_warnings, loss_warnings, percent
from deepscan.datasets.store.manifest import ManifestRow


def rows(counts, *, split="train", status="ok", n_tracks=1):
    """So many (real, fake) videos."""
    told = {"store": "store/00/x.tar", "n_tracks": n_tracks} if status == "ok" else {"reason": "no_face"}
    return [
        ManifestRow.of(item(f"{split}-{status}-{label}-{n}", label=label, split=split), status, **told)
        for label, count in enumerate(counts)
        for n in range(count)
    ]


def test_counts():
    found = count_rows([*rows((3, 2), n_tracks=2), *rows((1, 0), status="skipped"), *rows((0, 4), split=None)])
    assert found.total == Counts(videos=10, ok=9, skipped=1, failed=0, people=14)
    assert found.kinds == (
        (("dfdc", "fake", "fake", "train"), Counts(2, 2, 0, 0, 4)),
        (("dfdc", "fake", "fake", ""), Counts(4, 4, 0, 0, 4)),
        (("dfdc", "fake", "real", "train"), Counts(4, 3, 1, 0, 6)),
    )
    assert found.usable == (("train", {"real": 3, "fake": 2}), ("", {"real": 0, "fake": 4}))
    assert found.labels == {"real": 3, "fake": 6}
    assert found.datasets == ["dfdc"]


def test_splits_are_in_the_order_of_their_use():
    found = count_rows([*rows((1, 1), split="test"), *rows((1, 1), split="val"), *rows((1, 1))])
    assert [split for split, _ in found.usable] == ["train", "val", "test"]


VAL = rows((2, 2), split="val")


@pytest.mark.parametrize(
    ("given", "expected"),
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
def test_labels(given, expected):
    assert [told for told, _ in label_warnings(given)] == expected
    assert all(meaning for _, meaning in label_warnings(given))


@pytest.mark.parametrize(
    ("given", "expected"),
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
def test_losses(given, expected):
    assert [told for told, _ in loss_warnings(given)] == expected


def test_by_reason():
    lost = [("b", "1", ""), ("a", "2", "x"), ("c", "3", ""), ("c", "4", "")]
    assert by_reason(lost) == [("c", [("3", ""), ("4", "")]), ("a", [("2", "x")]), ("b", [("1", "")])]


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "0.0"), (0, 5, "0.0"), (5, 5, "100.0"), (1, 3, "33.3"), (1, 10**6, "0.1"), (10**6 - 1, 10**6, "99.9")],
)
def test_a_share_is_not_rounded_to_none_or_all(part, whole, text):
    assert percent(part, whole) == f"{text}\u00a0%"


def test_a_row_of_each_method_is_counted_apart():
    other = [replace(row, method="FaceSwap", video_id=f"x{n}") for n, row in enumerate(rows((0, 2)))]
    kinds = count_rows([*rows((0, 1)), *other]).kinds
    assert [(kind[1], counts.videos) for kind, counts in kinds] == [("FaceSwap", 2), ("fake", 1)]
