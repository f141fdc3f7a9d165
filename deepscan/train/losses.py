"""The parts of the training loss. All take logits; labels may lie between 0 and 1 where a pair was mixed.

Distillation: logits as in Hinton et al., Distilling the Knowledge in a Neural Network, 2015; maps as in Romero et al.,
FitNets, ICLR 2015, with the maps of each crop brought to mean 0 and variance 1.
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
from deepscan.train.batches import UNKNOWN, Batch
from deepscan.train.recipe import DistillSettings, LossSettings


class RegionHeads(nn.Module):
    """One logit a cell of each of the backbone's maps; needed in training only.

    Args:
        channels: of the maps.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in channels)

    def forward(self, maps: tuple[Tensor, ...]) -> list[Tensor]:
        """Logits ``[N, h, w]`` of each map."""
        return [head(m).squeeze(1) for head, m in zip(self.heads, maps, strict=True)]


def smoothed(labels: Tensor, amount: float) -> Tensor:
    """Labels moved towards one half."""
    return labels * (1 - amount) + 0.5 * amount


def frame_loss(frame_logits: Tensor, batch: Batch, smoothing: float) -> Tensor:
    """Cross-entropy of ``[B, T]`` logits against the sequence's label, over the frames that are there."""
    targets = smoothed(batch.labels, smoothing).unsqueeze(1).expand_as(frame_logits)
    losses = F.binary_cross_entropy_with_logits(frame_logits, targets, reduction="none")
    weight = batch.mask.to(losses.dtype)
    return (losses * weight).sum() / weight.sum().clamp(min=1)


def ranking_loss(logits: Tensor, partners: Tensor) -> Tensor:
    """How far fakes are from lying above the real they were made from: person and light cancel out.

    Args:
        logits: ``[B]``.
        partners: index of each fake's real, -1 for the others.
    """
    fakes = torch.nonzero(partners >= 0).squeeze(1)
    if not len(fakes):
        return logits.sum() * 0
    return F.softplus(logits[partners[fakes]] - logits[fakes]).mean()


def region_loss(cells: list[Tensor], regions: Tensor) -> Tensor:
    """Cross-entropy of cells against the share of them that was manipulated; what is not known does not count.

    Args:
        cells: logits ``[N, h, w]`` of each map.
        regions: ``[N, H, W]`` in [0, 1], all of a crop -1 where it is not known.
    """
    known = regions.amin(dim=(1, 2)) > UNKNOWN / 2
    if not bool(known.any()):
        return torch.stack([c.sum() for c in cells]).sum() * 0
    target = regions[known].clamp(0, 1)
    parts = []
    for logits in cells:
        small = F.adaptive_avg_pool2d(target.unsqueeze(1), (logits.shape[-2], logits.shape[-1])).squeeze(1)
        parts.append(F.binary_cross_entropy_with_logits(logits[known], small))
    return torch.stack(parts).sum()


def masked_frame_mean(frame_logits: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``[B, T]`` logits over the frames that are there."""
    weight = mask.to(frame_logits.dtype)
    return (frame_logits * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def total_loss(
    settings: LossSettings, video: Tensor | None, frames: Tensor, cells: list[Tensor], batch: Batch
) -> dict[str, Tensor]:
    """The weighted parts and their sum.

    Args:
        settings: the weights.
        video: logits ``[B]``; None where the head was not run.
        frames: logits ``[B, T]``.
        cells: of :class:`RegionHeads`, empty without.
        batch: what they belong to.

    Returns:
        ``loss`` and the parts by name.
    """
    parts: dict[str, Tensor] = {}
    if settings.video and video is not None:
        labels = smoothed(batch.labels, settings.label_smoothing)
        parts["video"] = settings.video * F.binary_cross_entropy_with_logits(video, labels)
    if settings.frame:
        parts["frame"] = settings.frame * frame_loss(frames, batch, settings.label_smoothing)
    if settings.ranking:
        ranked = ranking_loss(masked_frame_mean(frames, batch.mask), batch.partners)
        if settings.video and video is not None:
            ranked = 0.5 * (ranked + ranking_loss(video, batch.partners))
        parts["ranking"] = settings.ranking * ranked
    if settings.region and cells:
        parts["region"] = settings.region * region_loss(cells, batch.regions.flatten(0, 1)[batch.mask.flatten()])
    if not parts:
        raise ValueError("All parts of the loss have the weight 0.")
    return {"loss": torch.stack(list(parts.values())).sum(), **parts}


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
            self._map = _sixteenth(backbone.map_channels)
            self._teacher_map = _sixteenth(teacher.backbone.map_channels)
            self.projection = nn.Conv2d(
                backbone.map_channels[self._map], teacher.backbone.map_channels[self._teacher_map], 1
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
            features, teacher_maps = teacher.backbone.features_and_maps(x)
            answers = torch.sigmoid(teacher.frame_classifier(features).squeeze(-1).float())
        parts = {"distill": self.settings.weight * F.binary_cross_entropy_with_logits(logits.float(), answers)}
        if self.projection is not None:
            target = teacher_maps[self._teacher_map].float()
            projected = self.projection(maps[self._map]).float()
            if projected.shape != target.shape:
                target = F.interpolate(target, size=projected.shape[-2:], mode="bilinear", align_corners=False)
            parts["distill_maps"] = self.settings.maps * F.mse_loss(projected, F.layer_norm(target, target.shape[1:]))
        return parts


def _sixteenth(channels: tuple[int, ...]) -> int:
    """Index of the map of a sixteenth of the side: the only one, or the middle one of a ResNet's three."""
    return len(channels) // 2
