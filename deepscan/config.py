"""Validated settings: the one place for every default, whether it reaches the code from YAML, a flag or Python.

Unknown keys are refused. Units are in the names.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

HeadName = Literal["lstm", "mean", "attention"]
RunDevice = Literal["auto", "cpu", "cuda", "mps"]
RuntimeChoice = Literal["auto", "torch", "openvino"]


class Settings(BaseModel):
    """Base of all settings: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def n_views(tta: bool) -> int:
    """How many views of a crop are scored with and without test-time augmentation."""
    return 2 if tta else 1


class FaceSettings(Settings):
    """How faces are found.

    Attributes:
        min_face_px: faces whose shorter side is smaller, in pixels of the source, are seen but not scored.
        detect_side_px: frames are scaled down so that their longer side is at most this before detection.
        detector_min_px: smallest face the detector looks for, in pixels of the scaled frame.
        thresholds: the three MTCNN stage thresholds (P-, R- and O-Net).
        min_confidence: detections below are ignored.
        batch_frames: frames looked at together at most; large ones are fewer.
    """

    min_face_px: int = Field(40, ge=8)
    detect_side_px: int = Field(960, ge=64)
    detector_min_px: int = Field(20, ge=12)
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    min_confidence: float = Field(0.90, ge=0, le=1)
    batch_frames: int = Field(2, ge=1)


class TrackSettings(Settings):
    """How faces become people.

    Attributes:
        min_similarity: a face joins a track when position, size and look together agree this well, in [0, 1].
        cut_distance: colour-histogram distance (Hellinger, in [0, 1]) between neighbouring sampled frames
            from which the shot has changed.
        max_gap_frames: sampled frames a person may be missed in before the track ends.
        min_confidence: a person's clearest sighting is at least this sure; patterns that look like a face to the
            detector stay below it however often they are seen.
        min_share: a face seen in fewer of its shot's frames is kept only when the detector was sure of it.
        sure_confidence: what "sure" means; also asked of a face in a shot of a single sampled frame.
    """

    min_similarity: float = Field(0.35, ge=0, le=1)
    cut_distance: float = Field(0.5, ge=0, le=1)
    max_gap_frames: int = Field(3, ge=0)
    min_confidence: float = Field(0.97, ge=0, le=1)
    min_share: float = Field(0.1, ge=0, le=1)
    sure_confidence: float = Field(0.99, ge=0, le=1)


class CropSettings(Settings):
    """The crop rule. It travels in the detector's card, so training and prediction cannot differ.

    Attributes:
        size_px: side of the square crop.
        margin: the square's side is the longer side of the face box times ``1 + margin``; below 0 cuts into it.
        shift_y: the square's centre lies this share of the box's height below the box's own: a detector's box
            reaches higher above the brows than below the chin.
        align: ``none`` keeps the crop upright; ``eyes`` rotates it until the line through the eyes is level.
    """

    size_px: int = Field(128, ge=32, le=1024)
    margin: float = Field(-0.2, ge=-0.5, le=2)
    shift_y: float = Field(0.06, ge=-0.5, le=0.5)
    align: Literal["none", "eyes"] = "none"

    def same_but_size(self, other: CropSettings) -> bool:
        """Whether two rules cut the same square."""
        return self.model_copy(update={"size_px": other.size_px}) == other

    @property
    def text(self) -> str:
        """The rule in words."""
        return f"margin {self.margin:g}, shift {self.shift_y:g}, align {self.align}, {self.size_px} px"


