"""The values that flow through deepscan: frame -> face -> track -> crop -> score -> verdict -> report.

All are frozen. Units are in field names (``_s`` seconds, ``_px`` pixels). Boxes are ``(x1, y1, x2, y2)`` in
pixels of the frame as it is displayed (square pixels, after rotation); images are RGB ``uint8`` of shape ``[H, W, 3]``.
Probabilities are P(fake).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepscan.text import encodable, html_table

RgbImage = NDArray[np.uint8]
Landmarks = NDArray[np.float32]
Box = tuple[float, float, float, float]
Kind = Literal["video", "image"]
Sampling = Literal["sequential", "seek"]
RESULT_COLUMNS = ("File", "Verdict", "P(fake)", "People", "Why")


class VerdictLabel(StrEnum):
    """What deepscan answers. Only the first three come with a probability."""

    FAKE = "fake"
    REAL = "real"
    UNCERTAIN = "uncertain"
    NOT_APPLICABLE = "not_applicable"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

    Attributes:
        image: RGB ``uint8 [H, W, 3]``, as it is displayed.
        time_s: presentation time in seconds from the start of the stream.
        index: position among the sampled frames, from 0.
        sought: whether the file's index was followed to it; otherwise all that comes before was decoded.
        shift_s: by how much it is later than the frame of the evenly spread time; negative where it is earlier.
    """

    image: RgbImage
    time_s: float
    index: int
    sought: bool = False
    shift_s: float = 0.0

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype.name != "uint8":
            raise ValueError(f"Invalid image ({self.image.dtype} {self.image.shape}). Supported is uint8 [H, W, 3].")

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"Frame(index={self.index}, time_s={self.time_s:.3f}, {width}x{height})"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a video its sampled frames stand for.

    Attributes:
        duration_s: of the whole picture, also of what is missing.
        damaged_s: from damage to the next keyframe, each time: left out.
        cut_off_s: missing at the end, by the header.
    """

    duration_s: float
    damaged_s: float = 0.0
    cut_off_s: float = 0.0

    @property
    def examined_s(self) -> float:
        return max(0.0, self.duration_s - self.damaged_s - self.cut_off_s)

    @property
    def left_out(self) -> float:
        """Share of the duration, in [0, 1]."""
        return 1 - self.examined_s / self.duration_s if self.duration_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Face:
    """One detected face: box, detector confidence in [0, 1] and landmarks ``float32 [5, 2]`` as (x, y):
    left eye, right eye, nose, left and right mouth corner, as seen in the image."""

    box: Box
    confidence: float
    landmarks: Landmarks

    @property
    def width_px(self) -> float:
        return self.box[2] - self.box[0]

    @property
    def height_px(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def size_px(self) -> float:
        """The shorter side of the box: what "a face of 40 px" means everywhere in deepscan."""
        return min(self.width_px, self.height_px)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A face in one sampled frame. ``brightness`` is the crop's mean luma in [0, 255]."""

    frame_index: int
    time_s: float
    face: Face
    brightness: float = 128.0


Sureness = Literal["sure", "unsure", "doubtful"]


@dataclass(frozen=True, slots=True)
class Track:
    """One person through an unbroken shot: sightings in time order, at most one a frame.

    Attributes:
        sureness: that this is a person; ``unsure`` ones are judged but never decide "fake" beside sure ones, and
            ``doubtful`` ones, a wall or hair mostly, are not judged. See :mod:`deepscan.extract.sureness`.
    """

    id: int
    sightings: tuple[Sighting, ...]
    sureness: Sureness = "sure"

    @property
    def start_s(self) -> float:
        return self.sightings[0].time_s

    @property
    def end_s(self) -> float:
        return self.sightings[-1].time_s


@dataclass(frozen=True, slots=True)
class Score:
    """What the network says of one track, before calibration.

    Attributes:
        video_logit: logit of the temporal head for the whole track.
        frame_logits: one logit per sighting from the frame-level head, ``float64 [T]``.
    """

    video_logit: float
    frame_logits: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SightingResult:
    """One sighting, as it is reported; without more it is of somebody who was not judged."""

    time_s: float
    box: Box
    confidence: float


@dataclass(frozen=True, slots=True)
class FrameResult(SightingResult):
    """One sighting with its calibrated probability."""

    probability: float


@dataclass(frozen=True, slots=True)
class TrackResult:
    """One person's verdict and timeline."""

    id: int
    verdict: VerdictLabel
    probability: float
    start_s: float
    end_s: float
    frames: tuple[FrameResult, ...]


