"""Results as the pipeline gives them, without a network."""

from __future__ import annotations

from deepscan.types import FrameResult, Result, TrackResult, VerdictLabel


def person(number, times, probabilities, boxes=None, verdict=VerdictLabel.FAKE):
    """A track with one sighting for each time; boxes default to one that stands still."""
    boxes = boxes or [(100.0, 60.0, 160.0, 130.0)] * len(times)
    frames = tuple(FrameResult(time, box, 0.99, p) for time, box, p in zip(times, boxes, probabilities, strict=True))
    return TrackResult(number, verdict, max(probabilities), times[0], times[-1], frames)


def result(people, kind="video", verdict=None, **facts):
    """The result of an input with these people."""
    verdict = verdict or (people[0].verdict if people else VerdictLabel.NOT_APPLICABLE)
    message = None if people else "No face was found, so there is nothing to judge."
    known = {"message": message, "probability": people[0].probability if people else None, "duration_s": 2.0}
    return Result("clip", "0" * 64, kind, verdict, tracks=tuple(people), **{**known, "frames_sampled": 8, **facts})
