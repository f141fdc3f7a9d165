"""What the commands that measure detectors have in common: their options, how data is opened, progress."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
from deepscan.commands.terminal import DeviceName, progress_bar

if TYPE_CHECKING:
    from deepscan.config import CropSettings, PredictSettings
    from deepscan.datasets.data import Preparation
    from deepscan.datasets.dataset import SampleSet
    from deepscan.datasets.readers import CorpusItem
    from deepscan.datasets.training_sources import SourceSettings

log = logging.getLogger(__name__)

# Called with what is being done, how much of it is done, and of how much.
Progress = Callable[[str, int, int], None]

Data = Annotated[
    list[Path],
    typer.Option(
        metavar="PATH",
        help="A store of deepscan preprocess, or real/ and fake/ folders, or any corpus that it reads. Repeatable.",
    ),
]
Models = Annotated[
    list[str],
    typer.Argument(metavar="RUN_OR_MODEL...", help="Run folders, detectors' names or folders.", show_default=False),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the bootstrap and of everything that is drawn.")]


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """Options of a command that measures on data, as they were given; None takes the default."""

    data: Data
    split: Split = None
    frames: FramesOfData = None
    tta: Tta = None
    device: Device = DeviceName.AUTO
    jobs: PrepareJobs = None
    cache: Cache = None
    resamples: Resamples = 1000
    seed: Seed = 0

    @property
    def settings(self) -> PredictSettings:
        """Of the detectors."""
        return settings_of(frames=self.frames, device=self.device.value, tta=self.tta)

    @property
    def split_name(self) -> Any:
        """The split as the data sets have it."""
        return self.split.value if self.split else None

    @property
    def data_names(self) -> list[str]:
        """The data as they are named in reports."""
        return [path.as_posix() for path in self.data]

    def preparation(self, progress: Progress) -> Preparation:
        """How what is no store is made one."""
        return preparation_of(self.cache, self.jobs, progress)

    def open(self, crop: CropSettings, progress: Progress, training: Mapping[str, Any] | None = None) -> SampleSet:
        """All the data, pooled, for a detector with this crop rule.

        A folder with all the sources of a recipe, the detector's own or that of the shipped detector, is read source by
        source, with the groups and splits of the recipe.

        Args:
            crop: the rule.
            progress: called as it goes on.
            training: what the detector's card says of its training.
        """
        from deepscan.datasets.data import open_data
        from deepscan.datasets.training_sources import open_sources

        preparation = self.preparation(progress)
        if sources := self._sources(training or {}):
            return open_sources(self.data[0], sources, crop, self.settings, preparation, split=self.split_name)
        return open_data(self.data, crop, self.settings, split=self.split_name, preparation=preparation)

    def items(self) -> list[tuple[str, CorpusItem]]:
        """All the files of the data, as they are, with the names of their sources."""
        from deepscan.datasets.data import corpus_items
        from deepscan.datasets.training_sources import source_items

        if sources := self._sources({}):
            return source_items(self.data[0], sources, self.split_name)
        items = [item for path in self.data for item in corpus_items(path, self.split_name)]
        return [(item.origin or item.dataset, item) for item in items]

    def _sources(self, training: Mapping[str, Any]) -> tuple[SourceSettings, ...]:
        """The sources of a recipe that the data is the folder of; none where it is something else."""
        from deepscan.datasets.training_sources import sources_in

        if len(self.data) != 1:
            return ()
        return next((listed for listed in _sources_of_recipes(training) if sources_in(self.data[0], listed)), ())


def _sources_of_recipes(training: Mapping[str, Any]) -> Iterator[tuple[SourceSettings, ...]]:
    """The sources of a detector's recipe, where its card has one that can be read, then those of the shipped one."""
    from deepscan.errors import ConfigError
    from deepscan.train.recipe import find_recipe, load_recipe, parse_recipe

    recipe = training.get("recipe")
    if isinstance(recipe, Mapping):
        try:
            yield parse_recipe({"data": {"sources": recipe.get("data", {}).get("sources", [])}}).data.sources
        except (ConfigError, AttributeError):
            log.info("The card's recipe names no sources that can be read.")
    yield load_recipe(find_recipe("default")).data.sources


@dataclass(frozen=True, kw_only=True)
class MeasuringAnswers(Measuring):
    """Of a command that measures a detector's answers, which the user may change."""

    threshold: Threshold = None
    attack_check: AttackCheck = None
    allow_untrained: AllowUntrained = False

    @property
    def settings(self) -> PredictSettings:
        """Of the detectors."""
        return settings_of(
            frames=self.frames,
            device=self.device.value,
            tta=self.tta,
            threshold=self.threshold,
            attack_check=self.attack_check,
            allow_untrained=self.allow_untrained or None,
        )


def train_groups_of(name: str, settings: PredictSettings) -> frozenset[str]:
    """Hashes of the groups that a detector was trained on; none where it does not say."""
    from deepscan.evaluate.training_groups import read_groups

    folder = folder_of(name, settings)
    return frozenset() if folder is None else read_groups(folder)


def folder_of(name: str, settings: PredictSettings) -> Path | None:
    """The folder of a detector; None for a backbone with random weights."""
    from deepscan.errors import ModelError
    from deepscan.models.checkpoint import resolve_detector

    try:
        return resolve_detector(name)
    except ModelError:
        if settings.allow_untrained:
            return None
        raise


def preparation_of(cache: Path | None, jobs: int | None, progress: Progress) -> Preparation:
    """How what is no store is made one; stderr says where it is kept."""
    from deepscan.datasets.data import DEFAULT_CACHE, Preparation

    def start(corpus: Path, folder: Path) -> None:
        if log.isEnabledFor(logging.WARNING):
            typer.echo(f"deepscan: {corpus} is preprocessed into {folder}, which is kept", err=True)

    return Preparation(
        cache=cache or DEFAULT_CACHE,
        jobs=jobs,
        on_start=start,
        on_progress=lambda at: progress(at.name[-30:], at.done, at.total),
    )


def check_plots(folder: Path | None, option: str = "--plots") -> None:
    """Fail before the work where pictures cannot be drawn."""
    if folder is not None:
        from deepscan.evaluate.evaluation_plots import check_folder

        check_folder(folder, option)


@contextmanager
def progress_of() -> Iterator[Progress]:
    """One bar, for whatever is being done; its rate is of that."""
    with progress_bar() as bar:
        task = bar.add_task("", total=None, rate="", failed=0)
        start_s = 0.0
        rate = ""

        def progress(name: str, done: int, total: int) -> None:
            nonlocal rate, start_s
            if done == 1 or not start_s:
                start_s = time.monotonic()
            if done > 1:
                rate = f"{(done - 1) / max(1e-6, time.monotonic() - start_s):.1f}/s"
            bar.update(task, description=name, completed=done, total=total, rate=rate)

        yield progress
