"""What pages show beside the result: thumbnails from a file, heat maps from an explanation, and what scores mean."""

from __future__ import annotations

from types import SimpleNamespace

import madereports as made
import numpy as np
import pytest
from PIL import Image

from deepscan.errors import MediaError
from deepscan.extract.crops import at_most
from deepscan.report.html import FramePicture, Material, PersonMaterial, Picture, from_file, with_heat
from deepscan.report.html.pictures import brightened
from deepscan.report.html.probability_text import meaning, sentences
from deepscan.types import FrameResult, Result, TrackResult, VerdictLabel


def track(number, times, box):
    frames = tuple(FrameResult(t, box, 0.99, 0.5) for t in times)
    return TrackResult(number, VerdictLabel.REAL, 0.1, times[0], times[-1], frames)


def test_thumbnails_show_the_right_person(two_people_clip):
    times = [0.125 + 0.25 * i for i in range(8)]
    people = track(1, times, (80.0, 60.0, 160.0, 160.0)), track(2, times, (320.0, 60.0, 400.0, 160.0))
    result = Result("two.mp4", None, "video", VerdictLabel.REAL, duration_s=2.0, frames_sampled=8, tracks=people)
    material = from_file(two_people_clip, result, n_pictures=3)
    assert material.facts.kind == "video"
    assert [(p.id, len(p.pictures)) for p in material.people] == [(1, 3), (2, 3)]
    warm, cold = (np.mean([p.image.mean((0, 1)) for p in person.pictures], axis=0) for person in material.people)
    assert warm[0] > warm[2]  # the second person is tinted blue
    assert cold[2] > cold[0]
    assert [round(p.time_s, 3) for p in material.people[0].pictures] == [0.125, 0.375, 0.625]
    # The whole frame of each is the one that looks most like a fake, here the first of equals.
    assert [(frame.people, frame.time_s, frame.scale) for frame in material.frames] == [
        ((1,), 0.125, 1),
        ((2,), 0.125, 1),
    ]
    assert "deepscan-video[explain]" in material.not_explained


def test_a_picture_of_another_moment_is_not_shown(face_clip):
    result = Result("face.mp4", None, "video", VerdictLabel.REAL, duration_s=2.4, frames_sampled=8,
                    tracks=(track(1, [0.15, 9.0], (100.0, 60.0, 180.0, 160.0)),))  # fmt: skip
    material = from_file(face_clip, result, not_explained="No.")
    assert [p.time_s for p in material.people[0].pictures] == [0.15]
    assert material.not_explained == "No."


def test_an_image_and_a_file_without_people(portrait_image, no_face_clip):
    result = Result("p.jpg", None, "image", VerdictLabel.REAL, frames_sampled=1,
                    tracks=(track(1, [0.0], (180.0, 60.0, 270.0, 170.0)),))  # fmt: skip
    (person,) = from_file(portrait_image, result).people
    assert person.pictures[0].image.shape == (240, 240, 3)
    assert from_file(no_face_clip, made.no_face()).people == ()


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(MediaError, match="not found"):
        from_file(tmp_path / "gone.mp4", made.no_face())


def test_an_explanation_adds_its_heat_to_the_pictures_of_the_same_moments():
    crops = np.arange(2 * 300 * 300 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 300, 300, 3)
    person = SimpleNamespace(
        result=track(1, [0.0, 1.0, 2.0], (0.0, 0.0, 9.0, 9.0)), times_s=(0.0, 1.0), crops=crops, overlays=255 - crops,
        heat=SimpleNamespace(scale=1.5), importance=SimpleNamespace(importance=np.array([0.1, -0.2, 0.0])),
    )  # fmt: skip
    overlay, colour = np.zeros((900, 1600, 3), np.uint8), np.full((900, 1600, 3), 9, np.uint8)
    kept = Picture(np.zeros((240, 240, 3), np.uint8), 1.0)
    plain = Material(None, (PersonMaterial(1, (kept,)),), (FramePicture(colour, 1.0, (1,)),))
    explained = SimpleNamespace(people=(person,), frames=(SimpleNamespace(overlay=overlay, time_s=1.0, people=(1,)),))
    material = with_heat(plain, explained)
    pictures = material.people[0].pictures
    assert [picture.time_s for picture in pictures] == [0.0, 1.0]
    assert pictures[1].image is kept.image
    assert pictures[0].image is not kept.image
    assert pictures[0].heat.shape == pictures[1].heat.shape == (240, 240, 3)
    assert material.people[0].importance == ((0.0, 0.1), (1.0, -0.2), (2.0, 0.0))
    assert material.people[0].heat_scale == 1.5
    assert material.frames[0].image is colour
    assert material.frames[0].heat is overlay
    assert material.not_explained is None


def test_dark_faces_are_brightened_and_others_are_left_alone():
    dark, bright = np.full((40, 40, 3), 30, np.uint8), np.full((40, 40, 3), 140, np.uint8)
    shown, changed = brightened(dark)
    assert changed
    assert 80 <= shown.mean() <= 120
    assert brightened(bright) == (bright, False)
    mixed = np.vstack([dark, bright])
    assert brightened(mixed, (0.0, 0.0, 40.0, 40.0))[1]  # by the face, not by what is around it
    assert not brightened(mixed, (0.0, 40.0, 40.0, 80.0))[1]


def test_small_pictures_stay_as_they_are():
    image = np.asarray(Image.new("RGB", (3, 500)))
    assert at_most(image, 500) is image
    assert at_most(image, 50).shape == (50, 1, 3)


# What a score means


def test_the_nearest_group_counts():
    found = meaning(0.33, made.card())
    assert (found.probability, found.share, found.n) == (pytest.approx(0.35), pytest.approx(0.32), 50)
    assert found.base_rate == pytest.approx(0.47)
    assert not found.outside
    assert found.part == "half of val that calibration did not see"


def test_groups_equally_near_count_together():
    found = meaning(0.40, made.card())
    assert (found.n, found.share) == (100, pytest.approx(0.37))
    assert (found.low, found.high) == (pytest.approx(0.3), pytest.approx(0.5))


def test_scores_beyond_all_that_were_measured():
    narrow = [{"probability": p, "share": p, "low": 0.0, "high": 1.0, "n": 9} for p in (0.4, 0.5, 0.6)]
    assert meaning(0.95, made.card(bins=narrow)).outside
    assert not meaning(0.65, made.card(bins=narrow)).outside
    assert "No file that was measured had so extreme a score" in sentences(0.95, "video", made.card(bins=narrow))[-1]


def test_data_that_is_no_validation_data_is_not_called_so():
    told = sentences(0.9, "image", made.card(part="evaluation on our clips"))[0]
    assert told.startswith("Of 100 images")
    assert "where that was measured" in told
    assert "validation" not in told


def test_without_a_score_or_a_curve():
    assert sentences(None, "video", made.card()) == ()
    assert meaning(0.5, None) is None
    for odd in ([], [{"probability": 0.5}], [{"probability": 0.5, "share": 1, "low": 0, "high": 1, "n": 0}]):
        assert meaning(0.5, made.card(bins=odd)) is None
        assert "no calibration curve" in sentences(0.5, "video", made.card(bins=odd))[0]
