"""What pages show beside the result: thumbnails from a file, heat maps from an explanation, and what scores mean."""

from __future__ import annotations

from types import SimpleNamespace

import madereports as made
import numpy as np
import pytest
from PIL import Image

from deepscan.errors import MediaError
from deepscan.extract.crops import at_most
from deepscan.report.html import from_explanation, from_file
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
    assert [round(p.time_s, 3) for p in material.people[0].pictures] == [0.375, 1.125, 1.625]
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
    assert person.pictures[0].image.shape == (160, 160, 3)
    assert from_file(no_face_clip, made.no_face()).people == ()


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(MediaError, match="not found"):
        from_file(tmp_path / "gone.mp4", made.no_face())


def test_an_explanation_becomes_pictures_with_notes():
    crops = np.arange(3 * 300 * 300 * 3, dtype=np.uint32).astype(np.uint8).reshape(3, 300, 300, 3)
    tops = SimpleNamespace
    person = SimpleNamespace(
        result=track(1, [0.0, 1.0, 2.0], (0.0, 0.0, 9.0, 9.0)), counts_as_fake=False, shown=(0, 1, 2),
        times_s=(0.0, 1.0, 2.0), crops=crops, overlays=255 - crops, heat=SimpleNamespace(scale=1.5),
        importance=SimpleNamespace(importance=np.array([0.1, -0.2, 0.0])),
        by_importance=tops(supporting=(1,), opposing=(0,)), by_frame=tops(supporting=(1,), opposing=()),
    )  # fmt: skip
    frame = SimpleNamespace(overlay=np.zeros((900, 1600, 3), np.uint8), time_s=1.0, people=(1,))
    material = from_explanation(SimpleNamespace(people=(person,), frames=(frame,)), None)
    pictures = material.people[0].pictures
    assert [p.notes for p in pictures] == [
        ("moves the answer towards “fake”",),
        ("moves the answer towards “real”", "on its own looks most real"),
        (),
    ]
    assert pictures[0].image.shape == pictures[0].heat.shape == (160, 160, 3)
    assert material.people[0].importance == ((0.0, 0.1), (1.0, -0.2), (2.0, 0.0))
    assert material.people[0].heat_scale == 1.5
    assert material.frames[0].image.shape == (360, 640, 3)
    assert material.not_explained is None


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
