"""``deepscan ensemble``: several detectors become one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepscan.commands.measuring import Measuring, Models, progress_of
from deepscan.commands.options import Cache, Device, FramesOfData, PrepareJobs, SplitName
from deepscan.commands.terminal import EXIT_USAGE, DeviceName, fail, fail_with

if TYPE_CHECKING:
    from deepscan.evaluate.calibration.fit_ensemble import CombinedEnsemble

Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the ensemble.", file_okay=False)]
Name = Annotated[str | None, typer.Option(help="Of the ensemble.", show_default="the folder's")]
Data = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH",
        help="Validation data that shares and calibration are fitted on: a store, real/ and fake/ folders, a "
        "corpus. It must have trained no member. Repeatable.",
        show_default="equal shares, no calibration",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(metavar="W,W...", help="Shares, one a model, instead of fitting them.", show_default=False),
]
Equal = Annotated[bool, typer.Option("--equal", help="Equal shares; all of the data then calibrates.")]
ErrorRate = Annotated[
    float | None,
    typer.Option(min=0.001, max=0.499, help="Most reals to be called fake, and fakes real.", show_default="0.05"),
]
ThresholdFpr = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        max=0.999,
        help="Put the threshold where this share of reals lies above it.",
        show_default="threshold 0.5",
    ),
]
Tta = Annotated[
    bool | None, typer.Option("--tta/--no-tta", help="Fit with several views of every face.", show_default="tta")
]


def ensemble(
    models: Models,
    out: Out,
    name: Name = None,
    data: Data = None,
    split: Annotated[SplitName, typer.Option(help="Part of the data to fit on.")] = SplitName.VAL,
    weights: Weights = None,
    equal: Equal = False,
    error_rate: ErrorRate = None,
    threshold_fpr: ThresholdFpr = None,
    frames: FramesOfData = None,
    tta: Tta = None,
    device: Device = DeviceName.AUTO,
    jobs: PrepareJobs = None,
    cache: Cache = None,
) -> None:
    """Combine detectors into one that answers with the mean of their logits.

    Example: deepscan ensemble runs/fold0 runs/fold1 runs/fold2 --out runs/all --data data/dfdc-faces
    """
    from deepscan.errors import DeepscanError

    if weights is not None and equal:
        fail("--weights and --equal contradict each other. Give one of them.", EXIT_USAGE)
    options = Measuring(data=data or [], split=split, frames=frames, tta=tta, jobs=jobs, cache=cache, device=device)
    promises = {"error_rate": error_rate, "threshold_fpr": threshold_fpr}
    try:
        shares = None if weights is None else _numbers(weights)
        _print(_combined(models, out, name or out.resolve().name, options, shares, equal, promises), out)
    except DeepscanError as error:
        fail_with(error)


def _combined(
    models: list[str],
    out: Path,
    name: str,
    options: Measuring,
    weights: list[float] | None,
    equal: bool,
    promises: dict[str, float | None],
) -> CombinedEnsemble:
    from deepscan.config import CalibrationSettings
    from deepscan.evaluate.calibration.fit_ensemble import Fitting, combine_detectors
    from deepscan.evaluate.tables import short_names
    from deepscan.models.checkpoint import load_card, resolve_detector
    from deepscan.models.ensemble_folder import common_crop
    from deepscan.models.scorer import pick_device

    folders = [resolve_detector(model) for model in models]
    crop = common_crop([load_card(folder) for folder in folders], models)
    settings = options.settings
    with progress_of() as progress:
        fitting = None
        if options.data:
            fitting = Fitting(
                options.open(crop, progress),
                name=f"{', '.join(short_names(options.data))} {options.split_name}",
                calibration=CalibrationSettings(**{key: v for key, v in promises.items() if v is not None}),
                frames=options.frames,
                device=pick_device(settings.device),
                tta=settings.tta,
                on_progress=lambda member, done, total: progress(member[:30], done, total),
            )
        return combine_detectors(out, folders, name=name, fitting=fitting, weights=weights, equal=equal)


def _numbers(text: str) -> list[float]:
    from deepscan.errors import ConfigError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--weights {text!r} are no weights", "", "Give for example --weights 2,1,1.") from error


def _print(made: CombinedEnsemble, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from deepscan.text import answer_rule

    card = made.card
    table = Table(show_edge=False, pad_edge=False)
    for column in ("Member", "Backbone", "Head", "Share"):
        table.add_column(column, justify="right" if column == "Share" else "left")
    names = card.training["members"]
    for name, member in zip(names, card.members, strict=True):
        table.add_row(Text(name), Text(member.backbone), member.head, f"{member.weight:.3f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(Text(f"Answers: {answer_rule(card.calibration.threshold, card.calibration.band)}.", style="dim"))
    if card.training["calibration"] == "none":
        console.print(Text("! Not calibrated as a whole: give --data for that.", style="yellow"))
    for warning in made.warnings:
        console.print(Text(f"! {warning}", style="yellow"))
    console.print(Text(f"{out}: {card.name}, sha256 {card.weights_sha256[:12]}"))
