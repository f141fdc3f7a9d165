"""Every timm model as a backbone: ``timm:xception``, ``timm:densenet121``, ``timm:vit_small_patch16_224``..."""

from __future__ import annotations

import difflib
from typing import Any, cast

from torch import Tensor, nn

from deepscan.errors import ModelError
from deepscan.models.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneSpec
from deepscan.models.transform import Triple

# Fine enough to say where a face was changed, deep enough to say that it was.
_MAP_REDUCTION = 16


class TimmBackbone(Backbone):
    """A timm model without its classifier, with random weights: nothing is downloaded."""

    def __init__(self, name: str) -> None:
        super().__init__()
        import timm

        try:
            # Transformers carry position embeddings of one size; this lets crops of any size through.
            self.net = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
        except TypeError:  # no transformer, or one that cannot
            self.net = timm.create_model(name, pretrained=False, num_classes=0)
        # Some models have a layer between the pooling and the classifier; it stays.
        self.feature_dim = int(cast("int", getattr(self.net, "head_hidden_size", self.net.num_features)))
        self._map_index, self.map_channels = _map_of(self.net)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)
        return features

    def features_and_maps(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        if not self.map_channels:
            return self(x), ()
        net: Any = self.net  # these two methods are not part of a module's type
        last, maps = net.forward_intermediates(x, indices=[self._map_index], output_fmt="NCHW")
        return net.forward_head(last), tuple(maps)


def _map_of(net: nn.Module) -> tuple[int, tuple[int, ...]]:
    """Index and channels of the last map of a sixteenth of the side; none where a model gives no maps."""
    info = getattr(net, "feature_info", None)
    stages = getattr(info, "info", info) or []
    fitting = [index for index, stage in enumerate(stages) if stage.get("reduction") == _MAP_REDUCTION]
    if not fitting or not hasattr(net, "forward_intermediates"):
        return 0, ()
    return fitting[-1], (int(stages[fitting[-1]]["num_chs"]),)


def timm_spec(name: str) -> BackboneSpec:
    """The entry of a timm model, with the input size and normalisation that timm states for it.

    Raises:
        ModelError: timm has no such model.
    """
    import timm

    # timm keeps old names, with a warning and without their settings: "xception" is "legacy_xception" today.
    current = timm.models.get_deprecated_models().get(name) or name
    if not timm.is_model(current):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ModelError(
            f"Unknown timm model '{name}'",
            f"did you mean {' or '.join(near)}?" if near else "",
            'List them with `python -c "import timm; print(timm.list_models())"`.',
            reason="unknown_model",
        )
    try:
        config = timm.get_pretrained_cfg(current)
    except RuntimeError as error:  # the name of weights, after the dot, that the model does not have
        raise ModelError(f"Unknown timm model '{name}'", str(error), reason="unknown_model") from error
    size = config.input_size[-1] if config is not None else 224
    mean, std = (config.mean, config.std) if config is not None else (IMAGENET_MEAN, IMAGENET_STD)
    return BackboneSpec(
        f"timm:{name}",
        lambda: TimmBackbone(current),
        size,
        cast("Triple", tuple(mean)),
        cast("Triple", tuple(std)),
        "timm",
    )
