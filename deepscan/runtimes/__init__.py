"""Runtimes: what runs a network. torch runs every network everywhere; OpenVINO is quicker on processors.

Networks take and return numpy arrays, so what is above this package need not know which one runs them, and torch is
imported only where it does, or where a network has to be converted. Imports nothing heavy itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from deepscan.runtimes.base import Network, NetworkSpec, Precision, RuntimeName

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Network", "NetworkSpec", "Precision", "RuntimeName", "load_network"]


def load_network(
    spec: NetworkSpec, build: Callable[[], nn.Module], *, runtime: RuntimeName, device: str = "cpu"
) -> Network:
    """Make a network ready to run, in 32 bits.

    A network converted for OpenVINO is kept in :func:`deepscan.runtimes.cache.cache_folder` under its name and
    ``source_sha256``, and checked when it is read: damaged ones are converted again.

    Args:
        spec: which network; it is quickest where no dimension of its input is free.
        build: makes the module, in evaluation mode on the processor: one tensor in, one or a tuple of them out. Called
            for torch, and for OpenVINO only if there is no converted copy.
        runtime: what runs it; OpenVINO does so on the processor, in ``OMP_NUM_THREADS`` threads or on all cores.
        device: torch device.

    Raises:
        ModelError: with reason ``runtime``: OpenVINO is not there, or does not run this network as torch does.
    """
    if runtime == "openvino":
        from deepscan.runtimes import openvino_runtime

        return openvino_runtime.load(spec, build)
    from deepscan.runtimes.torch_runtime import TorchNetwork

    return TorchNetwork(build(), device)
