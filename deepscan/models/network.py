"""The detector's network: backbone, temporal head, video logit, and the frame-level auxiliary head."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from deepscan.config import ModelSettings
from deepscan.models.backbones.registry import create_backbone
from deepscan.models.heads import create_head, masked_mean


class NetworkOutput(NamedTuple):
    """Logits of P(fake): one a sequence ``[B]``, and one a frame ``[B, T]`` (meaningless where the mask is false)."""

    video_logit: Tensor
    frame_logits: Tensor


class DetectorNetwork(nn.Module):
    """Crops of one person in time order -> logits.

    The frame-level head sees single frames only: it gives the timeline, and trains the backbone directly.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = create_backbone(settings.backbone)
        self.head = create_head(settings.head, self.backbone.feature_dim)
        width = self.head.out_dim
        layers: list[nn.Module] = []
        if settings.head.dense:
            layers += [
                nn.Dropout(settings.head.dropout),
                nn.Linear(width, settings.head.dense),
                nn.LeakyReLU(),
            ]
            width = settings.head.dense
        self.classifier = nn.Sequential(*layers, nn.Dropout(settings.head.dropout), nn.Linear(width, 1))
        self.frame_classifier = nn.Linear(self.backbone.feature_dim, 1)
        if settings.head.corrects_mean:
            for parameter in self.classifier[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(self, crops: Tensor, mask: Tensor | None = None) -> NetworkOutput:
        """Score sequences.

        Args:
            crops: normalised RGB ``float32 [B, T, 3, H, W]``, T from 1.
            mask: bool ``[B, T]``, true where there is a face; None means everywhere.
        """
        batch, time = crops.shape[:2]
        features = self.backbone(crops.flatten(0, 1)).unflatten(0, (batch, time))
        return self.from_features(features, mask)

    def from_features(self, features: Tensor, mask: Tensor | None = None) -> NetworkOutput:
        """Score sequences of backbone features ``[B, T, D]``."""
        video = self.classifier(self.head(features, mask)).squeeze(-1)
        frames = self.frame_classifier(features).squeeze(-1)
        if self.settings.head.corrects_mean:
            mean = frames.mean(dim=1) if mask is None else masked_mean(frames.unsqueeze(-1), mask).squeeze(-1)
            video = video + mean
        return NetworkOutput(video, frames)
