"""Networks whose map is known by hand, and detectors with random weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from deepscan.config import CropSettings, HeadSettings, ModelSettings
from deepscan.models.backbones.base import Backbone
from deepscan.models.card import Calibration, DetectorCard
from deepscan.models.heads import MeanHead
from deepscan.models.network import DetectorNetwork

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
MEAN_HEAD = HeadSettings(name="mean", dropout=0.0)


class Brightness(Backbone):
    """One channel, the brightness of every pixel; the feature is its mean, and so is the frame logit."""

    feature_dim = 1

    def __init__(self):
        super().__init__()
        self.look = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.look.weight, 1 / 3)

    def forward(self, x):
        return self.look(x).mean(dim=(2, 3))


class Corner(Brightness):
    """Sees the top left quarter only."""

    def __init__(self):
        super().__init__()
        self.window = Window()

    def forward(self, x):
        return self.window(self.look(x)).mean(dim=(2, 3))


class Window(nn.Module):
    """Everything but the top left quarter becomes 0."""

    def forward(self, x):
        kept = torch.zeros_like(x)
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        kept[..., :height, :width] = x[..., :height, :width]
        return kept


def detector(backbone: Backbone | str, size=32, seed=0, **card):
    """A network and its card; with a backbone of one feature that is the frame logit, and its mean the video logit."""
    torch.manual_seed(seed)
    name = backbone if isinstance(backbone, str) else "custom_cnn"
    settings = ModelSettings(backbone=name, head=MEAN_HEAD)
    network = DetectorNetwork(settings)
    if not isinstance(backbone, str):
        network.backbone = backbone
        network.frame_classifier = nn.Linear(backbone.feature_dim, 1, bias=False)
        nn.init.constant_(network.frame_classifier.weight, 1.0)
        network.head, network.classifier = MeanHead(backbone.feature_dim), nn.Identity()
    facts = {"name": "tiny", "network": settings, "crop": CropSettings(size_px=size), "weights_sha256": "", **PLAIN}
    return network.eval(), DetectorCard(**{**facts, **card})


def spread(network):
    """Random weights whose logits differ visibly from crop to crop."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=2 / parameter[0].numel() ** 0.5)
    return network


def noise(n, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def spot(size, row, column, value=255, side=6):
    """A dark crop with a bright square."""
    crop = np.zeros((size, size, 3), np.uint8)
    crop[row : row + side, column : column + side] = value
    return crop


CALIBRATED = Calibration(scale=2.0, bias=0.3, frame_scale=0.5, frame_bias=-0.1)
