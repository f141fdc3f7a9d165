"""Scorers in the runtime that fits the machine.

``auto`` takes OpenVINO where the networks run on the processor, and torch for everything else. With the converted
copies of all networks at hand, nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from deepscan.config import PredictSettings, n_views
from deepscan.errors import ModelError
from deepscan.models.card import DetectorCard, EnsembleCard
from deepscan.models.checkpoint import DetectorFiles
from deepscan.models.ensemble import Ensemble, EnsembleFiles, EnsembleScorer, create_scorer
from deepscan.models.scorer import NetworkScorer, Scorer, pick_device
from deepscan.runtimes import Network, NetworkSpec, RuntimeName, openvino_runtime

if TYPE_CHECKING:
    from torch import nn

    from deepscan.models.network import DetectorNetwork

    Source = DetectorFiles | EnsembleFiles | DetectorNetwork | Ensemble

log = logging.getLogger(__name__)

# Of what deepscan.models.graphs computes: converted copies of another number are not used.
_GRAPHS_VERSION = 2
_CROPS_PER_BATCH = 16


def place_of(settings: PredictSettings) -> str:
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


def make_scorer(
    source: Source, card: DetectorCard | EnsembleCard, settings: PredictSettings
) -> tuple[Scorer, RuntimeName]:
    """The scorer of a detector, and the runtime that it is in.

    Args:
        source: a detector's files, or networks that are loaded already: those stay in torch unless OpenVINO is forced.
        card: of the detector.
        settings: ``device``, ``runtime`` and ``tta`` count.

    Raises:
        ModelError: weights cannot be loaded; the wanted device is not there; or the forced runtime (reason
            ``runtime``) is not there or cannot run these networks.
    """
    device = place_of(settings)
    if _may_be_openvino(source, card, settings, device):
        try:
            return _openvino_scorer(source, card, settings.tta), "openvino"
        except openvino_runtime.ConversionError as error:
            if settings.runtime == "openvino":
                raise
            log.info("The networks run in torch: %s", error)
    network = source.load() if isinstance(source, DetectorFiles | EnsembleFiles) else source
    return create_scorer(network, card, device=device, tta=settings.tta, precision="auto"), "torch"


def foresee_runtime(files: DetectorFiles | EnsembleFiles, settings: PredictSettings) -> RuntimeName:
    """The runtime that :func:`make_scorer` will choose, in this process and others like it.

    Networks that are to run in OpenVINO and have no converted copy yet are converted for it: the processes that come
    then find theirs.

    Raises:
        ModelError: as for :func:`make_scorer`.
    """
    if not _may_be_openvino(files, files.card, settings, place_of(settings)):
        return "torch"
    if all(openvino_runtime.is_kept(spec) for spec in _all_specs(files, settings.tta)):
        return "openvino"
    return make_scorer(files, files.card, settings)[1]


def _may_be_openvino(source: Source, card: DetectorCard | EnsembleCard, settings: PredictSettings, device: str) -> bool:
    if settings.runtime != "auto" or device != "cpu":
        return settings.runtime == "openvino"
    if not isinstance(source, DetectorFiles | EnsembleFiles) or not card.trained:
        return False  # converting takes longer than what is gained where no copy is kept
    if not openvino_runtime.is_installed():
        log.info("The networks run in torch: OpenVINO is not installed.")
        return False
    for spec in _all_specs(source, settings.tta):
        why = openvino_runtime.known_failure(spec)
        if why is not None:
            log.info("The networks run in torch: %s could not be converted for OpenVINO: %s", spec.name, why)
            return False
    return True


def _openvino_scorer(source: Source, card: DetectorCard | EnsembleCard, tta: bool) -> Scorer:
    if isinstance(source, EnsembleFiles | Ensemble) and isinstance(card, EnsembleCard):
        members = [
            (_openvino_scorer(member, member_card, tta), member_card, share)
            for member, member_card, share in _members(source)
            if share > 0
        ]
        return EnsembleScorer(card, members)
    if not isinstance(source, EnsembleFiles | Ensemble) and isinstance(card, DetectorCard):
        return _network_scorer(source, card, tta)
    raise ValueError(f"Invalid card ({type(card).__name__}) for {type(source).__name__}.")


class _Features:
    """Views, then the backbone: apart, so that only the backbone is computed in 16 bits.

    Normalised in bf16, probabilities were measured to differ by 0.007 from torch's; in float32, by 0.0005.
    """

    def __init__(self, views: Network, backbone: Network, tta: bool) -> None:
        self._views, self._backbone, self._n_views = views, backbone, n_views(tta)

    def __call__(self, x: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        (features,) = self._backbone(*self._views(x))
        return (features.reshape(self._n_views, len(x), -1),)


@dataclass(frozen=True, slots=True)
class _Specs:
    """Of the three networks that a detector is converted to."""

    views: NetworkSpec
    backbone: NetworkSpec
    logits: NetworkSpec

    @classmethod
    def of(cls, source: DetectorFiles | DetectorNetwork, card: DetectorCard, tta: bool) -> Self:
        side, name = card.crop.size_px, f"{card.backbone}-{card.head}"
        on_disk = isinstance(source, DetectorFiles)
        # Networks in memory may differ from what their card says: no copy of theirs is kept.
        made_from = _digest(card.weights_sha256, card.network.model_dump(mode="json")) if on_disk else ""
        feature_dim = source.feature_dim if isinstance(source, DetectorFiles) else source.backbone.feature_dim
        return cls(
            NetworkSpec(f"views-{side}", _digest(card.mean, card.std, tta), (None, side, side, 3), "uint8"),
            NetworkSpec(f"{name}-backbone", made_from, (None, 3, side, side)),
            NetworkSpec(f"{name}-logits", made_from, (None, None, feature_dim)),
        )

    def all(self) -> list[NetworkSpec]:
        return [self.views, self.backbone, self.logits]


def _network_scorer(source: DetectorFiles | DetectorNetwork, card: DetectorCard, tta: bool) -> NetworkScorer:
    @cache
    def network() -> DetectorNetwork:
        return source.load() if isinstance(source, DetectorFiles) else source.cpu().eval()

    def views() -> nn.Module:
        from deepscan.models.graphs import CropViews

        return CropViews(card.mean, card.std, tta=tta)

    def logits() -> nn.Module:
        from deepscan.models.graphs import SequenceLogits

        return SequenceLogits(network())

    specs = _Specs.of(source, card, tta)
    # The backbone first: the others always convert.
    backbone = openvino_runtime.load(specs.backbone, lambda: network().backbone)
    return NetworkScorer(
        _Features(openvino_runtime.load(specs.views, views, precision="float32"), backbone, tta),
        openvino_runtime.load(specs.logits, logits, precision="float32"),
        card,
        crops_per_batch=_CROPS_PER_BATCH,
    )


def _members(
    source: EnsembleFiles | Ensemble,
) -> list[tuple[DetectorFiles | EnsembleFiles | DetectorNetwork | Ensemble, DetectorCard | EnsembleCard, float]]:
    if isinstance(source, Ensemble):
        return [(m.network, m.card, m.weight) for m in source.members]
    return [(m, m.card, entry.weight) for m, entry in zip(source.members, source.card.members, strict=True)]


def _all_specs(files: DetectorFiles | EnsembleFiles, tta: bool) -> list[NetworkSpec]:
    if isinstance(files, DetectorFiles):
        return _Specs.of(files, files.card, tta).all()
    shares = (entry.weight for entry in files.card.members)
    return [s for m, share in zip(files.members, shares, strict=True) if share > 0 for s in _all_specs(m, tta)]


def _digest(*made_from: object) -> str:
    return hashlib.sha256(json.dumps([_GRAPHS_VERSION, *made_from]).encode()).hexdigest()
