"""From faces to people: links, gaps, cuts, and detections that are nobody."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscan.config import CropSettings, FaceSettings, MediaLimits, TrackSettings
from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.people import search_people
from deepscan.extract.tracks import Tracker, iou
from deepscan.types import Face, Frame

WIDTH, HEIGHT = 240, 120
STEP_S = 0.2
GREY, BLUE = (110, 110, 110), (20, 40, 200)


def patch(seed, side=40):
    """A face's look: a few large blocks of colour, the same for the same seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return blocks.repeat(side // 4, axis=0).repeat(side // 4, axis=1)


def face(x, y, confidence=0.999, side=40):
    landmarks = np.array([[x + 12, y + 15], [x + 28, y + 15], [x + 20, y + 23], [x + 14, y + 30], [x + 26, y + 30]])
    return Face((float(x), float(y), float(x + side), float(y + side)), confidence, landmarks.astype(np.float32))


class Scene:
    """Draws people into frames and feeds them to a tracker; `who` remembers which face was whose."""

    def __init__(self, step_s=STEP_S, **changes):
        self.step_s = step_s
        self.tracker = Tracker(TrackSettings(**changes))
        self.index = 0
        self.who = {}

    def add(self, people=(), background=GREY, confidence=0.999):
        """`people`: (name, x, y) of each."""
        image = np.full((HEIGHT, WIDTH, 3), background, np.uint8)
        faces = []
        for name, x, y in people:
            image[y : y + 40, x : x + 40] = patch(name)
            faces.append(face(x, y, confidence))
            self.who[self.index, faces[-1].box] = name
        self.tracker.add(Frame(image, self.index * self.step_s, self.index), faces, [float(n) for n, _, _ in people])
        self.index += 1
        return self

    def tracks(self):
        """The person in each track, frame by frame: ``[(name, [frame indices])]``."""
        out = []
        for track in self.tracker.finish():
            names = {self.who[s.frame_index, s.face.box] for s in track.sightings}
            assert len(names) == 1, f"track {track.id} mixes {names}"
            out.append((names.pop(), [s.frame_index for s in track.sightings]))
        return out


def test_one_person_standing_still():
    scene = Scene()
    for _ in range(5):
        scene.add([(1, 50, 40)])
    assert scene.tracks() == [(1, [0, 1, 2, 3, 4])]


def test_two_people_whose_ways_cross_stay_two():
    scene = Scene()
    for i in range(13):
        scene.add([(1, 5 + 15 * i, 20), (2, 185 - 15 * i, 62)])
    assert scene.tracks() == [(1, list(range(13))), (2, list(range(13)))]


def test_the_order_of_detection_does_not_matter():
    scene = Scene()
    for i in range(8):
        people = [(1, 20 + 3 * i, 40), (2, 150 - 3 * i, 40)]
        scene.add(people if i % 2 else people[::-1])
    assert scene.tracks() == [(1, list(range(8))), (2, list(range(8)))]


def test_a_cut_starts_a_new_track_even_at_the_same_place():
    scene = Scene()
    for background in (GREY, GREY, GREY, BLUE, BLUE, BLUE):
        scene.add([(1, 100, 40)], background)
    assert scene.tracks() == [(1, [0, 1, 2]), (1, [3, 4, 5])]


def test_no_cut_no_new_track():
    scene = Scene(cut_distance=1.0)
    for background in (GREY, GREY, (100, 110, 115), (95, 105, 112)):
        scene.add([(1, 100, 40)], background)
    assert scene.tracks() == [(1, [0, 1, 2, 3])]


def test_a_track_does_not_come_back_after_a_cut_and_a_cut_back():
    scene = Scene()
    for background in (GREY, GREY, BLUE, GREY, GREY):
        scene.add([(1, 100, 40)] if background == GREY else [], background)
    assert scene.tracks() == [(1, [0, 1]), (1, [3, 4])]


@pytest.mark.parametrize("gap", [0, 1, 2, 3])
def test_gaps_are_bridged_as_long_as_the_setting_says(gap):
    for missed in range(5):
        scene = Scene(max_gap_frames=gap)
        scene.add([(1, 100, 40)]).add([(1, 100, 40)])
        for _ in range(missed):
            scene.add()
        scene.add([(1, 102, 40)]).add([(1, 102, 40)])
        first, second = [0, 1], [2 + missed, 3 + missed]
        expected = [(1, first + second)] if missed <= gap else [(1, first), (1, second)]
        assert scene.tracks() == expected


