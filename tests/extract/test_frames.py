from __future__ import annotations

import logging
import os
import random
import weakref

import av
import clips
import hostile
import kinds
import numpy as np
import pytest
from PIL import Image

from deepscan.config import MediaLimits
from deepscan.errors import MediaError
from deepscan.extract.file_kinds import VIDEO_SUFFIXES
from deepscan.extract.video import frames as video
from deepscan.extract.video.frames import probe, sample_frames, sampling
from deepscan.text import printable

NEVER, ALWAYS = 10**9, -(10**9)  # seek costs that force a route


def numbers(path, n=1000):
    return [clips.frame_number(frame.image) for frame in sample_frames(path, n)]


def reason_of(path, limits=None):
    """Why both entry points refuse a file; they must agree."""
    limits = limits or MediaLimits()
    with pytest.raises(MediaError) as from_probe:
        probe(path, limits)
    with pytest.raises(MediaError) as from_sampling:
        next(sample_frames(path, 4, limits))
    for caught in (from_probe, from_sampling):
        assert str(caught.value).startswith(f"{printable(path.name)}: ")
        assert "\n" not in str(caught.value)
    assert from_probe.value.reason == from_sampling.value.reason
    return from_probe.value.reason


@pytest.fixture
def warned(caplog):
    caplog.set_level(logging.WARNING, logger="deepscan")
    return lambda: [r.getMessage() for r in caplog.records if r.name.startswith("deepscan")]


# Formats


def test_what_is_tested_here_is_found_in_folders():
    assert set(clips.CODECS) < VIDEO_SUFFIXES  # of the others each is read once, in test_file_kinds


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [*clips.CODECS.items(), (".avi", "mpeg4"), (".avi", "libx264"), (".mp4", "libx265"), (".mkv", "libvpx")],
)
def test_format(tmp_path, warned, suffix, codec):
    path = clips.write_video(tmp_path / f"clip{suffix}", clips.numbered_frames(40), 10, codec)
    frames = list(sample_frames(path, 10))
    # Ten stretches of four frames; the middle of each is the third's beginning.
    assert [clips.frame_number(f.image) for f in frames] == list(range(2, 40, 4))
    assert [f.time_s for f in frames] == pytest.approx([n / 10 for n in range(2, 40, 4)], abs=1e-6)
    assert [f.index for f in frames] == list(range(10))
    for frame in frames:
        assert frame.image.shape == (64, 128, 3)
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
    info = probe(path)
    assert (info.kind, info.width_px, info.height_px, info.n_frames) in {
        ("video", 128, 64, 40),
        ("video", 128, 64, None),
    }
    assert info.duration_s == pytest.approx(4.0, abs=0.11)
    assert warned() == []


@pytest.mark.parametrize("suffix", sorted(clips.CODECS))
@pytest.mark.parametrize("n_frames", [1, 5])
def test_clip_shorter_than_asked_gives_every_frame_once(tmp_path, suffix, n_frames):
    path = clips.write_video(tmp_path / f"short{suffix}", clips.numbered_frames(n_frames), 10)
    assert numbers(path, 32) == list(range(n_frames))


@pytest.mark.parametrize(("name", "kind"), [("really.jpg", "video"), ("no_suffix", "video")])
def test_kind_is_decided_by_content(tmp_path, face_clip, name, kind):
    path = tmp_path / name
    path.write_bytes(face_clip.read_bytes())
    assert probe(path).kind == kind
    assert len(list(sample_frames(path, 3))) == 3


def test_image_named_as_video_is_an_image(tmp_path, portrait_image):
    path = tmp_path / "still.mp4"
    path.write_bytes(portrait_image.read_bytes())
    assert probe(path).kind == "image"
    assert [f.time_s for f in sample_frames(path, 8)] == [0.0]


@pytest.mark.parametrize("name", ["видео 映像 😀.mp4", "it's a 'clip' %03d [1].mp4", "http:clip.mp4"])
def test_any_file_name(tmp_path, name):
    path = clips.write_video(tmp_path / "plain.mp4", clips.numbered_frames(4), 10).rename(tmp_path / name)
    assert numbers(path) == [0, 1, 2, 3]


def test_relative_path(tmp_path, monkeypatch):
    path = clips.write_video(tmp_path / "clip.mp4", clips.numbered_frames(4), 10)
    monkeypatch.chdir(tmp_path)
    assert numbers(path.relative_to(tmp_path)) == [0, 1, 2, 3]


