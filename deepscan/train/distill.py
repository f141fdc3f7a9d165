"""Learning from another network: its answers to the same augmented crops, and its maps of features.

Logits: Hinton et al., Distilling the Knowledge in a Neural Network, 2015. Maps: Romero et al., FitNets, ICLR 2015, with
the maps of each crop brought to mean 0 and variance 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepscan.errors import ConfigError
from deepscan.models.backbones.base import Backbone
from deepscan.models.backbones.registry import backbone_spec
from deepscan.models.network import DetectorNetwork
from deepscan.models.transform import normalise
from deepscan.train.recipe import DistillSettings


class Distillation(nn.Module):
    """The parts of the loss that a teacher gives.

    The teacher is no part of the module's parameters: it is neither trained nor averaged nor kept in checkpoints.

    Args:
        settings: of the recipe.
        teacher: in evaluation mode.
        backbone: that learns.
        name: of that backbone, for messages.

    Raises:
        ConfigError: maps are asked for, and one of the two networks has none.
    """

    def __init__(self, settings: DistillSettings, teacher: DetectorNetwork, backbone: Backbone, name: str) -> None:
        super().__init__()
        self.settings = settings
        self._teacher = [teacher]
        self._spec = backbone_spec(teacher.settings.backbone)
        self.projection: nn.Conv2d | None = None
        if settings.maps:
            if not (backbone.map_channels and teacher.backbone.map_channels):
                without = name if not backbone.map_channels else teacher.settings.backbone
                raise ConfigError(
                    f"{without} has no part in distill.maps", "it gives no maps of features", "Set distill.maps to 0."
                )
            self._place = _sixteenth(backbone.map_channels)
            self._teacher_place = _sixteenth(teacher.backbone.map_channels)
            self.projection = nn.Conv2d(
                backbone.map_channels[self._place], teacher.backbone.map_channels[self._teacher_place], 1
            )

    def forward(self, pixels: Tensor, logits: Tensor, maps: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Parts of the loss by name.

        Args:
            pixels: in [0, 1], ``[N, 3, S, S]``.
            logits: of the frames, ``[N]``.
            maps: of the backbone that learns.
        """
        teacher = self._teacher[0]
        if next(teacher.parameters()).device != pixels.device:
            teacher.to(pixels.device)
        side = self.settings.size_px
        if side is not None and side != pixels.shape[-1]:
            pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        with torch.no_grad():
            x = normalise(pixels, self._spec.mean, self._spec.std).contiguous(memory_format=torch.channels_last)
            features, taught = teacher.backbone.features_and_maps(x)
            answers = torch.sigmoid(teacher.frame_classifier(features).squeeze(-1).float())
        parts = {"distill": self.settings.weight * F.binary_cross_entropy_with_logits(logits.float(), answers)}
        if self.projection is not None:
            target = taught[self._teacher_place].float()
            own = self.projection(maps[self._place]).float()
            if own.shape != target.shape:
                target = F.interpolate(target, size=own.shape[-2:], mode="bilinear", align_corners=False)
            parts["distill_maps"] = self.settings.maps * F.mse_loss(own, F.layer_norm(target, target.shape[1:]))
        return parts


def _sixteenth(channels: tuple[int, ...]) -> int:
    """Place of the map of a sixteenth of the side: the only one, or the middle one of a ResNet's three."""
    return len(channels) // 2
