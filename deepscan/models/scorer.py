"""Scoring people: what a detector's networks say of a track's crops."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscan.errors import ModelError
from deepscan.extract.crops import resized
from deepscan.models.ensemble import Networks, Part
from deepscan.runtimes import Network, Precision
from deepscan.runtimes.processor import may_have_gpu
from deepscan.types import Score

CROPS_PER_BATCH = 64  # what is quick with torch

# Of one crop, for the scorer that made them and no other: of each network ``float32 [V, D]``.
Features = Any


def pick_device(name: str) -> str:
    """The torch device for ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ModelError: the wanted device is not there.
    """
    if name == "cpu" or (name == "auto" and "torch" not in sys.modules and not may_have_gpu()):
        return "cpu"  # torch takes seconds to import and would say the same
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there.get(name, False):
        raise ModelError(
            f"Device '{name}' is not available",
            "torch does not see one on this machine",
            "Use --device cpu, or --device auto.",
            reason="no_device",
        )
    return name


class Scorer:
    """Scores people: every crop of every person and view goes through the backbones in shared batches.

    Args:
        networks: whose scores these are.
        functions: of each part, in any runtime: from crops ``uint8 [N, S, S, 3]`` to features ``float32 [V, N, D]`` of
            every view, and from features of one sequence ``[V, T, D]`` to video logits ``[V]`` and frame logits
            ``[V, T]``; see :mod:`deepscan.models.graphs`.
        crops_per_batch: crops that are best given to :meth:`features` together.
    """

    def __init__(
        self,
        networks: Networks,
        functions: Sequence[tuple[Network, Network]],
        *,
        crops_per_batch: int = CROPS_PER_BATCH,
    ) -> None:
        self.crops_per_batch = crops_per_batch
        self._networks = networks
        self._parts = [(part, *both) for part, both in zip(networks.parts, functions, strict=True)]

    def features(self, crops: NDArray[np.uint8]) -> list[Features]:
        """Features of each crop, RGB ``uint8 [N, S, S, 3]`` with S the detector's crop size."""
        of_parts = [
            features(resized(crops, part.card.crop.size_px))[0].swapaxes(0, 1) for part, features, _ in self._parts
        ]
        return list(zip(*of_parts, strict=True))

    def judge(self, features: Sequence[Features]) -> Score:
        """One person's score, the mean over the views.

        Args:
            features: of the person's crops in the order of time, at least one.

        Raises:
            ModelError: a network gives no number.
        """
        of_parts = zip(*features, strict=True)
        return self._networks.combine(
            [
                _mean(part, logits(np.stack(f, axis=1)))
                for (part, _, logits), f in zip(self._parts, of_parts, strict=True)
            ]
        )

    def score(self, sequences: Sequence[NDArray[np.uint8]]) -> list[Score]:
        """Score each sequence; batches are filled across sequences.

        Args:
            sequences: RGB ``uint8 [T, S, S, 3]``, T from 1, S the detector's crop size.

        Returns:
            One score for each sequence, frame logits of length T.

        Raises:
            ModelError: a network gives no number.
        """
        if not sequences:
            return []
        crops, size = np.concatenate(list(sequences)), self.crops_per_batch
        batches = (self.features(crops[start : start + size]) for start in range(0, len(crops), size))
        features = (one for batch in batches for one in batch)
        return [self.judge(list(islice(features, len(sequence)))) for sequence in sequences]


def _mean(part: Part, logits: Sequence[NDArray[np.float32]]) -> Score:
    video = float(logits[0].mean(dtype=np.float64))
    frames = logits[1].mean(axis=0, dtype=np.float64)
    if not (math.isfinite(video) and np.isfinite(frames).all()):
        raise ModelError(
            f"Model '{part.card.name}' gave no number",
            "its weights overflow or are damaged",
            "Copy or install the model again.",
            reason="not_finite",
        )
    return Score(video, frames)


def torch_scorer(
    networks: Networks, *, device: str = "cpu", tta: bool = True, precision: Precision = "float32"
) -> Scorer:
    """A detector's scorer in torch.

    Args:
        networks: those in memory are moved to the device and put into evaluation mode.
        device: torch device.
        tta: average the logits over the views of test-time augmentation.
        precision: ``auto`` runs the backbones in 16 bits where the device computes in them itself. The heads never
            are: they take no time, and sum over whole videos.
    """
    from deepscan.models.graphs import CropFeatures, SequenceLogits
    from deepscan.runtimes.torch_runtime import TorchNetwork

    def functions(part: Part) -> tuple[Network, Network]:
        network = part.load()
        features = CropFeatures(network, part.card.mean, part.card.std, tta=tta)
        logits = TorchNetwork(SequenceLogits(network), device, "float32")
        return TorchNetwork(features, device, precision), logits

    return Scorer(networks, [functions(part) for part in networks.parts])
