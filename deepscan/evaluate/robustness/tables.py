"""A detector under changes as tables: for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deepscan.evaluate.cross_dataset import short_names
from deepscan.evaluate.metrics import TITLES, MetricValue
from deepscan.evaluate.robustness.report import COMPARED, Robustness, Row
from deepscan.text import answer_rule

_SHOWN = ("auc", "auc vs unchanged", "fpr", "fnr", "scored", "coverage", "real_called_fake")
_HEADINGS = {
    "auc": "AUC",
    "fpr": "FPR",
    "fnr": "FNR",
    "scored": "Scored",
    "coverage": "Answered",
    "real_called_fake": "Reals called fake",
}


def names_of(report: Robustness) -> str:
    """The data in a few words, with the split."""
    names = ", ".join(short_names([Path(name) for name in report.data])) or "the data"
    return f"{names}, split {report.split}" if report.split else names


def caption(report: Robustness) -> str:
    """What was measured, in one paragraph."""
    model, base = report.model, report.rows[0] if report.rows else None
    counts = f"{base.n_real} real and {base.n_fake} fake" if base else "nothing"
    where = {
        "crops": "changes on crops of faces, which are not looked for anew",
        "frames": "changes on frames, before faces are looked for",
    }[report.place]
    more = f"; the middle {report.seconds:g} s of each clip" if report.seconds else ""
    return (
        f"{model.name} {model.version} on {names_of(report)}: {counts} in {report.groups} "
        f"groups, seed {report.seed}; {where}{more}. Brackets: 95 % intervals, bootstrap over groups, "
        f"{report.resamples} resamples. Answers: "
        f"{answer_rule(model.threshold, model.uncertain_band)}."
    )


def to_csv(report: Robustness) -> str:
    """One line a condition: counts, then value and bounds of every figure and difference."""
    columns = ["change", "strength", "unit", "n_real", "n_fake"]
    keys = [("", name) for name in TITLES] + [("diff_", name) for name in COMPARED]
    for prefix, name in keys:
        columns += [f"{prefix}{name}", f"{prefix}{name}_low", f"{prefix}{name}_high"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in report.rows:
        change = row.condition.change
        cells: list[Any] = ["unchanged", "", ""]
        if change is not None:
            cells = [change.name, f"{row.condition.strength:g}", change.unit]
        cells += [row.n_real, row.n_fake]
        for prefix, name in keys:
            value = (row.differences if prefix else row.figures).get(name, MetricValue(None))
            cells += ["" if x is None else f"{x:.6f}" for x in (value.value, value.low, value.high)]
        writer.writerow(cells)
    return out.getvalue()


def to_markdown(report: Robustness) -> str:
    """Caption, table by change and strength, where it breaks, the weakest points, and the warnings."""
    lines = [caption(report), ""]
    heads = ["Change", "Strength", "n", *_heads()]
    lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in report.rows]
    lines += ["", f"Breaks: the mildest strength at which AUC's lower bound is not above {report.floor:g}.", ""]
    lines += ["| Change | Unit | Breaks at |", "|---|---|---|"]
    lines += [f"| {at.change.name} | {at.change.unit} | {at.text()} |" for at in report.breaks]
    for name in ("auc", "fpr", "real_called_fake", "scored"):
        weak = report.weakest(name)
        lines += ["", f"Weakest by {_HEADINGS[name]}, each change at its worst strength:", ""]
        lines += [f"- {_told(row, name)}" for row in weak] or [
            "- none differs from the unchanged, within the intervals"
        ]
    if report.warnings:
        lines += ["", *(f"- {warning}" for warning in report.warnings)]
    return "\n".join(lines) + "\n"


def print_report(report: Robustness, console: Console) -> None:
    """The table for a terminal: AUC with its interval, of the rest the values alone."""
    console.print(Text(caption(report)))
    console.print()
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    headings = ("Change", "Strength", "AUC", "AUC\nchange", "FPR", "Scored", "An-\nswered", "Reals\nas fake")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "Change" else "right", no_wrap=True)
    before = ""
    for row in report.rows:
        cells = _cells(row, tuple(name for name in _SHOWN if name != "fnr"), bounds=("auc",))
        first = "" if cells[0] == before else cells[0]
        before = cells[0]
        table.add_row(Text(first), Text(cells[1]), *map(Text, cells[3:]))
    console.print(table)
    console.print()
    console.print(Text(f"Breaks: the mildest strength at which AUC's lower bound is not above {report.floor:g}."))
    for at in report.breaks:
        console.print(Text(f"  {at.change.name}: {at.text()}"))
    for warning in report.warnings:
        console.print(Text(f"! {warning}", style="yellow"))


def _heads() -> list[str]:
    return ["AUC minus unchanged" if " vs " in name else _HEADINGS[name] for name in _SHOWN]


def _cells(row: Row, shown: tuple[str, ...] = _SHOWN, bounds: tuple[str, ...] = _SHOWN) -> list[str]:
    change = row.condition.change
    out = ["unchanged", ""] if change is None else [change.name, f"{row.condition.strength:g}"]
    out.append(f"{row.n_real}+{row.n_fake}")
    for name in shown:
        figure = name.split(" ")[0]
        value = row.differences.get(figure, MetricValue(None)) if " vs " in name else row.figures[name]
        out.append(_figure(value, signed=" vs " in name, bounds=name in bounds))
    return out


def _figure(value: MetricValue, *, signed: bool = False, bounds: bool = True) -> str:
    if value.value is None:
        return "-"
    form = "+.3f" if signed else ".3f"
    if not bounds or value.low is None or value.high is None:
        return f"{value.value:{form}}"
    return f"{value.value:{form}} ({value.low:{form}} to {value.high:{form}})"


def _told(row: Row, name: str) -> str:
    change = row.condition.change
    assert change is not None  # noqa: S101 - the unchanged has no differences
    return (
        f"{change.title} ({change.name}), {change.unit}: {row.condition.strength:g}: {_HEADINGS[name]} "
        f"{_figure(row.figures[name])}, {_figure(row.differences[name], signed=True)} against unchanged"
    )
