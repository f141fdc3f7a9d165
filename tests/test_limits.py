"""Limits on what a stranger's file may take: each refuses with a row, none refuses what just fits."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import clips
import numpy as np
import pytest
import typer
from PIL import Image
from pydantic import ValidationError

from deepscan.commands.options import limits_of
from deepscan.config import CropSettings, FaceSettings, MediaLimits, PredictSettings, TrackSettings
from deepscan.detector import Detector, load_detector
from deepscan.errors import MediaError
from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.file_facts.facts import file_facts
from deepscan.extract.images.stills import webp_size
from deepscan.extract.people import search_people
from deepscan.extract.video.frames import probe, sample_frames
from deepscan.models.card import Calibration
from deepscan.types import Face, Frame, Score, Sighting, Track, VerdictLabel
from deepscan.verdict import decide


@pytest.fixture(scope="module")
def strict() -> Detector:
    """Judges nobody but the one person seen longest."""
    return load_detector("default", PredictSettings(frames=4, tta=False, limits=MediaLimits(max_tracks=1)))


# --- each limit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fits", "why"),
    [
        ("max_pixels", 320 * 240, "its frames are 320 x 240 pixels, over the limit of 76,799"),
        ("max_frames", 60, "it holds more than 59 frames, which is the limit"),
        ("max_duration_s", 2.4, "it runs for 2 s, the limit is 1 s"),
        ("max_bytes", None, "the limit is"),
    ],
)
def test_a_limit_is_met_exactly(face_clip: Path, name: str, fits: float | None, why: str) -> None:
    fits = face_clip.stat().st_size if fits is None else fits
    assert len(list(sample_frames(face_clip, 3, MediaLimits(**{name: fits})))) == 3
    with pytest.raises(MediaError) as caught:
        list(sample_frames(face_clip, 3, MediaLimits(**{name: fits - 1})))
    assert caught.value.reason == "too_large"
    assert why in str(caught.value)
    (option,) = re.findall(r"--max (\S+=none) lifts the limit", str(caught.value))
    assert len(list(sample_frames(face_clip, 3, limits_of([option])))) == 3


def test_frames_are_counted_whatever_the_header_says(tmp_path: Path) -> None:
    """Matroska has no count of them."""
    path = clips.write_video(tmp_path / "many.mkv", clips.texture_frames(60, size=(64, 48)))
    with pytest.raises(MediaError, match="more than 10 frames"):
        list(sample_frames(path, 1, MediaLimits(max_frames=10)))
    with pytest.raises(MediaError, match="more than 10 frames"):
        file_facts(path, MediaLimits(max_frames=10))


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def _bmp_header(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def _gif_header(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b";"


def _jpeg_header(width: int, height: int) -> bytes:
    frame = struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes([1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1])
    scan = struct.pack(">HB", 12, 3) + bytes([1, 0, 2, 0x11, 3, 0x11, 0, 63, 0])
    return b"\xff\xd8\xff\xc0" + frame + b"\xff\xda" + scan + b"\xff\xd9"


def _webp_header(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    data = b"VP8X" + struct.pack("<I", 10) + bytes([0, 0, 0, 0]) + size
    return b"RIFF" + struct.pack("<I", 4 + len(data)) + b"WEBP" + data


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("bomb.png", _png_header(60_000, 60_000)),
        ("bomb.bmp", _bmp_header(60_000, 60_000)),
        ("bomb.gif", _gif_header(60_000, 60_000)),
        ("bomb.jpg", _jpeg_header(60_000, 60_000)),
        ("bomb.webp", _webp_header(16_000, 16_000)),
    ],
)
def test_image_bombs_are_refused_from_their_header(tmp_path: Path, name: str, data: bytes) -> None:
    """A few bytes that claim gigabytes. What comes after the header is no picture: whoever decoded it would say so."""
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(MediaError) as caught:
        probe(path)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"lossless": True, "exif": b"Exif\0\0"}])
def test_the_size_of_every_kind_of_webp_is_read_from_its_header(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "picture.webp"
    Image.fromarray(np.zeros((70, 90, 3), np.uint8)).save(path, **options)
    assert webp_size(path.read_bytes()[:32]) == (90, 70)
    probe(path, MediaLimits(max_pixels=90 * 70))
    with pytest.raises(MediaError, match="it is 90 x 70 pixels"):
        probe(path, MediaLimits(max_pixels=90 * 70 - 1))


def test_a_picture_whose_text_unpacks_to_gigabytes(tmp_path: Path) -> None:
    """A PNG chunk of 1 MB that would be 1 GB of text; the picture itself is small and whole."""
    path = tmp_path / "text.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    data = path.read_bytes()
    text = b"note\0\0" + zlib.compress(b"\0" * 2**28, 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    path.write_bytes(data[:33] + chunk + data[33:])
    with pytest.raises(MediaError) as caught:
        probe(path)
    assert caught.value.reason == "unreadable"


# --- people --------------------------------------------------------------------------------------------------


def test_people_over_the_limit_are_not_judged_and_nobody_says_real(strict: Detector, two_people_clip: Path) -> None:
    extraction = strict.extract(two_people_clip)
    assert (len(extraction.people), extraction.people_left_out) == (1, 1)
    result = strict.predict(two_people_clip)
    assert len(result.tracks) == 1
    assert result.verdict is not VerdictLabel.REAL


def _person() -> Track:
    seen = [Sighting(i, float(i), Face((0.0, 0.0, 80.0, 80.0), 0.999, None), 128.0) for i in range(4)]
    return Track(1, tuple(seen))


@pytest.mark.parametrize(
    ("logit", "label", "reason"),
    [(-4.0, "uncertain", "too_many_people"), (0.1, "uncertain", None), (4.0, "fake", None)],
)
def test_what_is_left_out_changes_real_alone(logit: float, label: str, reason: str | None) -> None:
    calibration = Calibration(uncertain_low=0.2, uncertain_high=0.8)
    score = Score(logit, np.full(4, logit))
    verdict = decide([_person()], [score], calibration, n_left_out=3)
    assert verdict.label == label
    assert verdict.reason == (reason or decide([_person()], [score], calibration).reason)
    if reason:
        assert "3 more were over the limit" in str(verdict.message)
        assert verdict.tracks[0].verdict is VerdictLabel.REAL


# Eyes, nose and mouth in a box of 60 pixels.
_POINTS = np.array([(18, 22), (42, 22), (30, 34), (20, 46), (40, 46)], np.float32)


class _Crowd(FaceFinder):
    """Finds a row of faces; the one in the middle is there in every frame, the others come and go."""

    def __init__(self) -> None:
        self.settings = FaceSettings()

    def detect(self, images, *, close_up=False):  # type: ignore[no-untyped-def]
        del close_up
        return [self._faces(image) for image in images]

    def _faces(self, image):  # type: ignore[no-untyped-def]
        number = int(image[0, 0, 0])
        places = [2] if number % 2 else [0, 1, 2, 3]
        return [
            Face((100.0 * i, 50.0, 100.0 * i + 60, 110.0), 0.999, np.add(_POINTS, (100.0 * i, 50.0))) for i in places
        ]

    def follow(self, images, faces):  # type: ignore[no-untyped-def]
        del faces
        return [self._faces(image) for image in images]


def test_those_seen_longest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(60, 200, (160, 420, 3), np.uint8)
    frames = []
    for number in range(6):
        image = scene.copy()
        image[0, 0] = number
        frames.append(Frame(image, float(number), number))
    path = clips.write_video(tmp_path / "crowd.mp4", [frame.image for frame in frames])
    monkeypatch.setattr("deepscan.extract.people.sample_frames", lambda *_, **__: iter(frames))
    extraction = search_people(
        path, 6, _Crowd(), CropSettings(size_px=32), TrackSettings(), MediaLimits(max_tracks=1)
    ).run()
    (person,) = extraction.people
    assert extraction.people_left_out == 3
    assert [s.face.box[0] for s in person.track.sightings] == [200.0] * 6


# --- options -------------------------------------------------------------------------------------------------


def test_options_change_what_they_name() -> None:
    assert limits_of(None) == MediaLimits()
    limits = limits_of(["pixels=2M", "bytes=1.5G", "duration=5min", "frames=none", "tracks=3"])
    assert limits == MediaLimits(
        max_pixels=2_000_000, max_bytes=1_500_000_000, max_duration_s=300.0, max_frames=None, max_tracks=3
    )


@pytest.mark.parametrize(
    "text", ["tracks", "tracks=0", "tracks=none", "size=3", "bytes=-1", "pixels=a", "duration=0", ""]
)
def test_options_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        limits_of([text])


def test_limits_are_settings() -> None:
    with pytest.raises(ValidationError):
        MediaLimits(max_pixels=0)
    assert PredictSettings().model_dump(mode="json")["limits"]["max_tracks"] == 64
