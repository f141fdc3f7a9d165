"""Whose a run's folder is: one run at a time, by one recipe."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepscan.append_log import LineFile
from deepscan.errors import ConfigError
from deepscan.files import write_atomically
from deepscan.train.recipe import Recipe, dump_recipe, load_recipe

log = logging.getLogger(__name__)

RECIPE_FILE, FINAL_FILE = "recipe.yaml", "final.safetensors"
_LOCK_FILE = "run.lock"


@contextmanager
def claimed(run: Path, recipe: Recipe, resume: bool) -> Iterator[None]:
    """Keep a run's folder for this process, once the run in it is sure to be this one.

    Raises:
        ConfigError: it holds a run already, or one of another recipe.
        OutputError: another process trains in it, or it cannot be written.
    """
    run.mkdir(parents=True, exist_ok=True)
    with LineFile(run / _LOCK_FILE):
        _settle_recipe(run, recipe, resume)
        yield


def _settle_recipe(run: Path, recipe: Recipe, resume: bool) -> None:
    file, text = run / RECIPE_FILE, dump_recipe(recipe)
    if not (file.exists() and _holds_weights(run)):
        write_atomically(file, text.encode())
        return
    if not resume:
        raise ConfigError(f"{run} holds a run already", hint="Add --resume to go on with it, or give another --out.")
    if file.read_text(encoding="utf-8") == text:
        return
    if (changed := _changed_too_late(load_recipe(file), recipe, run)) is not None:
        raise ConfigError(
            f"{run} holds a run of another recipe",
            f"{changed} differs from its recipe.yaml, and has been used already",
            "Resume with the same --config and --set, or give another --out.",
        )
    log.info("%s goes on by a recipe that differs in what is still to come", run)
    write_atomically(file, text.encode())


def _holds_weights(run: Path) -> bool:
    """Whether anything was trained that a new run would write over."""
    return any(next(run.glob(pattern), None) for pattern in ("*/*.ckpt", f"*/{FINAL_FILE}", "*.safetensors"))


def _changed_too_late(old: Recipe, new: Recipe, run: Path) -> str | None:
    """The first setting in which two recipes differ although the run has used it; None if there is none.

    Not used yet are stages that have not begun, all that only the end of a run needs, and how long a stage at a
    constant rate goes on: its updates so far are the same whatever their number.
    """

    def used(recipe: Recipe) -> dict[str, Any]:
        plan = recipe.model_dump(mode="json", exclude={"calibration", "half", "limits", "name", "version"})
        plan["data"]["sources"] = [
            {key: value for key, value in source.items() if key not in ("about", "terms")}
            for source in plan["data"]["sources"]
            if source["use"] != "test"
        ]
        begun = [stage for stage in plan["stages"] if (run / stage["name"]).exists()]
        for stage in begun:
            if stage["schedule"] == "constant" and not (run / stage["name"] / FINAL_FILE).exists():
                stage["epochs"] = None
        return {**plan, "stages": begun}

    old_data, new_data = used(old), used(new)
    return next((name for name in old_data if old_data[name] != new_data[name]), None)
