"""ResNet-18, -34 and -50 (He et al., CVPR 2016), from torchvision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepscan.models.backbones.base import Backbone, register_backbone

_SOURCE = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016; torchvision"


class ResNet(Backbone):
    """A torchvision ResNet without its classifier."""

    def __init__(self, name: str) -> None:
        super().__init__()
        from torchvision import models

        self.net = getattr(models, name)(weights=None)
        self.feature_dim = int(self.net.fc.in_features)
        self.net.fc = nn.Identity()
        expansion = self.feature_dim // 512
        self.map_channels = (128 * expansion, 256 * expansion, 512 * expansion)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)
        return features

    def features_and_maps(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        net = self.net
        x = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x)))))
        fine = net.layer2(x)
        middle = net.layer3(fine)
        coarse = net.layer4(middle)
        return torch.flatten(net.avgpool(coarse), 1), (fine, middle, coarse)


@register_backbone("resnet18", input_size_px=224, source=_SOURCE)
def resnet18() -> Backbone:
    """11 million parameters, 512 features."""
    return ResNet("resnet18")


@register_backbone("resnet34", input_size_px=224, source=_SOURCE)
def resnet34() -> Backbone:
    """21 million parameters, 512 features."""
    return ResNet("resnet34")


@register_backbone("resnet50", input_size_px=224, source=_SOURCE)
def resnet50() -> Backbone:
    """24 million parameters, 2048 features."""
    return ResNet("resnet50")
