"""The real detector on a real face, and on what it is not made for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import clips
import cv2
import numpy as np
import pytest

from deepscan.config import FaceSettings
from deepscan.extract.faces.cascade import Detections
from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.tracks import iou

CENTRE = (224, 117)  # of the portrait's face


@pytest.fixture(scope="module")
def finder():
    return FaceFinder()


@pytest.fixture(scope="module")
def scene():
    """The portrait's upper left, RGB uint8 [240, 400, 3]."""
    return np.ascontiguousarray(clips.portrait()[:240, :400])


def contains(face, point):
    x1, y1, x2, y2 = face.box
    return x1 < point[0] < x2 and y1 < point[1] < y2


def assert_sound(face, image):
    x1, y1, x2, y2 = face.box
    height, width = image.shape[:2]
    assert 0 <= x1 < x2 <= width
    assert 0 <= y1 < y2 <= height
    assert 0.9 <= face.confidence <= 1
    assert face.landmarks.shape == (5, 2)
    assert face.landmarks.dtype == np.float32


def test_the_portrait(finder, portrait):
    (faces,) = finder.detect([portrait])
    (face,) = faces
    assert_sound(face, portrait)
    assert contains(face, CENTRE)
    assert face.confidence > 0.99
    assert 70 < face.width_px < 130
    assert 80 < face.height_px < 160
    for point in face.landmarks:
        assert contains(face, point)
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_mixed_sizes_keep_their_order(finder, scene):
    mirrored = np.ascontiguousarray(scene[:, ::-1])
    narrow = np.ascontiguousarray(scene[:, 120:330])
    images = [scene, np.zeros((90, 90, 3), np.uint8), mirrored, narrow, scene]
    results = finder.detect(images)
    assert [len(faces) for faces in results] == [1, 0, 1, 1, 1]
    for image, faces in zip(images, results, strict=True):
        for face in faces:
            assert_sound(face, image)
    assert contains(results[0][0], CENTRE)
    assert contains(results[2][0], (400 - CENTRE[0], CENTRE[1]))
    assert contains(results[3][0], (CENTRE[0] - 120, CENTRE[1]))
    # The same face in another batch: sums of floats come in another order.
    assert results[4][0].box == pytest.approx(results[0][0].box, abs=0.01)


def test_a_batch_equals_one_by_one(scene):
    finder = FaceFinder(FaceSettings(batch_frames=2))
    images = [scene, np.ascontiguousarray(scene[:, ::-1]), np.roll(scene, 7, axis=1)]
    together = finder.detect(images)
    for image, faces in zip(images, together, strict=True):
        ((alone,),) = finder.detect([image])
        (face,) = faces
        np.testing.assert_allclose(face.box, alone.box, atol=0.1)
        np.testing.assert_allclose(face.landmarks, alone.landmarks, atol=0.1)


@pytest.mark.parametrize("shape", [(1, 1), (20, 20), (10, 300), (300, 10), (1, 2000), (63, 65)])
@pytest.mark.parametrize("fill", ["flat", "noise"])
def test_images_too_small_for_the_detector(finder, shape, fill):
    image = np.full((*shape, 3), 128, np.uint8)
    if fill == "noise":
        image = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    (faces,) = finder.detect([image])
    for face in faces:
        assert_sound(face, image)
    assert not faces


def test_a_small_picture_of_a_face(finder, scene):
    small = cv2.resize(scene[50:190, 154:294], (48, 48), interpolation=cv2.INTER_AREA)
    (faces,) = finder.detect([small])
    (face,) = faces
    assert_sound(face, small)
    assert contains(face, (24, 24))


def test_no_images(finder):
    assert finder.detect([]) == []


def test_nobody_in_it(finder):
    images = [
        next(clips.texture_frames(1)),
        np.zeros((100, 100, 3), np.uint8),
        np.full((80, 200, 3), 255, np.uint8),
    ]
    assert finder.detect(images) == [[], [], []]


@pytest.mark.parametrize(("top", "left"), [(60, 180), (100, 150)])
def test_boxes_are_clipped_to_the_image(finder, scene, top, left):
    image = np.ascontiguousarray(scene[top : top + 110, left : left + 100])
    (faces,) = finder.detect([image])
    for face in faces:
        assert_sound(face, image)


