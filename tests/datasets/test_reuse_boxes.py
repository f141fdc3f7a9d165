"""Fakes that are cut at the boxes of their originals."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import clips
import numpy as np
import pytest
import stored

from deepscan.datasets.reuse_boxes import reuse_people
from deepscan.datasets.store.store import find_store, read_store, write_store
from deepscan.errors import MediaError
from deepscan.extract.crops import brightness, crop_face
from deepscan.extract.people import Extraction, Person
from deepscan.extract.video.frames import probe, sample_frames
from deepscan.types import Face, Frame, MediaInfo, Sighting, Track

SIZE = (160, 120)
SAMPLED = 5
OWN = stored.PNG.model_copy(update={"frames": SAMPLED})
REUSING = stored.REUSING.model_copy(update={"frames": SAMPLED})
# Who is seen where: track -> frame -> box. The second person is in two frames; in the last frame nobody is.
PEOPLE = {
    4: {index: (40.25 + index, 20.5, 90.25 + index, 80.5) for index in range(SAMPLED - 1)},
    7: {index: (110.0, 30.0, 150.0 + index, 80.0) for index in (1, 3)},
}
FRAMES_WITH_A_FACE, SIGHTINGS = 4, 6
LARGEST_PX = 50.0


def picture(number, *, altered=False):
    """A frame of either clip; the fake has another face where the first person is."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float32)
    waves = [127 + 60 * np.sin(x / 9 + channel) + 50 * np.cos(y / 7 - number / 5) for channel in range(3)]
    image = np.stack(waves, axis=2).clip(0, 255).astype(np.uint8)
    if altered:
        image[20:80, 45:88] = (230, 140, 90)
    return image


def write(path, *, altered=False, n_frames=20, fps=25):
    return clips.write_video(path, (picture(n, altered=altered) for n in range(n_frames)), fps)


def still(times_s, *, altered=False, size=SIZE):
    """Frames that no file was decoded for."""
    for index, time_s in enumerate(times_s):
        image = np.zeros((size[1], size[0], 3), np.uint8) if size != SIZE else picture(index, altered=altered)
        yield Frame(image, float(time_s), index)


def seen(media, frames, people=PEOPLE):
    """What a detector would give that sees these people."""
    sightings = {number: [] for number in people}
    crops = {number: [] for number in people}
    sampled = 0
    for frame in frames:
        sampled += 1
        for number, boxes in people.items():
            if (box := boxes.get(frame.index)) is not None:
                landmarks = np.linspace(box[:2], box[2:], 5).astype(np.float32)
                face = Face(box, 0.91 + number / 100, landmarks)
                crop = crop_face(frame.image, face, OWN.crop)
                sightings[number].append(Sighting(frame.index, frame.time_s, face, brightness(crop)))
                crops[number].append(crop)
    extraction = tuple(Person(Track(n, tuple(sightings[n])), np.stack(crops[n])) for n in people)
    return Extraction(media, extraction, sampled, sampled, len(people), 50.0, 99.0, {"decode": 0.0, "detect": 1.0})


