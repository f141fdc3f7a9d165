"""Where a network looks: Grad-CAM of the frame logit, with the ``grad-cam`` package.

Its form HiResCAM (Draelos and Carin, 2020) is used, which weighs every place of the map by its own gradient. The first
form (Selvaraju et al., ICCV 2017) takes the mean gradient of the whole map: what a feature means at one place is then
painted wherever the feature is. On 50 faces blended into themselves (the default detector, 8 x 8 cells), the hottest
place lay inside the blend for 52 % with this form and 26 % with that; by chance it would for 43 %.

It works on every backbone: on convolutional ones at the last feature map that everything passes through and that is
fine enough, on timm's transformers at the tokens that enter the last block. Nothing has to be registered: the layer is
found by running one crop.

**Unit.** A map is in calibrated log-odds of "fake": the package's map times its number of cells and the calibration's
scale. Where nothing but average pooling and a linear layer follow, the mean of the map over the crop is the frame's
calibrated logit less its constant; elsewhere it is an approximation of the same.

**Normalisation.** Heat is the part of the map that speaks for the class, divided by its largest value in the whole
track. A frame that is quiet beside the others stays quiet, and :attr:`HeatMaps.scale` says what 1 stands for, so that
tracks can be compared (:meth:`HeatMaps.on_scale`). The package's own scaling of each picture to its full range would
paint a real face as hot as a fake one.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepscan.errors import ConfigError, ModelError
from deepscan.extract.crops import resized
from deepscan.models.backbones.base import Backbone
from deepscan.models.backbones.timm_backbone import TimmBackbone
from deepscan.models.card import DetectorCard
from deepscan.models.ensemble import Networks
from deepscan.models.network import DetectorNetwork
from deepscan.models.transform import normalise, to_unit
from deepscan.version import install_command

_CROPS_PER_BATCH = 32
# A ResNet's last map of a 128 px crop has 4 x 4 cells: one holds an eye and half a cheek. On faces blended into
# themselves, the place where the heat rose lay inside the blend far more often with the map before it (8 x 8).
MIN_CELLS = 6
_MAX_PREFIX_TOKENS = 8
# In cells: neighbours that take turns at speaking for and against cancel out, and no grid of dots is left.
_SMOOTHING = 0.75


@dataclass(frozen=True, slots=True)
class HeatMaps:
    """Heat of one track.

    Attributes:
        heat: ``float32 [T, S, S]`` in [0, 1], of the crops' size.
        scale: what a heat of 1 stands for, in calibrated log-odds; 0 where nothing speaks for the class.
        cells: rows and columns of the network's own map (the finest of an ensemble's): heat has no finer detail.
    """

    heat: NDArray[np.float32]
    scale: float
    cells: tuple[int, int]

    def on_scale(self, scale: float) -> HeatMaps:
        """The same maps with ``scale``, at least their own, as 1: several tracks on one scale."""
        if scale < self.scale:
            raise ValueError(f"Invalid scale ({scale}). Supported are values from {self.scale}.")
        factor = np.float32(self.scale / scale if scale > 0 else 0.0)
        return HeatMaps(self.heat * factor, scale, self.cells)


class MapLayer(NamedTuple):
    """Where a backbone's map is taken: the module, what turns its output into ``[N, C, h, w]``, and ``(h, w)``."""

    module: nn.Module
    to_maps: Callable[[Tensor], Tensor] | None
    cells: tuple[int, int]


def explain_frames(
    networks: Networks,
    crops: NDArray[np.uint8],
    *,
    min_cells: int = MIN_CELLS,
) -> HeatMaps:
    """What speaks for "fake" in every crop of one track.

    Args:
        networks: of a detector; they are left as they are.
        crops: RGB ``uint8 [T, S, S, 3]``, T from 1, S the card's crop size.
        min_cells: rows and columns that the network's map has at least; 1 for the very last one.

    Raises:
        ConfigError: the ``grad-cam`` package is not installed.
        ModelError: the backbone has no map to look at.
    """
    if crops.ndim != 4 or crops.shape[3] != 3 or not len(crops):
        raise ValueError(f"Invalid crops ({crops.shape}). Supported is uint8 [T, S, S, 3], T from 1.")
    signed, cells = signed_maps(networks, crops, min_cells=min_cells)
    speaking: NDArray[np.float32] = signed.clip(min=0)
    scale = float(speaking.max())
    if not scale > 0:
        return HeatMaps(np.zeros_like(speaking), 0.0, cells)
    return HeatMaps(speaking / np.float32(scale), scale, cells)


