"""From logits to probabilities, the same everywhere to the last bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def calibrated(logits: ArrayLike, scale: float = 1.0, bias: float = 0.0) -> NDArray[np.float64]:
    """Probabilities ``sigmoid(logit * scale + bias)``, of any shape."""
    z = np.asarray(logits, np.float64) * scale + bias
    return np.asarray(0.5 * (1 + np.tanh(0.5 * z)), np.float64)  # tanh: no overflow for large logits