class HeadSettings(Settings):
    """The temporal head.

    The defaults are one small bidirectional LSTM. The stacked form of the DFDC report this project grew out of
    is ``bidirectional_layers=3, unidirectional_layers=1, hidden=2048, dropout=0.4, dense=2048``.

    Attributes:
        name: ``lstm``, ``mean`` or ``attention``.
        hidden: LSTM units per direction, or width of the attention.
        bidirectional_layers: stacked bidirectional LSTM layers, first.
        unidirectional_layers: stacked unidirectional LSTM layers, after them.
        dropout: between layers and before the logit.
        dense: width of a fully connected layer with LeakyReLU before the logit; 0 leaves it out.
        corrects_mean: the video's logit is the mean of its frames' logits plus what the head adds, which is nothing
            before it has learned: a head then starts as good as averaging.
    """

    name: HeadName = "lstm"
    hidden: int = Field(128, ge=1, le=2**15)
    bidirectional_layers: int = Field(1, ge=0, le=32)
    unidirectional_layers: int = Field(0, ge=0, le=32)
    dropout: float = Field(0.2, ge=0, lt=1)
    dense: int = Field(0, ge=0, le=2**15)
    corrects_mean: bool = False

    @model_validator(mode="after")
    def _has_layers(self) -> Self:
        if self.name == "lstm" and self.bidirectional_layers + self.unidirectional_layers == 0:
            raise ValueError("an lstm head needs at least one layer")
        return self


class ModelSettings(Settings):
    """Which network: a backbone by name (see ``deepscan models``) and its temporal head."""

    backbone: str = "resnet18"
    head: HeadSettings = HeadSettings()


class MediaLimits(Settings):
    """What is refused, so that a file from a stranger can take no more than a share of the machine.

    The defaults pass anything that a camera, an editor or a platform makes. None lifts a limit.

    Attributes:
        max_pixels: width x height of a picture or frame, by its header, before it is decoded. (Pillow refuses stills
            over 179 million by itself.)
        max_bytes: size of the file.
        max_duration_s: length of the video in seconds.
        max_frames: frames that the video holds; counted in its packets, whatever its header says.
        max_tracks: people of a file that are judged, those seen longest. A file with more is never called real.
    """

    max_pixels: int = Field(8192 * 8192, ge=1)
    max_bytes: int | None = Field(64 * 2**30, ge=1)
    max_duration_s: float | None = Field(24 * 3600.0, gt=0)
    max_frames: int | None = Field(10_000_000, ge=1)
    max_tracks: int = Field(64, ge=1)


DEFAULT_LIMITS = MediaLimits()


class PredictSettings(Settings):
    """Settings of a prediction that may change its scores; they are written into the report.

    Attributes:
        frames: frames sampled evenly over the whole duration.
        min_segment_s: take more frames where a manipulated stretch of this length could escape; None takes no more.
        tta: test-time augmentation, the mean of the logits over several views of every crop.
        attack_check: give no answer where the score moves far when the crops are squeezed, as attacked ones do; for
            detectors whose card says how.
        threshold: probability from which a verdict is "fake"; None takes the detector's own.
        device: where the networks run.
        runtime: what runs them; ``auto`` is OpenVINO on the processor where it can, torch otherwise.
        allow_untrained: score with random weights; every verdict is then "uncertain".
        face: how faces are found.
        track: how faces become people.
        limits: what is refused.
    """

    frames: int = Field(32, ge=1, le=10_000)
    min_segment_s: float | None = Field(None, gt=0)
    tta: bool = True
    attack_check: bool = False
    threshold: float | None = Field(None, gt=0, lt=1)
    device: RunDevice = "auto"
    runtime: RuntimeChoice = "auto"
    allow_untrained: bool = False
    face: FaceSettings = FaceSettings()
    track: TrackSettings = TrackSettings()
    limits: MediaLimits = DEFAULT_LIMITS


class CalibrationSettings(Settings):
    """How scores become answers, fitted on the validation split.

    Attributes:
        error_rate: most of the reals that may be called fake, and of the fakes that may be called real.
        threshold_fpr: the threshold is put where this share of validation reals lies above it; None puts it at 0.5.
    """

    error_rate: float = Field(0.05, gt=0, lt=0.5)
    threshold_fpr: float | None = Field(None, gt=0, lt=1)
