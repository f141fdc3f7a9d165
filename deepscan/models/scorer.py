"""Scoring face sequences with a detector's network in torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepscan.errors import ModelError
from deepscan.models.checkpoint import DetectorCard
from deepscan.models.network import DetectorNetwork
from deepscan.models.transform import normalise, to_unit, tta_views
from deepscan.records import Score

_CROPS_PER_BATCH = 64


def pick_device(wanted: str) -> str:
    """The torch device for ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ModelError: the wanted device is not there.
    """
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

    def score(self, sequences: Sequence[NDArray[np.uint8]]) -> list[Score]:
        """One score for each sequence of crops, RGB ``uint8 [T, S, S, 3]`` with S the card's crop size."""
        ...


class TorchScorer:
    """Scores sequences of crops: every crop of every sequence and view goes through the backbone in shared batches.

    Args:
        network: in evaluation mode.
        card: normalisation and crop size.
        device: torch device.
        tta: average the logits over the views of test-time augmentation.
    """

    def __init__(self, network: DetectorNetwork, card: DetectorCard, *, device: str = "cpu", tta: bool = True) -> None:
        self.network = network.to(device).eval()
        self.card, self.device, self.tta = card, torch.device(device), tta

    def score(self, sequences: Sequence[NDArray[np.uint8]]) -> list[Score]:
        """Score each sequence.

        Args:
            sequences: RGB ``uint8 [T, S, S, 3]``, T from 1, S the card's crop size.

        Returns:
            One score for each sequence, frame logits of length T.
        """
        if not sequences:
            return []
        lengths = [len(s) for s in sequences]
        with torch.inference_mode():
            features = self._features(np.concatenate(list(sequences)))  # [V, N, D]
            scores = []
            for part in torch.split(features, lengths, dim=1):
                output = self.network.from_features(part)  # the views are the batch
                frames = output.frame_logits.double().mean(dim=0).cpu().numpy()
                video = float(output.video_logit.double().mean())
                if not (math.isfinite(video) and np.isfinite(frames).all()):
                    raise ModelError(
                        f"Model '{self.card.name}' gave no number",
                        "its weights overflow or are damaged",
                        "Copy or install the model again.",
                        reason="not_finite",
                    )
                scores.append(Score(video, frames))
        return scores

    def _features(self, crops: NDArray[np.uint8]) -> Tensor:
        parts = []
        for start in range(0, len(crops), _CROPS_PER_BATCH):
            unit = to_unit(crops[start : start + _CROPS_PER_BATCH]).to(self.device)
            views = tta_views(unit) if self.tta else unit.unsqueeze(0)
            flat = normalise(views.flatten(0, 1), self.card.mean, self.card.std)
            parts.append(self.network.backbone(flat).unflatten(0, views.shape[:2]).float())
        return torch.cat(parts, dim=1)
