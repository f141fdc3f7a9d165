"""What damage reaches is not judged, other frames are, and how much that is is told."""

from __future__ import annotations

import clips
import damagedclips
import numpy as np
import pytest

from deepscan.errors import MediaError
from deepscan.extract.isolation import client
from deepscan.extract.video import sampling
from deepscan.extract.video.frames import sample_frames

GOP, FPS, N = 10, 20, 60


def clip(tmp_path, suffix=".mp4", codec=None, gop=GOP, options=None, n=N):
    return clips.write_video(
        tmp_path / f"whole{suffix}", clips.texture_frames(n, (96, 64)), FPS, codec, gop=gop, options=options
    )


def sampled(path, n=1000, sample=sample_frames):
    coverages = []
    frames = list(sample(path, n, examined=coverages.append))
    (coverage,) = coverages
    return frames, coverage


def numbers(frames):
    return [round(f.time_s * FPS) for f in frames]


def assert_undamaged(frames, whole):
    originals = {round(f.time_s * FPS): f.image for f in sample_frames(whole, 1000)}
    assert frames
    for frame in frames:
        assert np.array_equal(frame.image, originals[round(frame.time_s * FPS)])


def test_a_whole_video_is_examined_whole(tmp_path):
    frames, coverage = sampled(clip(tmp_path))
    assert len(frames) == N
    assert (coverage.duration_s, coverage.examined_s, coverage.left_out) == (pytest.approx(3.0), pytest.approx(3.0), 0)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "libx264"), (".mkv", "libx264"), (".ts", "mpeg2video"), (".mp4", "libx265")]
)
def test_nothing_counts_from_damage_to_the_next_keyframe(tmp_path, suffix, codec):
    options = {"bf": "0"} if codec != "libx265" else {"x265-params": "log-level=none:bframes=0"}
    whole = clip(tmp_path, suffix, codec, options=options)
    path = damagedclips.repack(whole, tmp_path / f"hit{suffix}", damagedclips.halved(23))
    frames, coverage = sampled(path)
    assert_undamaged(frames, whole)
    # MPEG-2 loses the picture before as well.
    assert set(range(23, 30)) <= set(range(N)) - set(numbers(frames)) <= set(range(22, 30))
    assert coverage.damaged_s == pytest.approx(7 / FPS, abs=0.06)
    assert coverage.examined_s == pytest.approx(coverage.duration_s - coverage.damaged_s)


def test_pictures_between_that_look_back_at_damage_do_not_count(tmp_path):
    """Of reordered pictures some are shown before the damaged one and decoded after it."""
    whole = clip(tmp_path, options={"bf": "3", "b-adapt": "0"})
    path = damagedclips.repack(whole, tmp_path / "hit.mp4", damagedclips.halved(21))
    frames, coverage = sampled(path, 10)
    assert_undamaged(frames, whole)
    assert len(frames) == 10
    assert coverage.damaged_s > 0


@pytest.mark.parametrize("seed", [1, 4, 14, 28])
def test_lost_transport_packets_leave_no_smeared_picture(tmp_path, seed):
    """Where the packet with a picture's time is lost, the picture comes with a later one's."""
    same_every_time = {"crf": "4", "x264-params": "threads=1:mbtree=0"}
    whole = clip(tmp_path, ".ts", "libx264", options=same_every_time, n=100)
    path = damagedclips.lose_transport_packets(whole, tmp_path / "loss.ts", 0.01, seed)
    frames, coverage = sampled(path, 1000)
    assert_undamaged(frames, whole)
    assert 0.1 < coverage.left_out < 1


def test_other_frames_are_taken_instead_evenly_over_the_rest(tmp_path):
    whole = clip(tmp_path, options={"bf": "0"})
    path = damagedclips.repack(whole, tmp_path / "hit.mp4", damagedclips.halved(10))
    frames, _ = sampled(path, 10)
    assert len(frames) == 10
    places = [n if n < 10 else n - 10 for n in numbers(frames)]  # without what is left out
    assert np.diff(places).max() <= 8
    assert not set(numbers(frames)) & set(range(10, 20))


def test_damage_is_seen_on_the_way_of_seeks(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "SEEK_COST_FRAMES", -(10**9))
    whole = clip(tmp_path, options={"bf": "0"})
    path = damagedclips.repack(whole, tmp_path / "hit.mp4", damagedclips.halved(42))
    frames, coverage = sampled(path, 6)
    assert len(frames) == 6
    assert any(f.sought for f in frames)
    assert_undamaged(frames, whole)
    assert coverage.damaged_s > 0


def test_damage_that_reaches_all_is_said(tmp_path):
    whole = clip(tmp_path, gop=N)
    path = damagedclips.repack(whole, tmp_path / "hit.mp4", damagedclips.halved(0))
    with pytest.raises(MediaError) as caught:
        list(sample_frames(path, 4))
    assert caught.value.reason == "unreadable"


def test_what_is_cut_off_is_told(tmp_path):
    path = damagedclips.cut(clip(tmp_path, ".mkv", "libx264"), 0.5)
    frames, coverage = sampled(path)
    assert coverage.duration_s == pytest.approx(3.0, abs=0.1)
    assert coverage.examined_s == pytest.approx(len(frames) / FPS, abs=0.1)
    assert coverage.cut_off_s == pytest.approx(3.0 - coverage.examined_s, abs=0.01)


def test_the_isolated_decoder_tells_the_same(tmp_path):
    path = damagedclips.repack(clip(tmp_path), tmp_path / "hit.mp4", damagedclips.halved(23))
    here, there = sampled(path), sampled(path, sample=client.sample_frames)
    assert here[1] == there[1]
    assert numbers(here[0]) == numbers(there[0])
