"""Who counts as a person: faces do; walls, hair and what the picture's edge cuts off do not."""

from __future__ import annotations

import clips
import cv2
import numpy as np
import pytest

import deepscan
from deepscan.config import TrackSettings
from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.people import Person
from deepscan.extract.sureness import has_proportions, sureness
from deepscan.extract.tracks import Tracker
from deepscan.types import Face, Frame, Sighting, Track
from deepscan.verdict import visible_people

# Of the box: eyes, nose and corners of the mouth of a face that looks ahead.
AHEAD = ((0.29, 0.38), (0.71, 0.38), (0.5, 0.57), (0.33, 0.76), (0.67, 0.76))


def face(shares=AHEAD, confidence=0.999, box=(100.0, 50.0, 200.0, 185.0)):
    size = box[2] - box[0], box[3] - box[1]
    landmarks = np.array([(box[0] + x * size[0], box[1] + y * size[1]) for x, y in shares], np.float32)
    return Face(box, confidence, landmarks)


def moved(x, y, of=AHEAD):
    return tuple((px + x, py + y) for px, py in of)


TURNED_LEFT = ((0.1, 0.38), (0.48, 0.38), (0.16, 0.57), (0.15, 0.76), (0.43, 0.76))
TILTED = ((0.17, 0.5), (0.55, 0.25), (0.44, 0.5), (0.42, 0.83), (0.72, 0.63))
PROFILE = ((0.72, 0.38), (0.86, 0.38), (0.95, 0.57), (0.7, 0.76), (0.82, 0.76))
# As measured on a brick wall beside a blurred edge, on dark hair, and on a wall seen in two frames.
BRICKS = ((0.62, 0.18), (0.95, 0.18), (0.94, 0.44), (0.66, 0.67), (0.91, 0.67))
HAIR = ((-0.1, 0.34), (0.49, 0.34), (0.1, 0.56), (-0.04, 0.75), (0.43, 0.75))
FAR_UP = moved(0.0, -0.2)


@pytest.mark.parametrize("shares", [AHEAD, TURNED_LEFT, TILTED, PROFILE, moved(0.05, 0.05)])
def test_faces_have_the_proportions_of_a_face(shares):
    assert has_proportions(face(shares))


@pytest.mark.parametrize("shares", [BRICKS, HAIR, FAR_UP, AHEAD[::-1], moved(0.4, 0.0), ((0.5, 0.5),) * 5])
def test_patterns_do_not(shares):
    assert not has_proportions(face(shares))


def test_a_face_cut_off_by_the_edge_does_not():
    whole = face()
    cut = Face((whole.box[0], 130.0, *whole.box[2:]), whole.confidence, whole.landmarks)  # only the mouth is left
    assert has_proportions(whole)
    assert not has_proportions(cut)


def track(n, confidence, shares=AHEAD):
    return [Sighting(i, i / 4, face(shares, confidence)) for i in range(n)]


@pytest.mark.parametrize(
    ("n", "of", "confidence", "shares", "with_eyes", "expected"),
    [
        (32, 32, 0.999, AHEAD, 32, "sure"),
        (1, 1, 0.999, AHEAD, 1, "sure"),  # a photo
        (7, 32, 0.999, AHEAD, 7, "sure"),  # left early
        (32, 32, 0.96, AHEAD, 32, "unsure"),  # blurred, say
        (32, 32, 0.999, BRICKS, 32, "unsure"),
        (32, 32, 0.999, AHEAD, 8, "unsure"),  # turned away from the light
        (3, 32, 0.999, AHEAD, 3, "unsure"),  # passing by
        (5, 32, 0.946, BRICKS, 0, "doubtful"),
        (14, 32, 0.958, HAIR, 2, "doubtful"),
        (2, 32, 0.947, AHEAD, 2, "doubtful"),
        (4, 32, 0.962, AHEAD, 0, "doubtful"),  # upside down
    ],
)
def test_what_lacks_one_sign_is_unsure_and_two_doubtful(n, of, confidence, shares, with_eyes, expected):
    assert sureness(track(n, confidence, shares), with_eyes, of) == expected


def test_the_best_sighting_makes_no_person():
    sightings = [*track(6, 0.94, BRICKS), Sighting(6, 1.5, face(BRICKS, 0.998))]
    assert sureness(sightings, 7, 12) == "doubtful"


def test_beside_a_face_a_wall_is_followed_but_doubtful():
    rng = np.random.default_rng(5)
    wall = cv2.resize(rng.integers(90, 140, (6, 6, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    image = np.hstack([clips.portrait()[:240, 64:384], wall])
    (person,) = FaceFinder().detect([image])[0]
    tracker = Tracker(TrackSettings())
    for i in range(16):
        passing = [face(BRICKS, 0.98 if i == 2 else 0.94, (400.0, 50.0, 500.0, 185.0))] if i < 5 else []
        tracker.add(Frame(image, i / 4, i), [person, *passing])
    first, second = tracker.finish()
    assert (first.sureness, len(first.sightings)) == ("sure", 16)
    assert (second.id, second.sureness, len(second.sightings)) == (2, "doubtful", 5)


@pytest.fixture(scope="module")
def clip_with_a_doubtful_face(tmp_path_factory):
    """A person, and in three frames of sixteen half a face beside, which is found at 0.97 and more once."""
    whole = clips.portrait()[:240, 64:384]
    left, right = whole.copy(), whole.copy()
    left[:, 160:] = cv2.GaussianBlur(whole, (0, 0), 15)[:, 160:]
    right[:, :160] = cv2.GaussianBlur(whole, (0, 0), 15)[:, :160]
    beside = {6: left, 7: right, 8: left}
    nobody = np.full_like(whole, 110)
    frames = [
        np.hstack([image, beside.get(i, nobody)]) for i, image in enumerate(clips.moving_portrait(16, shift_px=0.5))
    ]
    return clips.write_video(tmp_path_factory.mktemp("doubtful") / "clip.mp4", frames, fps=4)


def test_a_doubtful_face_is_listed_and_not_judged(clip_with_a_doubtful_face):
    result = deepscan.load_detector().predict(clip_with_a_doubtful_face)
    (person,), (left_out,) = result.tracks, result.unjudged
    assert len(person.frames) == 16
    assert (left_out.id, left_out.reason, len(left_out.frames)) == (2, "doubtful_face", 3)
    assert max(frame.confidence for frame in left_out.frames) > TrackSettings().min_confidence
    assert result.probability == person.probability
    assert all(frame.box[0] > 320 for frame in left_out.frames)


def test_sightings_that_are_left_out_make_nobody_surer():
    sightings = tuple(Sighting(i, i / 4, face(), 1.0 if i == 0 else 128.0) for i in range(4))
    crops = np.concatenate([np.full((1, 48, 48, 3), 1, np.uint8), np.full((3, 48, 48, 3), 128, np.uint8)])
    (seen,), hidden = visible_people([Person(Track(1, sightings, "unsure"), crops)])
    assert (len(seen.track.sightings), seen.track.sureness, hidden) == (3, "unsure", ())
