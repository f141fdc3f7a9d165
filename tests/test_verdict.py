"""From scores to an answer, and when there is none."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from deepscan.extract.people import TOO_DARK_LUMA, Extraction, Person, is_too_dark
from deepscan.models.card import Calibration, VisibilityLimits
from deepscan.types import Coverage, Face, MediaInfo, Score, Sighting, Track, VerdictLabel
from deepscan.verdict import HIDDEN, MESSAGES, abstain, decide, limit, notes_on, unjudged, visible_people

FAKE, REAL, UNCERTAIN = VerdictLabel.FAKE, VerdictLabel.REAL, VerdictLabel.UNCERTAIN
BAND = Calibration(threshold=0.5, uncertain_low=0.3, uncertain_high=0.8)
NO_BAND = Calibration()

probabilities = st.floats(0.001, 0.999)


def make_track(n=1, number=1, brightness=128.0):
    face = Face((10.0, 20.0, 60.0, 90.0), 0.99, np.zeros((5, 2), np.float32))
    return Track(number, tuple(Sighting(i, i * 0.5, face, brightness) for i in range(n)))


def logit(probability):
    return math.log(probability / (1 - probability))


def score(probability, frames=None):
    frames = [probability] if frames is None else frames
    return Score(logit(probability), np.array([logit(p) for p in frames]))


def decide_one(probability, calibration, frames=None, **options):
    one = score(probability, frames)
    return decide([make_track(len(one.frame_logits))], [one], calibration, **options)


def make_extraction(people=(), frames_with_face=0, n_usable=0, largest_px=0.0, brightness=128.0):
    media = MediaInfo(Path("x.mp4"), "video", 640, 480, 4.0, 100)
    return Extraction(media, tuple(people), 8, frames_with_face, n_usable, largest_px, brightness, {})


@st.composite
def calibrations(draw):
    low, threshold, high = sorted(draw(st.tuples(probabilities, probabilities, probabilities)))
    return Calibration(threshold=threshold, uncertain_low=low, uncertain_high=high)


# One person


@given(probabilities, probabilities)
def test_without_a_band_fake_means_at_or_above_the_threshold(probability, threshold):
    calibration = Calibration(threshold=threshold, uncertain_low=threshold, uncertain_high=threshold)
    verdict = decide_one(probability, calibration)
    assert verdict.probability == pytest.approx(probability)
    assert verdict.label is (FAKE if verdict.probability >= threshold else REAL)
    assert verdict.reason is None
    assert verdict.message is None


@given(probabilities, calibrations())
def test_inside_the_band_it_is_uncertain(probability, calibration):
    verdict = decide_one(probability, calibration)
    p, low, high = verdict.probability, calibration.uncertain_low, calibration.uncertain_high
    if low < p < high:
        assert verdict.label is UNCERTAIN
        assert verdict.reason == "low_confidence"
        assert verdict.message == MESSAGES["low_confidence"]
    else:
        assert verdict.label is (FAKE if p >= calibration.threshold else REAL)
        assert verdict.reason is None


@given(probabilities, calibrations(), probabilities)
def test_a_threshold_of_the_user_replaces_the_band(probability, calibration, threshold):
    verdict = decide_one(probability, calibration, threshold=threshold)
    assert verdict.label is (FAKE if verdict.probability >= threshold else REAL)
    assert verdict.reason is None


def test_exactly_on_the_threshold_is_fake():
    assert decide_one(0.5, NO_BAND).label is FAKE
    assert decide_one(0.5, BAND, threshold=0.5).label is FAKE


@given(st.floats(-20, 20), st.floats(0.1, 5), st.floats(-3, 3), st.floats(0.1, 5), st.floats(-3, 3))
def test_calibration_is_platt_scaling(x, scale, bias, frame_scale, frame_bias):
    calibration = Calibration(scale=scale, bias=bias, frame_scale=frame_scale, frame_bias=frame_bias)
    verdict = decide([make_track(1)], [Score(x, np.array([x]))], calibration)
    assert verdict.probability == pytest.approx(1 / (1 + math.exp(-(x * scale + bias))), abs=1e-12)
    frame = verdict.tracks[0].frames[0].probability
    assert frame == pytest.approx(1 / (1 + math.exp(-(x * frame_scale + frame_bias))), abs=1e-12)


@pytest.mark.parametrize("size", [1e6, 1e300])
def test_huge_logits_do_not_overflow(size):
    with np.errstate(all="raise", under="ignore"):
        fake = decide([make_track(3)], [Score(size, np.full(3, size))], NO_BAND)
        real = decide([make_track(3)], [Score(-size, np.full(3, -size))], NO_BAND)
    assert (fake.label, fake.probability) == (FAKE, 1.0)
    assert (real.label, real.probability) == (REAL, 0.0)
    assert [f.probability for f in fake.tracks[0].frames] == [1.0] * 3


def test_a_logit_that_is_no_number_is_never_a_verdict():
    # Whatever the answer is (an exception, "uncertain"), "real" or "fake" it must not be.
    try:
        verdict = decide([make_track(1)], [Score(float("nan"), np.array([0.0]))], NO_BAND)
    except Exception:  # noqa: BLE001
        return
    assert verdict.label not in (REAL, FAKE)


@given(probabilities, calibrations(), st.none() | probabilities)
def test_random_weights_never_give_a_verdict(probability, calibration, threshold):
    verdict = decide_one(probability, calibration, threshold=threshold, trained=False)
    assert verdict.label is UNCERTAIN
    assert verdict.reason == "untrained_model"
    assert verdict.tracks[0].verdict is UNCERTAIN
    assert verdict.probability == pytest.approx(probability)


# Attacks


@given(probabilities, calibrations(), st.floats(0, 3))
def test_a_person_who_moves_far_when_squeezed_gets_no_answer(probability, calibration, moved):
    plain, verdict = decide_one(probability, calibration), decide_one(probability, calibration, disagreements=[moved])
    assert verdict.probability == plain.probability
    if moved >= 1:
        assert (verdict.label, verdict.tracks[0].verdict) == (UNCERTAIN, UNCERTAIN)
        assert (verdict.reason, verdict.message) == ("possible_attack", MESSAGES["possible_attack"])
    else:
        assert verdict == plain


def test_the_check_holds_against_a_threshold_of_the_user():
    assert decide_one(0.9, NO_BAND, threshold=0.5, disagreements=[1.0]).reason == "possible_attack"
    assert decide_one(0.9, NO_BAND, trained=False, disagreements=[1.0]).reason == "untrained_model"


def test_a_movement_that_is_no_number_counts_as_an_attack():
    assert decide_one(0.9, NO_BAND, disagreements=[math.nan]).reason == "possible_attack"


def test_each_person_is_checked_and_a_fake_still_decides():
    tracks = [make_track(1, number) for number in (1, 2, 3)]
    scores = [score(0.1), score(0.2), score(0.9)]
    verdict = decide(tracks, scores, NO_BAND, disagreements=[0.2, 3.0, 0.3])
    assert [person.verdict for person in verdict.tracks] == [REAL, UNCERTAIN, FAKE]
    assert (verdict.label, verdict.reason) == (FAKE, None)
    without = decide(tracks[:2], scores[:2], NO_BAND, disagreements=[0.2, 3.0])
    assert (without.label, without.reason) == (UNCERTAIN, "possible_attack")
    assert without.probability == pytest.approx(0.2)


# Frames


def test_a_real_person_with_a_fake_looking_stretch_is_conflicting():
    verdict = decide_one(0.1, NO_BAND, [0.1, 0.9, 0.9, 0.9, 0.1, 0.1])
    assert (verdict.label, verdict.reason) == (UNCERTAIN, "conflicting")
    assert verdict.message == MESSAGES["conflicting"]
    assert [(s.start_s, s.end_s) for s in verdict.segments] == [(0.5, 1.5)]


@pytest.mark.parametrize(
    "frames",
    [
        [0.1, 0.9, 0.9, 0.1, 0.1],  # two in a row are too few
        [0.9, 0.9, 0.1, 0.9, 0.9, 0.1],  # and so are two twice
        [0.6] * 3 + [0.3] * 10,  # three in a row, but less than a quarter, and not far from the others
    ],
)
def test_a_short_stretch_does_not_shake_a_real_one(frames):
    verdict = decide_one(0.1, NO_BAND, frames)
    assert (verdict.label, verdict.reason, verdict.segments) == (REAL, None, ())


def test_a_quarter_of_the_frames_is_enough():
    assert decide_one(0.1, NO_BAND, [0.6] * 3 + [0.3] * 9).reason == "conflicting"


def test_a_stretch_unlike_the_rest_of_the_person_is_conflicting_however_short():
    """0.1 to 0.9 is 4.4 in log-odds."""
    verdict = decide_one(0.1, NO_BAND, [0.1] * 20 + [0.9] * 3 + [0.1] * 20)
    assert (verdict.label, verdict.reason) == (UNCERTAIN, "conflicting")
    assert [(s.start_s, s.end_s) for s in verdict.segments] == [(10.0, 11.0)]


@pytest.mark.parametrize(
    ("frames", "stretches"),
    [
        ([0.2] * 6 + [0.7] * 4 + [0.2] * 6, [(3.0, 4.5)]),  # 2.2 above the others
        ([0.4] * 6 + [0.7] * 4 + [0.4] * 6, []),  # 1.3
        ([0.2] * 8 + [0.7] * 2 + [0.2] * 6, []),  # two frames alone, and unsure
        ([0.01] * 6 + [0.45] * 4 + [0.01] * 6, []),  # unlike, and yet more likely real
        ([0.2] * 3 + [0.7] * 13, []),  # three others are too few to compare with
        ([1e-12] * 6 + [1 - 1e-12] * 4 + [1e-12] * 6, [(3.0, 4.5)]),
    ],
)
def test_within_the_band_a_stretch_is_a_segment_where_it_stands_out(frames, stretches):
    verdict = decide_one(0.5, BAND, frames)
    assert verdict.label is UNCERTAIN
    assert [(s.start_s, s.end_s) for s in verdict.segments] == stretches


def test_a_stretch_does_not_change_a_fake_or_uncertain_one():
    frames = [0.9] * 4
    assert decide_one(0.9, BAND, frames).reason is None
    assert decide_one(0.5, BAND, frames).reason == "low_confidence"


def test_a_segment_is_sure_somewhere_and_goes_on_while_frames_are_more_likely_fake():
    unsure = decide_one(0.5, BAND, frames=[0.7] * 4)  # nothing but frames within the band
    assert (unsure.label, unsure.segments) == (UNCERTAIN, ())
    one = decide_one(0.5, BAND, frames=[0.7, 0.85, 0.7, 0.4])  # one sure frame is no more
    assert one.segments == ()
    sure = decide_one(0.5, BAND, frames=[0.4, 0.7, 0.85, 0.85, 0.6, 0.4])
    assert [(s.start_s, s.end_s) for s in sure.segments] == [(0.5, 2.0)]
    of_a_fake = decide_one(0.95, BAND, frames=[0.7] * 4)  # the person as a whole is sure
    assert [(s.start_s, s.end_s) for s in of_a_fake.segments] == [(0.0, 1.5)]


def test_segments_are_runs_of_two_or_more():
    verdict = decide_one(0.9, NO_BAND, [0.9, 0.7, 0.1, 0.9, 0.1, 0.6, 0.8, 0.7])
    assert [(s.track, s.start_s, s.end_s) for s in verdict.segments] == [(1, 0.0, 0.5), (1, 2.5, 3.5)]
    assert verdict.segments[0].probability == pytest.approx(0.8)
    assert verdict.segments[1].probability == pytest.approx(0.7)


@given(st.lists(probabilities, min_size=1, max_size=12), probabilities, st.floats(0.05, 0.95))
def test_segments_are_whole_runs(frames, probability, threshold):
    floor = min(0.5, threshold)
    assume(all(abs(p - threshold) > 1e-9 and abs(p - floor) > 1e-9 for p in frames))
    verdict = decide_one(probability, NO_BAND, frames, threshold=threshold)
    covered = [any(s.start_s <= i * 0.5 <= s.end_s for s in verdict.segments) for i in range(len(frames))]
    padded = [False, *covered, False]
    for i, p in enumerate(frames):
        if covered[i]:
            assert p >= floor
            assert padded[i] or padded[i + 2]
        elif padded[i] or padded[i + 2]:
            assert p < floor  # a segment ends where frames do
    sure = [p >= threshold for p in frames]
    if verdict.label is not REAL:
        assert all(covered[i] and covered[i + 1] for i in range(len(frames) - 1) if sure[i] and sure[i + 1])
    else:
        assert not any(covered)
    assert all(floor <= s.probability <= 1 and s.start_s < s.end_s for s in verdict.segments)


def test_the_timeline_is_that_of_the_track():
    verdict = decide_one(0.9, NO_BAND, [0.2, 0.8])
    (track,) = verdict.tracks
    assert (track.id, track.start_s, track.end_s) == (1, 0.0, 0.5)
    assert [(f.time_s, f.box, f.confidence) for f in track.frames] == [
        (0.0, (10.0, 20.0, 60.0, 90.0), 0.99),
        (0.5, (10.0, 20.0, 60.0, 90.0), 0.99),
    ]
    assert [f.probability for f in track.frames] == pytest.approx([0.2, 0.8])


# Several people


@given(st.lists(probabilities, min_size=1, max_size=5), calibrations())
def test_any_fake_person_makes_the_video_fake(people, calibration):
    tracks = [make_track(1, number) for number in range(1, len(people) + 1)]
    verdict = decide(tracks, [score(p) for p in people], calibration)
    labels = [t.verdict for t in verdict.tracks]
    assert [t.id for t in verdict.tracks] == [t.id for t in tracks]
    worst = FAKE if FAKE in labels else UNCERTAIN if UNCERTAIN in labels else REAL
    assert verdict.label is worst
    assert verdict.probability == max(t.probability for t in verdict.tracks if t.verdict is worst)


def test_each_person_is_judged_as_if_alone():
    frames = [[0.9, 0.9, 0.1], [0.2, 0.2, 0.2], [0.9, 0.9, 0.9]]
    scores = [score(p, f) for p, f in zip((0.9, 0.1, 0.2), frames, strict=True)]
    tracks = [make_track(3, number) for number in (1, 2, 3)]
    together = decide(tracks, scores, NO_BAND)
    alone = [decide([t], [s], NO_BAND) for t, s in zip(tracks, scores, strict=True)]
    assert together.tracks == tuple(v.tracks[0] for v in alone)
    assert together.segments == tuple(s for v in alone for s in v.segments)
    assert [t.verdict for t in together.tracks] == [FAKE, REAL, UNCERTAIN]
    assert {s.track for s in together.segments} == {1, 3}


def test_a_conflicting_person_outweighs_a_real_one_with_a_higher_probability():
    tracks = [make_track(4, 1), make_track(4, 2)]
    verdict = decide(tracks, [score(0.4, [0.1] * 4), score(0.1, [0.9] * 4)], NO_BAND)
    assert (verdict.label, verdict.reason) == (UNCERTAIN, "conflicting")
    assert verdict.probability == pytest.approx(0.1)


def decide_all(people, calibration=BAND, sureness=None, **options):
    tracks = [replace(make_track(1, n), sureness=(sureness or {}).get(n, "sure")) for n in range(1, len(people) + 1)]
    return decide(tracks, [score(p) for p in people], calibration, **options)


def test_an_unsure_person_beside_a_sure_one_makes_uncertain():
    verdict = decide_all([0.1, 0.999], sureness={2: "unsure"})
    assert (verdict.label, verdict.reason) == (UNCERTAIN, "unsure_face")
    assert [t.verdict for t in verdict.tracks] == [REAL, UNCERTAIN]
    assert decide_all([0.1, 0.999], sureness={2: "unsure"}, threshold=0.5).label is UNCERTAIN
    assert decide_all([0.1, 0.999, 0.999], sureness={2: "unsure"}).label is FAKE


def test_an_unsure_person_alone_is_judged_as_ever():
    assert decide_all([0.999], sureness={1: "unsure"}).label is FAKE
    assert decide_all([0.1, 0.999], sureness={1: "unsure", 2: "unsure"}).label is FAKE


@pytest.mark.parametrize(("n", "limit"), [(1, 0.8), (2, 16 / 17), (25, 2500 / 2501)])
def test_the_limit_rises_with_the_number_of_people(n, limit):
    """Odds of 4 to 1 for one of one, 16 for one of two, 2500 for one of 25."""
    below, above = (decide_all([0.1] * (n - 1) + [p]) for p in (limit - 1e-4, limit + 1e-4))
    assert (below.label, above.label) == (UNCERTAIN, FAKE)
    if n > 1:
        assert below.reason == "among_many"
        assert f"1 of {n} people" in below.message
        assert f"1 of {n} people" in above.message


def test_the_tail_of_the_card_says_how_far():
    people = [0.1] * 24 + [0.995]
    assert decide_all(people, BAND.model_copy(update={"tail": 0.9})).label is FAKE
    assert decide_all(people, BAND.model_copy(update={"tail": 2.0})).label is UNCERTAIN


def test_one_person_in_many_shots_is_judged_as_in_one():
    assert decide_all([0.81] * 6).label is FAKE
    verdict = decide_all([0.95] * 2 + [0.1] * 2)
    assert [t.verdict for t in verdict.tracks] == [FAKE, FAKE, REAL, REAL]
    assert "2 of 4 people" in verdict.message


def test_a_threshold_of_the_user_and_no_promise_do_not_rise():
    people = [0.1] * 24 + [0.85]
    assert decide_all(people, threshold=0.8).label is FAKE
    assert decide_all(people, NO_BAND).label is FAKE
    assert decide_all(people, BAND.model_copy(update={"uncertain_high": 1.0})).label is UNCERTAIN


def test_what_was_not_judged_is_listed_with_its_reason():
    dark, wall = make_track(2, 1, brightness=1.0), replace(make_track(3, 2), sureness="doubtful")
    extraction = replace(make_extraction([Person(dark, np.zeros((2, 4, 4, 3), np.uint8))]), doubtful=(wall,))
    listed = unjudged(extraction, visible_people(extraction.people)[1])
    assert [(t.id, t.reason, len(t.frames)) for t in listed] == [(1, "too_dark", 2), (2, "doubtful_face", 3)]


def test_as_many_scores_as_tracks():
    with pytest.raises(ValueError, match="zip"):
        decide([make_track()], [], NO_BAND)


# No answer


def test_no_face():
    verdict = abstain(make_extraction(), 36)
    assert (verdict.label, verdict.reason) == (VerdictLabel.NOT_APPLICABLE, "no_face")
    assert verdict.probability is None
    assert verdict.message.startswith(MESSAGES["no_face"])
    assert "8 frames" in verdict.message
    assert "0.50 s apart" in verdict.message  # of four seconds


def test_no_face_in_ten_minutes_says_what_was_looked_at():
    extraction = replace(
        make_extraction(), media=MediaInfo(Path("x.mp4"), "video", 640, 480, 600.0, 6000), frames_sampled=32
    )
    assert "32 frames" in abstain(extraction, 36).message
    assert "18.8 s apart" in abstain(extraction, 36).message


def test_of_a_picture_nothing_is_said_to_be_apart():
    picture = replace(make_extraction(), media=MediaInfo(Path("x.jpg"), "image", 640, 480, None, 1), frames_sampled=1)
    assert abstain(picture, 36).message == MESSAGES["no_face"]


def test_a_black_picture_is_too_dark_rather_than_empty():
    assert abstain(make_extraction(brightness=TOO_DARK_LUMA - 1), 36).reason == "too_dark"
    assert abstain(make_extraction(brightness=TOO_DARK_LUMA), 36).reason == "no_face"


def test_face_too_small_says_how_small():
    verdict = abstain(make_extraction(frames_with_face=3, largest_px=21.4), 36)
    assert verdict.reason == "face_too_small"
    assert "21 pixels" in verdict.message
    assert "36" in verdict.message


def test_no_stable_face():
    assert abstain(make_extraction(frames_with_face=2, n_usable=1, largest_px=80), 36).reason == "no_stable_face"


def test_too_dark():
    person = Person(make_track(2, brightness=3.0), np.zeros((2, 8, 8, 3), np.uint8))
    verdict = abstain(make_extraction([person], 2, 2, 80), 36)
    assert (verdict.reason, verdict.message) == ("too_dark", MESSAGES["too_dark"])


@given(st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_abstaining_always_has_a_reason_and_no_probability(with_face, usable, anyone):
    people = [Person(make_track(), np.zeros((1, 8, 8, 3), np.uint8))] if anyone else []
    verdict = abstain(make_extraction(people, with_face, usable, 50), 36)
    assert verdict.label is VerdictLabel.NOT_APPLICABLE
    assert verdict.probability is None
    assert verdict.reason in MESSAGES
    assert verdict.message.startswith(MESSAGES[verdict.reason])
    assert verdict.tracks == verdict.segments == ()


def test_darkness_is_that_of_most_frames():
    def with_luma(*values):
        face = make_track().sightings[0].face
        return Track(1, tuple(Sighting(i, float(i), face, v) for i, v in enumerate(values)))

    assert is_too_dark(with_luma(5, 5, 200))
    assert not is_too_dark(with_luma(5, 200, 200))
    assert is_too_dark(with_luma(15.9))
    assert not is_too_dark(with_luma(16))


# What cannot be seen

SEEN_LIMITS = VisibilityLimits(luma=30, face_px=45, sharpness=0.26, detail=0.05)


def seen_person(*crops, number=1, luma=100.0, side=80.0):
    """Somebody with these crops; ``luma`` for all of them or for each."""
    face = Face((0.0, 0.0, side, side), 0.99, np.zeros((5, 2), np.float32))
    lumas = luma if isinstance(luma, list) else [luma] * len(crops)
    track = Track(number, tuple(Sighting(i, i * 0.5, face, lumas[i]) for i in range(len(crops))))
    return Person(track, np.stack(crops))


@pytest.fixture(scope="module")
def sharp(portrait):
    return portrait[60:316:2, 130:386:2].copy()


@pytest.fixture(scope="module")
def soft(sharp):
    return cv2.GaussianBlur(sharp, (0, 0), 4)


def reason_of(*people, limits=SEEN_LIMITS):
    return abstain(make_extraction(people, 1, 1, 80.4), 40, visible_people(people, limits)[1], limits)


def test_each_limit_has_its_reason(sharp, soft):
    assert visible_people([seen_person(sharp)], SEEN_LIMITS)[1] == ()
    assert reason_of(seen_person(sharp, luma=29.9)).reason == "too_dark"
    assert reason_of(seen_person(soft)).reason == "too_blurred"
    small = reason_of(seen_person(sharp, side=44.0))
    assert small.reason == "face_too_small"
    assert "45" in small.message
    coded = SEEN_LIMITS.model_copy(update={"detail": 5.0})
    assert reason_of(seen_person(sharp), limits=coded).reason == "too_compressed"
    # The cause is told, not what follows from it.
    assert reason_of(seen_person(soft, luma=10.0, side=44.0)).reason == "too_dark"
    assert set(HIDDEN.values()) <= set(MESSAGES)


def test_without_fitted_limits_only_black_is_not_judged(sharp, soft):
    people = [seen_person(soft, luma=16.0, side=20.0)]
    assert visible_people(people) == (tuple(people), ())
    black = seen_person(sharp, luma=15.9)
    assert visible_people([black]) == ((), ((black, "too_dark"),))


def test_dark_sightings_are_left_out_of_a_person_who_can_be_seen_and_soft_ones_are_not(sharp, soft):
    (kept,), hidden = visible_people([seen_person(sharp, soft, sharp, sharp, luma=[90, 90, 5, 90])], SEEN_LIMITS)
    assert hidden == ()
    assert [s.frame_index for s in kept.track.sightings] == [0, 1, 3]
    assert kept.crops.shape[0] == 3
    mostly = seen_person(sharp, soft, soft)
    assert visible_people([mostly], SEEN_LIMITS) == ((), ((mostly, "too_blurred"),))


def test_who_cannot_be_seen_never_decides_and_the_most_visible_gives_the_reason(sharp, soft):
    hidden, half = seen_person(soft, soft, soft, number=1), seen_person(sharp, sharp, sharp, number=2, luma=[90, 5, 5])
    clear = seen_person(sharp, number=3)
    people, left = visible_people([hidden, clear, half], SEEN_LIMITS)
    assert [person.track.id for person in people] == [3]
    assert left == ((half, "too_dark"), (hidden, "too_blurred"))
    assert reason_of(hidden, half).reason == "too_dark"
    assert visible_people([], SEEN_LIMITS) == ((), ())


# Damaged and cut-off files


@pytest.mark.parametrize("probability", [0.01, 0.99])
@pytest.mark.parametrize(
    ("coverage", "n_frames", "reason"),
    [
        (Coverage(10.0, damaged_s=6.0), 32, "damaged"),
        (Coverage(10.0, cut_off_s=8.8), 28, "cut_off"),
        (Coverage(10.0, damaged_s=1.0), 7, "damaged"),
        (Coverage(10.0, damaged_s=4.0), 8, None),
        (Coverage(10.0), 1, None),
        (None, 1, None),
    ],
)
def test_no_answer_on_little_of_a_damaged_or_cut_off_file(probability, coverage, n_frames, reason):
    before = decide_one(probability, Calibration(threshold=0.5, uncertain_low=0.4, uncertain_high=0.6))
    verdict = limit(before, coverage, n_frames)
    assert before.label in (VerdictLabel.FAKE, VerdictLabel.REAL)
    assert verdict.reason == reason
    assert verdict.label is (before.label if reason is None else VerdictLabel.UNCERTAIN)
    assert [track.verdict for track in verdict.tracks] == [verdict.label]
    assert verdict.probability == before.probability


def test_too_little_is_the_reason_where_there_was_no_clear_answer_either():
    before = decide_one(0.5, Calibration(threshold=0.5, uncertain_low=0.4, uncertain_high=0.6))
    assert limit(before, Coverage(10.0, damaged_s=9.0), 3).reason == "damaged"
    untrained = decide_one(0.5, Calibration(), trained=False)
    assert limit(untrained, Coverage(10.0, damaged_s=9.0), 3).reason == "untrained_model"


def test_what_was_left_out_and_other_pictures_are_noted():
    media = MediaInfo(Path("x.mp4"), "video", 640, 480, 4.0, 100, other_pictures=2)
    codes = [note.code for note in notes_on(media, Coverage(10.0, damaged_s=1.0, cut_off_s=2.0))]
    assert codes == ["damaged", "other_pictures"]
    assert [note.code for note in notes_on(media, Coverage(10.0, cut_off_s=2.0))] == ["cut_off", "other_pictures"]
    assert notes_on(MediaInfo(Path("x.mp4"), "video", 640, 480, 4.0, 100), Coverage(10.0)) == ()
