"""ResNet-18, -34 and -50 (He et al., CVPR 2016), from torchvision."""

from __future__ import annotations

from torch import Tensor, nn

from deepscan.models.registry import Backbone, register_backbone

_SOURCE = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016; torchvision"


class ResNet(Backbone):
    """A torchvision ResNet without its classifier."""

    def __init__(self, name: str) -> None:
        super().__init__()
        from torchvision import models

        self.net = getattr(models, name)(weights=None)
        self.feature_dim = int(self.net.fc.in_features)
        self.net.fc = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)
        return features


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
