"""Every timm model as a backbone: ``timm:xception``, ``timm:densenet121``, ``timm:vit_small_patch16_224``..."""

from __future__ import annotations

import difflib
import inspect

from torch import Tensor

from deepscan.errors import ModelError
from deepscan.models.registry import IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneSpec


class TimmBackbone(Backbone):
    """A timm model without its classifier, with random weights: nothing is downloaded."""

    def __init__(self, name: str) -> None:
        super().__init__()
        import timm

        options = {"num_classes": 0}
        # Transformers carry position embeddings of one size; this lets crops of any size through.
        if "dynamic_img_size" in inspect.signature(timm.models.VisionTransformer.__init__).parameters and name.startswith(
            ("vit_", "deit_")
        ):
            options["dynamic_img_size"] = True
        self.net = timm.create_model(name, pretrained=False, **options)
        self.feature_dim = int(self.net.num_features)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)
        return features


def timm_spec(name: str) -> BackboneSpec:
    """The entry of a timm model, with the input size and normalisation that timm states for it.

    Raises:
        ModelError: timm has no such model.
    """
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ModelError(
            f"Unknown timm model '{name}'",
            f"did you mean {' or '.join(near)}?" if near else "",
            "List them with `python -c \"import timm; print(timm.list_models())\"`.",
            reason="unknown_model",
        )
    config = timm.get_pretrained_cfg(name)
    size = config.input_size[-1] if config is not None else 224
    mean, std = (config.mean, config.std) if config is not None else (IMAGENET_MEAN, IMAGENET_STD)
    return BackboneSpec(f"timm:{name}", lambda: TimmBackbone(name), size, tuple(mean), tuple(std), "timm")
