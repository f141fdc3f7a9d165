"""Scoring a set of samples: who is judged, in which batches, and what a bad file costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from madedetectors import NO_TTA, StripeDetector, stripe_logits
from madestores import SETTINGS, extraction, face, pairs_store, stripes

from deepscan.config import MediaLimits
from deepscan.datasets.dataset import read_samples
from deepscan.datasets.readers import CorpusItem
from deepscan.datasets.store.journal import JournalEntry
from deepscan.datasets.store.manifest import write_manifest
from deepscan.datasets.store.store import read_store, write_store
from deepscan.evaluate import score_dataset as scoring
from deepscan.evaluate.evaluation import evaluate
from deepscan.evaluate.robustness.subjects import CropBench
from deepscan.evaluate.robustness.sweep import Condition
from deepscan.evaluate.score_dataset import by_video, score_samples
from deepscan.extract.people import Person
from deepscan.types import Sighting, Track

SETTINGS = SETTINGS.model_copy(update={"boxes": "own"})


def person(number, crops, frames=None, brightness=99.0):
    """Somebody who was seen in these sampled frames."""
    seen = extraction(crops).people[0].track.sightings
    frames = range(len(crops)) if frames is None else frames
    sightings = tuple(Sighting(index, index / 8, s.face, brightness) for index, s in zip(frames, seen, strict=True))
    return Person(Track(number, sightings), np.stack(crops))


def store(folder, **videos):
    """Videos of several people each."""
    rows = []
    for number, (name, people) in enumerate(videos.items()):
        item = CorpusItem(name, folder, number % 2, "made", "fake" if number % 2 else "real", name, "test")
        found = replace(extraction(people[0].crops), people=tuple(people))
        path = write_store(folder, item, f"{number:064x}", SETTINGS, found)
        rows.append(JournalEntry.stored(folder, item, "1:1", read_store(path)).row)
    write_manifest(folder / "manifest.csv", rows)
    return read_samples(folder)


def tracks_of(video):
    return [person.track for person in video.people]


@pytest.fixture
def crops():
    base = face(np.random.default_rng(0))
    return [np.clip(base.astype(int) + 5 * number, 0, 255).astype(np.uint8) for number in range(8)]


def run(samples, **options):
    detector = StripeDetector()
    found = list(score_samples(detector.score, 32, samples, **options))
    return sorted(found, key=lambda people: people.samples[0].video_id), detector


def test_everybody_of_a_video_is_scored_together(tmp_path, crops):
    striped = [stripes(crop) for crop in crops]
    samples = store(tmp_path, a=[person(1, crops[:3]), person(2, striped[:5])], b=[person(1, crops[:2])])
    (first, second), _ = run(samples)
    assert [p.video_id for p in first.samples] == ["a", "a"]
    assert first.scored == first.samples
    assert [track.id for track in tracks_of(first)] == [1, 2]
    np.testing.assert_allclose(first.scores[1].frame_logits, stripe_logits(np.stack(striped[:5])))
    assert (len(second.scores), len(second.scores[0].frame_logits), second.reason) == (1, 2, None)


@pytest.mark.parametrize("frames", [None, 2])
def test_who_is_unsure_in_a_prediction_is_so_in_an_evaluation(tmp_path, crops, frames):
    one, other = person(1, crops[:4]), person(2, crops[4:])
    unsure = replace(other, track=replace(other.track, sureness="unsure"))
    (video,), _ = run(store(tmp_path, a=[one, unsure]), frames=frames)
    assert [track.sureness for track in tracks_of(video)] == ["sure", "unsure"]


def test_batches_are_bounded_and_change_nothing(tmp_path, monkeypatch):
    samples = read_samples(pairs_store(tmp_path, n=6, length=3))
    whole, detector = run(samples)
    assert detector.calls == [[3] * 12]
    monkeypatch.setattr(scoring, "_CROPS_AT_ONCE", 7)
    parts, detector = run(samples)
    assert detector.calls == [[3, 3]] * 6
    assert [p.samples for p in parts] == [p.samples for p in whole]
    for one, other in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(one.scores[0].frame_logits, other.scores[0].frame_logits)
    monkeypatch.setattr(scoring, "_CROPS_AT_ONCE", 2)
    assert run(samples)[1].calls == [[3]] * 12  # a video is never divided


def test_progress_is_told(tmp_path):
    told = []
    run(read_samples(pairs_store(tmp_path, n=2)), on_progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_frames_are_spread_over_the_video_and_shared_by_its_people(tmp_path, crops):
    samples = store(tmp_path, a=[person(1, crops, range(8)), person(2, crops[:4], range(4, 8))])
    (only,), detector = run(samples, frames=4)
    assert [[s.frame_index for s in track.sightings] for track in tracks_of(only)] == [[1, 3, 5, 7], [5, 7]]
    assert detector.calls == [[4, 2]]
    (only,), _ = run(samples, frames=1)  # the second is not in the one frame that is left
    assert [[s.frame_index for s in track.sightings] for track in tracks_of(only)] == [[4], [4]]
    (only,), _ = run(samples, frames=100)
    assert [len(track.sightings) for track in tracks_of(only)] == [8, 4]


def test_scored_crops_are_those_of_the_frames(tmp_path, crops):
    striped = [stripes(crop) if number % 2 else crop for number, crop in enumerate(crops)]
    (only,), _ = run(store(tmp_path, a=[person(1, striped)]), frames=4)
    np.testing.assert_allclose(only.scores[0].frame_logits, stripe_logits(np.stack(striped[1::2])))


def test_who_is_too_dark_is_left_out(tmp_path, crops):
    samples = store(
        tmp_path,
        both=[person(1, crops[:2], brightness=5.0), person(2, crops[:2])],
        none=[person(1, crops[:2], brightness=5.0)],
    )
    (both, none), detector = run(samples)
    assert [track.id for track in tracks_of(both)] == [2]
    assert len(both.samples) == 2
    assert (none.scored, none.scores, none.reason) == ((), (), "too_dark")
    assert detector.calls == [[2]]


def test_people_over_the_limit_are_left_out_as_in_a_prediction(tmp_path, crops):
    samples = store(tmp_path, a=[person(1, crops[:2]), person(2, crops[:4]), person(3, crops[:3])])
    (only,), detector = run(samples, max_tracks=2)
    assert [track.id for track in tracks_of(only)] == [2, 3]
    assert (only.left_out, len(only.samples), detector.calls) == (1, 3, [[4, 3]])
    assert run(samples, max_tracks=3)[0][0].left_out == 0
    few = NO_TTA.model_copy(update={"limits": MediaLimits(max_tracks=2)})
    (video,) = evaluate(StripeDetector(few), samples, resamples=0).videos
    assert (video.verdict, video.reason, video.people) == ("uncertain", "too_many_people", 2)
    (video,) = evaluate(StripeDetector(), samples, resamples=0).videos
    assert (video.verdict, video.reason, video.people) == ("real", None, 3)


def test_people_over_the_limit_are_left_out_where_robustness_is_measured(tmp_path, crops):
    samples = store(tmp_path, a=[person(1, crops[:2]), person(2, crops[:4]), person(3, crops[:3])])
    few = NO_TTA.model_copy(update={"limits": MediaLimits(max_tracks=2)})
    for settings in (few, NO_TTA):
        bench = CropBench(StripeDetector(settings), samples)
        ((_, answer),) = bench.judge(bench.subjects[0], [Condition()])
        (video,) = evaluate(StripeDetector(settings), samples, resamples=0).videos
        assert (answer.verdict, answer.reason) == (video.verdict, video.reason)


def test_a_damaged_file_costs_its_own_video_alone(tmp_path, caplog):
    samples = read_samples(pairs_store(tmp_path, n=3, length=2))
    path = samples.samples[2].track.path
    path.write_bytes(path.read_bytes()[:100])
    found, _ = run(samples)
    reasons = [people.reason for people in found]
    assert reasons.count(None) == 5
    assert reasons[[people.samples[0] for people in found].index(samples.samples[2])] == "store"
    assert "its video is not scored" in caplog.text


def test_the_same_name_in_two_stores_is_two_videos(tmp_path):
    one = read_samples(pairs_store(tmp_path / "one", n=3))
    two = read_samples(pairs_store(tmp_path / "two", n=3, seed=1))
    both = replace(one, samples=one.samples + two.samples)
    assert {s.video_id for s in one.samples} == {s.video_id for s in two.samples}
    assert len(by_video(both)) == 12


def test_nothing_to_score(tmp_path):
    samples = read_samples(pairs_store(tmp_path, n=1))
    found, detector = run(samples.where(lambda sample: False))
    assert (found, detector.calls) == ([], [])
