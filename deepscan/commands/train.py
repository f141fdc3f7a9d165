"""``deepscan train``: a recipe and data become a detector."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deepscan.commands.options import Cache, PrepareJobs
from deepscan.commands.terminal import EXIT_INTERRUPTED, EXIT_USAGE, fail, fail_with, shows_progress
from deepscan.version import install_command

if TYPE_CHECKING:
    from deepscan.datasets.dataset import SampleSet
    from deepscan.train.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What is trained, on what, and where."""

    config: Annotated[
        str, typer.Option("--config", "-c", help="A recipe by name (see deepscan recipes) or file.", show_default=False)
    ]
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            "-d",
            help="A store of deepscan preprocess, or a corpus; may be repeated. Or the one folder that all of the "
            "recipe's own data.sources are in.",
        ),
    ]
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; the detector is called by it.", show_default="runs/NAME")
    ] = None
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: stages.0.epochs=3. May be repeated."),
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False
    devices: Annotated[int, typer.Option(min=1, help="Processes on this machine; with GPUs, how many.")] = 1
    num_nodes: Annotated[int, typer.Option("--num-nodes", min=1, help="Machines; start the command on each.")] = 1
    accelerator: Annotated[Literal["auto", "cpu", "gpu", "mps"], typer.Option(help="What to train on.")] = "auto"
    jobs: PrepareJobs = None
    cache: Cache = None


def train(options: TrainOptions) -> None:
    """Train a detector: the folder of the run is one.

    Example: deepscan train --config default --data data/dfdc-faces
    """
    from deepscan.errors import DeepscanError

    if logging.getLogger("deepscan").isEnabledFor(logging.WARNING):  # a run of hours says where it is
        logging.getLogger("deepscan.train").setLevel(logging.INFO)
    try:
        _train(options)
    except DeepscanError as error:
        fail_with(error)
    except KeyboardInterrupt:
        fail("Interrupted; the same command with --resume goes on.", EXIT_INTERRUPTED)


def _train(options: TrainOptions) -> None:
    from deepscan.train.recipe import find_recipe, load_recipe

    changes, data = options.changes or [], options.data
    recipe = load_recipe(find_recipe(options.config), tuple(changes))
    try:
        from deepscan.datasets.training_sources import has_sources
        from deepscan.train.fit import Machine, is_leading_process
        from deepscan.train.run import settle
        from deepscan.train.run import train as train_run
    except ModuleNotFoundError as error:
        fail(f"Training needs {error.name}. Install it with {install_command('train')}.", EXIT_USAGE)
    own_sources = has_sources(data, recipe.data.sources)
    recipe, run = settle(recipe, data, options.out, changes, own_sources=own_sources)
    samples = _samples(data, recipe, options.cache, options.jobs, own_sources=own_sources)
    machine = Machine(options.devices, options.num_nodes, options.accelerator, progress=shows_progress(), data=data[0])
    card = train_run(recipe, samples, run, machine, resume=options.resume)
    if card is not None and is_leading_process():
        from rich.console import Console

        console = Console(highlight=False)
        for name, metric in card.metrics.items():
            interval = "" if metric.low is None else f" ({metric.low:.3f} to {metric.high:.3f})"
            console.print(f"{name}: {metric.value:.3f}{interval}, n = {metric.n}")
        console.print(f"deepscan predict --model {run} VIDEO")


def recipes() -> None:
    """List the recipes that come with deepscan: `deepscan train --config NAME`."""
    from rich.console import Console
    from rich.table import Table

    from deepscan.train.recipe import list_recipes

    table = Table(show_edge=False, pad_edge=False)
    for column in ("Recipe", "What it is", "Network", "Input"):
        table.add_column(column, overflow="fold")
    for name, (summary, recipe) in list_recipes().items():
        model = recipe.model
        table.add_row(name, summary, f"{model.backbone} + {model.head.name}", f"{recipe.crop.size_px} px")
    Console(highlight=False, markup=False).print(table)


def _samples(data: list[Path], recipe: Recipe, cache: Path | None, jobs: int | None, *, own_sources: bool) -> SampleSet:
    """The samples of the stores; what is no store is preprocessed first, with the splits that preprocess gives."""
    from dataclasses import replace

    from deepscan.commands.measuring import preparation_of, progress_of
    from deepscan.config import PredictSettings
    from deepscan.datasets.data import open_data
    from deepscan.datasets.training_sources import open_sources

    with progress_of() as report:
        preparation = replace(preparation_of(cache, jobs, report), divide=True)
        if own_sources:
            plan = recipe.data
            return open_sources(
                data[0], plan.sources, recipe.crop, PredictSettings(), preparation, exclude=plan.exclude
            )
        return open_data(data, recipe.crop, PredictSettings(), preparation=preparation)
