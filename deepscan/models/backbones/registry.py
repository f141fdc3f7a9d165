"""Backbones by name.

A backbone turns face crops into one feature vector each. Every family lives in its own file and registers its
names here; ``timm:NAME`` reaches every model of timm. What a backbone expects of its input (size, mean, standard
deviation) is part of its entry and travels in the detector's card.
"""

from __future__ import annotations

import difflib
import importlib

from deepscan.errors import ModelError
from deepscan.models.backbones.base import REGISTRY, Backbone, BackboneSpec

_FAMILIES = ("resnet", "inception_resnet", "mesonet", "custom_cnn", "timm_backbone")
_TIMM_PREFIX = "timm:"


def list_backbones() -> list[str]:
    """Names of all registered backbones, sorted; ``timm:NAME`` comes on top of these."""
    _load_families()
    return sorted(REGISTRY)


def backbone_spec(name: str) -> BackboneSpec:
    """The entry for ``name``.

    Raises:
        ModelError: no such backbone; the message lists the known ones and the nearest name.
    """
    _load_families()
    if name in REGISTRY:
        return REGISTRY[name]
    if name.startswith(_TIMM_PREFIX):
        from deepscan.models.backbones.timm_backbone import timm_spec

        return timm_spec(name.removeprefix(_TIMM_PREFIX))
    near = difflib.get_close_matches(name, REGISTRY, n=1)
    raise ModelError(
        f"Unknown backbone '{name}'",
        f"did you mean '{near[0]}'?" if near else "",
        f"Known backbones: {', '.join(sorted(REGISTRY))}, and timm:NAME for every timm model.",
        reason="unknown_model",
    )


def create_backbone(name: str) -> Backbone:
    """A backbone with random weights, by its registered name or as ``timm:NAME``.

    Raises:
        ModelError: unknown name.
    """
    return backbone_spec(name).factory()


def _load_families() -> None:
    for family in _FAMILIES:
        importlib.import_module(f"deepscan.models.backbones.{family}")
