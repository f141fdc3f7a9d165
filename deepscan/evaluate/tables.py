"""What a person reads: an evaluation in a terminal, and detectors side by side there, as CSV and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deepscan.datasets.readers.base import SPLITS, writable
from deepscan.evaluate.metrics import TITLES, MetricValue
from deepscan.evaluate.slices import SliceRow
from deepscan.report.model_card import markdown_table, too_small
from deepscan.text import answer_rule

if TYPE_CHECKING:
    from deepscan.evaluate.evaluation import Evaluation


# A column of the comparison: key, heading (two lines in a terminal), decimals, which end is better (0: neither).
_Column = tuple[str, str, int, int]
_FIRST: tuple[_Column, ...] = (
    ("model", "Model", 0, 0),
    ("parameters_m", "Million\nweights", 1, 0),
    ("file_mb", "File,\nMB", 1, 0),
)
_LAST: _Column = ("ms_per_image", "ms per\nimage", 1, -1)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names for tables: the last part of a path, and the whole where that is not enough to tell them apart."""
    folders = [path.parent if path.suffix.lower() == ".csv" else path for path in paths]
    short = [writable(folder.name or folder.resolve().name) for folder in folders]
    return [
        name if short.count(name) == 1 else writable(path.as_posix()) for name, path in zip(short, paths, strict=True)
    ]


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Figures of videos and frames, tables by parts of the data, what was not scored, and warnings."""
    model, coverage, labels = evaluation.model, evaluation.coverage(), evaluation.video_level()["labels"]
    if not model.trained:
        console.print(Text("Random weights: these figures say nothing.", style="bold white on red"))
    where = (", ".join(evaluation.data) or "the data") + (f", split {evaluation.split}" if evaluation.split else "")
    fake = int(labels.sum())
    counts = (
        f"{coverage['videos']} videos, {len(labels) - fake} real and {fake} fake; "
        f"{coverage['scored']} scored, by {sum(len(video.frames) for video in evaluation.videos):,} faces"
    )
    console.print(Text(f"{model.name} ({model.backbone}, {model.head}) on {where}: {counts}"))
    console.print()
    console.print(metrics_table(evaluation.video, "Videos: the most suspicious person of each"))
    if any(value.value is not None for value in evaluation.frame.values()):
        console.print()
        console.print(metrics_table(evaluation.frame, "Frames: every face of every person"))
    if evaluation.slices:
        console.print()
        console.print(slices_table(evaluation.slices))
        if evaluation.without:
            console.print(Text("Videos in which nobody was found are in no part of this table.", style="dim"))
    console.print()
    missing = ", ".join(f"{row['n']} {row['label']} {row['reason']}" for row in coverage["not_scored"])
    if missing:
        console.print(Text(f"Not scored: {missing}"))
    for difference in evaluation.differences:
        console.print(Text(f"* {difference}"))
    for warning in evaluation.warnings:
        console.print(Text(f"! {warning}", style="yellow"))
    console.print(Text(f"Answers: {answer_rule(model.threshold, model.uncertain_band)}.", style="dim"))


def metrics_table(values: Mapping[str, MetricValue], title: str | None = None) -> Table:
    """All figures with interval and count, for a terminal."""
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("Figure")
    for column in ("Value", "95 % interval", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for name, value in values.items():
        interval = "-" if value.low is None or value.high is None else f"{value.low:.3f} to {value.high:.3f}"
        figure = "-" if value.value is None else f"{value.value:.3f}"
        table.add_row(TITLES[name], figure, interval, str(value.n), Text(value.reason or ""))
    return table


def slices_table(rows: Sequence[SliceRow]) -> Table:
    """The slices for a terminal, the worst part of each column first: each figure with its interval below it.

    Parts too small for a figure are named in one line.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", overflow="fold", min_width=12)
    for heading in ("Real", "Fake", "Answered", "Reals\nwrong", "Fakes\nwrong", "AUC"):
        table.add_column(heading, justify="right", no_wrap=True)
    for by in dict.fromkeys(row.by for row in rows):
        table.add_row(Text(f"By {by}", style="bold"))
        of_column = [row for row in rows if row.by == by]
        for row in of_column:
            if row.metrics["coverage"].value is not None:
                names = ("coverage", "error_answered_real", "error_answered_fake", "auc")
                cells = [_narrow(row.metrics[name], percent=name != "auc") for name in names]
                table.add_row(Text(row.name), str(row.n_real), str(row.n_fake), *cells)
        coverage = [(row.name, row.metrics["coverage"]) for row in of_column]
        if small := too_small([(name, value.n) for name, value in coverage if value.value is None]):
            table.add_row(Text(small, style="dim"))
    return table


