"""Weights of others: read without running code, and put into a backbone as far as they fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deepscan.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deepscan.models.backbones.base import Backbone

# How the layers that other projects classify with are called; deepscan has its own.
_CLASSIFIERS = ("logits.", "fc.", "classifier.", "head.")


def load_backbone_weights(backbone: Backbone, file: Path, *, partly: bool = False) -> list[str]:
    """Load published weights of a backbone (``.safetensors``, or ``.pt``/``.pth`` without running code).

    Entries of a classifier that the backbone does not have (facenet-pytorch's ``logits``, torchvision's ``fc``, timm's
    ``classifier`` and ``head``) are left out.

    Args:
        backbone: is changed in place.
        file: of the weights.
        partly: whether layers may be missing from the file; what is there must fit all the same.

    Returns:
        Names of the backbone's layers that the file lacks, which stay as they are.

    Raises:
        ModelError: unreadable, unsafe, or not this backbone's weights.
    """
    state = read_weights(file)
    net = getattr(backbone, "net", backbone)
    expected = net.state_dict()
    state = {k: v for k, v in state.items() if k in expected or not k.startswith(_CLASSIFIERS)}
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    if partly and any(name in expected for name in state):
        state = {**{name: value for name, value in expected.items() if name not in state}, **state}
    load_state(net, state, file)
    return list(dict.fromkeys(name.rpartition(".")[0] for name in missing)) if partly else []


def read_weights(file: Path) -> dict[str, Tensor]:
    """A plain state dict; raises ModelError as :func:`load_backbone_weights`."""
    import torch
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            f"{file} cannot be read as weights",
            type(error).__name__,
            "Only safetensors files and plain state dicts are read; files that carry code are refused.",
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ModelError(f"{file} holds no state dict", "", "Save it with torch.save(model.state_dict(), ...).")
    return state


def load_state(network: nn.Module, state: dict[str, Tensor], file: Path) -> None:
    """Put a state dict into a network, all of it.

    Raises:
        ModelError: it does not fit.
    """
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        lines = str(error).splitlines()
        cause = lines[1].strip() if len(lines) > 1 else str(error)
        raise ModelError(f"{file} does not fit the network", cause[:200]) from error
