"""What a file of the store says, and what decides it: the settings, and the JSON of each track."""

from __future__ import annotations

import json
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field

from deepscan.config import CropSettings, FaceSettings, Settings, TrackSettings
from deepscan.datasets.store.archive import ImageFormat
from deepscan.types import Kind, Sureness

SCHEMA: Literal["deepscan.store/1"] = "deepscan.store/1"
# Raised whenever the extraction gives other crops or tracks for the same settings: old files are then made anew.
REVISION = 4
BoxesOf = Literal["own", "original"]
# Larger than most networks take: making a crop smaller costs nothing, larger ones would mean decoding the corpus again.
_STORE_PX = 224


class StoreSettings(Settings):
    """All that decides what a file of the store holds.

    Attributes:
        frames: frames sampled evenly over the whole duration.
        face: how faces are found.
        track: how faces become people.
        crop: the crop rule.
        image: how crops are kept: ``jpeg``, or ``png`` without loss.
        jpeg_quality: of a JPEG.
        boxes: ``own``: every video is cut at the faces found in it; ``original``: a fake at those of its original,
            where there is one and they fit (:mod:`deepscan.datasets.reuse_boxes`).
    """

    frames: int = Field(32, ge=1, le=10_000)
    face: FaceSettings = FaceSettings()
    track: TrackSettings = TrackSettings()
    crop: CropSettings = CropSettings(size_px=_STORE_PX)
    image: ImageFormat = "jpeg"
    jpeg_quality: int = Field(95, ge=1, le=100)
    boxes: BoxesOf = "own"

    def for_boxes(self, boxes_sha256: str | None) -> Self:
        """These settings as they apply to one video: ``boxes`` is ``own`` for all that have no original's boxes to use.

        Args:
            boxes_sha256: of the content of the original whose boxes are at hand; None without one.

        Raises:
            ValueError: there is one, but these settings do not ask for it.
        """
        if boxes_sha256 is None:
            return self.model_copy(update={"boxes": "own"})
        if self.boxes == "own":
            raise ValueError("Boxes of an original are given, but the settings say boxes='own'.")
        return self


class _Record(Settings):
    model_config = ConfigDict(allow_inf_nan=False, populate_by_name=True)


class VideoRecord(_Record):
    """What a file says of its video. Texts are as in the corpus, escaped; ``n_frames`` is what the container declares.

    ``sha256`` is of the input (:func:`~.journal.content_sha256`), ``boxes_sha256`` of the original whose
    boxes were to be used, None where there was none, and ``boxes`` says whose were: the original's may not have fitted.
    The other fields are those of :class:`~deepscan.datasets.readers.base.CorpusItem`,
    :class:`~deepscan.types.MediaInfo` and :class:`~deepscan.extract.people.Extraction`.
    """

    video_id: str
    dataset: str
    label: Literal[0, 1]
    method: str
    group: str
    sha256: str
    kind: Kind
    width_px: int
    height_px: int
    duration_s: float | None
    n_frames: int | None
    frames_sampled: int
    frames_with_face: int
    n_usable: int
    largest_px: float
    brightness: float
    n_tracks: int = Field(ge=1, le=99_999)
    boxes: BoxesOf = "own"
    boxes_sha256: str | None = None


class SightingRecord(_Record):
    frame_index: int = Field(ge=0)
    time_s: float
    box: tuple[float, float, float, float]
    confidence: float
    landmarks: tuple[tuple[float, float], ...] = Field(min_length=5, max_length=5)
    brightness: float
    crc32: int


class SampleRecord(_Record):
    """The JSON of one track."""

    schema_: Literal["deepscan.store/1"] = Field(SCHEMA, alias="schema")
    revision: int = REVISION
    key: str
    video: VideoRecord
    settings: StoreSettings
    number: int
    track_id: int
    sureness: Sureness = "sure"
    sightings: tuple[SightingRecord, ...] = Field(min_length=1)

    def to_bytes(self) -> bytes:
        return canonical(self.model_dump(mode="json", by_alias=True))


def canonical(value: Any) -> bytes:
    """The one way to write a value as JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
