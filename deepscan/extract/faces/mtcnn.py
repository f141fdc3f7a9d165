"""MTCNN's networks, ready to run, with the weights that come in facenet-pytorch's wheel.

The only file that knows where they are. Imports no torch: where converted networks are at hand, none is needed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from deepscan.errors import ModelError
from deepscan.files import file_sha256
from deepscan.runtimes import Network, NetworkSpec, RuntimeName, load_network

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

# What goes into each network; None is free.
INPUT_SHAPES: dict[str, tuple[int | None, ...]] = {
    "pnet": (None, None, None, 3),
    "rnet": (None, 24, 24, 3),
    "onet": (None, 48, 48, 3),
}
# Of facenet-pytorch 2.5.3, the only release in the range that deepscan installs.
WEIGHTS_SHA256 = {
    "pnet": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "rnet": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "onet": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}
# Raised whenever mtcnn_networks makes other networks of the same weights: converted copies are then made anew.
_REVISION = 1
_HINT = "Install facenet-pytorch again (pip install --force-reinstall 'facenet-pytorch>=2.5.3,<2.6')."


def load_networks(runtime: RuntimeName = "torch", device: str = "cpu") -> tuple[Network, Network, Network]:
    """P-, R- and O-Net; torch runs them where the runtime that is asked for cannot.

    Args:
        runtime: what runs them; OpenVINO does so on the processor, whatever the device.
        device: torch device.

    Raises:
        ModelError: facenet-pytorch or its weights are missing or damaged.
    """
    if runtime != "torch":
        try:
            return _loaded(runtime, device)
        except ModelError as error:
            if error.reason != "runtime":
                raise
            log.info("The face detector runs in torch: %s", error)
    return _loaded("torch", device)


def _loaded(runtime: RuntimeName, device: str) -> tuple[Network, Network, Network]:
    pnet, rnet, onet = (
        load_network(
            NetworkSpec(f"mtcnn-{name}", f"{weights_sha256(name)}-{_REVISION}", shape),
            lambda name=name: build(name),  # type: ignore[misc]
            runtime=runtime,
            device=device,
        )
        for name, shape in INPUT_SHAPES.items()
    )
    return pnet, rnet, onet


def build(name: str) -> nn.Module:
    """A network as a torch module, in evaluation mode, on the processor.

    Args:
        name: ``pnet``, ``rnet`` or ``onet``.

    Raises:
        ModelError: facenet-pytorch or its weights are missing or damaged.
    """
    import io

    import torch

    from deepscan.extract.faces.mtcnn_networks import create_network

    file = weights_file(name)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError("The face detector cannot be loaded", f"{file}: {error.strerror}", _HINT) from error
    if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256[name]:
        raise ModelError("The face detector cannot be loaded", f"{file} is damaged or was exchanged", _HINT)
    return create_network(name, torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


def weights_file(name: str) -> Path:
    """Where facenet-pytorch keeps a network's weights; the package is not imported for that.

    Raises:
        ModelError: it is not installed, or came without them.
    """
    spec = importlib.util.find_spec("facenet_pytorch")
    if spec is None or spec.origin is None:
        raise ModelError("The face detector cannot be loaded", "facenet-pytorch is not installed", _HINT)
    file = Path(spec.origin).parent / "data" / f"{name}.pt"
    if not file.is_file():
        raise ModelError("The face detector cannot be loaded", f"{file} is not there", _HINT)
    return file


@cache
def weights_sha256(name: str) -> str:
    """Hex sha256 of a network's weights.

    Raises:
        ModelError: as :func:`weights_file`.
    """
    return file_sha256(weights_file(name))
