"""Meso4 and MesoInception4, written from the paper (Afchar et al., MesoNet, WIFS 2018, arXiv:1809.00888)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepscan.models.backbones.base import HALF, Backbone, register_backbone

_SOURCE = "Afchar et al., MesoNet: a Compact Facial Video Forgery Detection Network, WIFS 2018"
_GRID = 8  # a 256 px input leaves 8x8 cells before the dense layer; other sizes are averaged onto that grid


def _conv_block(n_in: int, n_out: int, kernel: int, pool: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2),
        nn.ReLU(),
        nn.BatchNorm2d(n_out),
        nn.MaxPool2d(pool, ceil_mode=True),
    )


class _InceptionBlock(nn.Module):
    """Four branches: 1x1, 3x3, and 3x3 dilated by 2 and by 3, concatenated."""

    def __init__(self, n_in: int, a: int, b: int, c: int, d: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(n_in, a, 1), nn.ReLU()),
                *(
                    nn.Sequential(
                        nn.Conv2d(n_in, n, 1),
                        nn.ReLU(),
                        nn.Conv2d(n, n, 3, padding=rate, dilation=rate),
                        nn.ReLU(),
                    )
                    for n, rate in ((b, 1), (c, 2), (d, 3))
                ),
            ]
        )
        self.out = nn.Sequential(nn.BatchNorm2d(a + b + c + d), nn.MaxPool2d(2, ceil_mode=True))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(torch.cat([branch(x) for branch in self.branches], dim=1))
        return y


class MesoNet(Backbone):
    """Two first blocks (plain or inception), two 5x5 blocks, a dense layer of 16."""

    feature_dim = 16

    def __init__(self, *, inception: bool) -> None:
        super().__init__()
        if inception:
            first: list[nn.Module] = [_InceptionBlock(3, 1, 4, 4, 2), _InceptionBlock(11, 2, 4, 4, 2)]
            width = 12
        else:
            first, width = [_conv_block(3, 8, 3, 2), _conv_block(8, 8, 5, 2)], 8
        self.blocks = nn.Sequential(*first, _conv_block(width, 16, 5, 2), _conv_block(16, 16, 5, 4))
        self.grid = nn.AdaptiveAvgPool2d(_GRID)
        self.dense = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.5), nn.Linear(16 * _GRID * _GRID, self.feature_dim), nn.LeakyReLU(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.dense(self.grid(self.blocks(x)))
        return features


@register_backbone("meso4", input_size_px=256, mean=HALF, std=HALF, source=_SOURCE)
def meso4() -> Backbone:
    """28 thousand parameters, 16 features."""
    return MesoNet(inception=False)


@register_backbone("mesoinception4", input_size_px=256, mean=HALF, std=HALF, source=_SOURCE)
def mesoinception4() -> Backbone:
    """29 thousand parameters, 16 features."""
    return MesoNet(inception=True)
