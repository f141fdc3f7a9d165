"""``deepscan ensemble``: several detectors become one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepscan.commands.evaluate import Report, preparation_of, progress_of
from deepscan.commands.options import Cache, Device, FramesOfData, PrepareJobs, SplitName, settings_of
from deepscan.commands.terminal import EXIT_USAGE, DeviceName, fail, fail_with

if TYPE_CHECKING:
    from deepscan.config import PredictSettings
    from deepscan.datasets.data import Preparation
    from deepscan.evaluate.calibration.fit_ensemble import Combined

log = logging.getLogger(__name__)


def ensemble(
    models: Annotated[
        list[str],
        typer.Argument(metavar="RUN_OR_MODEL...", help="Run folders, detectors' names or folders.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the ensemble.", file_okay=False)],
    name: Annotated[str | None, typer.Option(help="Of the ensemble.", show_default="the folder's")] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Validation data that shares and calibration are fitted on: a store, real/ and fake/ folders, a "
            "corpus. It must have trained no member. Repeatable.",
            show_default="equal shares, no calibration",
        ),
    ] = None,
    split: Annotated[SplitName, typer.Option(help="Part of the data to fit on.")] = SplitName.VAL,
    weights: Annotated[
        str | None,
        typer.Option(metavar="W,W...", help="Shares, one a model, instead of fitting them.", show_default=False),
    ] = None,
    equal: Annotated[bool, typer.Option("--equal", help="Equal shares; all of the data then calibrates.")] = False,
    error_rate: Annotated[
        float | None,
        typer.Option(min=0.001, max=0.499, help="Most reals to be called fake, and fakes real.", show_default="0.05"),
    ] = None,
    threshold_fpr: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=0.999,
            help="Put the threshold where this share of reals lies above it.",
            show_default="threshold 0.5",
        ),
    ] = None,
    frames: FramesOfData = None,
    tta: Annotated[
        bool | None,
        typer.Option("--tta/--no-tta", help="Fit with several views of every face.", show_default="tta"),
    ] = None,
    device: Device = DeviceName.AUTO,
    jobs: PrepareJobs = None,
    cache: Cache = None,
) -> None:
    """Combine detectors into one that answers with the weighted mean of their calibrated logits.

    Example: deepscan ensemble runs/fold0 runs/fold1 runs/fold2 --out runs/all --data data/dfdc-faces
    """
    from deepscan.errors import DeepscanError

    if weights is not None and equal:
        fail("--weights and --equal contradict each other. Give one of them.", EXIT_USAGE)
    try:
        settings = settings_of(frames=frames, tta=tta, device=device.value)
        promise = {"error_rate": error_rate, "threshold_fpr": threshold_fpr}
        with progress_of() as report:
            made = _combine(
                models,
                out,
                name or out.resolve().name,
                data or [],
                split.value,
                None if weights is None else _numbers(weights),
                equal,
                {key: value for key, value in promise.items() if value is not None},
                frames,
                settings,
                preparation_of(cache, jobs, report),
                report,
            )
        _print(made, out)
    except DeepscanError as error:
        fail_with(error)


def _combine(
    models: list[str],
    out: Path,
    name: str,
    data: list[Path],
    split: Any,
    weights: list[float] | None,
    equal: bool,
    promise: dict[str, float],
    frames: int | None,
    settings: PredictSettings,
    preparation: Preparation,
    report: Report,
) -> Combined:
    from deepscan.config import CalibrationSettings
    from deepscan.datasets.data import open_data
    from deepscan.evaluate.calibration.fit_ensemble import combine_detectors
    from deepscan.evaluate.cross_dataset import short_names
    from deepscan.models.checkpoint import load_card, resolve_detector
    from deepscan.models.ensemble_folder import common_crop
    from deepscan.models.scorer import pick_device

    folders = [resolve_detector(model) for model in models]
    crop = common_crop([load_card(folder) for folder in folders], models)
    samples = open_data(data, crop, settings, split=split, preparation=preparation) if data else None
    return combine_detectors(
        out,
        folders,
        name=name,
        samples=samples,
        data=f"{', '.join(short_names(data))} {split}" if data else "",
        weights=weights,
        equal=equal,
        calibration=CalibrationSettings(**promise),
        frames=frames,
        device=pick_device(settings.device),
        tta=settings.tta,
        on_progress=lambda member, done, total: report(member[:30], done, total),
    )


def _numbers(text: str) -> list[float]:
    from deepscan.errors import ConfigError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--weights {text!r} are no weights", "", "Give for example --weights 2,1,1.") from error


def _print(made: Combined, out: Path) -> None:
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
