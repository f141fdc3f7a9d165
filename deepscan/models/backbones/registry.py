"""Backbones by name.

A backbone turns face crops into one feature vector each. Every family lives in its own file and registers its
names here; ``timm:NAME`` reaches every model of timm. What a backbone expects of its input (size, mean, standard
deviation) is part of its entry and travels in the detector's card.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from deepscan.errors import ModelError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

_FAMILIES = ("resnet", "inception_resnet", "mesonet", "custom_cnn", "timm_backbone")
_TIMM_PREFIX = "timm:"


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


_REGISTRY: dict[str, BackboneSpec] = {}


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
        if name in _REGISTRY:
            raise ValueError(f"Backbone {name} is registered twice.")
        _REGISTRY[name] = BackboneSpec(name, factory, input_size_px, mean, std, source)
        return factory

    return register


def list_backbones() -> list[str]:
    """Names of all registered backbones, sorted; ``timm:NAME`` comes on top of these."""
    _load_families()
    return sorted(_REGISTRY)


def backbone_spec(name: str) -> BackboneSpec:
    """The entry for ``name``.

    Raises:
        ModelError: no such backbone; the message lists the known ones and the nearest name.
    """
    _load_families()
    if name in _REGISTRY:
        return _REGISTRY[name]
    if name.startswith(_TIMM_PREFIX):
        from deepscan.models.backbones.timm_backbone import timm_spec

        return timm_spec(name.removeprefix(_TIMM_PREFIX))
    near = difflib.get_close_matches(name, _REGISTRY, n=1)
    raise ModelError(
        f"Unknown backbone '{name}'",
        f"did you mean '{near[0]}'?" if near else "",
        f"Known backbones: {', '.join(sorted(_REGISTRY))}, and timm:NAME for every timm model.",
        reason="unknown_model",
    )


def create_backbone(name: str, weights_file: Path | None = None) -> Backbone:
    """Make a backbone, with random weights or with those of ``weights_file``.

    Args:
        name: a registered name or ``timm:NAME``.
        weights_file: a state dict of the backbone as published (``.pt``/``.pth`` read without running code, or
            ``.safetensors``). For ``inception_resnet_v1`` this is facenet-pytorch's VGGFace2 file. Entries of a
            classifier that deepscan does not use are left out; anything else that does not fit is an error.

    Raises:
        ModelError: unknown name, unreadable file, or weights that do not fit.
    """
    backbone = backbone_spec(name).factory()
    if weights_file is not None:
        from deepscan.models.checkpoint import load_backbone_weights

        load_backbone_weights(backbone, weights_file)
    return backbone


def _load_families() -> None:
    for family in _FAMILIES:
        importlib.import_module(f"deepscan.models.backbones.{family}")