def store(folder, extraction, settings=OWN):
    return read_store(write_store(folder, stored.item("real"), stored.SHA, settings, extraction))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The file of a clip that is no fake; `.path.parents[2] / "real.mp4"` is the clip."""
    folder = tmp_path_factory.mktemp("reuse")
    clip = write(folder / "real.mp4")
    return store(folder, seen(probe(clip), sample_frames(clip, SAMPLED)))


@pytest.fixture(scope="module")
def fake_clip(tmp_path_factory):
    return write(tmp_path_factory.mktemp("fake") / "fake.mp4", altered=True)


def reuse(path, original):
    return reuse_people(probe(path), sample_frames(path, SAMPLED), original, REUSING)


# What fits


def test_the_boxes_are_the_originals_and_the_crops_are_not(original, fake_clip, monkeypatch):
    monkeypatch.setattr("deepscan.extract.faces.detect.FaceFinder.detect", stored.full_disk)
    extraction = reuse(fake_clip, original)
    assert [person.track.id for person in extraction.people] == [4, 7]
    frames = {frame.index: frame for frame in sample_frames(fake_clip, SAMPLED)}
    for person, track in zip(extraction.people, original.tracks, strict=True):
        for mine, theirs in zip(person.track.sightings, track.track.sightings, strict=True):
            assert (mine.frame_index, mine.face.box) == (theirs.frame_index, theirs.face.box)
            assert mine.face.confidence == theirs.face.confidence
            assert np.array_equal(mine.face.landmarks, theirs.face.landmarks)
            assert mine.time_s == frames[mine.frame_index].time_s
        crops = [crop_face(frames[s.frame_index].image, s.face, OWN.crop) for s in person.track.sightings]
        assert np.array_equal(person.crops, np.stack(crops))
        assert [s.brightness for s in person.track.sightings] == [brightness(crop) for crop in crops]
    differ = [
        np.abs(person.crops.astype(int) - track.crops()).mean()
        for person, track in zip(extraction.people, original.tracks, strict=True)
    ]
    assert differ[0] > 30  # this face was altered
    assert differ[1] < 10  # this one was encoded again, no more
    brighter = [s.brightness for s in extraction.people[0].track.sightings]
    assert all(b > s.brightness + 10 for b, s in zip(brighter, original.tracks[0].track.sightings, strict=True))


def test_what_is_told_of_the_fake(original, fake_clip):
    extraction = reuse(fake_clip, original)
    assert extraction.media == probe(fake_clip)
    assert (extraction.frames_sampled, extraction.frames_with_face, extraction.n_usable) == (
        SAMPLED,
        FRAMES_WITH_A_FACE,
        SIGHTINGS,
    )
    assert extraction.largest_px == LARGEST_PX
    assert extraction.brightness == max(brightness(frame.image) for frame in sample_frames(fake_clip, SAMPLED))
    assert extraction.timing_s["detect"] == 0
    assert extraction.timing_s["decode"] > 0


def test_an_original_gives_its_own_crops(original):
    extraction = reuse(original.path.parents[2] / "real.mp4", original)
    for person, track in zip(extraction.people, original.tracks, strict=True):
        assert stored.same_tracks(person.track, track.track)
        assert np.array_equal(person.crops, track.crops())


def test_into_the_store_and_out(tmp_path, original, fake_clip):
    extraction = reuse(fake_clip, original)
    of = {"boxes_sha256": original.video.sha256}
    write_store(tmp_path, stored.ITEM, stored.BOXES_SHA, REUSING, extraction, **of)
    back = find_store(tmp_path, stored.ITEM, stored.BOXES_SHA, REUSING, **of)
    assert (back.video.boxes, back.video.boxes_sha256) == ("original", original.video.sha256)
    for track, person in zip(back.tracks, extraction.people, strict=True):
        assert stored.same_tracks(track.track, person.track)
        assert np.array_equal(track.crops(), person.crops)


def test_frames_are_not_kept(original):
    refs = []

    def frames():
        for frame in still(s.time_s for s in sightings_of_all(original)):
            assert sum(ref() is not None for ref in refs) <= 1, "frames pile up"
            refs.append(weakref.ref(frame.image))
            yield frame
            del frame

    assert reuse_people(original_media(original), frames(), original, REUSING) is not None
    assert len(refs) == SAMPLED


def test_pictures_have_no_rate(tmp_path):
    """A folder of images counts as one a second, an image as one frame."""
    media = MediaInfo(tmp_path, "video", *SIZE, None, 100)
    places = range(10, 100, 20)
    folder = store(tmp_path, seen(media, still(places)))
    assert reuse_people(media, still(p + 9 for p in places), folder, REUSING) is not None
    assert reuse_people(media, still(p + 11 for p in places), folder, REUSING) is None
    one = MediaInfo(tmp_path, "image", *SIZE, None, 1)
    image = store(tmp_path / "image", seen(one, still([0]), {1: {0: (10.0, 10.0, 60.0, 60.0)}}))
    assert reuse_people(one, still([0], altered=True), image, REUSING).n_usable == 1
    assert reuse_people(one, still([0.019]), image, REUSING) is not None
    assert reuse_people(one, still([0.021]), image, REUSING) is None
    assert reuse_people(one, still([0, 0.001]), image, REUSING) is None


# What does not


def sightings_of_all(original):
    """A sighting for each sampled frame, for its time; of the frame with nobody in it the time is made up."""
    last = original.tracks[0].track.sightings[-1]
    return [*original.tracks[0].track.sightings, replace(last, frame_index=SAMPLED - 1, time_s=last.time_s + 0.16)]


def original_media(original):
    video = original.video
    return MediaInfo(Path("x.mp4"), video.kind, video.width_px, video.height_px, video.duration_s, video.n_frames)


@pytest.mark.parametrize("size", [(SIZE[1], SIZE[0]), (SIZE[0] * 2, SIZE[1] * 2)])
def test_another_size_does_not_fit(original, size):
    times = [s.time_s for s in sightings_of_all(original)]
    assert reuse_people(original_media(original), still(times), original, REUSING) is not None
    assert reuse_people(original_media(original), still(times, size=size), original, REUSING) is None


@pytest.mark.parametrize("n_frames", [SAMPLED - 2, SAMPLED - 1, SAMPLED + 1])
def test_another_number_of_frames_does_not_fit(original, n_frames):
    times = [s.time_s for s in sightings_of_all(original)]
    times = [*times, times[-1] + 0.16][:n_frames]
    assert reuse_people(original_media(original), still(times), original, REUSING) is None


def test_frames_of_other_moments_do_not_fit(original):
    """0.8 s in five frames: one every 160 ms."""
    times = np.array([s.time_s for s in sightings_of_all(original)])
    media = original_media(original)
    for late_s, fits in ((0.079, True), (-0.079, True), (0.081, False), (-0.081, False)):
        extraction = reuse_people(media, still(times + late_s), original, REUSING)
        assert (extraction is not None) is fits
        one_late = times + late_s * (np.arange(SAMPLED) == SAMPLED - 2)  # only the last that somebody is seen in
        assert (reuse_people(media, still(one_late), original, REUSING) is not None) is fits
        if fits:
            assert extraction.people[0].track.start_s == times[0] + late_s


def test_a_clip_of_another_length_does_not_fit(tmp_path, original):
    assert reuse(write(tmp_path / "same rate.mp4", altered=True, n_frames=40), original) is None
    assert reuse(write(tmp_path / "slower.mp4", altered=True, fps=12), original) is None
    assert reuse(write(tmp_path / "smoother.mp4", altered=True, n_frames=40, fps=50), original) is not None


@pytest.mark.parametrize(
    ("times_s", "needed"), [([9.0] * SAMPLED, 1), ([0.08, 0.24, 0.4, 0.56, 0.72, 0.8, 0.9, 1.0], SAMPLED + 1)]
)
def test_no_more_is_decoded_than_it_takes_to_know(original, times_s, needed):
    calls = []

    def frames():
        for frame in still(times_s):
            calls.append(frame.index)
            yield frame

    assert reuse_people(original_media(original), frames(), original, REUSING) is None
    assert len(calls) == needed


def test_a_fake_that_cannot_be_read_is_not_one_that_does_not_fit(original):
    def frames():
        yield from still([s.time_s for s in sightings_of_all(original)][:2])
        raise MediaError("clip.mp4: cannot be read")

    with pytest.raises(MediaError):
        reuse_people(original_media(original), frames(), original, REUSING)


def test_an_original_of_other_settings_is_a_mistake(tmp_path, original):
    other = REUSING.model_copy(update={"jpeg_quality": 90})
    with pytest.raises(ValueError, match="other settings"):
        reuse_people(original_media(original), still([0.0]), original, other)
