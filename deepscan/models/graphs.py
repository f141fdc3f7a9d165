"""A detector's parts as networks of one input each, for every runtime and for export.

Crops go in as they were cut: the views of test-time augmentation and the normalisation are part of the graph, so no
runtime has its own copy of them. What they compute has a version in :mod:`deepscan.models.runtime_scorer`.
"""

from __future__ import annotations

from torch import Tensor, nn

from deepscan.config import n_views
from deepscan.models.network import DetectorNetwork
from deepscan.models.transform import Triple, as_unit, normalise, tta_views


class CropViews(nn.Module):
    """Crops ``uint8 [N, S, S, 3]``, RGB -> what the backbone takes of every view, ``float32 [V * N, 3, S, S]``.

    Args:
        mean, std: normalisation of RGB in [0, 1].
        tta: two views; otherwise one, the crop as it is.
    """

    def __init__(self, mean: Triple, std: Triple, *, tta: bool) -> None:
        super().__init__()
        self.mean, self.std, self.tta = mean, std, tta

    def forward(self, crops: Tensor) -> Tensor:
        unit = as_unit(crops)
        return normalise(tta_views(unit).flatten(0, 1) if self.tta else unit, self.mean, self.std)


class CropFeatures(nn.Module):
    """Crops ``uint8 [N, S, S, 3]``, RGB -> backbone features ``float32 [V, N, D]`` of every view.

    Args:
        network: whose backbone it is.
        mean, std, tta: as for :class:`CropViews`.
    """

    def __init__(self, network: DetectorNetwork, mean: Triple, std: Triple, *, tta: bool) -> None:
        super().__init__()
        self.views, self.backbone = CropViews(mean, std, tta=tta), network.backbone
        self.n_views = n_views(tta)

    def forward(self, crops: Tensor) -> Tensor:
        features: Tensor = self.backbone(self.views(crops))
        return features.float().reshape(self.n_views, -1, self.backbone.feature_dim)


class SequenceLogits(nn.Module):
    """Features of one person ``[V, T, D]`` -> video logits ``[V]`` and frame logits ``[V, T]``."""

    def __init__(self, network: DetectorNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        output = self.network.from_features(features)
        return output.video_logit, output.frame_logits


class PersonLogits(nn.Module):
    """Crops of one person ``uint8 [T, S, S, 3]``, RGB -> video logit ``[]`` and frame logits ``[T]``, over all views.

    Args:
        network, mean, std, tta: as for :class:`CropFeatures`.
    """

    def __init__(self, network: DetectorNetwork, mean: Triple, std: Triple, *, tta: bool) -> None:
        super().__init__()
        self.features = CropFeatures(network, mean, std, tta=tta)
        self.logits = SequenceLogits(network)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        video_logits, frame_logits = self.logits(self.features(crops))
        return video_logits.mean(dim=0), frame_logits.mean(dim=0)
