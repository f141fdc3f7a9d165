"""A detector under changes as tables: for a terminal, as Markdown and as CSV."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deepscan.evaluate.metrics import TITLES, MetricValue
from deepscan.evaluate.robustness.report import ATTACK_TITLES, COMPARED, Robustness, RobustnessRow
from deepscan.evaluate.tables import short_names
from deepscan.report.model_card import limits_text, markdown_table
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
    settings = report.settings
    names = ", ".join(short_names([Path(name) for name in settings.data])) or "the data"
    return f"{names}, split {settings.split}" if settings.split else names


def caption(report: Robustness) -> str:
    """What was measured, in one paragraph."""
    model, settings, base = report.model, report.settings, report.rows[0] if report.rows else None
    counts = f"{base.n_real} real and {base.n_fake} fake" if base else "nothing"
    where = {
        "crops": "changes on crops of faces, which are not looked for anew",
        "frames": "changes on frames, before faces are looked for",
    }[settings.target]
    more = f"; the middle {settings.seconds:g} s of each clip" if settings.seconds else ""
    more += "; crops scaled at random before they are judged" if settings.random_resize else ""
    return (
        f"{model.name} {model.version} on {names_of(report)}: {counts} in {report.groups} "
        f"groups, seed {settings.seed}; {where}{more}. Brackets: 95 % intervals, bootstrap over groups, "
        f"{settings.resamples} resamples. Answers: "
        f"{answer_rule(model.threshold, model.uncertain_band)}."
    )


def to_csv(report: Robustness) -> str:
    """One line a condition: counts, then value and bounds of every figure and difference."""
    names = [*TITLES, *(name for name in ATTACK_TITLES if any(name in row.figures for row in report.rows))]
    lines = []
    for row in report.rows:
        change = row.condition.change
        line: dict[str, Any] = {"change": "unchanged", "strength": "", "unit": ""}
        if change is not None:
            line = {"change": change.name, "strength": f"{row.condition.strength:g}", "unit": change.unit}
        line |= {"n_real": row.n_real, "n_fake": row.n_fake}
        for prefix, values, keys in (("", row.figures, names), ("diff_", row.differences, COMPARED)):
            for name in keys:
                value = values.get(name, MetricValue(None))
                line |= {f"{prefix}{name}": value.value, f"{prefix}{name}_low": value.low}
                line[f"{prefix}{name}_high"] = value.high
        lines.append(line)
    return str(pd.DataFrame(lines).to_csv(index=False, lineterminator="\n", float_format="%.6f"))


def to_markdown(report: Robustness) -> str:
    """Caption, table by change and strength, where it breaks, the weakest points, attacks, and the warnings."""
    heads = ["AUC minus unchanged" if " vs " in name else _HEADINGS[name] for name in _SHOWN]
    breaks = [(at.change.name, at.change.unit, at.text()) for at in report.breaks]
    parts = [
        caption(report),
        markdown_table(["Change", "Strength", "n", *heads], map(_cells, report.rows)),
        f"Breaks: the mildest strength at which AUC's lower bound is not above {report.settings.floor:g}.",
        markdown_table(("Change", "Unit", "Breaks at"), breaks),
        *_attack_parts(report),
    ]
    for name in ("auc", "fpr", "real_called_fake", "scored"):
        weak = [f"- {_weak_point(row, name)}" for row in report.weakest(name)]
        parts.append(f"Weakest by {_HEADINGS[name]}, each change at its worst strength:")
        parts.append("\n".join(weak or ["- none differs from the unchanged, within the intervals"]))
    if report.warnings:
        parts.append("\n".join(f"- {warning}" for warning in report.warnings))
    return "\n\n".join(parts) + "\n"


def _attack_parts(report: Robustness) -> list[str]:
    """The figures of attacks as Markdown, and what the check was."""
    if report.settings.attack is None:
        return []
    heads, rows = _attack_rows(report, ("auc", "fpr", "fnr", "coverage", *ATTACK_TITLES))
    table = markdown_table(heads, rows)
    return ["Attacks; budgets are grey levels that a value may change by:", table, _check_text(report)]


def _attack_rows(
    report: Robustness, figures: Iterable[str], *, bounds: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the unchanged crops and of attacked ones, of the figures that there are."""
    rows = [row for row in report.rows if row.condition.change is None or row.condition.change.attack]
    names = [name for name in figures if any(name in row.figures for row in rows)]
    cells = []
    for row in rows:
        change = row.condition.change
        values = [row.figures.get(name, MetricValue(None)) for name in names]
        texts = [_figure(v, percent=n != "auc", bounds=bounds) for n, v in zip(names, values, strict=True)]
        cells.append(["unchanged" if change is None else f"{change.title} {row.condition.strength:g}", *texts])
    return ["Crops", *((_HEADINGS | ATTACK_TITLES)[name] for name in names)], cells


def _check_text(report: Robustness) -> str:
    check = report.settings.check
    if check is None:
        return "The detector has no check for attacked input."
    return (
        f"The check for attacked input fires from a change of the log-odds of {limits_text(check)}; it was fitted "
        f"for {100 * check.false_positive_rate:g} % of clean people."
    )


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
    floor = report.settings.floor
    console.print(Text(f"Breaks: the mildest strength at which AUC's lower bound is not above {floor:g}."))
    for at in report.breaks:
        console.print(Text(f"  {at.change.name}: {at.text()}"))
    if report.settings.attack is not None:
        heads, lines = _attack_rows(report, ATTACK_TITLES, bounds=False)
        attacks = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for heading in heads:
            attacks.add_column(heading, justify="left" if heading == "Crops" else "right", overflow="fold")
        for line in lines:
            attacks.add_row(*map(Text, line))
        console.print()
        console.print(attacks)
        console.print(Text(_check_text(report)))
    for warning in report.warnings:
        console.print(Text(f"! {warning}", style="yellow"))


def _cells(row: RobustnessRow, shown: tuple[str, ...] = _SHOWN, bounds: tuple[str, ...] = _SHOWN) -> list[str]:
    change = row.condition.change
    out = ["unchanged", ""] if change is None else [change.name, f"{row.condition.strength:g}"]
    out.append(f"{row.n_real}+{row.n_fake}")
    for name in shown:
        figure = name.split(" ")[0]
        value = row.differences.get(figure, MetricValue(None)) if " vs " in name else row.figures[name]
        out.append(_figure(value, signed=" vs " in name, bounds=name in bounds))
    return out


def _figure(value: MetricValue, *, signed: bool = False, bounds: bool = True, percent: bool = False) -> str:
    if value.value is None:
        return "-"
    form, bound, times, unit = ("+.3f", "+.3f", 1, "") if signed else (".3f", ".3f", 1, "")
    if percent:
        form, bound, times, unit = ".1f", ".0f", 100, " %"
    text = f"{times * value.value:{form}}{unit}"
    if not bounds or value.low is None or value.high is None:
        return text
    return f"{text} ({times * value.low:{bound}} to {times * value.high:{bound}})"


def _weak_point(row: RobustnessRow, name: str) -> str:
    change = row.condition.change
    assert change is not None  # noqa: S101 - the unchanged has no differences
    return (
        f"{change.title} ({change.name}), {change.unit}: {row.condition.strength:g}: {_HEADINGS[name]} "
        f"{_figure(row.figures[name])}, {_figure(row.differences[name], signed=True)} against unchanged"
    )