def test_a_detection_seen_once_is_nobody():
    scene = Scene()
    for i in range(4):
        scene.add([(1, 30, 40), *([(2, 180, 40)] if i == 2 else [])])
    assert scene.tracks() == [(1, [0, 1, 2, 3])]


@pytest.mark.parametrize(("confidence", "kept"), [(0.995, True), (0.99, True), (0.98, False)])
def test_a_shot_of_one_frame_keeps_sure_faces(confidence, kept):
    image = Scene().add([(1, 100, 40)], confidence=confidence)
    assert image.tracks() == ([(1, [0])] if kept else [])
    flash = Scene()
    for background in (GREY, GREY, BLUE, GREY, GREY):
        flash.add([(1, 100, 40)], background, confidence)
    assert ((1, [2]) in flash.tracks()) is kept


def _passing_detection(n_frames, confidence):
    """Tracks of a shot in which something is detected in the first two frames only."""
    scene = Scene()
    for i in range(n_frames):
        scene.add([(1, 50, 40)] if i < 2 else (), confidence=confidence)
    return scene.tracks()


def test_an_unsure_detection_that_comes_and_goes_is_nobody():
    assert _passing_detection(21, confidence=0.98) == []  # two of 21 frames: under a tenth
    assert _passing_detection(20, confidence=0.98) == [(1, [0, 1])]
    assert _passing_detection(2, confidence=0.96) == []  # however often: a pattern on the wall
    assert _passing_detection(21, confidence=0.99) == [(1, [0, 1])]  # sure: a person passing by


