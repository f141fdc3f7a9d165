"""Figures as tables: where a detector fails (slices), and several detectors side by side.

Everything here is numbers in, rows out; rows are rendered for a terminal, as JSON, CSV or Markdown.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.table import Table
from rich.text import Text

from deepscan.evaluate.bootstrap import Band, Floats
from deepscan.evaluate.metrics import TITLES, MetricValue, evaluate_scores

SLICE_METRICS = ("auc", "fpr", "fnr", "coverage", "real_called_fake", "fake_called_real")
FACE_EDGES_PX = (40.0, 80.0, 160.0)
LUMA_EDGES = (50.0, 100.0, 150.0)
NOT_KNOWN = "not known"

Texts = NDArray[np.str_]

# The comparison of models: key, heading (two lines in a terminal), decimals, and which end is better (0: neither).
_COMPARISON = (
    ("model", "Model", 0, 0),
    ("parameters_m", "Million\nweights", 1, 0),
    ("file_mb", "File,\nMB", 1, 0),
    ("train_auc", "AUC\ntrain", 3, 0),
    ("val_auc", "AUC\nval", 3, 0),
    ("test_auc", "AUC\ntest", 3, 1),
    ("train_accuracy", "Accuracy\ntrain", 3, 0),
    ("val_accuracy", "Accuracy\nval", 3, 0),
    ("test_accuracy", "Accuracy\ntest", 3, 1),
    ("ms_per_image", "ms per\nimage", 1, -1),
)
COMPARISON_COLUMNS = tuple(key for key, *_ in _COMPARISON)


@dataclass(frozen=True, slots=True)
class ScoredInputs:
    """Scores and what is known of their inputs; every array is ``[n]``, None where nothing is known.

    Attributes:
        labels: real = 0, fake = 1.
        probabilities: P(fake); NaN is allowed where ``not_applicable``.
        groups: ids of what is not independent of each other.
        not_applicable: true where there was no usable face.
        dataset: name of the source.
        method: how a fake was made; not looked at for reals.
        face_px: shorter side of the face in pixels of the source, NaN if unknown.
        quality: name of the compression or quality ("c23", "raw", ...).
        luma: mean brightness of the face in [0, 255], NaN if unknown.
    """

    labels: ArrayLike
    probabilities: ArrayLike
    groups: ArrayLike | None = None
    not_applicable: ArrayLike | None = None
    answers: ArrayLike | None = None
    dataset: ArrayLike | None = None
    method: ArrayLike | None = None
    face_px: ArrayLike | None = None
    quality: ArrayLike | None = None
    luma: ArrayLike | None = None


@dataclass(frozen=True, slots=True)
class SliceRow:
    """The figures of one part of the data.

    Attributes:
        by: what the data was cut by: ``dataset``, ``method``, ``face size``, ``quality`` or ``brightness``.
        name: which part.
        n_real, n_fake: inputs, those without a usable face among them.
        not_applicable: inputs without a usable face.
        metrics: figures by name, of :data:`SLICE_METRICS`.
    """

    by: str
    name: str
    n_real: int
    n_fake: int
    not_applicable: int
    metrics: dict[str, MetricValue]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "by": self.by,
            "name": self.name,
            "n_real": self.n_real,
            "n_fake": self.n_fake,
            "not_applicable": self.not_applicable,
            **{name: value.to_dict() for name, value in self.metrics.items()},
        }


def slice_rows(
    inputs: ScoredInputs, *, threshold: float, band: Band | None = None, resamples: int = 1000, seed: int = 0
) -> list[SliceRow]:
    """Figures for every part of the data that the given columns tell apart.

    A method's row holds its fakes and all reals of the same dataset. A part of one class only has no AUC but still its
    error rate. A column that was not given, or that says the same of every input, gives no rows.

    Args:
        inputs: the data.
        threshold, band, resamples, seed: as for :func:`deepscan.evaluate.metrics.evaluate_scores`.

    Returns:
        Rows by dataset, method, face size, quality and brightness, in that order.
    """
    labels = np.asarray(inputs.labels).astype(np.int64)
    scores = np.asarray(inputs.probabilities, np.float64)
    groups = None if inputs.groups is None else np.asarray(inputs.groups)
    missing = np.zeros(len(labels), bool) if inputs.not_applicable is None else np.asarray(inputs.not_applicable, bool)
    answers = None if inputs.answers is None else np.asarray(inputs.answers)
    rows = []
    for by, name, member in _parts(inputs, labels):
        y = labels[member]
        values = evaluate_scores(
            y,
            scores[member],
            None if groups is None else groups[member],
            threshold=threshold,
            band=band,
            answers=None if answers is None else answers[member],
            not_applicable=missing[member],
            resamples=resamples,
            seed=seed,
        )
        n_fake = int(y.sum())
        metrics = {metric: values[metric] for metric in SLICE_METRICS}
        rows.append(SliceRow(by, name, len(y) - n_fake, n_fake, int(missing[member].sum()), metrics))
    return rows


def metrics_table(values: Mapping[str, MetricValue], title: str | None = None) -> Table:
    """All figures with interval and count, for a terminal."""
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("Figure")
    for column in ("Value", "95 % interval", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for name, value in values.items():
        table.add_row(TITLES[name], _figure(value.value), _interval(value), str(value.n), Text(value.reason or ""))
    return table


def slices_table(rows: Sequence[SliceRow]) -> Table:
    """The slices for a terminal: each figure with its interval below it.

    Where every input was answered (no uncertain band), the shares called wrong are FPR and FNR again and left out.
    """
    called = ("real_called_fake", "fake_called_real")
    same = all(
        row.metrics[a].value == row.metrics[b].value
        for row in rows
        for a, b in zip(called, ("fpr", "fnr"), strict=True)
    )
    names = [name for name in SLICE_METRICS if not (same and name in called)]
    headings = {
        "coverage": "Answered",
        "real_called_fake": "Reals\ncalled\nfake",
        "fake_called_real": "Fakes\ncalled\nreal",
    }
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", overflow="fold", min_width=12)
    for heading in ("Real", "Fake", "No\nface", *(headings.get(name, name.upper()) for name in names)):
        table.add_column(heading, justify="right", no_wrap=True)
    before = ""
    for row in rows:
        if row.by != before:
            table.add_row(Text(f"By {row.by}", style="bold"))
            before = row.by
        cells = [_narrow(row.metrics[name], percent=name != "auc") for name in names]
        table.add_row(Text(row.name), str(row.n_real), str(row.n_fake), str(row.not_applicable), *cells)
    return table


def comparison_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Models side by side, for a terminal; the best test figures and the quickest are bold.

    Args:
        records: one a model, with the keys of :data:`COMPARISON_COLUMNS`; a missing key or None is shown as "-", and a
            figure may be a number, a :class:`MetricValue` or its ``to_dict()``.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("Model", overflow="fold", min_width=12)
    for _, heading, *_ in _COMPARISON[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    best = _best(records)
    for index, record in enumerate(records):
        table.add_row(
            *(
                Text(_cell(record, key, digits), style="bold" if (index, key) in best else "")
                for key, _, digits, _ in _COMPARISON
            )
        )
    return table


def comparison_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """The same as CSV with unrounded figures; a figure's interval follows in ``_low`` and ``_high`` if any has one."""
    columns = []
    for key in COMPARISON_COLUMNS:
        columns.append(key)
        if any(_bounds(record.get(key)) != (None, None) for record in records):
            columns += [f"{key}_low", f"{key}_high"]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for record in records:
        row: dict[str, Any] = {}
        for key in COMPARISON_COLUMNS:
            low, high = _bounds(record.get(key))
            row |= {key: _plain(record.get(key)), f"{key}_low": low, f"{key}_high": high}
        writer.writerow({name: row[name] for name in columns})
    return out.getvalue()


