"""The whole of ``deepscan train``: one detector, or one for each fold and their ensemble."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deepscan.datasets.data import check_rule
from deepscan.datasets.dataset import Sample, SampleSet
from deepscan.errors import ConfigError
from deepscan.evaluate.plots import plot_training
from deepscan.evaluate.tables import short_names
from deepscan.models.card import Card, DetectorCard
from deepscan.models.checkpoint import CARD_FILE, load_card
from deepscan.models.ensemble_folder import save_ensemble
from deepscan.train.callbacks import EPOCHS_FILE, read_epochs
from deepscan.train.finalize import finalize_detector
from deepscan.train.fit import Machine, is_leading_process, train_network
from deepscan.train.recipe import Recipe

log = logging.getLogger(__name__)

CURVES_FILE = "curves.png"


def train(
    recipe: Recipe, samples: SampleSet, run: Path, machine: Machine | None = None, *, resume: bool = False
) -> Card | None:
    """Train by a recipe; the folder of the run is then a detector.

    With several processes each calls this; all but the leading one return None when their part is done.

    Args:
        recipe: what to do. With folds, each validates on groups that the others train on.
        samples: of the splits ``train`` and ``val``; ``test`` is only measured at the end.
        run: folder of the run.
        machine: what may be used.
        resume: go on where an earlier call was stopped.

    Raises:
        ConfigError, ModelError, OutputError: see :func:`deepscan.train.fit.train_network`.
    """
    check_rule(samples.crop, recipe.crop, "The data")
    if recipe.folds == 1:
        return _train_fold(recipe, samples, run, machine, resume=resume)
    parts = []
    for fold in range(recipe.folds):
        folder = run.with_name(f"{run.name}-folds") / f"fold-{fold}"
        log.info("fold %d of %d", fold + 1, recipe.folds)
        fold_recipe = recipe.model_copy(update={"folds": 1, "name": f"{recipe.name}-fold-{fold}"})
        _train_fold(fold_recipe, folded(samples, fold, recipe.folds, recipe.seed), folder, machine, resume=resume)
        parts.append(folder)
    if not is_leading_process():
        return None
    return save_ensemble(run, parts, name=recipe.name, training={"folds": recipe.folds})


def settle(
    recipe: Recipe, data: Sequence[Path], out: Path | None, changes: Sequence[str] = (), *, own_sources: bool
) -> tuple[Recipe, Path]:
    """The recipe as a run of ``deepscan train`` follows it, and the run's folder.

    A detector is called by the folder of its run. What a recipe says of its own sources, its version and limits among
    it, holds for a detector that was trained on these alone.

    Args:
        recipe: as it was read, changes included.
        data: what it is trained on.
        out: the folder, where the user gives one.
        changes: as ``--set`` takes them; what they say stays as it is.
        own_sources: whether the data are the recipe's own ``data.sources``.
    """
    changed_keys = {change.partition("=")[0].strip().partition(".")[0] for change in changes}
    name = recipe.name
    if recipe.data.sources and not own_sources:
        plain = {"version": Recipe.model_fields["version"].default, "limits": ()}
        plain = {key: value for key, value in plain.items() if key not in changed_keys}
        bare = recipe.data.model_copy(update={"sources": ()})
        recipe = recipe.model_copy(update={**plain, "data": bare})
        if "name" not in changed_keys:
            name = f"{name}-{short_names(data)[0]}"
    run = out or Path("runs") / _plain(name)
    if "name" not in changed_keys:
        recipe = recipe.model_copy(update={"name": _plain(run.absolute().name) or recipe.name})
    return recipe, run


def _plain(name: str) -> str:
    """A name of the characters that a recipe's may have."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")


def folded(samples: SampleSet, fold: int, folds: int, seed: int) -> SampleSet:
    """The same samples with ``train`` and ``val`` divided anew: a group is validated on in exactly one fold.

    Raises:
        ConfigError: the fold would have nothing to train or validate on.
    """

    def split(sample: Sample) -> Sample:
        if sample.split == "test":
            return sample
        name = f"{seed}\0{sample.dataset}\0{sample.group}".encode("utf-8", "surrogatepass")
        validated_in = int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % folds
        return replace(sample, split="val" if validated_in == fold else "train")

    divided = replace(samples, samples=tuple(map(split, samples.samples)))
    if {"train", "val"} - {sample.split for sample in divided.samples}:
        cause = "there are too few groups for one of them"
        raise ConfigError(f"{folds} folds cannot be made", cause, "Give fewer folds or more data.")
    return divided


def _train_fold(
    recipe: Recipe, samples: SampleSet, run: Path, machine: Machine | None, *, resume: bool
) -> DetectorCard | None:
    if resume and (run / CARD_FILE).exists():
        card = load_card(run)
        if isinstance(card, DetectorCard):
            return card
    network = train_network(recipe, samples, run, machine, resume=resume)
    if not is_leading_process():
        return None
    rows = [
        {**row, "stage": stage.name} for stage in recipe.stages for row in read_epochs(run / stage.name / EPOCHS_FILE)
    ]
    plot_training(run / CURVES_FILE, rows)
    return finalize_detector(recipe, network, samples, run, {"epochs": len(rows)})
