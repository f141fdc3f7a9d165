"""A small plain CNN: the size that a laptop trains in minutes, and the baseline that larger networks must beat."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from deepscan.models.backbones.base import HALF, Backbone, register_backbone


class CustomCNN(Backbone):
    """Five blocks of convolution, batch norm, ReLU and pooling; global average; a dense layer of 128."""

    feature_dim = 128

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 128, 256)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
                    nn.BatchNorm2d(n_out),
                    nn.ReLU(),
                    nn.MaxPool2d(2, ceil_mode=True),
                )
                for n_in, n_out in pairwise(widths)
            )
        )
        self.dense = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(widths[-1], self.feature_dim),
            nn.ReLU(),
            nn.Dropout(0.3),
        )

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.dense(self.blocks(x))
        return features


@register_backbone("custom_cnn", input_size_px=128, mean=HALF, std=HALF, source="this package")
def custom_cnn() -> Backbone:
    """0.6 million parameters, 128 features."""
    return CustomCNN()
