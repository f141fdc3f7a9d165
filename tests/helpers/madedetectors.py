"""Detectors for tests: untrained ones on disk, and one that knows what the made fakes look like."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from deepscan.config import CropSettings, HeadSettings, ModelSettings, PredictSettings
from deepscan.detector import Detector
from deepscan.models.card import Calibration, DetectorCard
from deepscan.models.checkpoint import save_detector
from deepscan.models.ensemble import Networks
from deepscan.models.network import DetectorNetwork
from deepscan.types import Score

SIDE = 32
SETTINGS = ModelSettings(backbone="custom_cnn", head=HeadSettings(name="mean"))
CALIBRATION = Calibration(
    scale=0.5, bias=0.1, frame_scale=0.4, frame_bias=-0.1, threshold=0.5, uncertain_low=0.4, uncertain_high=0.6
)
NO_TTA = PredictSettings(tta=False)


def card(**changes):
    facts = {
        "name": "made",
        "network": SETTINGS,
        "crop": CropSettings(size_px=SIDE),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "calibration": CALIBRATION,
        "weights_sha256": "",
    }
    return DetectorCard(**{**facts, **changes})


def network(settings=SETTINGS, seed=0):
    """Random weights whose logits differ visibly from crop to crop."""
    torch.manual_seed(seed)
    made = DetectorNetwork(settings)
    for parameter in made.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=1.5 / parameter[0].numel() ** 0.5)
    return made.eval()


def save(folder, backbone="custom_cnn", seed=0, **changes):
    """A detector in a folder."""
    settings = ModelSettings(backbone=backbone, head=HeadSettings(name="mean"))
    save_detector(folder, network(settings, seed), card(**{"network": settings, "name": folder.name, **changes}))
    return folder


def stripe_logits(crops):
    """How striped crops ``uint8 [T, S, S, 3]`` are, as logits ``float64 [T]``; made fakes are above 0."""
    side = crops.shape[1]
    middle = crops[:, side // 4 : 3 * side // 4, side // 4 : 3 * side // 4].astype(float).mean(axis=-1)
    rows = middle.mean(axis=2)
    return (rows[:, ::2].mean(axis=1) - rows[:, 1::2].mean(axis=1)) / 5 - 4


class StripeDetector(Detector):
    """Sees the stripes of :func:`madestores.stripes`; a sequence's logit is the mean of its frames'."""

    def __init__(self, settings=NO_TTA, **changes):
        super().__init__(Networks.of(network(), card(**changes)), settings)
        self.calls = []

    def score(self, sequences):
        self.calls.append([len(crops) for crops in sequences])
        return [Score(float(np.mean(logits)), logits) for logits in map(stripe_logits, sequences)]
