"""``deepscan compare``: several detectors in one table."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepscan.commands.measuring import MeasuringAnswers, Models, check_plots, folder_of, progress_of
from deepscan.commands.options import Cache, Device, FramesOfData, PrepareJobs, Resamples, SplitName
from deepscan.commands.outputs import COMPARISON_CSV, COMPARISON_MARKDOWN, Output, check_outputs, write_outputs
from deepscan.commands.terminal import EXIT_FAILED, EXIT_INTERRUPTED, DeviceName, fail_with

if TYPE_CHECKING:
    from deepscan.errors import DeepscanError
    from deepscan.evaluate.comparison import Comparison, Contender

log = logging.getLogger(__name__)

Data = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH",
        help="Measure all of them on this data: a store, real/ and fake/ folders, a corpus. Repeatable, for a table of "
        "detectors by data sets.",
        show_default="the figures saved with each",
    ),
]
SplitOnly = Annotated[
    SplitName | None, typer.Option(help="Measure on this part alone.", show_default="every part that there is")
]
Markdown = Annotated[str | None, typer.Option(metavar="FILE", help="Write the table as Markdown; '-' is stdout.")]
CsvFile = Annotated[str | None, typer.Option("--csv", metavar="FILE", help="Write the table as CSV; '-' is stdout.")]
JsonFile = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the table and all figures as JSON; '-' is stdout.")
]
Plots = Annotated[
    Path | None,
    typer.Option(metavar="DIR", file_okay=False, help="Draw a heat map of AUC, detectors by data sets."),
]
Tta = Annotated[
    bool | None,
    typer.Option(
        "--tta/--no-tta", help="Measure with several views of every face; times are without.", show_default="tta"
    ),
]
AllowUntrained = Annotated[
    bool,
    typer.Option("--allow-untrained", help="Allow names of backbones, with random weights, for size and speed."),
]


def compare(
    models: Models,
    data: Data = None,
    split: SplitOnly = None,
    markdown: Markdown = None,
    csv_file: CsvFile = None,
    json_file: JsonFile = None,
    plots: Plots = None,
    frames: FramesOfData = None,
    tta: Tta = None,
    device: Device = DeviceName.AUTO,
    jobs: PrepareJobs = None,
    cache: Cache = None,
    resamples: Resamples = 1000,
    allow_untrained: AllowUntrained = False,
) -> None:
    """Compare detectors: network, size, figures on each data set, time per image.

    Example: deepscan compare runs/xception runs/resnet50 default --data data/dfdc-faces --split test
    """
    from deepscan.errors import DeepscanError
    from deepscan.evaluate.comparison import SCHEMA_ID
    from deepscan.files import json_of

    options = MeasuringAnswers(
        data=data or [], split=split, frames=frames, tta=tta, device=device, jobs=jobs, cache=cache,
        resamples=resamples, allow_untrained=allow_untrained,
    )  # fmt: skip
    try:
        quiet = check_outputs(
            [
                Output("--markdown", markdown, COMPARISON_MARKDOWN),
                Output("--csv", csv_file, COMPARISON_CSV),
                Output("--json", json_file, json_of(SCHEMA_ID)),
            ]
        )
        check_plots(plots)
        contenders, errors = _contenders(models, options)
        if not contenders:
            fail_with(errors[0])
        comparison, interrupted = _compared(contenders, options)
        failures = [error for row in comparison.rows for error in row.errors.values()]
        if failures and not any(row.figures for row in comparison.rows):
            fail_with(failures[0])
        _write(comparison, markdown, csv_file, json_file, plots, quiet)
    except DeepscanError as error:
        fail_with(error)
    if interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if errors or failures:
        raise typer.Exit(EXIT_FAILED)


def _contenders(models: list[str], options: MeasuringAnswers) -> tuple[list[Contender], list[DeepscanError]]:
    """The detectors, with short names that differ; one that cannot be loaded costs only itself."""
    from deepscan.detector import load_detector
    from deepscan.errors import DeepscanError
    from deepscan.evaluate.comparison import Contender
    from deepscan.evaluate.tables import short_names
    from deepscan.evaluate.training_groups import read_groups

    contenders, errors = [], []
    unique = list(dict.fromkeys(models))
    settings = options.settings
    for model, name in zip(unique, short_names([Path(model) for model in unique]), strict=True):
        try:
            folder = folder_of(model, settings)
            groups = frozenset() if folder is None else read_groups(folder)
            contenders.append(Contender(name, folder, load_detector(model, settings), groups))
        except DeepscanError as error:
            log.warning("%s: %s", model, error)
            errors.append(error)
    return contenders, errors


def _compared(contenders: list[Contender], options: MeasuringAnswers) -> tuple[Comparison, bool]:
    """The comparison, and whether Ctrl-C ended it early: the figures that are done are complete."""
    from deepscan.evaluate.comparison import Comparison

    comparison = Comparison(contenders)
    with progress_of() as progress:
        try:
            comparison.measure(
                options.data,
                split=options.split_name,
                frames=options.frames,
                preparation=options.preparation(progress),
                resamples=options.resamples,
                on_progress=progress,
            )
        except KeyboardInterrupt:
            done = sum(len(row.figures) for row in comparison.rows)
            log.warning("Interrupted: %d figures of %d detectors are done.", done, len(contenders))
            return comparison, True
    return comparison, False


def _write(
    comparison: Comparison,
    markdown: str | None,
    csv_file: str | None,
    json_file: str | None,
    plots: Path | None,
    quiet: bool,
) -> None:
    from rich.console import Console
    from rich.text import Text

    from deepscan.evaluate.evaluation_plots import draw_comparison
    from deepscan.evaluate.tables import comparison_csv, comparison_markdown, comparison_table

    records = [row.to_record() for row in comparison.rows]
    notes = "".join(f"\n- {warning}" for warning in comparison.warnings)
    if not quiet:
        console = Console(highlight=False)
        console.print(comparison_table(records))
        console.print(Text(comparison.caption(), style="dim"))
        for warning in comparison.warnings:
            console.print(Text(f"! {warning}", style="yellow"))
    write_outputs(
        [
            (markdown, lambda: f"{comparison_markdown(records)}\n{comparison.caption()}\n{notes and notes + chr(10)}"),
            (csv_file, lambda: comparison_csv(records)),
            (json_file, comparison.to_json),
        ]
    )
    if plots is not None:
        log.info("%s", draw_comparison(comparison, plots))
