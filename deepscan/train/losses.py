"""The parts of the training loss. All take logits; labels may lie between 0 and 1 where a pair was mixed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepscan.train.batches import UNKNOWN, Batch
from deepscan.train.recipe import LossSettings


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