def comparison_markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """The same as a Markdown table."""
    best = _best(records)
    lines = [
        "| " + " | ".join(heading.replace("\n", " ") for _, heading, *_ in _COMPARISON) + " |",
        "|" + "|".join("---" if key == "model" else "---:" for key in COMPARISON_COLUMNS) + "|",
    ]
    for index, record in enumerate(records):
        cells = []
        for key, _, digits, _ in _COMPARISON:
            text = _cell(record, key, digits).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
            cells.append(f"**{text}**" if (index, key) in best else text)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _parts(inputs: ScoredInputs, labels: NDArray[np.int64]) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield what the data is cut by, the part's name, and which inputs are in it."""
    everything = np.full(len(labels), "")
    dataset = everything if inputs.dataset is None else _texts(inputs.dataset)
    for name in _several(dataset):
        yield "dataset", name, dataset == name
    if inputs.method is not None:
        method, datasets = _texts(inputs.method), np.unique(dataset)
        for source in datasets:
            here = dataset == source
            for name in np.unique(method[here & (labels == 1)]):
                full = f"{source}, {name}" if len(datasets) > 1 else str(name)
                yield "method", full, here & ((labels == 0) | (method == name))
    if inputs.face_px is not None:
        yield from _binned("face size", inputs.face_px, FACE_EDGES_PX, " px")
    if inputs.quality is not None:
        quality = _texts(inputs.quality)
        for name in _several(quality):
            yield "quality", name, quality == name
    if inputs.luma is not None:
        yield from _binned("brightness", inputs.luma, LUMA_EDGES, " of 255")


