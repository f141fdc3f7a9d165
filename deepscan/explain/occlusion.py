"""Which frames carry a verdict: how the answer changes when a stretch of the sequence is left out.

The backbone runs once; only the temporal head runs again for every stretch. A frame that is left out is masked, which
to every head is the same as a face that was not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepscan.extract.crops import resized
from deepscan.models.card import DetectorCard
from deepscan.models.ensemble import Networks
from deepscan.models.graphs import CropFeatures
from deepscan.models.network import DetectorNetwork

# Longer sequences are left out in stretches: importance is then known for each of them, not for single frames.
MAX_STRETCHES = 64
_CROPS_PER_BATCH = 64
# Sequences in one run of the head hold this many frames together, which bounds the memory of long tracks.
_FRAMES_PER_RUN = 4096


@dataclass(frozen=True, slots=True)
class Importance:
    """What each frame of a track contributes.

    Attributes:
        logit: of the whole track, in calibrated log-odds of "fake".
        importance: ``float64 [T]``, in the same unit: how much the logit falls when the frame's stretch is left out.
            Positive: it speaks for "fake". A stretch that is the whole track has nothing to be compared with and gets
            the logit itself.
        frame_logits: ``float64 [T]``, calibrated log-odds of every frame on its own.
        stretches: start and end (exclusive) of the stretches that were left out, in order and without gaps.
    """

    logit: float
    importance: NDArray[np.float64]
    frame_logits: NDArray[np.float64]
    stretches: tuple[tuple[int, int], ...]


def explain_track(
    networks: Networks,
    crops: NDArray[np.uint8],
    *,
    stretch: int | None = None,
    tta: bool = True,
) -> Importance:
    """Leave out every stretch of a track once.

    Args:
        networks: of a detector, in evaluation mode.
        crops: RGB ``uint8 [T, S, S, 3]``, T from 1, S the card's crop size.
        stretch: frames left out together; None takes 1, or as many as give at most :data:`MAX_STRETCHES` stretches.
        tta: over the same views as the verdict.
    """
    if crops.ndim != 4 or crops.shape[3] != 3 or not len(crops):
        raise ValueError(f"Invalid crops ({crops.shape}). Supported is uint8 [T, S, S, 3], T from 1.")
    if stretch is not None and stretch < 1:
        raise ValueError(f"Invalid stretch ({stretch}). Supported are whole numbers from 1.")
    time = len(crops)
    step = stretch or -(-time // MAX_STRETCHES)
    stretches = tuple((start, min(start + step, time)) for start in range(0, time, step))
    with torch.inference_mode():
        logits, frame_logits = _logits(networks, crops, stretches, tta)
    whole = float(logits[0])
    importance = np.zeros(time)
    for (start, end), without in zip(stretches, logits[1:], strict=True):
        importance[start:end] = whole if end - start == time else whole - without
    return Importance(whole, importance, frame_logits, stretches)


def _logits(
    networks: Networks,
    crops: NDArray[np.uint8],
    stretches: Sequence[tuple[int, int]],
    tta: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Calibrated logits of the whole and without each stretch ``[1 + N]``, and of single frames ``[T]``."""
    video, frames = np.full(1 + len(stretches), networks.bias), np.full(len(crops), networks.frame_bias)
    for part in networks.parts:
        network = part.load()
        features = _features(network, part.card, resized(crops, part.card.crop.size_px), tta)
        frame_logits = network.frame_classifier(features).squeeze(-1).double().mean(dim=0).cpu().numpy()
        video += part.weight * _without(network, features, stretches)
        frames += part.frame_weight * frame_logits
    calibration = networks.card.calibration
    return video * calibration.scale + calibration.bias, frames * calibration.frame_scale + calibration.frame_bias


def _features(network: DetectorNetwork, card: DetectorCard, crops: NDArray[np.uint8], tta: bool) -> Tensor:
    """Features ``[V, T, D]`` of every view of every crop."""
    device = next(network.parameters()).device
    features = CropFeatures(network, card.mean, card.std, tta=tta)
    batches = torch.split(torch.from_numpy(np.ascontiguousarray(crops)), _CROPS_PER_BATCH)
    return torch.cat([features(batch.to(device)) for batch in batches], dim=1)


def _without(network: DetectorNetwork, features: Tensor, stretches: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Logits of the whole sequence and of it without each stretch ``[1 + N]``, the mean over the views."""
    views, time = features.shape[:2]
    masks = torch.ones(1 + len(stretches), time, dtype=torch.bool, device=features.device)
    for row, (start, end) in enumerate(stretches, start=1):
        masks[row, start:end] = False
    rows = max(1, _FRAMES_PER_RUN // (views * time))
    part_logits = []
    for part in torch.split(masks, rows):
        n = len(part)
        sequences = features.unsqueeze(0).expand(n, -1, -1, -1).flatten(0, 1)
        output = network.from_features(sequences, part.repeat_interleave(views, dim=0))
        part_logits.append(output.video_logit.double().reshape(n, views).mean(dim=1))
    logits: NDArray[np.float64] = torch.cat(part_logits).cpu().numpy()
    return logits
