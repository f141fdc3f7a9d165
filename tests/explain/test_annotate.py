"""Annotated copies: what is drawn when, and that timing, sound, size and file stay what they should be."""

from __future__ import annotations

import gc
import logging
import weakref
from fractions import Fraction

import av
import clips
import numpy as np
import pytest
from maderesults import person, result
from PIL import Image

from deepscan.errors import MediaError, OutputError
from deepscan.explain import annotate as module
from deepscan.explain import writer
from deepscan.explain.annotate import annotate, banner_texts, default_suffix, draw, sight_at
from deepscan.explain.draw import BANNER_SHARE, COLOURS, WORDS
from deepscan.extract.video.frames import sample_frames
from deepscan.types import VerdictLabel

BOX = (100.0, 60.0, 160.0, 130.0)
NOBODY = result([])


def facts(path):
    """What a player goes by."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        return {
            "size": (video.width, video.height),
            "fps": video.average_rate,
            "frames": video.frames,
            "duration": float(video.duration * video.time_base),
            "start": video.start_time,
            "sound": [(s.codec_context.name, s.rate, s.layout.name) for s in container.streams.audio],
        }


def sound_packets(path):
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        return [(round(float(p.pts * p.time_base), 4), bytes(p)) for p in container.demux(stream) if p.size]


def lead(path):
    """Seconds from the first packet of the sound to the first frame."""
    with av.open(str(path)) as container:
        picture = min(float(p.pts * p.time_base) for p in container.demux(video=0) if p.pts is not None)
    return picture - sound_packets(path)[0][0]


def frames(path):
    return list(sample_frames(path, 10_000))


def times(path):
    return [round(frame.time_s, 3) for frame in frames(path)]


def marked(image, plain, colour):
    """Pixels that were drawn over in this colour."""
    near = np.abs(image.astype(int) - np.array(colour)).max(axis=2) < 60
    return near & (np.abs(image.astype(int) - plain.astype(int)).max(axis=2) > 20)


def outline(image, box):
    """The pixels of a box's four sides."""
    x1, y1, x2, y2 = (round(v) for v in box)
    return np.concatenate([image[y1, x1:x2], image[y2, x1:x2], image[y1:y2, x1], image[y1:y2, x2]])


def colour_of(image, box):
    return np.median(outline(image, box).astype(int), axis=0)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_an_annotated_video_plays_as_long_as_fast_and_with_the_same_sound(face_clip, tmp_path, suffix):
    seen = []
    found = result([person(1, [0.1, 0.5, 0.9], [0.2, 0.9, 0.6])], duration_s=2.4, frames_sampled=6)
    out = tmp_path / f"out{suffix}"
    written = annotate(face_clip, found, out, on_progress=lambda done, total: seen.append((done, total)))
    assert (written.path, written.n_frames, written.sound) == (out, 60, "copied")
    assert written.encoder == next(name for name in writer.ENCODERS if name in av.codecs_available)
    assert seen == [(n, 60) for n in range(1, 61)]
    assert times(out) == times(face_clip)
    assert [data for _, data in sound_packets(out)] == [data for _, data in sound_packets(face_clip)]
    assert lead(out) == pytest.approx(lead(face_clip), abs=0.001)
    if suffix != ".mkv":  # which states neither
        assert facts(out) == facts(face_clip)
    else:
        with av.open(str(out)) as container:
            assert container.streams.video[0].average_rate == 25
    assert sorted(p.name for p in tmp_path.iterdir()) == [out.name]


def test_boxes_move_evenly_between_sightings_and_end_with_them(tmp_path):
    clip = clips.write_video(tmp_path / "grey.mp4", [np.full((240, 320, 3), 120, np.uint8)] * 25)
    moved = tuple(v + 40 for v in BOX)
    found = result([person(1, [0.2, 0.6], [0.1, 0.9], [BOX, moved])], duration_s=1.0, frames_sampled=5)
    annotate(clip, found, tmp_path / "out.mp4")
    written = frames(tmp_path / "out.mp4")
    colour = np.array(COLOURS[VerdictLabel.FAKE])
    for index, shift in ((5, 0), (10, 20), (15, 40)):
        at = tuple(v + shift for v in BOX)
        assert np.abs(colour_of(written[index].image, at) - colour).max() < 50, index
    for index in (4, 16, 24):
        assert not marked(written[index].image[:200], np.full((200, 320, 3), 120), colour).any(), index


