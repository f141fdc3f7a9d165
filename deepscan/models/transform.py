"""From crops to what a network takes, and the views of test-time augmentation. Used by training and prediction."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Triple = tuple[float, float, float]

# Share of the side that the closer view keeps.
_ZOOM = 0.92


def to_unit(crops: NDArray[np.uint8]) -> Tensor:
    """RGB ``uint8 [..., H, W, 3]`` as ``float32 [..., 3, H, W]`` in [0, 1]."""
    return as_unit(torch.from_numpy(np.ascontiguousarray(crops)))


def as_unit(crops: Tensor) -> Tensor:
    """:func:`to_unit` of a tensor."""
    *leading, height, width, channel = range(crops.ndim)
    return crops.float().div(255).permute(*leading, channel, height, width)


def normalise(unit: Tensor, mean: Triple, std: Triple) -> Tensor:
    """Subtract the mean and divide by the standard deviation, per channel, of ``[..., 3, H, W]``."""
    shape = (3, 1, 1)
    centre = torch.tensor(mean, dtype=unit.dtype, device=unit.device).view(shape)
    return (unit - centre) / torch.tensor(std, dtype=unit.dtype, device=unit.device).view(shape)


def tta_views(unit: Tensor) -> Tensor:
    """Views of crops ``float32 [N, 3, H, W]`` in [0, 1] for test-time augmentation, as ``[V, N, 3, H, W]``.

    As they are; mirrored and slightly closer. More views cost as much again each, and were not measured to tell more.
    """
    size = [int(s) for s in unit.shape[-2:]]  # plain numbers also where the function is traced
    cut = [round(s * (1 - _ZOOM) / 2) for s in size]
    inner = unit[..., cut[0] : size[0] - cut[0], cut[1] : size[1] - cut[1]]
    closer = F.interpolate(inner, size=size, mode="bilinear", align_corners=False)
    return torch.stack([unit, closer.flip(-1)])
