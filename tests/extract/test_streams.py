"""The right stream of a file, all of it, and its own length."""

from __future__ import annotations

import clips
import damagedclips
import numpy as np
import pytest

from deepscan.config import MediaLimits
from deepscan.errors import MediaError
from deepscan.extract.file_facts.facts import file_facts
from deepscan.extract.isolation import client
from deepscan.extract.video.frames import probe, sample_frames

FPS = 20


def numbered(path, n=40, codec=None, size=(128, 64), first=0.0, fps=FPS, **more):
    pts = [first + i / fps for i in range(n)] if first else None
    return clips.write_video(path, clips.numbered_frames(n, size), fps, codec, pts=pts, gop=10, **more)


def numbers(path, n=1000):
    return [clips.frame_number(frame.image) for frame in sample_frames(path, n)]


def examined(path):
    coverages = []
    list(sample_frames(path, 4, examined=coverages.append))
    return coverages[-1]


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".ts", "libx264"), (".ts", "mpeg2video"), (".vob", "mpeg2video"), (".webm", "libvpx")]
)
@pytest.mark.parametrize("second", [40, 10])
def test_joined_recordings_are_read_to_their_end(tmp_path, suffix, codec, second):
    one = numbered(tmp_path / f"one{suffix}", 40, codec)
    other = numbered(tmp_path / f"other{suffix}", second, codec)
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(one.read_bytes() + other.read_bytes())
    frames = list(sample_frames(path, 1000))
    assert [clips.frame_number(f.image) for f in frames] == [*range(40), *range(second)]
    assert [f.time_s for f in frames] == pytest.approx([i / FPS for i in range(40 + second)], abs=0.03)
    assert examined(path).duration_s == pytest.approx((40 + second) / FPS, abs=0.06)
    assert examined(path).left_out == 0


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_default_picture_comes_before_a_larger_one(tmp_path, suffix):
    shown = numbered(tmp_path / f"shown{suffix}", codec="libx264")
    larger = clips.write_video(tmp_path / f"larger{suffix}", clips.texture_frames(40, (256, 128)), FPS, "libx264")
    path = damagedclips.combine(tmp_path / f"two{suffix}", [larger, shown], default=1)
    assert (probe(path).width_px, probe(path).other_pictures) == (128, 1)
    assert client.probe(path).other_pictures == 1
    assert numbers(path) == list(range(40))
    assert probe(shown).other_pictures == 0


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_cover_without_its_mark_is_no_video(tmp_path, suffix):
    shown = numbered(tmp_path / f"shown{suffix}", codec="libx264")
    cover = clips.write_video(tmp_path / "cover.mov", clips.texture_frames(1, (256, 128)), FPS, "mjpeg")
    path = damagedclips.combine(tmp_path / f"two{suffix}", [cover, shown])
    assert (probe(path).width_px, probe(path).other_pictures) == (128, 0)
    assert numbers(path) == list(range(40))


def test_a_cut_fragment_is_read_to_its_end_though_the_sound_is_missing(tmp_path):
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    whole = clips.write_video(
        tmp_path / "whole.mp4", clips.texture_frames(60, (96, 64)), FPS, gop=60, audio=True, container_options=options
    )
    path = damagedclips.cut(whole, 0.6)
    frames = list(sample_frames(path, 1000))
    assert len(frames) > 20
    originals = [f.image for f in sample_frames(whole, 1000)]
    assert all(np.array_equal(f.image, original) for f, original in zip(frames[:-2], originals, strict=False))
    assert examined(path).cut_off_s > 0


def test_a_clock_that_starts_late_does_not_lengthen(tmp_path):
    path = numbered(tmp_path / "late.mkv", first=3600.0)
    assert probe(path, MediaLimits(max_duration_s=60)).duration_s == pytest.approx(2.0, abs=0.1)
    assert examined(path).duration_s == pytest.approx(2.0, abs=0.1)
    assert examined(path).cut_off_s == 0


def test_longer_sound_does_not_lengthen(tmp_path):
    video = numbered(tmp_path / "video.mkv")
    path = damagedclips.with_sound(video, tmp_path / "sound.mkv", 9.0)
    assert probe(path, MediaLimits(max_duration_s=5)).duration_s == pytest.approx(2.0, abs=0.1)
    assert examined(path).left_out == 0


def test_a_piece_of_a_running_stream_has_its_own_length(tmp_path):
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    data = numbered(tmp_path / "live.mp4", container_options=options).read_bytes()
    starts = [i for i in range(len(data)) if data.startswith(b"moof", i)]
    assert len(starts) == 4
    path = tmp_path / "piece.mp4"
    path.write_bytes(data[: starts[0] - 4] + data[starts[2] - 4 :])
    assert numbers(path) == list(range(20, 40))
    assert examined(path).duration_s == pytest.approx(1.0, abs=0.1)
    assert probe(path).duration_s == pytest.approx(1.0, abs=0.2)


RAW = {
    ".h264": "libx264", ".h265": "libx265", ".m2v": "mpeg2video", ".mxf": "mpeg2video", ".ivf": "libvpx",
    ".nut": "libx264",
}  # fmt: skip


@pytest.mark.parametrize("suffix", RAW)
def test_streams_and_broadcast_files_are_read(tmp_path, suffix):
    options = {"bf": "0"} if RAW[suffix] == "libx264" else None
    path = numbered(tmp_path / f"raw{suffix}", 30, RAW[suffix], fps=25, options=options)  # mxf knows few rates
    assert numbers(path) == list(range(30))
    assert probe(path).kind == "video"
    assert file_facts(path).facts


def test_dv_is_read(tmp_path):
    path = clips.write_video(tmp_path / "tape.dv", clips.numbered_frames(5, (720, 576)), 25, "dvvideo")
    assert numbers(path) == list(range(5))


def test_what_is_not_read_is_not_called_damaged(tmp_path):
    text, torn = tmp_path / "letter.mp4", tmp_path / "torn.mp4"
    text.write_text("Dear editor, the clip is attached.\n" * 50)
    torn.write_bytes(damagedclips.cut(numbered(tmp_path / "clip.mp4"), 0.5).read_bytes())
    causes = {}
    for path in (text, torn):
        with pytest.raises(MediaError) as caught:
            probe(path)
        causes[path] = caught.value.cause
        assert caught.value.reason == "unreadable"
    assert "damaged" not in causes[text]
    assert "damaged" in causes[torn]