@dataclass(frozen=True, slots=True)
class UnjudgedTrack:
    """What was found and followed like a person but not judged; ``reason`` is ``doubtful_face`` or what hides it."""

    id: int
    reason: str
    start_s: float
    end_s: float
    frames: tuple[SightingResult, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of one track in which consecutive frames look manipulated."""

    track: int
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one input: label, calibrated P(fake) where there is one, why, and what it rests on."""

    label: VerdictLabel
    probability: float | None = None
    reason: str | None = None
    message: str | None = None
    tracks: tuple[TrackResult, ...] = ()
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """Something about a file beside its answer: a stable ``code``, and a sentence for a person."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace of processing that was looked for: its code, its measured value, and whether that is enough to say so."""

    code: str
    value: float
    present: bool


@dataclass(frozen=True, slots=True)
class Result:
    """Everything deepscan says of one input; one entry of ``results`` in the report.

    Attributes:
        sampling: how the frames of a video were reached: by decoding everything up to them, or also by seeks to
            keyframes; None for an image.
        sampling_shift_s: how far from its evenly spread time a frame was taken at most, where that was quicker; None
            for an image.
        timing_s: seconds spent in ``decode``, ``detect`` and ``score``, which overlap, and in ``total``.
        unjudged: who or what was followed but not judged.
        turned: degrees by which the picture was turned clockwise for its faces to be upright; None where it was not.
        examined_s: seconds of a video that the sampled frames stand for: without what is damaged or cut off; None for
            an image.
        left_out: the rest's share of the duration, in [0, 1]; None for an image.
        notes: what else there is to know of the file.
    """

    path: str
    sha256: str | None
    kind: Kind | None
    verdict: VerdictLabel
    reason: str | None = None
    message: str | None = None
    probability: float | None = None
    duration_s: float | None = None
    frames_sampled: int = 0
    frames_with_face: int = 0
    tracks: tuple[TrackResult, ...] = ()
    segments: tuple[Segment, ...] = ()
    timing_s: dict[str, float] = field(default_factory=dict)
    sampling: Sampling | None = None
    sampling_shift_s: float | None = None
    unjudged: tuple[UnjudgedTrack, ...] = ()
    turned: int | None = None
    examined_s: float | None = None
    left_out: float | None = None
    notes: tuple[Note, ...] = ()
    traces: tuple[Trace, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """One entry of ``results`` in the JSON report: probabilities to 4 digits, times to 3, boxes to 1."""
        return {
            "path": self.path,
            "sha256": self.sha256,
            "kind": self.kind,
            "verdict": str(self.verdict),
            "reason": self.reason,
            "message": self.message,
            "probability": _rounded(self.probability, 4),
            "duration_s": _rounded(self.duration_s, 3),
            "frames_sampled": self.frames_sampled,
            "frames_with_face": self.frames_with_face,
            "sampling": self.sampling,
            "turned": self.turned,
            "tracks": [*map(_track, self.tracks), *map(_track, self.unjudged)],
            "segments": [
                {"track": s.track, **_times(s), "probability": round(s.probability, 4)} for s in self.segments
            ],
            "timing_s": {name: round(value, 3) for name, value in self.timing_s.items()},
            "examined_s": _rounded(self.examined_s, 3),
            "left_out": _rounded(self.left_out, 4),
            "notes": [{"code": note.code, "text": note.text} for note in self.notes],
            "sampling_shift_s": _rounded(self.sampling_shift_s, 3),
            "traces": [{"code": t.code, "value": round(t.value, 4), "present": t.present} for t in self.traces],
        }

    def to_json(self) -> str:
        """:meth:`to_dict` as JSON text, ending in a newline."""
        return json_text(self.to_dict())

    def __repr__(self) -> str:
        score = "" if self.probability is None else f", probability={self.probability:.4f}"
        reason = "" if self.reason is None else f", reason={self.reason!r}"
        return f"Result({self.path!r}, verdict={str(self.verdict)!r}{score}{reason}, people={len(self.tracks)})"

    def _repr_html_(self) -> str:
        return html_table(RESULT_COLUMNS, [_cells(self)])


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which detector gave the scores, and with which settings.

    ``trained`` is false for random weights: such a report is no evidence.
    """

    name: str
    sha256: str | None
    threshold: float
    uncertain_band: tuple[float, float]
    trained: bool
    backbone: str
    head: str
    version: str
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run: deepscan's version, the model, and one result per input, in input order.

    ``passed_over`` counts the files in folders that were not looked at, by their suffix in lower case.
    """

    version: str
    model: ModelInfo
    results: tuple[Result, ...]
    passed_over: dict[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 when every input was answered, 3 when at least one could not be read or scored."""
        return 3 if any(r.verdict is VerdictLabel.ERROR for r in self.results) else 0

    def __repr__(self) -> str:
        counts = {str(label): sum(r.verdict is label for r in self.results) for label in VerdictLabel}
        counted = ", ".join(f"{name}: {n}" for name, n in counts.items() if n)
        model = f"{self.model.name} {self.model.version}"
        return f"Report({len(self.results)} results of model {model}: {counted or 'none'})"

    def _repr_html_(self) -> str:
        return html_table(RESULT_COLUMNS, [_cells(result) for result in self.results])


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What the container says of itself; ``duration_s`` is None for an image, ``n_frames`` where it is not declared.
    ``other_pictures`` counts the moving pictures beside the one that is judged; of a photo also the still ones.
    ``jpeg_table`` has the 64 quantisation steps of a JPEG's luminance, in rows of its blocks as displayed."""

    path: Path
    kind: Kind
    width_px: int
    height_px: int
    duration_s: float | None
    n_frames: int | None
    other_pictures: int = 0
    jpeg_table: tuple[int, ...] | None = None


def json_text(content: dict[str, Any]) -> str:
    """Plain values as JSON text, ending in a newline; names of files may be of any bytes."""
    return encodable(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _track(track: TrackResult | UnjudgedTrack) -> dict[str, Any]:
    answer = (
        {"verdict": str(track.verdict), "probability": round(track.probability, 4)}
        if isinstance(track, TrackResult)
        else {"verdict": str(VerdictLabel.NOT_APPLICABLE), "reason": track.reason, "probability": None}
    )
    frames = [
        {
            "time_s": round(frame.time_s, 3),
            "box": [round(v, 1) for v in frame.box],
            "confidence": round(frame.confidence, 4),
            "probability": round(frame.probability, 4) if isinstance(frame, FrameResult) else None,
        }
        for frame in track.frames
    ]
    return {"id": track.id, **answer, **_times(track), "frames": frames}


def _times(part: TrackResult | UnjudgedTrack | Segment) -> dict[str, float]:
    return {"start_s": round(part.start_s, 3), "end_s": round(part.end_s, 3)}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _cells(result: Result) -> list[str]:
    score = "" if result.probability is None else f"{result.probability:.3f}"
    return [result.path, str(result.verdict), score, str(len(result.tracks)), result.message or ""]