@pytest.mark.parametrize(("side", "same"), [(40, True), (30, True), (14, False)])
def test_a_much_smaller_face_in_the_same_place_is_somebody_else(side, same):
    tracker = Tracker(TrackSettings(min_similarity=0.2))
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    image[30:90, 90:150] = patch(1, 60)
    for i in range(4):
        faces = [face(100, 40) if i < 2 else face(120 - side // 2, 60 - side // 2, side=side)]
        tracker.add(Frame(image, i * STEP_S, i), faces)
    tracks = [[s.frame_index for s in t.sightings] for t in tracker.finish()]
    assert tracks == ([[0, 1, 2, 3]] if same else [[0, 1], [2, 3]])


def test_over_long_steps_the_look_decides():
    # Ten seconds between sampled frames: two neighbours have changed places meanwhile.
    scene = Scene(step_s=10.0)
    for i in range(6):
        first, second = (90, 115) if i % 2 else (115, 90)
        scene.add([(1, first, 10), (2, second, 60)] if i % 2 else [(1, first, 60), (2, second, 10)])
    assert scene.tracks() == [(2, list(range(6))), (1, list(range(6)))]


def test_sightings_carry_time_box_and_brightness():
    scene = Scene()
    scene.add([(7, 50, 40)]).add([(7, 52, 40)])
    (track,) = scene.tracker.finish()
    assert [s.time_s for s in track.sightings] == [0.0, STEP_S]
    assert [s.face.box[0] for s in track.sightings] == [50.0, 52.0]
    assert [s.brightness for s in track.sightings] == [7.0, 7.0]
    assert (track.start_s, track.end_s) == (0.0, STEP_S)


def test_without_brightness_it_is_taken_as_normal():
    tracker = Tracker()
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    tracker.add(Frame(image, 0.0, 0), [face(1, 1)])
    assert tracker.finish()[0].sightings[0].brightness == 128.0


def test_frames_are_not_kept_in_memory():
    import weakref

    tracker = Tracker()
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    alive = weakref.ref(image)
    tracker.add(Frame(image, 0.0, 0), [face(10, 10)])
    del image
    assert alive() is None


def test_nothing_at_all():
    assert Tracker().finish() == []
    assert Scene().add().add().tracks() == []


positions = st.tuples(st.integers(0, WIDTH - 41), st.integers(0, HEIGHT - 41))
frames = st.lists(
    st.tuples(st.lists(positions, max_size=4, unique=True), st.sampled_from([GREY, GREY, GREY, BLUE])),
    max_size=10,
)


@settings(max_examples=60)
@given(frames=frames, gap=st.integers(0, 3))
def test_whatever_comes_tracks_are_sound(frames, gap):
    tracker, shown = Tracker(TrackSettings(max_gap_frames=gap)), set()
    for index, (places, background) in enumerate(frames):
        image = np.full((HEIGHT, WIDTH, 3), background, np.uint8)
        faces = [face(x, y) for x, y in places]
        shown |= {(index, f.box) for f in faces}
        tracker.add(Frame(image, index * STEP_S, index), faces)
    tracks = tracker.finish()
    assert [t.id for t in tracks] == list(range(1, len(tracks) + 1))
    assert tracks == sorted(tracks, key=lambda t: (t.sureness == "doubtful", t.sightings[0].frame_index))
    sighted = [(s.frame_index, s.face.box) for t in tracks for s in t.sightings]
    assert len(sighted) == len(set(sighted))  # each in at most one track
    assert set(sighted) <= shown
    for track in tracks:
        indices = [s.frame_index for s in track.sightings]
        assert indices == sorted(set(indices))  # in time order, one a frame
        assert all(b - a <= gap + 1 for a, b in pairwise(indices))
        assert all(frames[a][1] == frames[indices[0]][1] for a in indices)  # never across a cut


@given(st.lists(st.floats(-50, 50), min_size=8, max_size=8))
def test_iou_is_a_share_and_symmetric(v):
    a, b = (
        (min(v[0], v[1]), min(v[2], v[3]), max(v[0], v[1]), max(v[2], v[3])),
        tuple(sorted(v[4:6]) + sorted(v[6:])),
    )
    b = (b[0], b[2], b[1], b[3])
    assert 0 <= iou(a, b) <= 1 + 1e-9
    assert iou(a, b) == iou(b, a)


def test_iou_by_hand():
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert iou((5, 5, 5, 5), (5, 5, 5, 5)) == 0


# With the real detector


def extract(path, n_frames, **face_settings):
    finder = FaceFinder(FaceSettings(**face_settings))
    return search_people(path, n_frames, finder, CropSettings(size_px=48), TrackSettings(), MediaLimits()).run()


def test_two_people_are_two_tracks(two_people_clip):
    tracks = extract(two_people_clip, 4)
    assert (tracks.frames_sampled, tracks.frames_with_face, tracks.n_usable) == (4, 4, 8)
    left, right = tracks.people
    for person in tracks.people:
        assert [s.frame_index for s in person.track.sightings] == list(range(4))
        assert person.crops.shape == (4, 48, 48, 3)
        assert person.crops.dtype == np.uint8
    assert all(s.face.box[2] < 240 for s in left.track.sightings)
    assert all(s.face.box[0] > 240 for s in right.track.sightings)
    # The second person is tinted blue: every crop belongs to its own track.
    redness = [(p.crops[..., 0].astype(float) - p.crops[..., 2]).mean(axis=(1, 2)) for p in tracks.people]
    assert redness[0].min() > redness[1].max() + 20
    assert 36 < tracks.largest_px < 140
    assert set(tracks.timing_s) == {"decode", "detect"}


def test_a_cut_is_a_new_track(cut_clip):
    tracks = extract(cut_clip, 4)
    assert [[s.frame_index for s in p.track.sightings] for p in tracks.people] == [[0, 1], [2, 3]]
    assert tracks.people[0].track.end_s < 1.0 <= tracks.people[1].track.start_s


def test_faces_too_small_are_counted_but_not_followed(face_clip):
    tracks = extract(face_clip, 2, min_face_px=200)
    assert tracks.people == ()
    assert (tracks.frames_with_face, tracks.n_usable) == (2, 0)
    assert 60 < tracks.largest_px < 200


def test_a_still_image_gives_one_person(portrait_image):
    tracks = extract(portrait_image, 8)
    assert (tracks.frames_sampled, tracks.media.kind, len(tracks.people)) == (1, "image", 1)
    assert tracks.people[0].crops.shape == (1, 48, 48, 3)
    assert tracks.people[0].track.sightings[0].brightness == pytest.approx(tracks.people[0].crops.mean(), abs=20)


def test_nobody_there(no_face_clip):
    tracks = extract(no_face_clip, 2)
    assert (tracks.people, tracks.frames_sampled, tracks.frames_with_face, tracks.largest_px) == ((), 2, 0, 0.0)
