"""The search for people: which frames are looked at in full, and what is said of how they were reached."""

from __future__ import annotations

import clips
import damagedclips
import numpy as np
import pytest

from deepscan.config import CropSettings, FaceSettings, MediaLimits, TrackSettings
from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.people import PeopleSearch, search_people
from deepscan.extract.tracks import iou
from deepscan.types import Frame, MediaInfo

CROP, TRACK = CropSettings(size_px=48), TrackSettings()


class Watched(FaceFinder):
    """A finder that remembers how it was asked."""

    def __init__(self):
        super().__init__(FaceSettings())
        self.asked = []

    def detect(self, images, *, close_up=False):
        self.asked += ["detect"] * len(images)
        return super().detect(images, close_up=close_up)

    def follow(self, images, before):
        self.asked += ["follow"] * len(images)
        return super().follow(images, before)


@pytest.fixture
def finder():
    return Watched()


def frames_of(images, step_s=0.3):
    return iter([Frame(image, index * step_s, index) for index, image in enumerate(images)])


def search(images, finder, step_s=0.3):
    media = MediaInfo("clip.mp4", "video", 320, 240, len(images) * step_s, len(images))
    return PeopleSearch(media, frames_of(images, step_s), finder, CROP, TRACK).run()


def test_every_second_frame_is_looked_at_in_full(finder):
    images = list(clips.moving_portrait(7, shift_px=4))
    extraction = search(images, finder)
    assert finder.asked == ["detect", "follow", "detect", "follow", "detect", "follow", "detect"]
    (person,) = extraction.people
    assert [s.frame_index for s in person.track.sightings] == list(range(7))
    for sighting, (face,) in zip(person.track.sightings, FaceFinder().detect(images), strict=True):
        assert iou(sighting.face.box, face.box) > 0.85


@pytest.mark.parametrize("step_s", [0.36, 1.0, 60.0])
def test_frames_far_apart_are_all_looked_at(finder, step_s):
    search(list(clips.moving_portrait(4, shift_px=1)), finder, step_s)
    assert finder.asked == ["detect"] * 4


def test_a_face_that_has_gone_is_looked_for(finder, portrait):
    here = np.ascontiguousarray(portrait[:240, 60:380])
    gone = here.copy()
    gone[40:200, 100:230] = gone[40:200, 100:230].mean(axis=(0, 1))
    extraction = search([here, gone, gone, here], finder)
    assert finder.asked == ["detect", "follow", "detect", "detect", "detect"]
    assert [s.frame_index for p in extraction.people for s in p.track.sightings] == [0, 3]


def test_nobody_is_followed_over_a_cut(finder, portrait):
    dark = (clips.other_person(portrait)[:240, 120:440] // 3).astype(np.uint8)
    bright = portrait[:240, 60:380]
    images = [np.ascontiguousarray(image) for image in (bright, dark, bright, dark)]
    extraction = search(images, finder)
    assert finder.asked == ["detect"] * 4
    assert extraction.frames_with_face == 4


def test_who_comes_in_is_seen_in_the_frame_after(finder):
    alone = list(clips.moving_portrait(4, (240, 240), 1))
    both = list(clips.two_people_frames(4))
    images = [np.hstack([image, np.full_like(image, 90)]) for image in alone[:1]] + both[1:]
    extraction = search(images, finder)
    counts = [sum(s.frame_index == i for p in extraction.people for s in p.track.sightings) for i in range(4)]
    assert counts[2:] == [2, 2]


def test_crops_come_frame_by_frame(finder):
    images = list(clips.moving_portrait(3))
    media = MediaInfo("clip.mp4", "video", 320, 240, 1.0, 3)
    looking = PeopleSearch(media, frames_of(images), finder, CROP, TRACK)
    cuts = list(looking.look())
    assert [[index for index, _ in cut] for cut in cuts] == [[0], [1], [2]]
    (person,) = looking.finish().people
    assert np.array_equal(person.crops, np.stack([crop for cut in cuts for crop in cut.values()]))


def test_how_frames_were_reached(tmp_path, finder, portrait_image):
    def sampling(path, n):
        return search_people(path, n, finder, CROP, TRACK, MediaLimits()).run().sampling

    path = clips.write_video(tmp_path / "clip.mp4", clips.texture_frames(150, (96, 64)), 30, gop=15)
    assert sampling(path, 2) == "seek"
    assert sampling(path, 30) == "sequential"
    assert sampling(portrait_image, 1) is None


@pytest.mark.parametrize(("min_segment_s", "shifted"), [(None, True), (2.5, False)])
def test_keyframes_nearby_are_taken_unless_stretches_are_to_be_found(tmp_path, finder, min_segment_s, shifted):
    path = clips.write_video(tmp_path / "clip.mp4", clips.texture_frames(150, (96, 64)), 30, gop=15)
    found = search_people(path, 4, finder, CROP, TRACK, MediaLimits(), min_segment_s).run()
    assert (found.frames_sampled, found.sampling) == (4, "seek")
    assert (found.sampling_shift_s > 0) is shifted
    assert found.sampling_shift_s <= 0.25 * 5 / 4


def test_how_much_was_examined_comes_with_the_people(tmp_path, finder):
    whole = clips.write_video(tmp_path / "whole.mkv", clips.texture_frames(60, (96, 64)), 20, gop=10)
    path = damagedclips.repack(whole, tmp_path / "hit.mkv", damagedclips.halved(43))
    for source, damaged_s in ((whole, 0.0), (path, 0.35)):
        # So many that every picture is decoded: of few the damaged one may be passed by.
        extraction = search_people(source, 30, finder, CROP, TRACK, MediaLimits()).run()
        assert extraction.frames_sampled == 30
        assert extraction.coverage.damaged_s == pytest.approx(damaged_s, abs=0.06)
        assert extraction.coverage.duration_s == pytest.approx(3.0, abs=0.06)
