"""``deepscan calibrate``: a detector's answers are fitted to a user's own labelled data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepscan.commands.ensemble import ErrorRate, ThresholdFpr
from deepscan.commands.measuring import Measuring, folder_of, progress_of
from deepscan.commands.options import Model
from deepscan.commands.terminal import fail_with

if TYPE_CHECKING:
    from deepscan.evaluate.calibration.refit import Refitted

Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", file_okay=False, help="Folder of the new detector.", show_default="MODEL-calibrated"),
]


def calibrate(
    options: Measuring,
    model: Model = "default",
    out: Out = None,
    error_rate: ErrorRate = None,
    threshold_fpr: ThresholdFpr = None,
) -> None:
    """Fit a detector's probabilities and uncertain band anew, to your own labelled data, in a copy of it.

    Half of the groups is fitted on, and the other half, with other generators where there are four, is measured.

    Example: deepscan calibrate --model default --data data/mine --out runs/mine
    """
    from deepscan.errors import DeepscanError

    promises = {"error_rate": error_rate, "threshold_fpr": threshold_fpr}
    try:
        folder = out or Path(f"{Path(model).name}-calibrated")
        _print(_refitted(model, folder, options, promises), folder)
    except DeepscanError as error:
        fail_with(error)


def _refitted(model: str, out: Path, options: Measuring, promises: dict[str, float | None]) -> Refitted:
    from deepscan.config import CalibrationSettings
    from deepscan.detector import load_detector
    from deepscan.evaluate.calibration.refit import refit

    detector = load_detector(model, options.settings)
    source = folder_of(model, options.settings)
    assert source is not None  # noqa: S101 - random weights are refused
    with progress_of() as progress:
        return refit(
            detector,
            source,
            out,
            options.open(detector.card.crop, progress, detector.card.training),
            data=options.data_names,
            settings=CalibrationSettings(**{key: v for key, v in promises.items() if v is not None}),
            frames=options.frames,
            resamples=options.resamples,
            seed=options.seed,
            on_progress=lambda done, total: progress(detector.card.name[:30], done, total),
        )


def _print(refitted: Refitted, out: Path) -> None:
    from rich.console import Console
    from rich.text import Text

    from deepscan.evaluate.tables import print_evaluation

    console = Console(highlight=False)
    print_evaluation(refitted.evaluation, console)
    for warning in refitted.warnings:
        console.print(Text(f"! {warning}", style="yellow"))
    console.print(Text(f"deepscan predict --model {out} VIDEO"))