def signed_maps(
    networks: Networks,
    crops: NDArray[np.uint8],
    *,
    min_cells: int = MIN_CELLS,
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Maps before the part for one class is taken: positive speaks for "fake", negative for "real".

    Those of several networks are summed up with their weights, as the logits are.

    Returns:
        ``float32 [T, S, S]`` in calibrated log-odds, and the rows and columns of the finest network's map.
    """
    total, finest = np.zeros(crops.shape[:3], np.float32), (1, 1)
    for part in networks.parts:
        maps, cells = _network_maps(part.load(), part.card, resized(crops, part.card.crop.size_px), min_cells)
        total += np.float32(part.frame_weight) * upsampled(maps, crops.shape[1])
        finest = max(finest, cells)
    return total * np.float32(networks.card.calibration.frame_scale), finest


def find_map_layer(backbone: Backbone, crop: Tensor, min_cells: int = MIN_CELLS) -> MapLayer:
    """The layer of a backbone that Grad-CAM looks at.

    Args:
        backbone: in evaluation mode, its parameters without gradients.
        crop: one normalised crop ``float32 [1, 3, H, W]``.
        min_cells: rows and columns that a convolutional map has at least; where none has, the last of at least 2.

    Raises:
        ModelError: there is no such layer.
    """
    calls = _outputs(backbone, crop)
    if isinstance(backbone, TimmBackbone):
        with torch.no_grad():
            features: Any = backbone.net.forward_features(crop)  # type: ignore[operator]
        if isinstance(features, Tensor) and features.ndim == 3:
            return _token_layer(backbone, calls)
    channels = 3 if getattr(getattr(backbone, "net", None), "output_fmt", "NCHW") == "NHWC" else 1
    cells = {
        name: (shape[1], shape[2]) if channels == 3 else (shape[2], shape[3])
        for name, _, shape in calls
        if len(shape) == 4
    }
    for smallest in (max(min_cells, 2), 2):
        skipped: tuple[str, ...] = ()
        for name, module, _ in reversed(calls):
            if min(cells.get(name, (0, 0))) < smallest or name.startswith(skipped):
                continue
            if _carries_all(backbone, module, crop):
                return MapLayer(module, _channels_first if channels == 3 else None, cells[name])
            # One branch of a block that ends in a smaller map: its other modules are no better.
            skipped += (_enclosing(name, cells) + ".",)
    raise _no_map(backbone)


def _network_maps(
    network: DetectorNetwork, card: DetectorCard, crops: NDArray[np.uint8], min_cells: int
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """The package's maps ``float32 [T, h, w]`` before its scaling, times their number of cells."""
    grad_cam = _grad_cam()
    net = _FrameLogit(network)
    device = next(net.parameters()).device
    batches = [crops[start : start + _CROPS_PER_BATCH] for start in range(0, len(crops), _CROPS_PER_BATCH)]
    layer = find_map_layer(net.backbone, normalise(to_unit(crops[:1]).to(device), card.mean, card.std), min_cells)
    # Hooks run in the order of registration: first the cut, then the package's, then the copy.
    layer.module.register_forward_hook(_cut)
    cam = grad_cam(net, [layer.module], reshape_transform=layer.to_maps)
    layer.module.register_forward_hook(_copy)
    batch_maps = []
    try:
        for batch in batches:
            x = normalise(to_unit(batch).to(device), card.mean, card.std)
            with torch.enable_grad():
                cam.activations_and_grads(x).sum().backward()
            seen = cam.activations_and_grads
            if not seen.gradients:
                raise _no_map(net.backbone)
            # The last: a module that is called several times has no gradient but at its last call.
            activations, gradients = seen.activations[-1].numpy(), seen.gradients[-1].numpy()
            batch_maps.append(cam.get_cam_image(x, layer.module, [], activations, gradients, eigen_smooth=False))
    finally:
        cam.activations_and_grads.release()
    maps = np.concatenate(batch_maps).astype(np.float32)
    if not np.isfinite(maps).all():
        raise ModelError(
            f"Model '{card.name}' gave no heat",
            "its gradients are not finite",
            "Copy or install the model again.",
            reason="not_finite",
        )
    return maps * np.float32(math.prod(layer.cells)), layer.cells


class _FrameLogit(nn.Module):
    """Crops ``[N, 3, H, W]`` -> frame logits ``[N]``, by a copy: hooks must not meet the scoring in another thread."""

    def __init__(self, network: DetectorNetwork) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(network.backbone)
        self.classifier = copy.deepcopy(network.frame_classifier)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.backbone(x)).squeeze(-1)
        return logits


