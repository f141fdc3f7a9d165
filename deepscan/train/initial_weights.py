"""What training starts from, and whom it learns from."""

from __future__ import annotations

import logging
from pathlib import Path

from deepscan.config import HeadSettings, ModelSettings
from deepscan.errors import ConfigError, ModelError
from deepscan.models.checkpoint import WEIGHTS_FILE, load_weights, resolve_detector
from deepscan.models.ensemble import open_detector
from deepscan.models.network import DetectorNetwork
from deepscan.train.recipe import DistillSettings, Recipe

log = logging.getLogger(__name__)


def initial_network(recipe: Recipe, data: Path | None = None) -> DetectorNetwork:
    """The network that training starts from: random weights, a detector's, or a backbone's published ones.

    Of a file of weights layers may be missing; they start at random, and the log names them.

    Args:
        recipe: of the run.
        data: folder from which the file is looked for, too.

    Raises:
        ModelError: ``init`` names no such weights, or they do not fit.
    """
    network = DetectorNetwork(recipe.model)
    if recipe.init is None:
        return network
    names = (recipe.init,) if isinstance(recipe.init, str) else recipe.init
    start = next((file for name in names if (file := _weights_file(name, data)) is not None), None)
    if start is not None:
        missing = load_weights(network, start)
        log.info("start from %s; at random start: %s", start.name, ", ".join([*missing, "head"]))
        return network
    other, _ = open_detector(resolve_detector(names[-1])).single()
    if other.settings.backbone != recipe.model.backbone:
        raise ModelError(
            f"{names[-1]} cannot be trained further as {recipe.model.backbone}",
            f"its backbone is {other.settings.backbone}",
        )
    same_head = other.settings.head == recipe.model.head
    shared = ("backbone.", "frame_classifier.")
    state = {k: v for k, v in other.state_dict().items() if same_head or k.startswith(shared)}
    network.load_state_dict(state, strict=same_head)
    return network


def teacher_network(settings: DistillSettings, data: Path | None = None) -> DetectorNetwork:
    """The network that a recipe's ``distill`` names, in evaluation mode; it is not trained.

    Args:
        settings: of the recipe.
        data: as for :func:`initial_network`.

    Raises:
        ModelError, ConfigError: there is none, or its backbone is not told.
    """
    if (file := _weights_file(settings.teacher, data)) is None:
        network, _ = open_detector(resolve_detector(settings.teacher)).single()
    elif settings.backbone is None:
        raise ConfigError(
            f"distill.teacher is a file of weights ({file.name})",
            "it does not say which network it is of",
            "Give distill.backbone, for example timm:mobilenetv2_100.",
        )
    else:
        network = DetectorNetwork(ModelSettings(backbone=settings.backbone, head=HeadSettings(name="mean")))
        if "frame_classifier" in load_weights(network, file):
            raise ModelError(f"{file} cannot teach", "it has no layer that tells fakes (head.weight)")
    return network.eval().requires_grad_(False)


def _weights_file(name: str, data: Path | None) -> Path | None:
    """The file of plain weights that a name stands for; None where there is none, or it is of a detector."""
    if Path(name).suffix not in (".safetensors", ".pt", ".pth") or Path(name).name == WEIGHTS_FILE:
        return None
    candidates = [Path(name), *([data / name] if data is not None else [])]
    return next((file for file in candidates if file.is_file()), None)
