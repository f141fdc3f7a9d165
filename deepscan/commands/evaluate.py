"""``deepscan evaluate``: a detector is measured, or several on several data sets."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepscan.commands.options import (
    AllowUntrained,
    AttackCheck,
    Cache,
    Device,
    FramesOfData,
    PrepareJobs,
    Resamples,
    Split,
    Threshold,
    Tta,
    settings_of,
)
from deepscan.commands.outputs import EVALUATION_CSV, Output, check_outputs, write_outputs
from deepscan.commands.terminal import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    DeviceName,
    fail,
    fail_with,
    progress_bar,
)

if TYPE_CHECKING:
    from deepscan.config import PredictSettings
    from deepscan.datasets.data import Preparation
    from deepscan.detector import Detector
    from deepscan.evaluate.cross_dataset import Cell, Contender
    from deepscan.evaluate.evaluation import Evaluation

log = logging.getLogger(__name__)

# Called with what is being done, how much of it is done, and of how much.
Report = Callable[[str, int, int], None]


def evaluate(
    data: Annotated[
        list[Path],
        typer.Option(
            metavar="PATH",
            help="A store of deepscan preprocess, or real/ and fake/ folders, or any corpus that it reads. Repeatable.",
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="M", help="A detector's name or folder; several with --cross.", show_default="the shipped one"
        ),
    ] = None,
    split: Split = None,
    cross: Annotated[
        bool, typer.Option("--cross", help="Every model on every data set, in one table, instead of pooling the data.")
    ] = False,
    json_file: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write all figures as JSON; '-' is stdout, instead of the table."),
    ] = None,
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write one line a video, with its score; '-' is stdout.")
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Draw confusion matrix, ROC, precision and recall, reliability and scores; with --cross a heat map.",
        ),
    ] = None,
    frames: FramesOfData = None,
    tta: Tta = None,
    attack_check: AttackCheck = None,
    device: Device = DeviceName.AUTO,
    threshold: Threshold = None,
    jobs: PrepareJobs = None,
    cache: Cache = None,
    resamples: Resamples = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    allow_untrained: AllowUntrained = False,
) -> None:
    """Measure a detector: figures of frames and videos, each with its 95 % interval and its count.

    Example: deepscan evaluate --model runs/x --data data/dfdc-faces --split test --json figures.json --plots plots/
    """
    from deepscan.errors import DeepscanError

    models = model or ["default"]
    if len(models) > 1 and not cross:
        fail("Several models are measured side by side with --cross.", EXIT_USAGE)
    if cross and csv_file is not None:
        fail("--csv is for one model; leave --cross out.", EXIT_USAGE)
    given = {
        "frames": frames,
        "tta": tta,
        "attack_check": attack_check,
        "threshold": threshold,
        "allow_untrained": allow_untrained or None,
    }
    try:
        quiet = _check(json_file, csv_file, cross)
        if plots is not None:
            _check_plots(plots)
        settings = settings_of(device=device.value, **given)
        contenders = _contenders(models, settings)
        bootstrap = {"frames": frames, "resamples": resamples, "seed": seed}
        wanted = split.value if split else None
        with progress_of() as report:
            preparation = preparation_of(cache, jobs, report)
            if cross:
                cells, interrupted = _cross(contenders, data, wanted, preparation, bootstrap, report)
            else:
                evaluation = _one(contenders[0], data, wanted, preparation, bootstrap, report)
        if cross:
            _write_cross(cells, contenders, data, wanted, json_file, plots, quiet)
        else:
            _write_one(evaluation, json_file, csv_file, plots, quiet)
    except DeepscanError as error:
        fail_with(error)
    if cross and interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if cross and any(cell.error is not None for cell in cells):
        raise typer.Exit(EXIT_FAILED)


def _check(json_file: str | None, csv_file: str | None, cross: bool) -> bool:
    """Whether stdout is taken."""
    from deepscan.evaluate.cross_dataset import SCHEMA_ID as CROSS
    from deepscan.evaluate.evaluation import SCHEMA_ID as EVALUATION
    from deepscan.files import json_of

    figures = json_of(CROSS if cross else EVALUATION)
    return check_outputs([Output("--json", json_file, figures), Output("--csv", csv_file, EVALUATION_CSV)])


def _contenders(models: list[str], settings: PredictSettings) -> list[Contender]:
    """The detectors with names that differ."""
    from deepscan.detector import load_detector
    from deepscan.evaluate.cross_dataset import Contender

    loaded: dict[str, Detector] = {name: load_detector(name, settings) for name in dict.fromkeys(models)}
    names = [detector.card.name for detector in loaded.values()]
    return [
        Contender(own if names.count(own) == 1 else name, detector, train_groups_of(name, settings))
        for own, (name, detector) in zip(names, loaded.items(), strict=True)
    ]


def train_groups_of(name: str, settings: PredictSettings) -> frozenset[str]:
    """Hashes of the groups that a detector was trained on; none where they are not told."""
    from deepscan.errors import ModelError
    from deepscan.evaluate.training_groups import read_groups
    from deepscan.models.checkpoint import resolve_detector

    try:
        folder = resolve_detector(name)
    except ModelError:
        if settings.allow_untrained:  # the name of a backbone
            return frozenset()
        raise
    return read_groups(folder)


def preparation_of(cache: Path | None, jobs: int | None, report: Report) -> Preparation:
    """How what is no store is made one; where it is kept is told on stderr."""
    from deepscan.datasets.data import DEFAULT_CACHE, Preparation

    def start(corpus: Path, folder: Path) -> None:
        if log.isEnabledFor(logging.WARNING):
            typer.echo(f"deepscan: {corpus} is preprocessed into {folder}, which is kept", err=True)

    return Preparation(
        cache=cache or DEFAULT_CACHE,
        jobs=jobs,
        on_start=start,
        on_progress=lambda at: report(at.name[-30:], at.done, at.total),
    )


def _one(
    contender: Contender,
    data: list[Path],
    split: Any,
    preparation: Preparation,
    bootstrap: dict[str, Any],
    report: Report,
) -> Evaluation:
    from deepscan.datasets.data import open_data
    from deepscan.evaluate.evaluation import evaluate as run

    detector = contender.detector
    samples = open_data(data, detector.card.crop, detector.settings, split=split, preparation=preparation)
    return run(
        detector,
        samples,
        data=[path.as_posix() for path in data],
        split=split,
        train_groups=contender.train_groups,
        on_progress=lambda done, total: report(contender.name[:30], done, total),
        **bootstrap,
    )


def _cross(
    contenders: list[Contender],
    data: list[Path],
    split: Any,
    preparation: Preparation,
    bootstrap: dict[str, Any],
    report: Report,
) -> tuple[list[Cell], bool]:
    """The cells, and whether Ctrl-C ended it early: those that are done are complete."""
    from deepscan.evaluate.cross_dataset import cross_evaluate

    cells: list[Cell] = []

    def progress(model: str, where: str, done: int, total: int) -> None:
        report(f"{model} on {where}"[:40], done, total)

    try:
        for cell in cross_evaluate(
            contenders, data, split=split, preparation=preparation, on_progress=progress, **bootstrap
        ):
            cells.append(cell)
    except KeyboardInterrupt:
        log.warning("Interrupted: %d of %d figures done.", len(cells), len(contenders) * len(data))
        return cells, True
    return cells, False


def _write_one(
    evaluation: Evaluation, json_file: str | None, csv_file: str | None, plots: Path | None, quiet: bool
) -> None:
    from rich.console import Console

    from deepscan.evaluate.evaluation_tables import print_evaluation

    if not quiet:
        print_evaluation(evaluation, Console(highlight=False))
    write_outputs([(json_file, lambda: _json(evaluation.to_dict())), (csv_file, evaluation.to_csv)])
    if plots is not None:
        from deepscan.evaluate.evaluation_plots import draw_evaluation

        _tell_files(draw_evaluation(evaluation, plots))


def _write_cross(
    cells: list[Cell],
    contenders: list[Contender],
    data: list[Path],
    split: str | None,
    json_file: str | None,
    plots: Path | None,
    quiet: bool,
) -> None:
    from rich.console import Console

    from deepscan.evaluate.cross_dataset import to_dict
    from deepscan.evaluate.evaluation_tables import print_cross

    if not quiet:
        print_cross(cells, Console(highlight=False))
    write_outputs([(json_file, lambda: _json(to_dict(cells, contenders, data, split)))])
    if plots is not None:
        from deepscan.evaluate.evaluation_plots import draw_cross

        _tell_files(draw_cross(cells, plots))


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _check_plots(folder: Path) -> None:
    """Fail before the work where pictures cannot be drawn."""
    from deepscan.evaluate.evaluation_plots import check_folder

    check_folder(folder)


def _tell_files(files: list[Path]) -> None:
    for file in files:
        log.info("%s", file)


@contextmanager
def progress_of() -> Iterator[Report]:
    """One bar, for whatever is being done; its rate is of that."""
    with progress_bar() as bar:
        task = bar.add_task("", total=None, rate="", failed=0)
        begun: dict[str, float] = {}
        last = ""

        def report(name: str, done: int, total: int) -> None:
            nonlocal last
            if done == 1 or not begun:
                begun["at"] = time.monotonic()
            rate = (done - 1) / max(1e-6, time.monotonic() - begun["at"])
            last = f"{rate:.1f}/s" if done > 1 else last
            bar.update(task, description=name, completed=done, total=total, rate=last)

        yield report