def test_smallest_video(tmp_path):
    path = clips.write_video(tmp_path / "dot.mp4", [np.full((2, 2, 3), 200, np.uint8)] * 3)
    frames = list(sample_frames(path, 3))
    assert [f.image.shape for f in frames] == [(2, 2, 3)] * 3
    assert abs(int(frames[0].image.mean()) - 200) <= 3


def test_sound_is_ignored(face_clip):
    with av.open(str(face_clip)) as container:
        assert container.streams.audio
    assert probe(face_clip).duration_s == pytest.approx(2.4)
    assert len(list(sample_frames(face_clip, 12))) == 12


@pytest.mark.parametrize("n", [0, -1])
def test_number_of_frames_is_checked_at_once(face_clip, n):
    with pytest.raises(ValueError, match="n_frames"):
        sample_frames(face_clip, n)


# Time


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov"])
def test_variable_frame_rate(tmp_path, suffix):
    times = [0, 0.04, 0.08, 0.12, 0.7, 0.74, 1.5, 1.52, 1.9, 3.0]
    path = clips.write_video(tmp_path / f"vfr{suffix}", clips.numbered_frames(10), pts=times)
    assert [f.time_s for f in sample_frames(path, 10)] == pytest.approx(times, abs=0.002)
    # Middles of three stretches of about a second each: by frame number it would be 1, 5 and 8.
    assert numbers(path, 3) == [4, 7, 9]


@pytest.mark.parametrize("first", [5.0, 0.5])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_time_counts_from_the_start_of_the_stream(tmp_path, suffix, first):
    times = [first + i / 10 for i in range(20)]
    path = clips.write_video(tmp_path / f"late{suffix}", clips.numbered_frames(20), pts=times)
    assert [f.time_s for f in sample_frames(path, 20)] == pytest.approx([i / 10 for i in range(20)], abs=0.002)


def test_frames_hidden_by_an_edit_list_are_not_shown(tmp_path):
    # A phone's trim: the first half second is in the file, for decoding, but not in the film.
    times = [i / 10 - 0.5 for i in range(30)]
    path = clips.write_video(tmp_path / "trimmed.mp4", clips.numbered_frames(30), pts=times, gop=30)
    with av.open(str(path)) as container:
        assert any(p.is_discard for p in container.demux(video=0)), "the clip tests nothing"
    frames = list(sample_frames(path, 100))
    assert [clips.frame_number(f.image) for f in frames] == list(range(5, 30))
    assert [f.time_s for f in frames] == pytest.approx([i / 10 for i in range(25)], abs=0.002)


def test_avi_without_timestamps(tmp_path):
    path = clips.write_video(
        tmp_path / "raw.avi", clips.numbered_frames(40), 10, "libx264", options={"bf": "3", "b-adapt": "0"}
    )
    with av.open(str(path)) as container:
        made_up = [clips.frame_number(f.to_ndarray(format="rgb24")) - f.pts for f in container.decode(video=0)]
        assert len(set(made_up)) > 1, "the clip tests nothing"
    frames = list(sample_frames(path, 40))
    assert [clips.frame_number(f.image) for f in frames] == list(range(40))
    assert [f.time_s for f in frames] == pytest.approx([i / 10 for i in range(40)], abs=1e-6)


def test_recording_that_was_never_closed(tmp_path, warned):
    # What a browser's recorder writes: no duration, no index.
    path = clips.write_video(tmp_path / "live.webm", clips.numbered_frames(40), 10, container_options={"live": "1"})
    with av.open(str(path)) as container:
        assert container.duration is None, "the clip tests nothing"
    info = probe(path)
    assert (info.duration_s, info.n_frames) == (pytest.approx(4.0), 40)
    assert numbers(path, 10) == list(range(2, 40, 4))
    assert warned() == []


# Orientation and colour


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize(
    ("rotation", "shown", "size"),
    [
        (None, "rgbw", (96, 64)),
        (90, "brwg", (64, 96)),
        (180, "wbgr", (96, 64)),
        (270, "gwrb", (64, 96)),
        ("mirror", "grwb", (96, 64)),
    ],
)
def test_rotation(tmp_path, suffix, rotation, shown, size):
    path = clips.write_video(tmp_path / f"phone{suffix}", [clips.quadrants((96, 64))] * 5, rotation=rotation)
    frames = list(sample_frames(path, 2))
    assert [clips.corner_colours(f.image) for f in frames] == [shown] * 2
    assert frames[0].image.shape == (size[1], size[0], 3)
    assert frames[0].image.flags.c_contiguous
    assert (probe(path).width_px, probe(path).height_px) == size