def _binned(
    by: str, values: ArrayLike, edges: Sequence[float], unit: str
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    x: Floats = np.asarray(values, np.float64)
    low = -np.inf
    for high in (*edges, np.inf):
        member = (x >= low) & (x < high)
        if member.any():
            named = f"{low:g} to {high:g}{unit}" if low > -np.inf else f"under {high:g}{unit}"
            yield by, named if high < np.inf else f"{low:g}{unit} and more", member
        low = high
    if np.isnan(x).any():
        yield by, NOT_KNOWN, np.isnan(x)


def _texts(values: ArrayLike) -> Texts:
    """As text; None, NaN and "" become "not known"."""
    given = np.asarray(values, object)
    return np.array(
        [NOT_KNOWN if v is None or v == "" or (isinstance(v, float) and math.isnan(v)) else str(v) for v in given],
        dtype=str,
    )


def _several(values: Texts) -> list[str]:
    """The different values, none if there is but one: its row would be that of all data again."""
    names = [str(name) for name in np.unique(values)]
    return names if len(names) > 1 else []


def _plain(value: Any) -> Any:
    if isinstance(value, MetricValue):
        return value.value
    return value.get("value") if isinstance(value, Mapping) else value


def _bounds(value: Any) -> tuple[Any, Any]:
    if isinstance(value, MetricValue):
        return value.low, value.high
    return (value.get("low"), value.get("high")) if isinstance(value, Mapping) else (None, None)


def _cell(record: Mapping[str, Any], key: str, digits: int) -> str:
    value = _plain(record.get(key))
    if value is None or isinstance(value, str):
        return value or "-"
    return f"{value:.{digits}f}"


def _best(records: Sequence[Mapping[str, Any]]) -> set[tuple[int, str]]:
    """Record number and key of the cells to mark: those that read the same as the best, if not all do."""
    marked = set()
    for key, _, digits, better in _COMPARISON:
        figures = (
            {i: round(v, digits) for i, r in enumerate(records) if (v := _plain(r.get(key))) is not None}
            if better
            else {}
        )
        if len(set(figures.values())) > 1:
            best = max(figures.values()) if better > 0 else min(figures.values())
            marked |= {(index, key) for index, figure in figures.items() if figure == best}
    return marked


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(value: MetricValue) -> str:
    return "-" if value.low is None or value.high is None else f"{value.low:.3f} to {value.high:.3f}"


def _narrow(value: MetricValue, *, percent: bool) -> str:
    """A figure of few letters, its interval on a second line."""
    if value.value is None:
        return "-"
    text = f"{value.value:.1%}".replace("%", " %") if percent else f"{value.value:.3f}"
    if value.low is None or value.high is None:
        return text
    if percent:
        return f"{text}\n{100 * value.low:.0f}-{100 * value.high:.0f} %"
    return f"{text}\n{value.low:.2f}-{value.high:.2f}"