def test_where_a_person_was_out_of_sight_nothing_is_drawn():
    track = person(1, [0.0, 1.0, 3.0, 6.0, 7.0], [0.1, 0.2, 0.3, 0.4, 0.5], [BOX] * 5)
    assert sight_at(track, 2.0, 1.0) is not None
    assert sight_at(track, 4.5, 1.0) is None
    assert sight_at(track, 6.0, 1.0).nearest.probability == 0.4
    assert sight_at(track, -0.1, 1.0) is None
    assert sight_at(track, 7.1, 1.0) is None
    assert sight_at(person(2, [3.0], [0.5]), 3.0, None) == (BOX, person(2, [3.0], [0.5]).frames[0])
    image = np.full((240, 320, 3), 120, np.uint8)
    found = result([track], duration_s=8.0, frames_sampled=8)
    assert np.array_equal(draw(image.copy(), found, 4.5)[:180], image[:180])
    assert not np.array_equal(draw(image.copy(), found, 2.0)[:180], image[:180])


def test_the_running_probability_is_that_of_the_nearest_sampled_frame():
    track = person(1, [0.0, 1.0], [0.1, 0.9], [BOX, tuple(v + 10 for v in BOX)])
    near = [sight_at(track, t, 1.0) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert [s.nearest.probability for s in near] == [0.1, 0.1, 0.1, 0.9, 0.9]
    assert [s.box[0] - BOX[0] for s in near] == [0, 2.5, 5, 7.5, 10]


def test_a_verdict_is_told_by_its_word_and_not_by_colour_alone():
    assert len(set(WORDS.values())) == len(WORDS) == len(VerdictLabel)
    image = np.zeros((240, 320, 3), np.uint8)
    texts = {label: banner_texts(result([], verdict=label)) for label in VerdictLabel}
    assert all(WORDS[label] in text for label, of_label in texts.items() for text in of_label)
    fake = result([person(1, [0.5], [0.97])])
    assert banner_texts(fake)[0] == "deepscan: FAKE, P(fake) 97 %"
    near = result([person(1, [0.5], [0.1192])], verdict=VerdictLabel.UNCERTAIN, message=None)
    assert banner_texts(near, (0.1188, 0.9))[0] == "deepscan: uncertain, P(fake) 12.0 %"
    drawn = {label: draw(image.copy(), result([], verdict=label, message=None), 0.0) for label in WORDS}
    words = {label: (picture > 0).any(axis=2) for label, picture in drawn.items()}
    assert not np.array_equal(words[VerdictLabel.FAKE], words[VerdictLabel.UNCERTAIN])


@pytest.mark.parametrize("size", [(16, 16), (64, 48), (3, 200), (640, 360)])
@pytest.mark.parametrize("box", [(-20.0, -30.0, 5.0, 9.0), (0.0, 0.0, 640.0, 360.0), (600.0, 340.0, 700.0, 400.0)])
def test_words_and_boxes_fit_any_picture(size, box):
    image = np.full((size[1], size[0], 3), 50, np.uint8)
    found = result([person(1, [0.0], [0.5], [box])], message="One sentence that says why there is no clear answer.")
    drawn = draw(image.copy(), found, 0.0)
    assert drawn.shape == image.shape
    assert not np.array_equal(drawn, image)


@pytest.mark.parametrize("size", [(64, 48), (90, 400), (320, 240), (640, 360), (360, 640), (1920, 1080)])
@pytest.mark.parametrize("label", [VerdictLabel.UNCERTAIN, VerdictLabel.NOT_APPLICABLE])
def test_the_banner_covers_at_most_a_twentieth_of_the_picture(size, label):
    image = np.full((size[1], size[0], 3), 50, np.uint8)
    found = result([], verdict=label, probability=0.5, message="A long sentence that says why there is no answer. " * 4)
    covered = (draw(image.copy(), found, 0.0) != image).any(axis=2)
    assert 0 < covered.mean() <= BANNER_SHARE == 0.05


def test_two_people_have_boxes_and_numbers_of_their_own(two_people_clip, tmp_path):
    boxes = ((80.0, 70.0, 150.0, 150.0), (320.0, 70.0, 390.0, 150.0))
    people = [
        person(1, [0.0, 1.9], [0.9, 0.9], [boxes[0]] * 2),
        person(2, [0.0, 1.9], [0.1, 0.1], [boxes[1]] * 2, verdict=VerdictLabel.REAL),
    ]
    annotate(two_people_clip, result(people, frames_sampled=2), tmp_path / "out.mp4")
    picture = frames(tmp_path / "out.mp4")[20].image
    for box, label in zip(boxes, (VerdictLabel.FAKE, VerdictLabel.REAL), strict=True):
        assert np.abs(colour_of(picture, box) - np.array(COLOURS[label])).max() < 60


def test_without_a_face_the_video_is_written_with_its_words(no_face_clip, tmp_path):
    written = annotate(no_face_clip, NOBODY, tmp_path / "out.mp4")
    assert (written.n_frames, written.sound) == (50, "none")
    assert facts(tmp_path / "out.mp4") == facts(no_face_clip)
    before, after = frames(no_face_clip)[30].image, frames(tmp_path / "out.mp4")[30].image
    assert marked(after[200:], before[200:], COLOURS[VerdictLabel.NOT_APPLICABLE]).mean() > 0.1
    assert np.abs(before[:180].astype(int) - after[:180]).mean() < 6


@pytest.mark.parametrize("rotation", [90, 180, 270, "mirror"])
def test_a_turned_video_comes_out_as_it_is_displayed(tmp_path, rotation):
    size = (320, 240)
    clip = clips.write_video(tmp_path / "turned.mp4", [clips.quadrants(size)] * 5, rotation=rotation)
    annotate(clip, result([], message=None), tmp_path / "out.mp4")
    shown = next(sample_frames(clip, 1)).image
    with av.open(str(tmp_path / "out.mp4")) as container:
        plain = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert plain.shape == shown.shape
    assert clips.corner_colours(plain) == clips.corner_colours(shown)


def test_copy_of_a_clip_with_wide_pixels_has_square_ones(tmp_path):
    clip = clips.write_video(tmp_path / "wide.mp4", [clips.quadrants((96, 64))] * 5, pixel_aspect=Fraction(4, 3))
    annotate(clip, NOBODY, tmp_path / "out.mp4")
    assert facts(tmp_path / "out.mp4")["size"] == (128, 64)
    assert frames(tmp_path / "out.mp4")[0].image.shape == (64, 128, 3)


def test_odd_sides_grow_by_one_pixel_and_keep_the_picture(tmp_path):
    source = list(clips.texture_frames(6, (161, 121)))
    clip = clips.write_video(tmp_path / "odd.webm", source)
    annotate(clip, NOBODY, tmp_path / "out.mp4")
    assert facts(tmp_path / "out.mp4")["size"] == (162, 122)
    assert times(tmp_path / "out.mp4") == times(clip)
    before, after = frames(clip)[3].image, frames(tmp_path / "out.mp4")[3].image
    assert np.abs(after[:60, :161].astype(int) - before[:60]).mean() < 8


def test_a_variable_frame_rate_keeps_its_times(tmp_path):
    pts = [0, 0.04, 0.08, 0.12, 0.3, 0.34, 0.4, 0.9, 1.0, 1.1]
    clip = clips.write_video(tmp_path / "vfr.mp4", clips.moving_portrait(10), pts=pts, audio=True)
    annotate(clip, NOBODY, tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == times(clip) == pts
    assert sound_packets(tmp_path / "out.mp4") == sound_packets(clip)
    assert facts(tmp_path / "out.mp4")["sound"] == facts(clip)["sound"]


def test_the_last_frame_is_shown_as_long_as_in_the_source(tmp_path, monkeypatch):
    clip = tmp_path / "slow_end.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        packets = []
        for time_ms in (0, 100, 200):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), time_ms, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            packets += stream.encode(frame)
        for packet in [*packets, *stream.encode(None)]:
            packet.duration = 700 if packet.pts == 200 else 100
            container.mux(packet)
    assert facts(clip)["duration"] == pytest.approx(0.9)
    for encoders in (writer.ENCODERS, {"mpeg4": {"qscale": "3"}}):
        monkeypatch.setattr(writer, "ENCODERS", encoders)
        annotate(clip, NOBODY, tmp_path / "out.mp4")
        assert facts(tmp_path / "out.mp4")["duration"] == pytest.approx(0.9, abs=1e-4)
        assert times(tmp_path / "out.mp4") == [0.0, 0.1, 0.2]


def test_sound_that_begins_before_the_picture_stays_with_it(tmp_path):
    clip = tmp_path / "late.mkv"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono")
        clips.write_silence(container, sound, 1.5)
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 20 + i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    annotate(clip, NOBODY, tmp_path / "out.mp4")
    assert lead(clip) > 0.8
    assert lead(tmp_path / "out.mp4") == pytest.approx(lead(clip), abs=0.003)


def test_sound_that_the_container_does_not_take_is_left_out_with_a_word(tmp_path, caplog):
    clip = tmp_path / "old.avi"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        sound = container.add_stream("pcm_u8", rate=8000, layout="mono")
        for i in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 10)
            container.mux(stream.encode(frame))
        silence = av.AudioFrame.from_ndarray(np.full((1, 4000), 128, np.uint8), format="u8", layout="mono")
        silence.sample_rate, silence.pts, silence.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
        container.mux(stream.encode(None))
    with caplog.at_level(logging.WARNING, logger="deepscan"):
        written = annotate(clip, NOBODY, tmp_path / "out.mp4")
    assert written.sound == "left out"
    assert "pcm_u8" in caplog.text
    assert facts(tmp_path / "out.mp4")["sound"] == []
    assert annotate(clip, NOBODY, tmp_path / "out.mkv").sound == "copied"
    assert b"".join(data for _, data in sound_packets(tmp_path / "out.mkv")) == b"\x80" * 4000


