"""What a person reads of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deepscan.evaluate.cross_dataset import Cell
from deepscan.evaluate.evaluation import Evaluation
from deepscan.evaluate.metrics import MetricValue
from deepscan.evaluate.tables import metrics_table, slices_table
from deepscan.text import answer_rule


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Figures of videos and frames, tables by parts of the data, what was not scored, and warnings."""
    model, coverage = evaluation.model, evaluation.coverage()
    if not model.trained:
        console.print(Text("Random weights: these figures say nothing.", style="bold white on red"))
    where = ", ".join(evaluation.data) or "the data"
    split = f", split {evaluation.split}" if evaluation.split else ""
    console.print(Text(f"{model.name} ({model.backbone}, {model.head}) on {where}{split}: {_counts(evaluation)}"))
    console.print()
    console.print(metrics_table(evaluation.video, "Videos: the most suspicious person of each"))
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
    _print_warnings(evaluation.warnings, console)
    console.print(Text(f"Answers: {answer_rule(model.threshold, model.uncertain_band)}.", style="dim"))


def print_cross(cells: Sequence[Cell], console: Console) -> None:
    """AUC of videos with its interval, models by data sets; why cells are empty; each warning once."""
    data = list(dict.fromkeys(cell.data for cell in cells))
    models = list(dict.fromkeys(cell.model for cell in cells))
    at = {(cell.model, cell.data): cell for cell in cells}
    table = Table(title="AUC of videos, 95 % interval", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("Model", overflow="fold")
    for name in data:
        table.add_column(Text(name), justify="right", overflow="fold")
    for model in models:
        table.add_row(Text(model), *(_auc(at.get((model, name))) for name in data))
    console.print(table)
    for cell in cells:
        if cell.error is not None:
            console.print(Text(f"{cell.model} on {cell.data}: {cell.error}", style="magenta"))
    told = [
        f"{cell.model} on {cell.data}: {warning}"
        for cell in cells
        if cell.evaluation is not None
        for warning in cell.evaluation.warnings
    ]
    _print_warnings(told, console)


def _counts(evaluation: Evaluation) -> str:
    level, coverage = evaluation.video_level(), evaluation.coverage()
    fake = int(level.labels.sum())
    return (
        f"{coverage['videos']} videos, {len(level.labels) - fake} real and {fake} fake; "
        f"{coverage['scored']} scored, by {len(evaluation.frame_level().labels):,} faces"
    )


def _auc(cell: Cell | None) -> Text:
    if cell is None or cell.evaluation is None:
        return Text("-", style="dim")
    value: MetricValue = cell.evaluation.video["auc"]
    if value.value is None:
        return Text("-", style="dim")
    if value.low is None or value.high is None:
        return Text(f"{value.value:.3f}\nn {value.n}")
    return Text(f"{value.value:.3f}\n{value.low:.3f} to {value.high:.3f}\nn {value.n}")


def _print_warnings(warnings: Sequence[str], console: Console) -> None:
    for warning in warnings:
        console.print(Text(f"! {warning}", style="yellow"))
