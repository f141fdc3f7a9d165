"""Detectors on disk: a folder with ``model.safetensors`` (weights) and ``card.json`` (everything else).

The card carries what prediction needs beside the weights (crop rule, normalisation, network settings, calibration) and
what was measured. Its sha256 of the weights is checked at every load. Nothing here runs code from a file: no pickle.

An ensemble is a folder with a card alone, which lists folders of detectors in it; see :mod:`deepscan.models.ensemble`.

Cards and files are read and checked without torch, which is imported where a network is made.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from deepscan.config import CropSettings, ModelSettings
from deepscan.errors import ModelError, OutputError
from deepscan.files import file_sha256, temporary_beside, write_atomically
from deepscan.models.backbones.published_weights import load_backbone_weights, load_state, read_weights
from deepscan.models.card import Card, DetectorCard, EnsembleCard

if TYPE_CHECKING:
    from deepscan.models.network import DetectorNetwork

WEIGHTS_FILE, CARD_FILE = "model.safetensors", "card.json"
# Of the groups it was trained on, where that is known; see deepscan.evaluate.training_groups.
GROUPS_FILE = "groups.txt"
NETWORKS_FILE = "networks.json"  # of an exported detector; see deepscan.models.export
DETECTOR_FILES = (CARD_FILE, WEIGHTS_FILE, GROUPS_FILE)  # all of a detector, and of each member of an ensemble
SHIPPED_ROOT = Path(__file__).resolve().parent.parent / "weights"
DEFAULT_DETECTOR = "default"
# Of the weights that ship: a card beside exchanged weights can be exchanged with them.
SHIPPED_SHA256 = {
    "default": "36bc2cee339bfbedf6a7d7fefeb1e93ac458c5ee5881b0b5573ac3b299233cfb",
    "resnet18": "46a8f2d8a70dd22a0e67a0c4565ea171608a0dd1e6f46e66cbeea0d0fd46435d",
}
_LARGEST_CARD = 64 * 2**20


def list_detectors() -> list[str]:
    """Names of the detectors that came with the package."""
    return sorted(p.parent.name for p in SHIPPED_ROOT.glob(f"*/{CARD_FILE}"))


def resolve_detector(name_or_path: str | Path) -> Path:
    """The folder of a detector given by its shipped name, its folder, a file in it, or ``hf:user/name[@revision]``.

    Raises:
        ModelError: there is none, the message lists the known ones; or the Hub refuses.
    """
    text = str(name_or_path)
    if text.startswith("hf:"):
        from deepscan.models.hub import HubAddress, download

        return download(HubAddress.parse(text), DETECTOR_FILES)
    if text in list_detectors():
        return SHIPPED_ROOT / text
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises on an unknown user
    folder = path.parent if path.name in (WEIGHTS_FILE, CARD_FILE) else path
    if (folder / CARD_FILE).is_file():
        return folder
    refuse_exported(path.parent if path.is_file() else folder)
    names = ", ".join(list_detectors())
    cause = "it is a folder without card.json" if path.is_dir() else "no such name or folder"
    hint = f"Known detectors: {names}; or give the folder of a trained one."
    from deepscan.models.backbones.registry import list_backbones

    if text in list_backbones() or text.startswith("timm:"):
        cause = "that is a backbone, and it has no trained weights"
        hint += " To run it with random weights, which say nothing about a video, add --allow-untrained."
    raise ModelError(f"Unknown model '{text}'", cause, hint, reason="unknown_model")


def refuse_exported(folder: Path) -> None:
    """Say of a folder of ``deepscan export`` what it is for: its networks run elsewhere, its card can still be read.

    Raises:
        ModelError: it is one.
    """
    if (folder / NETWORKS_FILE).is_file() and not (folder / WEIGHTS_FILE).exists():
        raise ModelError(
            f"{folder} is an exported detector",
            "its networks are for programs that run without deepscan, as its README.txt shows",
            "Give the folder or name of the detector that it was exported from.",
            reason="exported_model",
        )


def load_card(folder: Path) -> Card:
    """Read and validate ``card.json``.

    Raises:
        ModelError: missing, not JSON, or not a valid card.
    """
    try:
        size = (folder / CARD_FILE).stat().st_size
        if size > _LARGEST_CARD:
            raise ModelError(f"{folder / CARD_FILE} is not a valid model card", f"it is {size / 1e6:.0f} MB large")
        data = (folder / CARD_FILE).read_bytes()
        return (EnsembleCard if _is_ensemble(data) else DetectorCard).model_validate_json(data)
    except OSError as error:
        raise ModelError(f"{folder / CARD_FILE} cannot be read", error.strerror or "") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ModelError(
            f"{folder / CARD_FILE} is not a valid model card",
            f"{field}: {first['msg']}",
            "Train or copy it again.",
        ) from error


def check_weights(folder: Path, card: DetectorCard) -> None:
    """Check a detector's weights against its card, those that ship also against :data:`SHIPPED_SHA256`.

    Raises:
        ModelError: they are missing, or their sha256 differs.
    """
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise ModelError(f"{file} is missing", "", "Copy the whole model folder.")
    digest = file_sha256(file)
    expected = {"the card says": card.weights_sha256}
    if folder.parent == SHIPPED_ROOT:
        expected["deepscan ships"] = SHIPPED_SHA256.get(folder.name, "none of that name")
    for source, sha256 in expected.items():
        if digest != sha256:
            raise ModelError(
                f"{file} is damaged or was exchanged",
                f"its sha256 is {digest[:12]}..., {source} {sha256[:12]}...",
                "Copy or install the model again.",
            )


def feature_dim(folder: Path) -> int:
    """Length of the backbone's feature vector, as a detector's weights have it; torch is not needed.

    Raises:
        ModelError: the weights cannot be read or are none of a detector.
    """
    file = folder / WEIGHTS_FILE
    try:
        with safe_open(file, framework="numpy") as weights:
            return int(weights.get_slice("frame_classifier.weight").get_shape()[-1])
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} cannot be read", str(error)) from error


def read_network(folder: Path, card: DetectorCard) -> DetectorNetwork:
    """The network of a folder in evaluation mode; :func:`check_weights` comes first.

    Raises:
        ModelError: the weights cannot be read or do not fit the card.
    """
    from safetensors.torch import load_file

    from deepscan.models.network import DetectorNetwork

    file = folder / WEIGHTS_FILE
    _check_head(folder, card)
    network = DetectorNetwork(card.network)
    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} cannot be read", str(error)) from error
    load_state(network, {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, file)
    return network.eval()


def _check_head(folder: Path, card: DetectorCard) -> None:
    """A card from a stranger may ask for a head of any size; the weights for it would have to be there."""
    import torch

    from deepscan.models.backbones.registry import backbone_spec
    from deepscan.models.heads import create_head

    backbone_spec(card.network.backbone)
    file, settings = folder / WEIGHTS_FILE, card.network.head
    with torch.device("meta"):
        head = create_head(settings, feature_dim(folder))
    n_weights = sum(weights.numel() for weights in head.parameters()) + head.out_dim * settings.dense
    if n_weights * torch.half.itemsize > file.stat().st_size:
        cause = f"the head on the card has {n_weights:,} weights, more than the file holds"
        raise ModelError(f"{file} does not fit the network", cause)


def save_detector(folder: Path, network: DetectorNetwork, card: DetectorCard, *, half: bool = False) -> DetectorCard:
    """Write a detector atomically: the weights first, the card that vouches for them last.

    Args:
        folder: made if missing.
        network: its weights are written in float32, or in float16 when ``half``.
        card: its ``weights_sha256`` is filled in.

    Returns:
        The card as written.
    """
    from safetensors.torch import save_file

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made", error.strerror or str(error)) from error
    state = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous().cpu()
        for name, value in network.state_dict().items()
    }
    with temporary_beside(folder / WEIGHTS_FILE) as temporary:
        save_file(state, temporary)
        card = card.model_copy(update={"weights_sha256": file_sha256(temporary)})
    write_atomically(folder / CARD_FILE, card_bytes(card))
    return card


def card_bytes(card: Card) -> bytes:
    """A card as it is written."""
    return (json.dumps(card.model_dump(mode="json"), indent=1) + "\n").encode()


def untrained_detector(backbone: str, seed: int = 0) -> tuple[DetectorNetwork, DetectorCard]:
    """A detector with random weights, for trying things out; its card says ``trained: false``."""
    import torch

    from deepscan.models.backbones.registry import backbone_spec
    from deepscan.models.network import DetectorNetwork

    spec = backbone_spec(backbone)
    settings = ModelSettings(backbone=backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DetectorNetwork(settings).eval()
    card = DetectorCard(
        name=f"untrained {backbone}",
        network=settings,
        crop=CropSettings(size_px=spec.input_size_px),
        mean=spec.mean,
        std=spec.std,
        weights_sha256="",
        trained=False,
    )
    return network, card


def load_weights(network: DetectorNetwork, file: Path) -> list[str]:
    """Load a backbone's weights and, where the file has one, the logit of single frames (``head`` or ``classifier``).

    Returns:
        Names of the layers that the file lacks, those of the temporal head left out: these always are.

    Raises:
        ModelError: as :func:`load_backbone_weights`.
    """
    missing = load_backbone_weights(network.backbone, file, partly=True)
    state = read_weights(file)
    for name in ("head", "classifier"):
        weight, bias = state.get(f"{name}.weight"), state.get(f"{name}.bias")
        if weight is not None and bias is not None and weight.shape == network.frame_classifier.weight.shape:
            network.frame_classifier.load_state_dict({"weight": weight.float(), "bias": bias.float()})
            return missing
    return [*missing, "frame_classifier"]


def _is_ensemble(card: bytes) -> bool:
    try:
        content = json.loads(card)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and str(content.get("schema_id", "")).startswith("deepscan.ensemble/")
