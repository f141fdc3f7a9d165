"""What a backbone is, and how a family registers its names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


class Backbone(nn.Module):
    """Base of all backbones: ``forward`` maps normalised RGB ``float32 [N, 3, H, W]`` to ``[N, feature_dim]``.

    Attributes:
        feature_dim: length of the vector.
        map_channels: channels of the maps that :meth:`features_and_maps` gives, none where it gives no maps.
    """

    feature_dim: int
    map_channels: tuple[int, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not define forward")

    def features_and_maps(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The features and the maps ``[N, C, h, w]`` that they were made from, finest first; for training."""
        return self(x), ()


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """One registered backbone.

    Attributes:
        name: the name users write.
        factory: makes the network with random weights.
        input_size_px: the side it was designed for; other sizes work.
        mean, std: per-channel normalisation of RGB in [0, 1].
        source: paper and origin of the code.
    """

    name: str
    factory: Callable[[], Backbone]
    input_size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str


REGISTRY: dict[str, BackboneSpec] = {}


def register_backbone(
    name: str,
    *,
    input_size_px: int,
    source: str,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> Callable[[Callable[[], Backbone]], Callable[[], Backbone]]:
    """Decorator: register a factory without arguments under ``name``."""

    def register(factory: Callable[[], Backbone]) -> Callable[[], Backbone]:
        if name in REGISTRY:
            raise ValueError(f"Backbone {name} is registered twice.")
        REGISTRY[name] = BackboneSpec(name, factory, input_size_px, mean, std, source)
        return factory

    return register