def test_a_face_cut_by_the_edge_is_found_and_clipped(finder, scene):
    image = np.ascontiguousarray(scene[78:])  # through the forehead
    (faces,) = finder.detect([image])
    (face,) = faces
    assert_sound(face, image)
    assert face.box[1] <= 4
    assert contains(face, (CENTRE[0], CENTRE[1] - 78))


def test_a_large_image_is_scaled_down_and_boxes_back(finder, portrait):
    large = cv2.resize(portrait, (2000, 2000), interpolation=cv2.INTER_LINEAR)
    ((small_face,),) = finder.detect([portrait])
    (faces,) = finder.detect([large])
    face = faces[0]
    scale = 2000 / 512
    np.testing.assert_allclose(np.array(face.box) / scale, small_face.box, atol=6)
    np.testing.assert_allclose(face.landmarks / scale, small_face.landmarks, atol=4)
    assert_sound(face, large)


@pytest.mark.parametrize(("side", "smallest"), [(128, 80), (256, 40), (512, 20), (4000, 20)])
def test_the_detection_size_bounds_what_is_looked_for(monkeypatch, portrait, side, smallest):
    """In pixels of the image; what the networks see goes with it."""
    bounded = FaceFinder(FaceSettings(detect_side_px=side, min_face_px=8))
    calls = []
    real = bounded.cascade.detect
    monkeypatch.setattr(
        bounded.cascade, "detect", lambda i, smallest_px: calls.append(smallest_px) or real(i, smallest_px)
    )
    ((face,),) = bounded.detect([portrait])
    assert calls == [[smallest]]
    assert contains(face, CENTRE)


def test_the_networks_see_no_more_of_a_large_frame(monkeypatch, portrait):
    """Four times the pixels, and the first network sees as much of them."""
    finder = FaceFinder(FaceSettings(min_face_px=8))
    seen = []
    real = finder.cascade.pnet
    monkeypatch.setattr(finder.cascade, "pnet", lambda x: seen.append(x.size) or real(x))
    totals = []
    for side in (960, 1920):
        seen.clear()
        finder.detect([cv2.resize(portrait, (side, side), interpolation=cv2.INTER_LINEAR)])
        totals.append(sum(seen))
    assert totals[1] == pytest.approx(totals[0], rel=0.1)
    assert totals[1] < 3 * 1920 * 1920 / 4


def test_faces_too_small_to_be_scored_are_looked_for_where_there_is_no_other(monkeypatch, portrait):
    """All that are large enough at the first look, at a third of the cost; a second look where there is nobody."""
    finder = FaceFinder(FaceSettings(min_face_px=40))
    calls = []
    real = finder.cascade.detect
    monkeypatch.setattr(finder.cascade, "detect", lambda i, px: calls.append([round(p) for p in px]) or real(i, px))
    small = cv2.resize(portrait, (150, 150), interpolation=cv2.INTER_AREA)
    ((face,),) = finder.detect([portrait])
    assert contains(face, CENTRE)
    assert calls == [[29]]
    calls.clear()
    detections = finder.detect([np.full((300, 300, 3), 90, np.uint8), small])
    assert calls in ([[29, 29], [20]], [[29, 29], [20, 20]])
    assert detections[0] == []
    (face,) = detections[1]
    assert contains(face, np.array(CENTRE) * 150 / 512)
    assert 20 < face.size_px < 40


def test_faces_come_largest_first(finder, portrait):
    face = portrait[40:200, 140:300]
    image = np.full((200, 420, 3), 90, np.uint8)
    image[50:130, 20:100] = cv2.resize(face, (80, 80), interpolation=cv2.INTER_AREA)
    image[20:180, 220:380] = face
    (faces,) = finder.detect([image])
    assert len(faces) == 2
    assert faces[0].size_px > 1.5 * faces[1].size_px
    assert contains(faces[0], (300, 100))
    assert contains(faces[1], (60, 90))


def returns(finder, monkeypatch, boxes, confidences):
    """Make the cascade find the same in every image."""
    detections = Detections(
        np.array(boxes, np.float32), np.array(confidences, np.float32), np.zeros((len(boxes), 5, 2), np.float32)
    )
    monkeypatch.setattr(finder.cascade, "detect", lambda images, smallest_px: [detections] * len(images))