def _cut(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    """Gradients end here: what lies before the map is neither kept nor gone back through."""
    return output.detach().requires_grad_(torch.is_grad_enabled())


def _copy(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    """What comes after may work in place; what was recorded must not change."""
    return output.clone()


def _outputs(backbone: Backbone, crop: Tensor) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """Name, module and output shape of all modules that give one tensor, in the order in which they are done."""
    calls: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    def watch(name: str, module: nn.Module) -> Any:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                calls.append((name, module, tuple(output.shape)))

        return module.register_forward_hook(note)

    handles = [watch(name, module) for name, module in backbone.named_modules() if name]
    try:
        with torch.no_grad():
            backbone(crop)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _carries_all(backbone: Backbone, module: nn.Module, crop: Tensor) -> bool:
    """Whether everything that reaches the features passes through a module: not one branch of several."""
    crop = crop.clone().requires_grad_()
    handles = [module.register_forward_hook(_cut), module.register_forward_hook(_copy)]
    try:
        with torch.enable_grad():
            features = backbone(crop)
            if features.requires_grad:
                features.sum().backward()
                return crop.grad is None
            return False  # its output is not used
    finally:
        for handle in handles:
            handle.remove()


def _token_layer(backbone: TimmBackbone, calls: list[tuple[str, nn.Module, tuple[int, ...]]]) -> MapLayer:
    """Where tokens enter the last block: after it a class token may be all that is used, and the others are mute."""
    for name, module, shape in reversed(calls):
        if len(shape) == 3 and name.rpartition(".")[2] == "norm1":
            declared = int(getattr(backbone.net, "num_prefix_tokens", 0))
            for prefix in (declared, *range(_MAX_PREFIX_TOKENS + 1)):
                side = math.isqrt(max(shape[1] - prefix, 0))
                if side > 1 and side**2 == shape[1] - prefix:  # crops are square
                    return MapLayer(module, _from_tokens(prefix, side), (side, side))
    raise _no_map(backbone)


def _enclosing(name: str, cells: dict[str, tuple[int, int]]) -> str:
    """The nearest module around one that gives a map of its own."""
    parents = [name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1)]
    return next((parent for parent in parents if parent in cells), name)


def _from_tokens(prefix: int, side: int) -> Callable[[Tensor], Tensor]:
    def to_maps(tokens: Tensor) -> Tensor:
        batch, _, width = tokens.shape
        return tokens[:, prefix:].reshape(batch, side, side, width).movedim(-1, 1)

    return to_maps


def _channels_first(maps: Tensor) -> Tensor:
    return maps.movedim(-1, 1)


def upsampled(maps: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    """Maps ``float32 [T, h, w]`` as ``[T, size_px, size_px]``, bilinear and smoothed by three quarters of a cell."""
    if maps.shape[1] == size_px:
        return maps
    sigmas = (_SMOOTHING * size_px / maps.shape[2], _SMOOTHING * size_px / maps.shape[1])
    return np.stack(
        [
            cv2.GaussianBlur(
                cv2.resize(one, (size_px, size_px), interpolation=cv2.INTER_LINEAR),
                (0, 0), sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_REFLECT,
            )
            for one in maps
        ]
    )  # fmt: skip


def _no_map(backbone: Backbone) -> ModelError:
    return ModelError(
        f"{type(backbone).__name__} gives no heat map",
        "no layer of it keeps the picture's rows and columns",
        "Explain with another model; its scores are not concerned.",
        reason="no_map",
    )


def require_gradcam() -> None:
    """
    Raises:
        ConfigError: the ``grad-cam`` package is not installed.
    """
    if importlib.util.find_spec("pytorch_grad_cam") is None:
        _grad_cam()


def _grad_cam() -> Any:
    try:
        return importlib.import_module("pytorch_grad_cam").HiResCAM
    except ImportError as error:
        raise ConfigError(
            "Heat maps need the grad-cam package",
            str(error) if getattr(error, "name", None) not in (None, "pytorch_grad_cam") else "it is not installed",
            f"Install it with: {install_command('explain')}",
            reason="no_grad_cam",
        ) from error
