"""Model cards: all that prediction needs beside the weights, and what was measured. Validated as they are read."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from deepscan.config import CropSettings, ModelSettings, Settings

ATTACK_CHECK_FIRED = "Attack check fired"  # how the names of its figures on the card begin
# What the figures of an evaluation are called, wherever a person reads them; deepscan.evaluate.metrics defines them.
FIGURE_TITLES = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "eer": "Equal error rate",
    "tpr_at_fpr_1": "TPR at 1 % FPR",
    "tpr_at_fpr_5": "TPR at 5 % FPR",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "precision_fake": "Precision, fake",
    "recall_fake": "Recall, fake",
    "f1_fake": "F1, fake",
    "precision_real": "Precision, real",
    "recall_real": "Recall, real",
    "f1_real": "F1, real",
    "fpr": "FPR (real over the threshold)",
    "fnr": "FNR (fake under the threshold)",
    "scored": "Scored (a usable face)",
    "coverage": "Answered real or fake",
    "real_called_fake": "Of real files, called fake",
    "fake_called_real": "Of fake files, called real",
    "error_answered_real": "Of real files with an answer, called fake",
    "error_answered_fake": "Of fake files with an answer, called real",
}

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Squeeze = Literal["bits", "median", "denoise"]


# Calibrated scores of data like those of the calibration have a tail of about 1, those of other footage a longer one.
TAIL = 2.0


class Calibration(Settings):
    """From logits to probabilities: ``sigmoid(logit * scale + bias)``, and what a probability means.

    Attributes:
        scale, bias: of the track's logit (Platt scaling, fitted on validation data).
        frame_scale, frame_bias: of a single frame's logit.
        threshold: probability from which a verdict is "fake".
        uncertain_low, uncertain_high: between these no answer keeps the promised error rate: "uncertain".
        tail: log-odds by which the limit for "fake" has to rise for the share of reals above it to fall by a factor of
            e; None takes ``TAIL``.
    """

    scale: float = Field(1.0, gt=0)
    bias: float = 0.0
    frame_scale: float = Field(1.0, gt=0)
    frame_bias: float = 0.0
    threshold: float = Field(0.5, gt=0, lt=1)
    uncertain_low: float = Field(0.5, ge=0, le=1)
    uncertain_high: float = Field(0.5, ge=0, le=1)
    tail: float | None = Field(None, gt=0, allow_inf_nan=False)

    @property
    def band(self) -> tuple[float, float]:
        """The uncertain band."""
        return self.uncertain_low, self.uncertain_high

    @model_validator(mode="after")
    def _ordered(self) -> Calibration:
        if not (self.uncertain_low <= self.threshold <= self.uncertain_high):
            raise ValueError("the threshold must lie within the uncertain band")
        if not all(math.isfinite(v) for v in (self.scale, self.bias, self.frame_scale, self.frame_bias)):
            raise ValueError("calibration must be finite")
        return self


class AttackCheck(Settings):
    """How attacked input is told: crops that were made to deceive the network lose that when they are squeezed.

    Attributes:
        bits: levels of a colour that are kept are 2 to this power.
        median_px: side of the window of the median smoothing.
        denoise: strength of the non-local means, in grey levels.
        crops: of a person, evenly taken, at most so many are looked at.
        limits: which squeezes are made, and from which change of the video log-odds under each of them a person's crops
            count as attacked.
        false_positive_rate: share of clean people over a limit that was aimed at when they were fitted.
    """

    bits: int = Field(5, ge=1, le=7)
    median_px: int = Field(3, ge=3, le=15)
    denoise: float = Field(5.0, gt=0, le=50)
    crops: int = Field(2, ge=1)
    limits: dict[Squeeze, _Positive] = Field(min_length=1)
    false_positive_rate: float = Field(0.02, gt=0, lt=1)

    @model_validator(mode="after")
    def _odd(self) -> AttackCheck:
        if self.median_px % 2 == 0:
            raise ValueError("the window of a median must have an odd side")
        return self


class VisibilityLimits(Settings):
    """Below which of these a face cannot be judged; what they measure is in :mod:`deepscan.extract.visibility`.

    Attributes:
        luma: mean of the crop, in [0, 255].
        face_px: shorter side of the face in the source.
        sharpness, detail: of the crop, whatever its size.
    """

    luma: float = Field(0.0, ge=0, le=255)
    face_px: float = Field(0.0, ge=0, allow_inf_nan=False)
    sharpness: float = Field(0.0, ge=0, allow_inf_nan=False)
    detail: float = Field(0.0, ge=0, allow_inf_nan=False)


class Metric(Settings):
    """One measured figure with its 95 % interval and its count."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int


