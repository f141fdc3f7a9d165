"""Slices hold the inputs they say; tables can be read where they are shown."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sklearn.metrics import roc_auc_score

from deepscan.evaluate.metrics import MetricValue, evaluate_scores
from deepscan.evaluate.slices import NOT_KNOWN, SLICE_METRICS, slice_rows
from deepscan.evaluate.tables import (
    comparison_csv,
    comparison_markdown,
    comparison_table,
    metrics_table,
    slices_table,
)
from deepscan.verdict import decisions

COLUMNS = [
    "model", "parameters_m", "file_mb", "train_auc", "val_auc", "test_auc", "train_accuracy", "val_accuracy",
    "test_accuracy", "ms_per_image",
]  # fmt: skip
RECORDS = [
    {"model": "default", "parameters_m": 11.91, "file_mb": 24.1, "test_auc": MetricValue(0.771, 0.75, 0.79, 2000)},
    {"model": "timm:a|b[red]", "parameters_m": 21.2, "test_auc": MetricValue(0.81, 0.8, 0.83, 9)},
    {"model": "meso4, small", "ms_per_image": 3.25, "test_auc": MetricValue(0.6), "test_accuracy": None},
]


def videos(labels, probabilities, band=None, **columns):
    p = np.asarray(probabilities, float)
    given = {
        "label": np.asarray(labels, int),
        "probability": p,
        "answer": decisions(np.nan_to_num(p), 0.5, band),
        "group": np.arange(len(p)),
        **dict.fromkeys(("dataset", "method", "quality"), ""),
        **dict.fromkeys(("face_px", "luma"), 60.0),
    }
    return pd.DataFrame(given | columns)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    n = 400
    y = rng.integers(0, 2, n)
    p = 1 / (1 + np.exp(-(rng.normal(size=n) + 1.5 * (y - 0.5))))
    missing = rng.random(n) < 0.05
    return videos(
        y,
        np.where(missing, np.nan, p),
        band=(0.3, 0.7),
        group=[f"v{i // 2}" for i in range(n)],
        dataset=rng.choice(["DFDC", "FF"], n),
        method=np.where(y == 1, rng.choice(["swap", "lips"], n), ""),
        face_px=np.where(missing, np.nan, rng.uniform(20, 300, n)),
        quality=rng.choice(["c23", "c40"], n),
        luma=rng.uniform(20, 240, n),
    )


@pytest.fixture(scope="module")
def rows(inputs):
    return slice_rows(inputs, threshold=0.5, resamples=60)


def screen(table, width=80):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    return console.file.getvalue()


def find(rows, by, name):
    (row,) = [row for row in rows if (row.by, row.name) == (by, name)]
    return row


def test_parts_in_order(rows):
    assert list(dict.fromkeys(row.by for row in rows)) == ["dataset", "method", "face size", "quality", "brightness"]
    assert [row.name for row in rows if row.by == "method"] == ["DFDC, lips", "DFDC, swap", "FF, lips", "FF, swap"]
    assert [row.name for row in rows if row.by == "face size"] == [
        "under 40 px",
        "40 to 80 px",
        "80 to 160 px",
        "160 px and more",
        NOT_KNOWN,
    ]
    assert [row.name for row in rows if row.by == "brightness"][-1] == "150 of 255 and more"


@pytest.mark.parametrize("by", ["dataset", "face size", "quality", "brightness"])
def test_the_parts_make_up_the_whole(inputs, rows, by):
    of = [row for row in rows if row.by == by]
    assert sum(row.n_real + row.n_fake for row in of) == len(inputs)
    assert sum(row.n_fake for row in of) == inputs.label.sum()
    assert sum(row.not_applicable for row in of) == inputs.probability.isna().sum()


def test_a_method_is_measured_against_the_reals_of_its_dataset(inputs, rows):
    row = find(rows, "method", "FF, swap")
    here = inputs.dataset == "FF"
    member = here & ((inputs.label == 0) | (inputs.method == "swap"))
    assert row.n_real == (here & (inputs.label == 0)).sum()
    assert row.n_fake == (here & (inputs.method == "swap")).sum()
    scored = member & ~inputs.probability.isna()
    assert row.metrics["auc"].value == pytest.approx(roc_auc_score(inputs.label[scored], inputs.probability[scored]))


def test_a_slice_is_an_evaluation_of_its_part(inputs, rows):
    small = inputs.face_px < 40
    part = inputs[small]
    expected = evaluate_scores(
        part.label, part.probability, part.group.to_numpy(), threshold=0.5, answers=part.answer, resamples=60
    )
    assert find(rows, "face size", "under 40 px").metrics == {name: expected[name] for name in SLICE_METRICS}


def test_bins_hold_their_lower_edge():
    data = videos([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8], face_px=[39.9, 40, 160, 159.9])
    counts = {
        row.name: row.n_real + row.n_fake
        for row in slice_rows(data, threshold=0.5, resamples=0)
        if row.by == "face size"
    }
    assert counts == {"under 40 px": 1, "40 to 80 px": 1, "80 to 160 px": 1, "160 px and more": 1}


def test_a_part_of_one_class_has_an_error_rate_only():
    data = videos([0, 0, 1, 1], [0.1, 0.9, 0.2, 0.8], dataset=["reals", "reals", "both", "both"])
    row = find(slice_rows(data, threshold=0.5, resamples=20), "dataset", "reals")
    assert row.metrics["auc"].value is None
    assert row.metrics["fpr"].value == 0.5
    assert "-" in screen(slices_table([row]))


def test_what_is_not_known_or_all_the_same():
    data = videos(
        [0, 1, 1], [0.1, 0.9, 0.2], dataset=["A"] * 3, method=[None, float("nan"), "swap"], quality=["c23", None, ""]
    )
    rows = [row for row in slice_rows(data, threshold=0.5, resamples=0) if row.by in ("dataset", "method", "quality")]
    assert [(row.by, row.name, row.n_real, row.n_fake) for row in rows] == [
        ("method", NOT_KNOWN, 1, 1),
        ("method", "swap", 1, 1),
        ("quality", "c23", 1, 0),
        ("quality", NOT_KNOWN, 0, 2),
    ]


def test_rows_are_json(rows):
    loaded = json.loads(json.dumps([row.to_dict() for row in rows], allow_nan=False))
    assert loaded[0].keys() == {"by", "name", "n_real", "n_fake", "not_applicable", *SLICE_METRICS}
    assert loaded[0]["auc"].keys() >= {"value", "low", "high", "n"}


def test_slices_fit_a_terminal_uncut(rows):
    text = screen(slices_table(rows))
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    row = find(rows, "dataset", "DFDC")
    line = next(line for line in text.splitlines() if line.startswith("DFDC "))
    assert f"{row.metrics['auc'].value:.3f}" in line
    assert f"{100 * row.metrics['fpr'].value:.1f} %" in line
    assert "By face size" in text
    assert "called" in text


def test_without_a_band_nothing_is_said_twice(inputs):
    answered = inputs.assign(answer=decisions(np.nan_to_num(inputs.probability), 0.5))
    text = screen(slices_table(slice_rows(answered, threshold=0.5, resamples=0)))
    assert "FPR" in text
    assert "called" not in text


def test_metrics_table_says_why_a_figure_is_missing():
    text = screen(metrics_table(evaluate_scores([0] * 9, [0.1] * 9, threshold=0.5)))
    assert "only real inputs were" in text
    assert "0.000 to 0.336" in text  # none of 9 wrong


def test_comparison_for_a_terminal():
    text = screen(comparison_table(RECORDS))
    assert "…" not in text
    assert "timm:a|b[red]" in text.replace("\n", "")  # no markup
    assert "11.9" in text
    assert "0.810" in text


def test_comparison_as_csv():
    rows = list(csv.DictReader(io.StringIO(comparison_csv(RECORDS))))
    assert [name for name in rows[0] if not name.endswith(("_low", "_high"))] == COLUMNS
    assert [row["test_auc"] for row in rows] == ["0.771", "0.81", "0.6"]
    assert [row["test_auc_low"] for row in rows] == ["0.75", "0.8", ""]
    assert rows[0]["parameters_m"] == "11.91"
    assert rows[2]["model"] == "meso4, small"
    assert rows[2]["test_accuracy"] == ""


def test_comparison_as_markdown():
    lines = comparison_markdown(RECORDS).splitlines()
    assert len(lines) == 5
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == len(COLUMNS) + 1
    assert "timm:a\\|b" in lines[3]
    assert "**0.810**" in lines[3]
    assert "0.771" in lines[2]
    assert "**" not in lines[2]  # nor is a figure marked that only one model has
    assert "**" not in lines[4]


def test_nothing_to_compare():
    assert comparison_csv([]).splitlines() == [",".join(COLUMNS)]
    assert len(comparison_markdown([]).splitlines()) == 2
    assert slice_rows(videos([], []), threshold=0.5) == []
