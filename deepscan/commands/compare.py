"""``deepscan compare``: several detectors in one table."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepscan.commands.evaluate import Report, preparation_of, progress_of
from deepscan.commands.options import Cache, Device, FramesOfData, PrepareJobs, Resamples, SplitName, settings_of
from deepscan.commands.outputs import COMPARISON_CSV, COMPARISON_MARKDOWN, Output, check_outputs, write_outputs
from deepscan.commands.terminal import EXIT_FAILED, DeviceName, fail_with

if TYPE_CHECKING:
    from deepscan.config import CropSettings, PredictSettings
    from deepscan.datasets.data import Preparation
    from deepscan.detector import Detector
    from deepscan.errors import DeepscanError
    from deepscan.evaluate.comparison import Row

log = logging.getLogger(__name__)


def compare(
    models: Annotated[
        list[str],
        typer.Argument(metavar="RUN_OR_MODEL...", help="Run folders, detectors' names or folders.", show_default=False),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Measure all of them on this data: a store, real/ and fake/ folders, a corpus. Repeatable.",
            show_default="the figures saved with each",
        ),
    ] = None,
    split: Annotated[
        SplitName | None, typer.Option(help="Measure on this part alone.", show_default="every part that there is")
    ] = None,
    markdown: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the table as Markdown; '-' is stdout.")
    ] = None,
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write the table as CSV; '-' is stdout.")
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the table as JSON; '-' is stdout.")
    ] = None,
    frames: FramesOfData = None,
    tta: Annotated[
        bool | None,
        typer.Option(
            "--tta/--no-tta", help="Measure with several views of every face; times are without.", show_default="tta"
        ),
    ] = None,
    device: Device = DeviceName.AUTO,
    jobs: PrepareJobs = None,
    cache: Cache = None,
    resamples: Resamples = 1000,
    allow_untrained: Annotated[
        bool,
        typer.Option("--allow-untrained", help="Allow names of backbones, with random weights, for size and speed."),
    ] = False,
) -> None:
    """Compare detectors: network, size, figures of training, validation and test, time per image.

    Example: deepscan compare runs/xception runs/resnet50 default --data data/dfdc-faces --split test
    """
    from deepscan.errors import DeepscanError

    try:
        quiet = _check(markdown, csv_file, json_file)
        settings = settings_of(frames=frames, tta=tta, device=device.value, allow_untrained=allow_untrained or None)
        with progress_of() as report:
            preparation = preparation_of(cache, jobs, report)
            measuring = {"split": split.value if split else None, "frames": frames, "resamples": resamples}
            rows, errors = _rows(models, settings, data or [], preparation, measuring, report)
        if not rows:
            fail_with(errors[0])
        _write(rows, markdown, csv_file, json_file, quiet)
    except DeepscanError as error:
        fail_with(error)
    if errors:
        raise typer.Exit(EXIT_FAILED)


def _check(markdown: str | None, csv_file: str | None, json_file: str | None) -> bool:
    """Whether stdout is taken."""
    from deepscan.evaluate.comparison import SCHEMA_ID
    from deepscan.files import json_of

    return check_outputs(
        [
            Output("--markdown", markdown, COMPARISON_MARKDOWN),
            Output("--csv", csv_file, COMPARISON_CSV),
            Output("--json", json_file, json_of(SCHEMA_ID)),
        ]
    )


def _rows(
    models: list[str],
    settings: PredictSettings,
    data: list[Path],
    preparation: Preparation,
    measuring: dict[str, Any],
    report: Report,
) -> tuple[list[Row], list[DeepscanError]]:
    """A row for each detector; one that cannot be loaded or measured costs only itself."""
    from deepscan.detector import load_detector
    from deepscan.errors import DeepscanError

    rows: list[Row] = []
    errors: list[DeepscanError] = []
    names = _names(models)
    loaded: dict[str, Detector] = {}
    for model in names:
        try:
            loaded[model] = load_detector(model, settings)
        except DeepscanError as error:
            log.warning("%s: %s", model, error)
            errors.append(error)
    crops = [detector.card.crop for detector in loaded.values()]
    for model, detector in loaded.items():
        try:
            row = _row(names[model], _folder(model, settings), detector, crops, data, preparation, measuring, report)
        except DeepscanError as error:
            log.warning("%s: %s", model, error)
            errors.append(error)
        else:
            rows.append(row)
    return rows, errors


def _row(
    name: str,
    folder: Path | None,
    detector: Detector,
    crops: list[CropSettings],
    data: list[Path],
    preparation: Preparation,
    measuring: dict[str, Any],
    report: Report,
) -> Row:
    from dataclasses import replace

    from deepscan.datasets.data import open_data, widest_like
    from deepscan.evaluate.comparison import describe, measure
    from deepscan.evaluate.cross_dataset import short_names

    row = describe(name, folder, detector)
    if not data:
        return row
    # Videos are preprocessed once for all detectors of a rule; a store is checked for each.
    crop = widest_like(detector.card.crop, crops)
    split = measuring["split"]
    samples = open_data(data, crop, detector.settings, split=split, preparation=preparation, check=False)
    source = ", ".join(short_names(data))
    measured = measure(
        detector, samples, source, on_progress=lambda done, total: report(name[:30], done, total), **measuring
    )
    return replace(row, figures={**row.figures, **measured})


def _names(models: list[str]) -> dict[str, str]:
    """Short names for the table."""
    from deepscan.evaluate.cross_dataset import short_names

    unique = list(dict.fromkeys(models))
    return dict(zip(unique, short_names([Path(model) for model in unique]), strict=True))


def _folder(model: str, settings: PredictSettings) -> Path | None:
    """Where it lies; None for a backbone with random weights."""
    from deepscan.errors import ModelError
    from deepscan.models.checkpoint import resolve_detector

    try:
        return resolve_detector(model)
    except ModelError:
        if settings.allow_untrained:
            return None
        raise


def _write(rows: list[Row], markdown: str | None, csv_file: str | None, json_file: str | None, quiet: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    from deepscan.evaluate.comparison import caption, to_json
    from deepscan.evaluate.tables import comparison_csv, comparison_markdown, comparison_table

    records = [row.to_record() for row in rows]
    if not quiet:
        console = Console(highlight=False)
        console.print(comparison_table(records))
        console.print(Text(caption(rows), style="dim"))
    write_outputs(
        [
            (markdown, lambda: f"{comparison_markdown(records)}\n{caption(rows)}\n"),
            (csv_file, lambda: comparison_csv(records)),
            (json_file, lambda: to_json(rows)),
        ]
    )
