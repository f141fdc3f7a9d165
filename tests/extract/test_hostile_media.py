"""Formats of all kinds and odd files: read as they are meant, or refused with a fitting reason."""

from __future__ import annotations

import math

import clips
import hostile
import pytest

from deepscan.errors import MediaError
from deepscan.extract.isolation.client import probe, sample_frames
from deepscan.extract.video import frames as video

_REASONS = {"unreadable", "no_video_stream", "no_frames", "too_large", "empty_file", "timeout", "out_of_memory"}


def cases(made):
    return [pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else []) for case in made]


def written(case, folder):
    try:
        path = folder / case.name
        case.write(path)
    except hostile.CannotWrite as error:
        pytest.skip(str(error))
    return path


@pytest.mark.parametrize("case", cases(hostile.formats()))
def test_format(case, tmp_path):
    path = written(case, tmp_path)
    info, frames = probe(path), list(sample_frames(path, 100))
    check(case, info, frames)


@pytest.mark.parametrize("case", cases(hostile.oddities()))
def test_oddity(case, tmp_path):
    path = written(case, tmp_path)
    try:
        info, frames = probe(path), list(sample_frames(path, 100))
    except MediaError as error:
        assert error.reason in case.reasons, str(error)
        return
    assert not case.reasons or case.reasons == {"unreadable", "no_frames"}, "it should have been refused"
    check(case, info, frames)


def check(case, info, frames):
    seen = [clips.frame_number(frame.image) for frame in frames]
    if case.numbers is not None:
        assert seen == list(case.numbers)
    assert 1 <= len(frames) <= 10
    times = [frame.time_s for frame in frames]
    assert times == sorted(set(times))
    assert times[0] >= 0
    assert all(math.isfinite(time_s) for time_s in times)
    shapes = {frame.image.shape[:2] for frame in frames}
    assert not case.shapes or shapes == set(case.shapes)
    assert (info.height_px, info.width_px) in (case.shapes or shapes)
    if case.duration_s is not None:
        assert info.duration_s == pytest.approx(case.duration_s, rel=0.15)


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rotated(angle, tmp_path):
    path = clips.write_video(tmp_path / "turned.mp4", [clips.quadrants()] * 3, rotation=angle)
    (frame,) = sample_frames(path, 1)
    assert clips.corner_colours(frame.image) == {90: "brwg", 180: "wbgr", 270: "gwrb"}[angle]


def test_the_same_seed_gives_the_same_files():
    made = {"a.png": bytes(range(256)) * 4, "b.mp4": b"\0\0\0\x18ftypisom" + bytes(900)}
    first, again = ([*hostile.mutated(made, 40, seed)] for seed in (3, 3))
    assert first == again
    assert len({mutant.name for mutant in first}) == 40
    assert sum(mutant.data in made.values() for mutant in first) < 8
    assert all(mutant.data for mutant in first)
    assert [m.data for m in hostile.mutated(made, 40, 4)] != [m.data for m in first]


_PICTURES = (".jpg", ".png", ".webp", ".bmp", ".gif", ".heic", ".tif", ".jp2")


def test_damage_is_told_alike_here_and_there(tmp_path):
    """Of videos only that it is told: what is lost with a packet depends on the decoder's threads."""
    n_read = 0
    for mutant in hostile.mutated(hostile.seeds(), 60, 1):
        path = tmp_path / mutant.name
        path.write_bytes(mutant.data)
        coverages = []
        for sample in (video.sample_frames, sample_frames):
            try:
                coverages.append([(frame.time_s, frame.image.tobytes()) for frame in sample(path, 4)])
            except MediaError as error:
                assert error.reason in _REASONS
                coverages.append(str(error))
        n_read += isinstance(coverages[1], list)
        if path.suffix in _PICTURES:
            assert coverages[0] == coverages[1], mutant.name
    assert 10 < n_read < 55
