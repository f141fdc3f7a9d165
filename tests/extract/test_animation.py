"""Animated WebP, PNG and AVIF are videos, all of whose pictures are looked at."""

from __future__ import annotations

import logging

import clips
import numpy as np
import pytest
from PIL import Image

from deepscan.config import MediaLimits
from deepscan.errors import MediaError
from deepscan.explain.annotate import annotate
from deepscan.extract.file_facts.facts import file_facts
from deepscan.extract.video.frames import probe, sample_frames
from deepscan.types import Result, VerdictLabel

LOSSLESS = {".webp": {"lossless": True}, ".png": {}, ".avif": {"quality": 100}}


def write(path, durations_ms, **options):
    first, *others = (Image.fromarray(picture) for picture in clips.numbered_frames(len(durations_ms)))
    first.save(path, save_all=True, append_images=others, duration=durations_ms, **LOSSLESS[path.suffix], **options)
    return path


@pytest.fixture
def warned(caplog):
    caplog.set_level(logging.WARNING, logger="deepscan")
    return lambda: [r.getMessage() for r in caplog.records]


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_all_pictures_are_there_at_their_times(tmp_path, warned, suffix):
    path = write(tmp_path / f"clip{suffix}", [100, 300] * 12)
    info = probe(path)
    assert (info.kind, info.width_px, info.height_px) == ("video", 128, 64)
    assert info.duration_s == pytest.approx(4.8)
    frames = list(sample_frames(path, 100))
    assert [clips.frame_number(frame.image) for frame in frames] == list(range(24))
    assert [frame.time_s for frame in frames] == pytest.approx([0.4 * (i // 2) + 0.1 * (i % 2) for i in range(24)])
    assert frames[0].image.flags.c_contiguous
    # Twelve stretches of 0.4 s: the middle of each lies nearest to the long picture's beginning.
    assert [clips.frame_number(frame.image) for frame in sample_frames(path, 12)] == list(range(1, 24, 2))
    assert warned() == []


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_one_picture_is_a_still(tmp_path, suffix):
    path = write(tmp_path / f"still{suffix}", [100])
    assert probe(path).kind == "image"
    assert [clips.frame_number(frame.image) for frame in sample_frames(path, 4)] == [0]


def test_picture_for_programs_that_know_no_animation_is_not_part_of_it(tmp_path):
    path = write(tmp_path / "clip.png", [100] * 6, default_image=True)
    assert [clips.frame_number(frame.image) for frame in sample_frames(path, 10)] == [1, 2, 3, 4, 5]


def test_pictures_that_are_shown_for_no_time_last_as_long_as_in_browsers(tmp_path):
    path = write(tmp_path / "clip.webp", [0] * 6)
    assert probe(path).duration_s == pytest.approx(0.6)
    assert [frame.time_s for frame in sample_frames(path, 6)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"max_frames": 5}, "more than 5 frames"),
        ({"max_duration_s": 0.5}, "runs for"),
        ({"max_pixels": 8191}, "pixels"),
    ],
)
def test_limits(tmp_path, suffix, limits, why):
    path = write(tmp_path / f"clip{suffix}", [100] * 6)
    with pytest.raises(MediaError, match=why) as caught:
        list(sample_frames(path, 3, MediaLimits(**limits)))
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("suffix", [".webp", ".png"])
@pytest.mark.parametrize("keep", [0.1, 0.6, 0.97])
def test_damage_gives_pictures_or_a_reason(tmp_path, suffix, keep):
    path = write(tmp_path / f"clip{suffix}", [100] * 6)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    try:
        numbers = [clips.frame_number(frame.image) for frame in sample_frames(path, 6)]
    except MediaError as error:
        assert error.reason in ("unreadable", "no_frames")
    else:
        assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_facts_and_annotated_copy(tmp_path, suffix):
    path = write(tmp_path / f"clip{suffix}", [100] * 6)
    assert file_facts(path).kind == "video"
    result = Result(str(path), None, "video", VerdictLabel.NOT_APPLICABLE, message="Nobody.")
    copy = annotate(path, result, tmp_path / "copy.mp4")
    assert (copy.n_frames, copy.sound) == (6, "none")
    frames = list(sample_frames(tmp_path / "copy.mp4", 6))
    assert [frame.time_s for frame in frames] == pytest.approx(np.arange(6) / 10, abs=0.002)