@pytest.mark.parametrize("colorspace", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
def test_colours_follow_the_flags_of_the_file(tmp_path, colorspace, full_range):
    picture = clips.quadrants((96, 64))
    path = clips.write_video(tmp_path / "colour.mp4", [picture] * 3, colorspace=colorspace, full_range=full_range)
    frame = next(sample_frames(path, 1)).image.astype(int)
    # Away from the borders, where chroma is shared. A wrong matrix or range is off by 10 and more.
    for y, x in ((16, 24), (16, 72), (48, 24), (48, 72)):
        assert np.abs(frame[y, x] - picture[y, x]).max() <= 5


# Routes


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.avi", "clip.webm", "hevc.mkv"])
def test_seeking_and_reading_on_give_the_same_frames(tmp_path, monkeypatch, name):
    codec = "libx265" if name.startswith("hevc") else None
    frames = list(clips.moving_portrait(90, (160, 120)))
    path = clips.write_video(tmp_path / name, frames, 30, codec, gop=10)
    taken, n_seeks = {}, {}
    for cost in (NEVER, ALWAYS):
        monkeypatch.setattr(sampling, "SEEK_COST_FRAMES", cost)
        taken[cost] = list(sample_frames(path, 7))
        n_seeks[cost] = count_seeks(monkeypatch, path, 7)
    assert n_seeks[NEVER] == 0
    assert n_seeks[ALWAYS] >= 6
    assert [f.time_s for f in taken[NEVER]] == [f.time_s for f in taken[ALWAYS]]
    for one, other in zip(taken[NEVER], taken[ALWAYS], strict=True):
        assert np.array_equal(one.image, other.image)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.mov", "clip.webm", "hevc.mkv", "clip.ts"])
def test_frames_nearby_are_those_that_reading_on_gives(tmp_path, name):
    codec = {"hevc.mkv": "libx265", "clip.ts": "libx264"}.get(name)
    whole = clips.write_video(tmp_path / name, clips.moving_portrait(120, (160, 120)), 30, codec, gop=10)
    every = {round(f.time_s, 3): f.image for f in sample_frames(whole, 1000)}
    exact, nearby = (list(sample_frames(whole, 5, nearby_share=share)) for share in (0.0, 0.25))
    assert [f.shift_s for f in exact] == [0.0] * 5
    assert any(f.shift_s for f in nearby)
    for one, other in zip(nearby, exact, strict=True):
        assert one.time_s == pytest.approx(other.time_s + one.shift_s, abs=0.002)
        assert abs(one.shift_s) <= 0.25 * 4 / 5 + 1 / 30
        assert np.array_equal(one.image, every[round(one.time_s, 3)])


def test_frames_nearby_go_by_the_times_of_a_variable_rate(tmp_path):
    times = [*(i / 40 for i in range(40)), *(1 + i / 4 for i in range(40))]
    path = clips.write_video(tmp_path / "v.mkv", clips.numbered_frames(80), pts=times, gop=8)
    frames = list(sample_frames(path, 6, nearby_share=0.25))
    assert any(f.shift_s for f in frames)
    for i, frame in enumerate(frames):
        assert abs(frame.time_s - (i + 0.5) * 11 / 6) <= 0.25 * 11 / 6 + 0.01
        assert times[clips.frame_number(frame.image)] == pytest.approx(frame.time_s, abs=0.002)


def test_of_interlaced_video_frames_are_taken_at_their_times(tmp_path):
    """What lies beside such a frame is needed, too."""
    path = kinds.write_interlaced(tmp_path / "tv.mkv", list(clips.moving_portrait(80, (160, 120))), "mpeg2video")
    exact, nearby = (list(sample_frames(path, 1, nearby_share=share)) for share in (0.0, 0.25))
    assert [f.time_s for f in nearby] == [f.time_s for f in exact]
    assert all(np.array_equal(one.image, other.image) for one, other in zip(nearby, exact, strict=True))


def count_seeks(monkeypatch, path, n):
    """How many seeks succeed in leading where the plan wanted; a misled one ends the route."""
    routes = []
    follow = video.follow_plan

    def watched(path, timeline, steps, limits, care, **options):
        routes.append(steps)
        return follow(path, timeline, steps, limits, care, **options)

    with monkeypatch.context() as patch:
        patch.setattr(video, "follow_plan", watched)
        list(sample_frames(path, n))
    assert len(routes) == 1, "a seek failed"
    return sum(step.seek_to is not None for step in routes[0])


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_skipping_frames_that_no_other_needs_changes_nothing(tmp_path, monkeypatch, codec):
    frames = list(clips.moving_portrait(60, (160, 120), 2))
    path = clips.write_video(tmp_path / "b.mkv", frames, 30, codec, options={"bf": "3"})
    skipped = list(sample_frames(path, 13))
    monkeypatch.setattr(video, "SKIPPING_CODECS", frozenset())
    whole = list(sample_frames(path, 13))
    assert [f.time_s for f in skipped] == [f.time_s for f in whole]
    for one, other in zip(skipped, whole, strict=True):
        assert np.array_equal(one.image, other.image)


@pytest.mark.parametrize(
    ("codec", "parameters"),
    [("libx264", {"x264-params": "open-gop=1:bframes=3"}), ("libx265", {"x265-params": "open-gop=1:bframes=3"})],
)
def test_open_groups_of_pictures_are_no_damage(tmp_path, monkeypatch, codec, parameters):
    """After a seek the first pictures of such a group look back at what was not decoded."""
    frames = list(clips.moving_portrait(80, (160, 120), 2))
    path = clips.write_video(tmp_path / "open.mkv", frames, 25, codec, gop=10, options=parameters)
    monkeypatch.setattr(sampling, "SEEK_COST_FRAMES", ALWAYS)
    assert count_seeks(monkeypatch, path, 7) > 0


def outcome(path):
    """What is seen of a damaged file, or that damage reaches all of it."""
    try:
        return [(f.time_s, f.image.tobytes()) for f in sample_frames(path, 12)]
    except MediaError as error:
        return error.reason


def test_a_damaged_video_gives_the_same_frames_every_time(tmp_path):
    """Threads that decode at once would see more or less of the damaged frame they look at: of these files, which
    gave other pixels every few runs."""
    numbers = {44, 45, 64, 95, 107, 124, 125, 214, 233, 244, 284, 287, 315, 335}
    for number, damaged in enumerate(hostile.mutated(hostile.seeds(), 336, 5)):
        if number not in numbers:
            continue
        path = tmp_path / damaged.name
        path.write_bytes(damaged.data)
        taken = [outcome(path) for _ in range(5)]
        assert taken[0], damaged.name
        assert all(other == taken[0] for other in taken), damaged.name


@pytest.mark.parametrize("wrong_by", [30, -10])
def test_wrong_index_falls_back_to_reading_on(tmp_path, monkeypatch, wrong_by):
    path = clips.write_video(tmp_path / "clip.mp4", clips.numbered_frames(100), 10, gop=10)
    expected = numbers(path, 10)
    seek = av.container.InputContainer.seek
    n_seeks = []

    class Misled:
        """A container whose seeks end somewhere else, or fail."""

        def __init__(self, container):
            self._container = container

        def __getattr__(self, name):
            return getattr(self._container, name)

        def seek(self, ticks, *, stream):
            n_seeks.append(ticks)
            if wrong_by < 0:
                raise av.FFmpegError(1, "no index")
            seek(self._container, ticks + round(wrong_by / 10 / stream.time_base), stream=stream)

    follow = video.opened
    monkeypatch.setattr(video, "opened", lambda *args: _Wrapped(follow(*args), Misled))
    nearby = list(sample_frames(path, 3, nearby_share=0.25))
    assert any(f.shift_s for f in nearby)
    assert [clips.frame_number(f.image) for f in nearby] == [round(f.time_s * 10) for f in nearby]
    n_seeks.clear()
    monkeypatch.setattr(sampling, "SEEK_COST_FRAMES", ALWAYS)
    assert numbers(path, 10) == expected
    assert len(n_seeks) == 1, "after the first misleading seek there must be no other"


class _Wrapped:
    def __init__(self, context, wrapper):
        self._context, self._wrapper = context, wrapper

    def __enter__(self):
        container, stream = self._context.__enter__()
        return self._wrapper(container), stream

    def __exit__(self, *exc):
        return self._context.__exit__(*exc)


def test_frames_are_handed_out_one_by_one(tmp_path):
    path = clips.write_video(tmp_path / "long.mp4", clips.numbered_frames(300), 30)
    images = []
    most = 0
    for frame in sample_frames(path, 200):
        images.append(weakref.ref(frame.image))
        most = max(most, sum(image() is not None for image in images))
    assert len(images) == 200
    assert most <= 2


# Damage


def cut(path, keep):
    data = path.read_bytes()
    target = path.with_name(f"cut{path.suffix}")
    target.write_bytes(data[: int(len(data) * keep)])
    return target


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".webm", ".gif"])
def test_truncated_file_gives_what_is_there_and_says_so(tmp_path, warned, capfd, suffix):
    whole = clips.write_video(
        tmp_path / f"whole{suffix}",
        clips.texture_frames(60, (96, 64)),
        20,
        container_options={"movflags": "faststart"} if suffix == ".mp4" else None,
    )
    path = cut(whole, 0.5)
    frames = list(sample_frames(path, 10))
    times = [f.time_s for f in frames]
    assert 8 <= len(frames) <= 10
    assert 0.5 < times[-1] < 2.5
    # Spread over the part that is there, and the same pictures as in the whole file.
    assert np.diff(times).max() < 0.4
    originals = {round(f.time_s, 2): f.image for f in sample_frames(whole, 60)}
    for frame in frames:
        assert np.array_equal(frame.image, originals[round(frame.time_s, 2)])
    if suffix != ".gif":  # a gif does not say how long it should be
        assert len(warned()) == 1
        assert f"cut{suffix}: ends after" in warned()[0]
        assert "of 3.0 s" in warned()[0]
    assert capfd.readouterr() == ("", "")


