"""Networks in torch: on any device, in bf16 or float16 where that is faster and asked for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepscan.runtimes import processor
from deepscan.runtimes.base import Precision


class TorchNetwork:
    """A module behind numpy arrays; see :class:`deepscan.runtimes.Network`.

    Args:
        module: is moved to the device and put into evaluation mode.
        device: torch device.
        precision: ``auto`` computes in 16 bits where the device does so itself.
    """

    def __init__(self, module: nn.Module, device: str = "cpu", precision: Precision = "float32") -> None:
        self._module = module.to(device).eval()
        self._device, self._reduced = device, precision == "auto"
        if self._reduced:
            channels_last(self._module, device)

    def __call__(self, x: NDArray[Any]) -> tuple[NDArray[np.float32], ...]:
        with torch.inference_mode(), reduced_precision(self._device, self._reduced):
            output = self._module(torch.from_numpy(np.require(x, requirements=["C", "W"])).to(self._device))
        outputs: tuple[Tensor, ...] = (output,) if isinstance(output, Tensor) else tuple(output)
        return tuple(out.float().cpu().numpy() for out in outputs)


def reduced_dtype(device: str) -> torch.dtype | None:
    """The 16 bits that a device computes in by itself, None where float32 is as good.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``, with or without an index.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if kind == "cpu" and processor.cpu_has_bf16() else None


def reduced_precision(device: str, enabled: bool = True) -> AbstractContextManager[object]:
    """Autocast to :func:`reduced_dtype` where there is one and it is wanted."""
    dtype = reduced_dtype(device) if enabled else None
    return nullcontext() if dtype is None else torch.autocast(torch.device(device).type, dtype=dtype)


def channels_last(module: nn.Module, device: str) -> None:
    """Lay convolutions out as bf16 and float16 kernels want them; elsewhere it gains nothing."""
    if reduced_dtype(device) is not None:
        module.to(memory_format=torch.channels_last)
