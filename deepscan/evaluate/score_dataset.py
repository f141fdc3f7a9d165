"""Scoring samples video by video, with memory that does not grow with the data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepscan.datasets.dataset import Sample, SampleSet
from deepscan.datasets.store.archive import StoreError
from deepscan.extract.people import Person, seen_longest
from deepscan.models.card import VisibilityLimits
from deepscan.types import Score
from deepscan.verdict import visible_people

log = logging.getLogger(__name__)

ScoreFunction = Callable[[Sequence[NDArray[np.uint8]]], list[Score]]

# Crops that are decoded and scored together; two such batches are in memory at once.
_CROPS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class ScoredPeople:
    """The people of one video.

    Attributes:
        samples: everybody who is in the store of this video.
        scored: those who were scored, of these; nobody when there is a reason.
        people: each who was judged, with the sightings and crops that were scored.
        scores: as many, before calibration.
        reason: why nobody was judged: what hides the faces, or what is wrong with the store's file.
        left_out: people over the limit, who are not judged.
    """

    samples: tuple[Sample, ...]
    scored: tuple[Sample, ...] = ()
    people: tuple[Person, ...] = ()
    scores: tuple[Score, ...] = ()
    reason: str | None = None
    left_out: int = 0


def score_samples(
    score: ScoreFunction,
    size_px: int,
    samples: SampleSet,
    *,
    limits: VisibilityLimits | None = None,
    frames: int | None = None,
    max_tracks: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[ScoredPeople]:
    """Score all videos of a set; in the order of their files, all people of a video together.

    Who cannot be seen is left out, as in a prediction. A file that cannot be read costs only its own video.

    Args:
        score: scores sequences of crops: ``Detector.score``, or that of a scorer.
        size_px: of the crops that it takes.
        samples: to be scored.
        limits: of the detector, as its card has them.
        frames: at most so many of each video, evenly spaced; None takes all that are kept.
        max_tracks: people of a video who are judged, those seen longest; None for all.
        on_progress: called with the videos done and their number.
    """
    videos = by_video(samples)
    batches = _batches(videos, frames)
    done = 0

    def load(batch: Sequence[tuple[Sample, ...]]) -> list[ScoredPeople]:
        return [_loaded(people, size_px, limits, frames, max_tracks) for people in batch]

    # The next batch is decoded while this one is scored.
    with ThreadPoolExecutor(1, "decode") as decoder:
        ahead = decoder.submit(load, batches[0]) if batches else None
        for number in range(len(batches)):
            assert ahead is not None  # noqa: S101 - there is one for every batch
            loaded = ahead.result()
            if number + 1 < len(batches):
                ahead = decoder.submit(load, batches[number + 1])
            scores = iter(score([person.crops for video in loaded for person in video.people]))
            for video in loaded:
                done += 1
                if on_progress is not None:
                    on_progress(done, len(videos))
                yield replace(video, scores=tuple(next(scores) for _ in video.people))


def by_video(samples: SampleSet) -> list[tuple[Sample, ...]]:
    """Samples that are of one video, together. It is known by its file, too: names may recur in another corpus."""
    videos: dict[tuple[Path, str], list[Sample]] = {}
    for sample in samples.samples:
        videos.setdefault((sample.track.path, sample.video_id), []).append(sample)
    return [tuple(people) for people in videos.values()]


def _batches(videos: Sequence[tuple[Sample, ...]], frames: int | None) -> list[list[tuple[Sample, ...]]]:
    """Whole videos, as many as give about ``_CROPS_AT_ONCE`` crops."""
    batches: list[list[tuple[Sample, ...]]] = []
    room = 0
    for people in videos:
        n = sum(len(person) if frames is None else min(len(person), frames) for person in people)
        if not batches or n > room:
            batches.append([])
            room = _CROPS_AT_ONCE
        batches[-1].append(people)
        room -= n
    return batches


def _loaded(
    people: tuple[Sample, ...],
    size_px: int,
    limits: VisibilityLimits | None,
    frames: int | None,
    max_tracks: int | None,
) -> ScoredPeople:
    try:
        cropped, left_out = stored_people(people, size_px, frames, max_tracks)
    except StoreError as error:
        log.warning("%s; its video is not scored", error)
        return ScoredPeople(people, reason=error.reason)
    visible, hidden = visible_people(cropped, limits)
    by_id = {sample.track.track.id: sample for sample in people}
    scored = tuple(by_id[person.track.id] for person in visible)
    reason = None if visible else hidden[0][1] if hidden else "no_face"
    return ScoredPeople(people, scored, visible, reason=reason, left_out=left_out if scored else 0)


def stored_people(
    samples: Sequence[Sample], size_px: int, frames: int | None = None, max_tracks: int | None = None
) -> tuple[list[Person], int]:
    """The people of a stored video as a prediction has them, and how many are left out as too many.

    Args:
        samples: of one video.
        size_px: of their crops.
        frames, max_tracks: as for :func:`score_samples`.

    Raises:
        StoreError: the store's file has changed or is damaged.
    """
    wanted = _wanted_frames(samples, frames)
    kept = {track.id for track in seen_longest([sample.track.track for sample in samples], max_tracks)}
    people = []
    for sample in samples:
        track = sample.track.track
        positions = [i for i, seen in enumerate(track.sightings) if wanted is None or seen.frame_index in wanted]
        if track.id in kept and positions:
            seen = replace(track, sightings=tuple(track.sightings[i] for i in positions))
            people.append(Person(seen, sample.crops(positions, size_px)))
    return people, len(samples) - len(kept)


def _wanted_frames(people: Sequence[Sample], frames: int | None) -> set[int] | None:
    """Sampled frames of a video that are to be scored, evenly spaced among those with a face; None takes all."""
    if frames is None:
        return None
    seen = sorted({sighting.frame_index for person in people for sighting in person.track.track.sightings})
    if len(seen) <= frames:
        return None
    return {seen[int((number + 0.5) * len(seen) / frames)] for number in range(frames)}