def test_without_an_h264_encoder_mpeg4_is_written(face_clip, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "ENCODERS", {"no_such_encoder": {}, "mpeg4": {"qscale": "3"}})
    written = annotate(face_clip, NOBODY, tmp_path / "out.mp4")
    assert written.encoder == "mpeg4"
    assert times(tmp_path / "out.mp4") == times(face_clip)
    monkeypatch.setattr(writer, "ENCODERS", {"no_such_encoder": {}})
    with pytest.raises(OutputError, match="none of the encoders no_such_encoder"):
        annotate(face_clip, NOBODY, tmp_path / "other.mp4")
    assert not (tmp_path / "other.mp4").exists()


def test_mpeg4_takes_times_that_are_finer_than_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "ENCODERS", {"mpeg4": {"qscale": "3"}})
    pts = [i / 90 for i in (0, 3, 6, 20, 30)]
    clip = clips.write_video(tmp_path / "fine.mp4", clips.moving_portrait(5), pts=pts, container_options={
        "video_track_timescale": "90000"
    })  # fmt: skip
    annotate(clip, NOBODY, tmp_path / "out.mp4")
    np.testing.assert_allclose(times(tmp_path / "out.mp4"), times(clip), atol=0.0011)


def test_an_image_becomes_an_annotated_image(portrait_image, portrait, tmp_path):
    box = (180.0, 60.0, 270.0, 175.0)
    found = result([person(1, [0.0], [0.2], [box], verdict=VerdictLabel.REAL)], kind="image", frames_sampled=1)
    assert default_suffix(found) == ".png"
    assert default_suffix(NOBODY) == ".mp4"
    for name in ("out.png", "out.jpg", "out.webp"):
        written = annotate(portrait_image, found, tmp_path / name)
        assert (written.n_frames, written.encoder, written.sound) == (1, None, "none")
        with Image.open(tmp_path / name) as image:
            picture = np.asarray(image.convert("RGB"))
        assert picture.shape == portrait.shape
        assert np.abs(colour_of(picture, box) - np.array(COLOURS[VerdictLabel.REAL])).max() < 60