def test_damage_in_the_middle_costs_only_frames(tmp_path, warned, capfd):
    path = clips.write_video(tmp_path / "scratched.mp4", clips.texture_frames(60, (96, 64)), 20, gop=10)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    middle = start + (data.index(b"moov") - start) // 2
    data[middle : middle + 2000] = b"\xff" * 2000
    path.write_bytes(data)
    frames = list(sample_frames(path, 60))
    assert 30 <= len(frames) < 60
    assert len({f.time_s for f in frames}) == len(frames)
    assert frames[-1].time_s == pytest.approx(2.95)
    assert warned() == [f"scratched.mp4: {(60 - len(frames)) / 20:.1f} of 3.0 s are damaged and left out"]
    assert capfd.readouterr() == ("", "")


def test_nothing_decodable(tmp_path):
    path = clips.write_video(tmp_path / "noise.mp4", clips.texture_frames(10, (96, 64)))
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start:end] = b"\xff" * (end - start)
    path.write_bytes(data)
    assert reason_of(path) == "unreadable"


def test_recording_without_its_index(tmp_path):
    path = cut(clips.write_video(tmp_path / "clip.mp4", clips.texture_frames(20, (96, 64))), 0.6)
    assert reason_of(path) == "unreadable"


@pytest.mark.parametrize("suffix", sorted(clips.CODECS))
def test_any_damage_gives_frames_or_a_media_error(tmp_path, capfd, suffix):
    whole = clips.write_video(tmp_path / f"whole{suffix}", clips.texture_frames(12, (32, 32)), gop=4).read_bytes()
    path = tmp_path / f"hit{suffix}"
    dice = random.Random(suffix)
    outcomes = {"frames": 0, "error": 0}
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(dice.choice([1, 5, 40])):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data[: dice.randrange(len(data) // 2, len(data) + 1)])
        try:
            frames = list(sample_frames(path, 6))
            probe(path)
        except MediaError as error:
            assert str(error).startswith(f"hit{suffix}: ")
            outcomes["error"] += 1
        else:
            assert [f.time_s for f in frames] == sorted(f.time_s for f in frames)
            outcomes["frames"] += 1
    assert outcomes["frames"], outcomes
    assert capfd.readouterr() == ("", "")


# Refusals


def test_missing_file(tmp_path):
    assert reason_of(tmp_path / "gone.mp4") == "not_found"
    assert reason_of(tmp_path / "nul\0byte.mp4") == "not_found"


def test_folder_and_pipe_are_not_files(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    assert reason_of(tmp_path / "folder.mp4") == "not_a_file"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mp4")
        assert reason_of(tmp_path / "pipe.mp4") == "not_a_file"


def test_empty_file(tmp_path):
    (tmp_path / "empty.mp4").touch()
    assert reason_of(tmp_path / "empty.mp4") == "empty_file"


@pytest.mark.parametrize(
    "text",
    [
        "Dear editor, the clip is attached.\n" * 50,
        "BM is how a bitmap starts, and this letter too.\n" * 50,
        "\x1b[31mANSI art is a video to FFmpeg\x1b[0m\n" * 50,
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{clip}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{clip}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    ],
    ids=["letter", "bitmap?", "ansi", "playlist", "concat", "sdp"],
)
def test_text_renamed_is_unreadable_and_never_followed(tmp_path, face_clip, text):
    (tmp_path / face_clip.name).write_bytes(face_clip.read_bytes())
    path = tmp_path / "letter.mp4"
    path.write_text(text.replace("{clip}", face_clip.name))
    assert reason_of(path) == "unreadable"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root (or Windows) may read every file")
def test_permission_denied(tmp_path, face_clip):
    path = tmp_path / "locked.mp4"
    path.write_bytes(face_clip.read_bytes())
    path.chmod(0)
    assert reason_of(path) == "unreadable"


def test_refused_by_the_system(tmp_path, face_clip, monkeypatch):
    # What the test above sees, for those who run as root.
    def deny(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "locked.mp4"
    path.write_bytes(face_clip.read_bytes())
    monkeypatch.setattr(type(path), "open", deny)
    with pytest.raises(MediaError, match="permission denied") as caught:
        probe(path)
    assert caught.value.reason == "unreadable"


def test_sound_only(tmp_path):
    assert reason_of(clips.write_audio(tmp_path / "voice.mp4")) == "no_video_stream"
    assert reason_of(clips.write_audio(tmp_path / "voice.mkv")) == "no_video_stream"


def test_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1, width=64, height=64, pix_fmt="yuvj420p")
        cover.disposition = av.stream.Disposition.attached_pic.value
        picture = av.VideoFrame.from_ndarray(clips.quadrants((64, 64)), format="rgb24")
        container.mux(cover.encode(picture.reformat(format="yuvj420p")))
        container.mux(cover.encode(None))
        clips.write_silence(container, sound, 1.0)
    with av.open(str(path)) as container:
        assert container.streams.video, "the file tests nothing"
    assert reason_of(path) == "no_video_stream"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_video_of_no_frames(tmp_path, suffix):
    # A recording that stopped after its header.
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"} if suffix == ".mp4" else None
    whole = clips.write_video(
        tmp_path / f"whole{suffix}", clips.texture_frames(5), codec="mpeg4", container_options=options
    )
    data = whole.read_bytes()
    first = {".mp4": b"moof", ".mkv": b"\x1f\x43\xb6\x75", ".avi": b"movi"}[suffix]
    path = tmp_path / f"stopped{suffix}"
    path.write_bytes(data[: data.index(first) + {".mp4": -4, ".mkv": 0, ".avi": 4}[suffix]])
    assert reason_of(path) == "no_frames"


def test_limits(tmp_path, face_clip):
    size = face_clip.stat().st_size
    assert reason_of(face_clip, MediaLimits(max_pixels=320 * 240 - 1)) == "too_large"
    assert reason_of(face_clip, MediaLimits(max_bytes=size - 1)) == "too_large"
    assert reason_of(face_clip, MediaLimits(max_duration_s=2.3)) == "too_large"
    exact = MediaLimits(max_pixels=320 * 240, max_bytes=size, max_duration_s=2.5)
    assert len(list(sample_frames(face_clip, 2, exact))) == 2


def test_enormous_gif_is_refused_from_its_header(tmp_path):
    path = tmp_path / "bomb.gif"
    Image.new("P", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[6:10] = (20_000).to_bytes(2, "little") * 2
    path.write_bytes(data)
    assert reason_of(path) == "too_large"


def test_unusual_log_level_of_ffmpeg_is_silenced_and_restored(tmp_path, capfd, caplog):
    path = cut(clips.write_video(tmp_path / "clip.avi", clips.texture_frames(20, (96, 64))), 0.6)
    before = av.logging.get_level()
    av.logging.set_level(av.logging.DEBUG)
    try:
        list(sample_frames(path, 20))
        assert av.logging.get_level() == av.logging.DEBUG
    finally:
        av.logging.set_level(before)
    assert capfd.readouterr() == ("", "")
    assert not [r for r in caplog.records if r.name.startswith("libav")]