def test_unsure_detections_are_left_out(finder, monkeypatch):
    confidences = [0.89, 0.91, 1.0000001, float("nan"), 0.95]
    returns(finder, monkeypatch, [[10 * i, 0, 10 * i + 8 + i, 30] for i in range(5)], confidences)
    (faces,) = finder.detect([np.zeros((100, 100, 3), np.uint8)])
    assert [f.confidence for f in faces] == pytest.approx([0.95, 1.0, 0.91])  # largest first
    assert max(f.confidence for f in faces) <= 1


def test_what_is_found_in_the_padding_is_left_out(finder, monkeypatch):
    returns(finder, monkeypatch, [[30, 5, 60, 40], [5, 5, 60, 60], [-8, -9, 10, 10]], [1, 1, 1])
    (faces,) = finder.detect([np.zeros((25, 30, 3), np.uint8)])
    assert [f.box for f in faces] == [(5, 5, 30, 25), (0, 0, 10, 10)]


def test_a_face_that_fills_its_picture(finder, portrait):
    close = np.ascontiguousarray(portrait[70:165, 180:268])
    ((face,),) = finder.detect([close], close_up=True)
    assert contains(face, (CENTRE[0] - 180, CENTRE[1] - 70))
    assert face.height_px > 80
    large = cv2.resize(close, (2200, 2375), interpolation=cv2.INTER_CUBIC)
    ((other,),) = finder.detect([large], close_up=True)
    np.testing.assert_allclose(np.array(other.box) / 25, face.box, atol=8)
    np.testing.assert_allclose(other.landmarks / 25, face.landmarks, atol=5)


def test_a_close_up_that_is_none_is_looked_at_as_usual(finder, portrait):
    ((face,),) = finder.detect([portrait], close_up=True)
    ((usual,),) = finder.detect([portrait])
    assert face.box == usual.box


def test_pictures_beyond_what_can_be_sampled(finder, scene):
    """A strip of 40,000 pixels, with a face as high as it is."""
    image = np.zeros((400, 40_000, 3), np.uint8)
    image[:, 20_000:20_400] = cv2.resize(scene[20:220, 124:324], (400, 400), interpolation=cv2.INTER_LINEAR)
    finder = FaceFinder(FaceSettings(detect_side_px=8000))
    ((face,),) = finder.detect([image])
    assert contains(face, (20_000 + 2 * (CENTRE[0] - 124), 2 * (CENTRE[1] - 20)))


def test_many_threads_find_the_same(finder, scene):
    images = [np.ascontiguousarray(np.roll(scene, 3 * i, axis=1)) for i in range(6)]
    alone = finder.detect(images)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda image: finder.detect([image])[0], images))
    for one, other in zip(alone, together, strict=True):
        assert [f.box for f in one] == [pytest.approx(f.box, abs=0.1) for f in other]


# Following


def test_faces_are_followed(finder, portrait):
    frames = list(clips.two_people_frames(6))
    before = finder.detect(frames[:1]) * 5
    for faces, wanted, image in zip(
        finder.follow(frames[1:], before), finder.detect(frames[1:]), frames[1:], strict=True
    ):
        assert faces is not None
        assert len(faces) == len(wanted) == 2
        for face in faces:
            assert_sound(face, image)
            assert max(iou(face.box, other.box) for other in wanted) > 0.8


def test_following_needs_no_first_network(finder, monkeypatch, scene):
    ((face,),) = finder.detect([scene])
    monkeypatch.setattr(finder.cascade, "pnet", None)
    ((again,),) = finder.follow([scene], [[face]])
    assert iou(again.box, face.box) > 0.85


def test_where_a_followed_face_is_lost_detection_has_to_look(finder, scene):
    ((face,),) = finder.detect([scene])
    elsewhere = replace(face, box=(5.0, 150.0, 65.0, 210.0))
    empty = np.zeros_like(scene)
    assert finder.follow([empty, scene, scene], [[face], [], [face, elsewhere]]) == [None, None, None]
    assert finder.follow([], []) == []


def test_detection_does_not_change_the_image(finder, scene):
    before = scene.copy()
    finder.detect([scene])
    assert np.array_equal(scene, before)