class Card(Settings, ABC):
    """What every detector's card says.

    Attributes:
        schema_id: format of the card.
        name, version, created: of the detector.
        crop: the crop rule the weights were trained with.
        calibration: logits to verdicts.
        attack_check: how attacked input is told; None where that was not fitted, and nothing is checked.
        visibility: what is seen too badly to be judged; None where that was not fitted, and only black faces are not.
        weights_sha256: of the weights file; checked at load.
        trained: false only for random weights.
        training: how it was trained, in plain words and figures.
        data: what it was trained on, with the terms of each source.
        metrics: measured figures by name; each name says the data and split.
        evaluations: what :func:`deepscan.evaluate.card_figures.condensed` keeps of them.
        limits: known failures, and what it must not be used for.
    """

    schema_id: str
    name: str
    version: str = "1"
    created: str = ""
    crop: CropSettings
    calibration: Calibration = Calibration()
    attack_check: AttackCheck | None = None
    visibility: VisibilityLimits | None = None
    weights_sha256: str
    trained: bool = True
    training: dict[str, Any] = Field(default_factory=dict)
    data: list[dict[str, str]] = Field(default_factory=list)
    metrics: dict[str, Metric] = Field(default_factory=dict)
    evaluations: list[dict[str, Any]] = Field(default_factory=list)
    limits: list[str] = Field(default_factory=list)

    @property
    @abstractmethod
    def backbone(self) -> str:
        """Name of the backbone, or names of the members'."""

    @property
    @abstractmethod
    def head(self) -> str:
        """Name of the temporal head, or names of the members'."""


class DetectorCard(Card):
    """What a detector of one network is and what was measured of it.

    Attributes:
        network: backbone and head.
        mean, std: normalisation of RGB in [0, 1].
    """

    schema_id: Literal["deepscan.card/1"] = "deepscan.card/1"
    network: ModelSettings
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    std: tuple[_Positive, _Positive, _Positive]

    @property
    def backbone(self) -> str:
        return self.network.backbone

    @property
    def head(self) -> str:
        return self.network.head.name


class EnsembleMember(Settings):
    """One detector of an ensemble.

    Attributes:
        folder: of the detector, relative to the ensemble's, with forward slashes.
        weight: its share in the mean of the logits; all together are 1.
        weights_sha256: of its weights.
        backbone, head: for those who read the card alone.
    """

    folder: str
    weight: float = Field(ge=0, le=1)
    weights_sha256: str
    backbone: str
    head: str

    @model_validator(mode="after")
    def _inside(self) -> Self:
        path = PurePosixPath(self.folder)
        if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in self.folder or ":" in self.folder:
            raise ValueError(f"the folder {self.folder!r} is not inside the ensemble's")
        return self


class EnsembleCard(Card):
    """What an ensemble is and what was measured of it. ``weights_sha256`` is made of its members' and their shares.

    Attributes:
        members: the detectors.
    """

    schema_id: Literal["deepscan.ensemble/1"] = "deepscan.ensemble/1"
    members: tuple[EnsembleMember, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if not math.isclose(sum(member.weight for member in self.members), 1, abs_tol=1e-6):
            raise ValueError("the weights of the members must sum to 1")
        return self

    @property
    def backbone(self) -> str:
        return " + ".join(dict.fromkeys(member.backbone for member in self.members))

    @property
    def head(self) -> str:
        return " + ".join(dict.fromkeys(member.head for member in self.members))