def test_frames_are_not_kept(face_clip, tmp_path, monkeypatch):
    alive, most = [], [0]

    def watched(*args):
        for frame in sample_frames(*args):
            alive.append(weakref.ref(frame.image))
            most[0] = max(most[0], sum(ref() is not None for ref in alive))
            yield frame

    monkeypatch.setattr(module, "sample_frames", watched)
    gc.collect()
    annotate(face_clip, NOBODY, tmp_path / "out.mp4")
    assert len(alive) == 60
    assert most[0] <= 3


def test_what_fails_halfway_leaves_the_old_file(face_clip, tmp_path, monkeypatch):
    out = tmp_path / "out.mp4"
    out.write_bytes(b"older")

    def broken(*args):
        for frame in sample_frames(*args):
            if frame.index == 20:
                raise MediaError("face.mp4: cannot be read")
            yield frame

    monkeypatch.setattr(module, "sample_frames", broken)
    with pytest.raises(MediaError, match="cannot be read"):
        annotate(face_clip, NOBODY, out)
    assert out.read_bytes() == b"older"
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_a_full_disk_is_told_in_one_line(face_clip, tmp_path, monkeypatch):
    def full(*_args):
        raise av.error.OSError(28, "No space left on device")

    monkeypatch.setattr(writer.VideoWriter, "write", full)
    with pytest.raises(OutputError, match=r"out\.mp4 cannot be written: No space left on device"):
        annotate(face_clip, NOBODY, tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())


def test_targets_that_make_no_sense_are_refused(face_clip, portrait_image, tmp_path):
    with pytest.raises(OutputError, match=r"one of \.mp4, \.mov, \.mkv"):
        annotate(face_clip, NOBODY, tmp_path / "out.png")
    with pytest.raises(OutputError, match=r"one of \.png"):
        annotate(portrait_image, result([], kind="image"), tmp_path / "out.mp4")
    with pytest.raises(OutputError, match="the input itself"):
        annotate(face_clip, NOBODY, face_clip)
    with pytest.raises(OutputError, match="No such file"):
        annotate(face_clip, NOBODY, tmp_path / "nowhere" / "out.mp4")
    with pytest.raises(OutputError, match="cannot be annotated: it was not judged"):
        annotate(face_clip, result([], verdict=VerdictLabel.ERROR, message=None), tmp_path / "out.mp4")
    with pytest.raises(MediaError, match="not found"):
        annotate(tmp_path / "gone.mp4", NOBODY, tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())
