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

from deepscan.errors import ConfigError
from deepscan.evaluate.metrics import MetricValue, evaluate_scores
from deepscan.evaluate.slices import BUILT_IN, NOT_KNOWN, SLICE_METRICS, differences, groupings, slice_rows
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
        **dict.fromkeys(("source", "method", "family", "quality", "file type"), ""),
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
        source=rng.choice(["DFDC", "FF"], n),
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


def test_parts_of_every_column_in_order(rows):
    assert list(dict.fromkeys(row.by for row in rows)) == [
        "source", "method", "family", "face size", "quality", "brightness",
    ]  # fmt: skip
    assert {row.name for row in rows if row.by == "face size"} == {
        "under 40 px", "40 to 80 px", "80 to 160 px", "160 px and more", NOT_KNOWN,
    }  # fmt: skip
    assert {row.name for row in rows if row.by == "method"} == {"swap", "lips"}


def test_the_worst_part_comes_first(rows):
    for by in ("source", "method", "face size", "brightness"):
        wrong = [row.wrong for row in rows if row.by == by]
        assert wrong == sorted(wrong, reverse=True)
    row = next(row for row in rows if row.by == "source")
    assert row.wrong == max(row.metrics[name].value for name in ("error_answered_real", "error_answered_fake"))


@pytest.mark.parametrize("by", ["source", "face size", "quality", "brightness"])
def test_the_parts_make_up_the_whole(inputs, rows, by):
    of = [row for row in rows if row.by == by]
    assert sum(row.n_real + row.n_fake for row in of) == len(inputs)
    assert sum(row.n_fake for row in of) == inputs.label.sum()
    assert sum(row.not_applicable for row in of) == inputs.probability.isna().sum()


def test_a_method_has_its_own_fakes_and_is_ranked_against_the_reals_of_their_sources(inputs):
    data = inputs.assign(method=np.where(inputs.label == 1, np.where(inputs.source == "FF", "swap", "lips"), ""))
    row = find(slice_rows(data, ["method"], threshold=0.5, resamples=20), "method", "swap")
    own = (data.method == "swap").to_numpy()
    scored = (own | ((data.source == "FF") & (data.label == 0))) & ~data.probability.isna()
    assert row.metrics["auc"].value == pytest.approx(roc_auc_score(data.label[scored], data.probability[scored]))
    assert (row.n_fake, row.n_real) == (own.sum(), ((data.source == "FF") & (data.label == 0)).sum())
    answered = own & (data.answer >= 0) & ~data.probability.isna()
    assert row.metrics["coverage"].n == own.sum()
    assert row.metrics["real_called_fake"].value is None  # it has no reals of its own
    assert row.metrics["coverage"].value == pytest.approx(answered.sum() / own.sum())
    assert row.metrics["error_answered_fake"].value == pytest.approx((data.answer[answered] == 0).mean())


def test_a_slice_is_an_evaluation_of_its_part(inputs, rows):
    part = inputs[inputs.quality == "c23"]
    expected = evaluate_scores(
        part.label, part.probability, part.group.to_numpy(), threshold=0.5, answers=part.answer,
        not_applicable=part.probability.isna(), resamples=60,
    )  # fmt: skip
    assert find(rows, "quality", "c23").metrics == {name: expected[name] for name in SLICE_METRICS}


def test_bins_hold_their_lower_edge():
    data = videos([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8], face_px=[39.9, 40, 160, 159.9])
    rows = slice_rows(data, ["face size"], threshold=0.5, resamples=0)
    counts = {row.name: row.n_real + row.n_fake for row in rows}
    assert counts == {"under 40 px": 1, "40 to 80 px": 1, "80 to 160 px": 1, "160 px and more": 1}


def test_nothing_is_said_of_fewer_than_thirty():
    data = videos([0] * 30 + [1] * 29 + [0] * 40, [0.1] * 99, source=["few fakes"] * 59 + ["reals"] * 40)
    few, reals = (find(slice_rows(data, ["source"], threshold=0.5, resamples=9), "source", name)
                  for name in ("few fakes", "reals"))  # fmt: skip
    said = {name for name, value in few.metrics.items() if value.value is not None}
    assert said == {"coverage", "fpr", "real_called_fake", "error_answered_real"}
    assert (few.metrics["fnr"].reason, few.metrics["fnr"].n) == ("fewer than 30", 29)
    assert reals.metrics["auc"].reason == "only real inputs were scored"
    rows = slice_rows(data[30:59].assign(source=["a", "b"] * 14 + ["b"]), ["source"], threshold=0.5)
    assert all(value.value is None for row in rows for value in row.metrics.values())
    assert "a (14)" in screen(slices_table(rows))


def test_what_is_not_known_or_all_the_same():
    data = videos([0, 1, 1], [0.1, 0.9, 0.2], source=["A"] * 3, method=[None, float("nan"), "swap"],
                  quality=["c23", None, ""], sex=["", "male", "female"], hair=["", "red", ""])  # fmt: skip
    rows = slice_rows(data, ["source", "method", "quality", "sex", "hair"], threshold=0.5, resamples=0)
    assert {(row.by, row.name, row.n_real, row.n_fake) for row in rows} == {
        ("method", NOT_KNOWN, 1, 1),
        ("method", "swap", 1, 1),
        ("quality", "c23", 1, 0),
        ("quality", NOT_KNOWN, 0, 2),
        ("sex", "male", 0, 1),
        ("sex", "female", 0, 1),
    }


def test_columns_that_can_be_asked_for():
    assert groupings(None, ["sex", "terms"]) == (*BUILT_IN, "sex")
    assert groupings(["face_size", "terms", "sex", "terms"], ["sex", "terms"]) == ("face size", "terms", "sex")
    with pytest.raises(ConfigError, match="hair"):
        groupings(["hair"], ["sex"])


def test_differences_that_chance_does_not_explain_are_said():
    sex = ["male"] * 100 + ["female"] * 100
    even = videos([0] * 200, [0.9] * 5 + [0.1] * 95 + [0.9] * 4 + [0.1] * 96, sex=sex)
    uneven = videos([0] * 200, [0.9] * 30 + [0.1] * 70 + [0.9] * 2 + [0.1] * 98, sex=sex)
    for data, expected in ((even, []), (uneven, ["male", "male"])):
        rows = slice_rows(data, ["sex"], threshold=0.5, resamples=200)
        sentences = differences(data, rows, promised=0.1, resamples=200)
        assert [name for line in sentences for name in ("female", "male") if f" {name}" in line] == expected
        assert all("30.0 %" in line and "n = 100" in line for line in sentences)


def test_rows_are_json(rows):
    loaded = json.loads(json.dumps([row.to_dict() for row in rows], allow_nan=False))
    assert loaded[0].keys() == {"by", "name", "n_real", "n_fake", "not_applicable", *SLICE_METRICS}
    assert loaded[0]["auc"].keys() >= {"value", "low", "high", "n"}


def test_slices_fit_a_terminal_uncut(rows):
    text = screen(slices_table(rows))
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    row = find(rows, "source", "DFDC")
    line = next(line for line in text.splitlines() if line.startswith("DFDC "))
    assert f"{row.metrics['auc'].value:.3f}" in line
    assert f"{100 * row.metrics['error_answered_real'].value:.1f} %" in line
    assert "By face size" in text


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
