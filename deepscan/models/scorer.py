"""Scoring face sequences with a detector's network, whatever runs it."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from deepscan.errors import ModelError
from deepscan.models.checkpoint import DetectorCard
from deepscan.records import Score
from deepscan.runtimes import Network, Precision
from deepscan.runtimes.processor import may_have_gpu

if TYPE_CHECKING:
    from deepscan.models.network import DetectorNetwork

_CROPS_PER_BATCH = 64


def pick_device(wanted: str) -> str:
    """The torch device for ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ModelError: the wanted device is not there.
    """
    if wanted == "cpu" or (wanted == "auto" and "torch" not in sys.modules and not may_have_gpu()):
        return "cpu"  # torch takes seconds to import and would say the same
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there.get(wanted, False):
        raise ModelError(
            f"Device '{wanted}' is not available",
            "torch does not see one on this machine",
            "Use --device cpu, or --device auto.",
            reason="no_device",
        )
    return wanted


def n_views(tta: bool) -> int:
    """How many views of a crop are scored."""
    return 4 if tta else 1


class Scorer(Protocol):
    """What scores the people of a video: one network, or an ensemble."""

    def score(self, sequences: Sequence[NDArray[np.uint8]]) -> list[Score]:
        """One score for each sequence of crops, RGB ``uint8 [T, S, S, 3]`` with S the card's crop size."""
        ...


class NetworkScorer:
    """Scores sequences of crops: every crop of every sequence and view goes through the backbone in shared batches.

    Args:
        features: from crops ``uint8 [N, S, S, 3]`` to features ``float32 [V, N, D]`` of every view, in any runtime;
            see :mod:`deepscan.models.graphs`.
        logits: from features of one sequence ``[V, T, D]`` to video logits ``[V]`` and frame logits ``[V, T]``.
        card: of the detector.
        crops_per_batch: crops that go through the backbone together; None takes what is quick with torch.
    """

    def __init__(
        self, features: Network, logits: Network, card: DetectorCard, *, crops_per_batch: int | None = None
    ) -> None:
        self.card = card
        self._features, self._logits, self._crops_per_batch = features, logits, crops_per_batch

    def score(self, sequences: Sequence[NDArray[np.uint8]]) -> list[Score]:
        """Score each sequence.

        Args:
            sequences: RGB ``uint8 [T, S, S, 3]``, T from 1, S the card's crop size.

        Returns:
            One score for each sequence, frame logits of length T.

        Raises:
            ModelError: the network gives no number.
        """
        if not sequences:
            return []
        crops, size = np.concatenate(list(sequences)), self._crops_per_batch or _CROPS_PER_BATCH
        parts = [self._features(crops[start : start + size])[0] for start in range(0, len(crops), size)]
        features = np.concatenate(parts, axis=1)  # [V, N, D]
        ends = np.cumsum([len(s) for s in sequences])[:-1]
        return [self._score(part) for part in np.split(features, ends, axis=1)]

    def _score(self, features: NDArray[np.float32]) -> Score:
        """The mean over the views of one sequence, ``[V, T, D]``."""
        video_logits, frame_logits = self._logits(features)
        video = float(video_logits.mean(dtype=np.float64))
        frames = frame_logits.mean(axis=0, dtype=np.float64)
        if not (math.isfinite(video) and np.isfinite(frames).all()):
            raise ModelError(
                f"Model '{self.card.name}' gave no number",
                "its weights overflow or are damaged",
                "Copy or install the model again.",
                reason="not_finite",
            )
        return Score(video, frames)


class TorchScorer(NetworkScorer):
    """A scorer of a network in torch.

    Args:
        network: is moved to the device and put into evaluation mode.
        card: normalisation and crop size.
        device: torch device.
        tta: average the logits over the views of test-time augmentation.
        precision: ``auto`` runs the backbone in 16 bits where the device computes in them itself. The head never is:
            it takes no time, and sums over whole videos.
    """

    def __init__(
        self,
        network: DetectorNetwork,
        card: DetectorCard,
        *,
        device: str = "cpu",
        tta: bool = True,
        precision: Precision = "float32",
    ) -> None:
        from deepscan.models.graphs import CropFeatures, SequenceLogits
        from deepscan.runtimes.torch_runtime import TorchNetwork

        self.network = network
        super().__init__(
            TorchNetwork(CropFeatures(network, card.mean, card.std, tta=tta), device, precision),
            TorchNetwork(SequenceLogits(network), device, "float32"),
            card,
        )
