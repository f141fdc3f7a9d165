"""What every runtime gives: a network that takes and returns numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

RuntimeName = Literal["torch", "openvino"]
Precision = Literal["auto", "float32"]
InputType = Literal["float32", "uint8"]


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """Which network, and what goes into it.

    Attributes:
        name: what it is, for file names and logs.
        source_sha256: of all that it is made from: weights, and settings that change its graph. Empty for one whose
            converted copy is not to be kept.
        input_shape: None for a dimension that is free in every call.
        input_type: of its input.
    """

    name: str
    source_sha256: str
    input_shape: tuple[int | None, ...]
    input_type: InputType = "float32"


class Network(Protocol):
    """A network that is ready to run; several threads may call it, one after the other gets its turn."""

    def __call__(self, x: NDArray[Any]) -> tuple[NDArray[np.float32], ...]:
        """Run it.

        Args:
            x: of the shape and type that it was loaded for; dimensions that were None are free.

        Returns:
            Its outputs in their order, the caller's own.
        """
        ...
