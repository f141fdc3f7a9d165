"""Scorers in the runtime that fits the machine.

``auto`` takes OpenVINO where the networks run on the processor, and torch for everything else. With the converted
copies of all networks at hand, nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepscan.config import PredictSettings, n_views
from deepscan.errors import ModelError
from deepscan.models.ensemble import Networks, Part
from deepscan.models.scorer import Scorer, pick_device, torch_scorer
from deepscan.runtimes import Network, NetworkSpec, RuntimeName, openvino_runtime

if TYPE_CHECKING:
    from torch import nn

    from deepscan.models.network import DetectorNetwork

log = logging.getLogger(__name__)

# Of what deepscan.models.graphs computes: converted copies of another number are not used.
_GRAPHS_VERSION = 2
_CROPS_PER_BATCH = 16


def device_of(settings: PredictSettings) -> str:
    """The torch device for the networks of a prediction.

    Raises:
        ModelError: it is not there, or the wanted runtime does not run on it.
    """
    if settings.runtime != "openvino":
        return pick_device(settings.device)
    if settings.device not in ("auto", "cpu"):
        raise ModelError(
            f"Runtime 'openvino' does not run on device '{settings.device}'",
            "it runs on the processor",
            "Leave --runtime or --device out.",
            reason="no_device",
        )
    return "cpu"


def make_scorer(networks: Networks, settings: PredictSettings) -> tuple[Scorer, RuntimeName]:
    """The scorer of a detector, and the runtime that it is in.

    Args:
        networks: those in memory stay in torch unless OpenVINO is forced.
        settings: ``device``, ``runtime`` and ``tta`` count.

    Raises:
        ModelError: weights cannot be loaded; the wanted device is not there; or the forced runtime (reason
            ``runtime``) is not there or cannot run these networks.
    """
    device = device_of(settings)
    if _may_be_openvino(networks, settings, device):
        try:
            functions = [_openvino_functions(part, settings.tta) for part in networks.parts]
            return Scorer(networks, functions, crops_per_batch=_CROPS_PER_BATCH), "openvino"
        except openvino_runtime.ConversionError as error:
            if settings.runtime == "openvino":
                raise
            log.info("The networks run in torch: %s", error)
    # On a processor in 32 bits whether or not it has 16: a file has one answer on every machine.
    return torch_scorer(
        networks, device=device, tta=settings.tta, precision="float32" if device == "cpu" else "auto"
    ), "torch"


def foresee_runtime(networks: Networks, settings: PredictSettings) -> RuntimeName:
    """The runtime that :func:`make_scorer` will choose, in this process and others like it.

    Networks that are to run in OpenVINO and have no converted copy yet are converted for it: the processes that come
    then find theirs.

    Raises:
        ModelError: as for :func:`make_scorer`.
    """
    if not _may_be_openvino(networks, settings, device_of(settings)):
        return "torch"
    if all(openvino_runtime.is_kept(spec) for spec in converted_networks(networks, settings.tta)):
        return "openvino"
    return make_scorer(networks, settings)[1]


def _may_be_openvino(networks: Networks, settings: PredictSettings, device: str) -> bool:
    if settings.runtime != "auto" or device != "cpu":
        return settings.runtime == "openvino"
    if not networks.on_disk or not networks.card.trained:
        return False  # converting takes longer than what is gained where no copy is kept
    if not openvino_runtime.is_installed():
        log.info("The networks run in torch: OpenVINO is not installed.")
        return False
    for spec in converted_networks(networks, settings.tta):
        cause = openvino_runtime.known_failure(spec)
        if cause is not None:
            log.info("The networks run in torch: %s could not be converted for OpenVINO: %s", spec.name, cause)
            return False
    return True


class _Specs(NamedTuple):
    """Of the three networks that a part is converted to."""

    views: NetworkSpec
    backbone: NetworkSpec
    logits: NetworkSpec


def _specs(part: Part, tta: bool) -> _Specs:
    card = part.card
    side, name = card.crop.size_px, f"{card.backbone}-{card.head}"
    # Networks in memory may differ from what their card says: no copy of theirs is kept.
    source = _digest(card.weights_sha256, card.network.model_dump(mode="json")) if part.folder else ""
    return _Specs(
        NetworkSpec(f"views-{side}", _digest(card.mean, card.std, tta), (None, side, side, 3), "uint8"),
        NetworkSpec(f"{name}-backbone", source, (None, 3, side, side)),
        NetworkSpec(f"{name}-logits", source, (None, None, part.feature_dim)),
    )


def converted_networks(networks: Networks, tta: bool) -> list[NetworkSpec]:
    """What OpenVINO runs for a detector: three networks a part."""
    return [spec for part in networks.parts for spec in _specs(part, tta)]


def _openvino_functions(part: Part, tta: bool) -> tuple[Network, Network]:
    """From crops to features, and from features to logits.

    All in 32 bits, so that a file has one answer on every processor.
    """

    @cache
    def network() -> DetectorNetwork:
        return part.load().cpu().eval()

    def build_views() -> nn.Module:
        from deepscan.models.graphs import CropViews

        return CropViews(part.card.mean, part.card.std, tta=tta)

    def build_logits() -> nn.Module:
        from deepscan.models.graphs import SequenceLogits

        return SequenceLogits(network())

    specs = _specs(part, tta)
    # The backbone first: the others always convert.
    backbone = openvino_runtime.load(specs.backbone, lambda: network().backbone)
    views = openvino_runtime.load(specs.views, build_views)

    def features(x: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        (flat,) = backbone(*views(x))
        return (flat.reshape(n_views(tta), len(x), -1),)

    return features, openvino_runtime.load(specs.logits, build_logits)


def _digest(*content: object) -> str:
    return hashlib.sha256(json.dumps([_GRAPHS_VERSION, *content]).encode()).hexdigest()