def comparison_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Models side by side, for a terminal; the best test figures and the quickest are bold.

    Where they were measured on several data sets, AUC alone, with its interval.

    Args:
        records: one a model: ``model``, ``parameters_m``, ``file_mb``, ``ms_per_image``, and the figures
            ``PART_auc`` and ``PART_accuracy`` by part of the data, each a :class:`MetricValue`.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    columns, several = _columns(records), _parts(records) != list(SPLITS)
    if several:
        columns = [column for column in columns if not column[0].endswith("_accuracy")]
    table.add_column("Model", overflow="fold", min_width=12)
    for _, heading, *_ in columns[1:]:
        table.add_column(Text(heading), justify="right", no_wrap=not several)
    best = _best(records, columns)
    for index, record in enumerate(records):
        cells = []
        for key, _, digits, _ in columns:
            value = record.get(key)
            text = _narrow(value) if several and isinstance(value, MetricValue) else _cell(value, digits)
            cells.append(Text(text, style="bold" if (index, key) in best else ""))
        table.add_row(*cells)
    return table


def comparison_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """The same as CSV with unrounded figures; a figure's interval follows in ``_low`` and ``_high`` if any has one."""
    columns: dict[str, list[Any]] = {}
    for key, *_ in _columns(records):
        values = [record.get(key) for record in records]
        figures = [value if isinstance(value, MetricValue) else MetricValue(None) for value in values]
        columns[key] = [value.value if isinstance(value, MetricValue) else value for value in values]
        if any(figure.low is not None for figure in figures):
            columns[f"{key}_low"] = [figure.low for figure in figures]
            columns[f"{key}_high"] = [figure.high for figure in figures]
    return str(pd.DataFrame(columns).to_csv(index=False, lineterminator="\n"))


def comparison_markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """The same as a Markdown table, ending with a line end."""
    columns = _columns(records)
    best = _best(records, columns)
    rows = [
        [
            f"**{_cell(record.get(key), digits)}**" if (index, key) in best else _cell(record.get(key), digits)
            for key, _, digits, _ in columns
        ]
        for index, record in enumerate(records)
    ]
    return markdown_table([heading.replace("\n", " ") for _, heading, *_ in columns], rows) + "\n"


def _parts(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Parts of the data that there are figures of: the splits, or data sets with their splits."""
    parts = dict.fromkeys(key.removesuffix("_auc") for record in records for key in record if key.endswith("_auc"))
    return list(SPLITS) if set(parts) <= set(SPLITS) else list(parts)


def _columns(records: Sequence[Mapping[str, Any]]) -> list[_Column]:
    """Figures of the test split are marked, or those of every data set: a model may have fitted the others."""
    parts = _parts(records)
    figures = [
        (f"{part}_{key}", f"{title}\n{part}", 3, int(part not in ("train", "val")))
        for key, title in (("auc", "AUC"), ("accuracy", "Accuracy"))
        for part in parts
    ]
    return [*_FIRST, *figures, _LAST]


def _cell(value: Any, digits: int) -> str:
    if isinstance(value, MetricValue):
        value = value.value
    if value is None or isinstance(value, str):
        return value or "-"
    return f"{value:.{digits}f}"


def _best(records: Sequence[Mapping[str, Any]], columns: Sequence[_Column]) -> set[tuple[int, str]]:
    """Record number and key of the cells to mark: those that read the same as the best, if not all do."""
    marked = set()
    for key, _, digits, better in columns:
        cells = [_cell(record.get(key), digits) for record in records] if better else []
        figures = {index: float(cell) for index, cell in enumerate(cells) if cell != "-"}
        if len(set(figures.values())) > 1:
            best = max(figures.values()) if better > 0 else min(figures.values())
            marked |= {(index, key) for index, figure in figures.items() if figure == best}
    return marked


def _narrow(value: MetricValue, *, percent: bool = False) -> str:
    """A figure of few letters, its interval on a second line."""
    if value.value is None:
        return "-"
    text = f"{value.value:.1%}".replace("%", " %") if percent else f"{value.value:.3f}"
    if value.low is None or value.high is None:
        return text
    if percent:
        return f"{text}\n{100 * value.low:.0f}-{100 * value.high:.0f} %"
    return f"{text}\n{value.low:.2f}-{value.high:.2f}"
