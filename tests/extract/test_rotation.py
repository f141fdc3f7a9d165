"""Faces on their side or upside down are found, and told in the picture as displayed."""

from __future__ import annotations

import clips
import numpy as np
import pytest

from deepscan.config import CropSettings, FaceSettings, MediaLimits, TrackSettings
from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.people import crop_keys, search_people
from deepscan.extract.tracks import iou


class Watched(FaceFinder):
    """A finder that counts the pictures it glanced at."""

    def __init__(self):
        super().__init__(FaceSettings())
        self.glanced = 0

    def glance(self, images, smallest_px):
        self.glanced += len(images)
        return super().glance(images, smallest_px)


def arguments(path, finder):
    return path, 6, finder, CropSettings(size_px=48), TrackSettings(), MediaLimits(), None, None


@pytest.fixture(scope="module")
def upright():
    return list(clips.moving_portrait(6, (240, 200)))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_face_that_is_not_upright_is_found_and_told_where_it_is_seen(tmp_path, upright, degrees):
    turned = [np.rot90(image, degrees // 90) for image in upright]  # counterclockwise, and back clockwise
    path = clips.write_video(tmp_path / "turned.mp4", turned, fps=4)
    search = search_people(*arguments(path, FaceFinder()))
    keys = {key for extraction in search.look() for key in extraction}
    extraction = search.finish()
    assert extraction.turned == degrees
    (person,) = extraction.people
    assert len(person.track.sightings) == 6
    assert set(crop_keys(person.track)) <= keys  # their scores are found again
    seen = FaceFinder().detect(upright)
    for sighting, (face,) in zip(person.track.sightings, seen, strict=True):
        x1, y1, x2, y2 = sighting.face.box
        back = {
            90: (240 - y2, x1, 240 - y1, x2),
            180: (240 - x2, 200 - y2, 240 - x1, 200 - y1),
            270: (y1, 200 - x2, y2, 200 - x1),
        }
        assert iou(back[degrees], face.box) > 0.85
    upright_crop = search_people(*arguments(clips.write_video(tmp_path / "up.mp4", upright, fps=4), FaceFinder())).run()
    assert np.abs(person.crops.astype(float) - upright_crop.people[0].crops).mean() < 12


def test_upright_faces_cost_no_further_look(face_clip):
    finder = Watched()
    extraction = search_people(*arguments(face_clip, finder)).run()
    assert (extraction.turned, finder.glanced, len(extraction.people)) == (None, 0, 1)


def test_where_nobody_is_a_few_pictures_are_looked_at_once_more(no_face_clip):
    finder = Watched()
    extraction = search_people(*arguments(no_face_clip, finder)).run()
    assert (extraction.turned, extraction.people) == (None, ())
    assert 0 < finder.glanced <= 9
