"""A result over time, as series that a page can draw. Pure functions of a result: nothing is read or scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from deepscan.extract.video.sampling import SEGMENT_FRAMES
from deepscan.types import Result, Segment, TrackResult, VerdictLabel

# A person who was not seen for longer is not joined by a line, nor followed by a box. Sampling takes the nearest frame,
# so a gap of two steps may be somewhat longer.
GAP_STEPS = 2
_GAP_SLACK_STEPS = 0.5


@dataclass(frozen=True, slots=True)
class PersonSeries:
    """One person's line.

    Attributes:
        id: of the track.
        verdict, probability: of the person.
        times_s, probabilities: of every sighting.
        pieces: start and end (exclusive) positions in these between which the line is unbroken.
        gaps: start and end in seconds of the stretches between the pieces, in which the person was not seen.
        segments: stretches that look manipulated.
    """

    id: int
    verdict: VerdictLabel
    probability: float
    times_s: tuple[float, ...]
    probabilities: tuple[float, ...]
    pieces: tuple[tuple[int, int], ...]
    gaps: tuple[tuple[float, float], ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that a drawing of one result needs.

    Attributes:
        duration_s: length of the axis; 0 for an image.
        step_s: between sampled frames; None for an image.
        people: in the result's order.
        missed_s: the longest manipulated stretch that could have gone unreported between the sampled frames; None for
            an image.
    """

    duration_s: float
    step_s: float | None
    people: tuple[PersonSeries, ...]
    missed_s: float | None


def timeline(result: Result) -> Timeline:
    """Series of a result."""
    step = sampling_step_s(result)
    last = max((track.end_s for track in result.tracks), default=0.0)
    duration = max(result.duration_s or 0.0, last) if result.kind != "image" else 0.0
    missed = None
    if step is not None:
        missed = longest_missed_s(result, duration, run=SEGMENT_FRAMES)
    people = tuple(_person(track, result.segments, step) for track in result.tracks)
    return Timeline(duration, step, people, missed)


def telling_frames(probabilities: Sequence[float], n: int) -> tuple[int, ...]:
    """Positions of the frames that look most like a fake, the strongest first; not several of one moment.

    Args:
        probabilities: of every sighting of a person, in the order of time.
        n: at most so many.
    """
    apart = max(1, len(probabilities) // n)
    chosen: list[int] = []
    for i in sorted(range(len(probabilities)), key=lambda i: -probabilities[i]):
        if len(chosen) < n and all(abs(i - other) >= apart / 2 for other in chosen):
            chosen.append(i)
    return tuple(chosen)


def sampling_step_s(result: Result) -> float | None:
    """Seconds between sampled frames; None for an image, and where nothing was sampled."""
    if result.kind != "video" or not result.frames_sampled:
        return None
    length_s = result.examined_s if result.examined_s is not None else result.duration_s
    if length_s:
        return length_s / result.frames_sampled
    # A length that the container does not tell: the sightings of all people together are the frames that are known.
    times = sorted({frame.time_s for track in result.tracks for frame in track.frames})
    steps = sorted(b - a for a, b in pairwise(times))
    return steps[len(steps) // 2] if steps else None


def sampled_times_s(result: Result) -> list[float]:
    """When frames were looked at, by the sampling rule: the middles of equal stretches of the duration.

    The true times of the frames are off by half a frame and ``sampling_shift_s`` at most.
    """
    step = sampling_step_s(result)
    return [] if step is None else [(i + 0.5) * step for i in range(result.frames_sampled)]


def longest_missed_s(result: Result, duration_s: float, *, run: int = 1) -> float:
    """:func:`missed_segment_s` of a result's frames, wherever they were taken around their times."""
    missed_s = missed_segment_s(sampled_times_s(result), duration_s, run=run)
    return min(duration_s, missed_s + 2 * (result.sampling_shift_s or 0.0))


def is_gap(earlier_s: float, later_s: float, step_s: float | None) -> bool:
    """Whether so much time lies between two sightings that nothing is known of what is between them."""
    return step_s is not None and later_s - earlier_s > (GAP_STEPS + _GAP_SLACK_STEPS) * step_s


def missed_segment_s(times_s: Sequence[float], duration_s: float, *, run: int = 1) -> float:
    """The longest stretch that could have been missed, in seconds.

    Args:
        times_s: when frames were looked at, in any order.
        duration_s: of the video; frames outside of it count with its ends.
        run: frames within a stretch that are needed to notice it: 1 to have looked at it at all,
            :data:`SEGMENT_FRAMES` to report it as a segment.

    Returns:
        The length up to which a stretch may hold fewer than ``run`` of these times; the duration if all of it may.
    """
    if run < 1:
        raise ValueError(f"Invalid run ({run}). Supported are whole numbers from 1.")
    if duration_s < 0:
        raise ValueError(f"Invalid duration ({duration_s}). Supported are seconds from 0.")
    inner = sorted(min(max(time, 0.0), duration_s) for time in times_s)
    edges = [0.0, *inner, duration_s]
    if len(inner) < run:
        return duration_s
    return max(later - earlier for earlier, later in zip(edges, edges[run:], strict=False))


def _person(track: TrackResult, segments: Sequence[Segment], step_s: float | None) -> PersonSeries:
    times = tuple(frame.time_s for frame in track.frames)
    breaks = [i + 1 for i, (a, b) in enumerate(pairwise(times)) if is_gap(a, b, step_s)]
    edges = [0, *breaks, len(times)] if times else []
    return PersonSeries(
        id=track.id,
        verdict=track.verdict,
        probability=track.probability,
        times_s=times,
        probabilities=tuple(frame.probability for frame in track.frames),
        pieces=tuple(pairwise(edges)),
        gaps=tuple((times[i - 1], times[i]) for i in breaks),
        segments=tuple(segment for segment in segments if segment.track == track.id),
    )
