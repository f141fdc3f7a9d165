"""Scoring face sequences with a detector's network, whatever runs it."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deepscan.errors import ModelError
from deepscan.models.card import DetectorCard
from deepscan.runtimes import Network, Precision
from deepscan.runtimes.processor import may_have_gpu
from deepscan.types import Score

if TYPE_CHECKING:
    from deepscan.models.network import DetectorNetwork

_CROPS_PER_BATCH = 64

# Of one crop, for the scorer that made them and no other: of a network ``float32 [V, D]``.
Features = Any


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


class Scorer(Protocol):
    """What scores the people of a video: one network, or an ensemble."""

    @property
    def crops_per_batch(self) -> int:
        """Crops that are best given to :meth:`features` together."""
        ...

    def features(self, crops: NDArray[np.uint8]) -> list[Features]:
        """What :meth:`judge` needs of each crop, RGB ``uint8 [N, S, S, 3]`` with S the card's crop size."""
        ...

    def judge(self, features: Sequence[Features]) -> Score:
        """The score of one person from the features of their crops, in the order of time, at least one."""
        ...

    def score(self, sequences: Sequence[NDArray[np.uint8]]) -> list[Score]:
        """One score for each sequence of crops, RGB ``uint8 [T, S, S, 3]`` with S the card's crop size."""
        ...


def score_sequences(scorer: Scorer, sequences: Sequence[NDArray[np.uint8]]) -> list[Score]:
    """One score for each sequence; batches are filled across sequences."""
    if not sequences:
        return []
    crops, size = np.concatenate(list(sequences)), scorer.crops_per_batch
    parts = [scorer.features(crops[start : start + size]) for start in range(0, len(crops), size)]
    features = iter([one for part in parts for one in part])
    return [scorer.judge(list(islice(features, len(sequence)))) for sequence in sequences]


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
        self._features, self._logits = features, logits
        self.crops_per_batch = crops_per_batch or _CROPS_PER_BATCH

    def features(self, crops: NDArray[np.uint8]) -> list[Features]:
        """Features ``float32 [V, D]`` of each crop, RGB ``uint8 [N, S, S, 3]`` with S the card's crop size."""
        return list(self._features(crops)[0].swapaxes(0, 1))

    def judge(self, features: Sequence[Features]) -> Score:
        """The mean over the views of one person's score.

        Args:
            features: of the person's crops in the order of time, at least one.

        Raises:
            ModelError: the network gives no number.
        """
        video_logits, frame_logits = self._logits(np.stack(features, axis=1))
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

    def score(self, sequences: Sequence[NDArray[np.uint8]]) -> list[Score]:
        """Score each sequence.

        Args:
            sequences: RGB ``uint8 [T, S, S, 3]``, T from 1, S the card's crop size.

        Returns:
            One score for each sequence, frame logits of length T.

        Raises:
            ModelError: the network gives no number.
        """
        return score_sequences(self, sequences)


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
