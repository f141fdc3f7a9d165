"""Runtimes: what runs a network. torch runs every network everywhere; OpenVINO is quicker on processors.

Networks take and return numpy arrays, so what is above this package need not know which one runs them, and torch is
imported only where it does, or where a network has to be converted. Imports nothing heavy itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from deepscan.runtimes.base import InputType, Network, NetworkSpec, Precision, RuntimeName

if TYPE_CHECKING:
    from torch import nn

__all__ = ["InputType", "Network", "NetworkSpec", "Precision", "RuntimeName", "load_network"]


def load_network(
    name: str,
    source_sha256: str,
    build: Callable[[], nn.Module],
    *,
    input_shape: tuple[int | None, ...],
    runtime: RuntimeName,
    device: str = "cpu",
    threads: int | None = None,
    input_type: InputType = "float32",
    precision: Precision = "auto",
) -> Network:
    """Make a network ready to run.

    A network converted for OpenVINO is kept in :func:`deepscan.runtimes.cache.cache_folder` under its name and
    ``source_sha256``, and checked when it is read: damaged ones are converted again.

    Args:
        name: what it is, for file names and logs.
        source_sha256: of all that the network is made from: weights, and settings that change its graph. Empty for one
            that is not to be kept.
        build: makes the module, in evaluation mode on the processor: one tensor in, one or a tuple of them out. Called
            for torch, and for OpenVINO only if there is no converted copy.
        input_shape: None for a dimension that is free in every call. A network is quickest where none is.
        runtime: what runs it; OpenVINO does so on the processor.
        device: torch device.
        threads: for OpenVINO; None takes ``OMP_NUM_THREADS``, or all cores. torch has one number for the process.
        input_type: of the array that it is called with.
        precision: ``auto`` computes in 16 bits where the device does so itself, ``float32`` never.

    Raises:
        ModelError: with reason ``runtime``: OpenVINO is not there, or does not run this network as torch does.
    """
    if runtime == "openvino":
        from deepscan.runtimes import openvino_runtime

        spec = NetworkSpec(name, source_sha256, input_shape, input_type)
        return openvino_runtime.load(spec, build, precision=precision, threads=threads)
    from deepscan.runtimes.torch_runtime import TorchNetwork

    return TorchNetwork(build(), device, precision)
