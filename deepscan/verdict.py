"""From scores to an answer. Calibration, thresholds and abstention live here and only here.

A track's logit becomes a calibrated probability, a probability a verdict; a video is fake when any of its people
surely is. Where the evidence does not carry an answer, none is given, and the reason says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscan.extract.people import TOO_DARK_LUMA, Extraction, Person, nobody_reason
from deepscan.extract.traces import MESSAGES as TRACES
from deepscan.extract.video.sampling import SEGMENT_FRAMES
from deepscan.extract.visibility import Visibility, visibility
from deepscan.models.card import TAIL, Calibration, VisibilityLimits
from deepscan.models.probability import calibrated
from deepscan.types import (
    Coverage,
    FrameResult,
    MediaInfo,
    Note,
    Score,
    Segment,
    SightingResult,
    Trace,
    Track,
    TrackResult,
    UnjudgedTrack,
    Verdict,
    VerdictLabel,
)

# A run of suspicious frames this long, holding this share of a person's frames, contradicts a verdict of "real".
CONFLICT_RUN_FRAMES = 3
CONFLICT_SHARE = 0.25
# A segment goes on while frames are more likely fake than not. It counts where two in a row are surely fake, where the
# person is, or where it stands out from the rest of the same person: by this much in log-odds, over at least so many
# frames, beside at least so many others. Single frames differ by 0.3 to 0.9 within an untouched clip. Fitted on 22
# made clips and measured on 21 others; see docs/evidence.md.
SEGMENT_FLOOR = 0.5
_CONTRAST, _CONTRAST_FRAMES, _OTHER_FRAMES = 2.0, 3, 4

# What hides a face, by the limit that it is below. The first that applies is the reason: darkness blurs, smallness too.
HIDDEN = {
    "luma": "too_dark",
    "face_px": "face_too_small",
    "sharpness": "too_blurred",
    "detail": "too_compressed",
}
# Of detectors whose limits were not fitted.
BLACK_ONLY = VisibilityLimits(luma=TOO_DARK_LUMA)
_LABELS = {0: VerdictLabel.REAL, 1: VerdictLabel.FAKE, -1: VerdictLabel.UNCERTAIN}
Band = tuple[float, float]
# Somebody who cannot be judged, and the reason.
Hidden = tuple[Person, str]
# Of a damaged or cut-off video at least this share and so many frames carry an answer.
_EXAMINED_SHARE, _EXAMINED_FRAMES = 0.5, 8

MESSAGES = {
    "no_face": "No face was found, so there is nothing to judge.",
    "no_stable_face": "Something face-like was found, but not clearly or not long enough to be a person.",
    "face_too_small": "The faces are too small to judge; a closer or sharper copy may help.",
    "too_dark": "It is too dark to find or judge a face.",
    "too_blurred": "The face is too blurred to judge; a sharper copy may help.",
    "too_compressed": "Compression has left too little of the face to judge; an earlier copy may help.",
    "low_confidence": "The evidence points neither way clearly enough to keep the promised error rate.",
    "conflicting": "As a whole this looks real, but a stretch of frames looks manipulated; see the segments.",
    "among_many": "{k} of {people} people score as manipulated, but among so many some do by chance.",
    "unsure_face": "Somebody who was seen too little or too unclearly to be sure of looks manipulated.",
    "too_many_people": "The people seen longest look real, but {n} more were over the limit and not judged.",
    "possible_attack": "The score moves far when the face's colours are coarsened or its pixels smoothed: the picture "
    "may have been altered to deceive this detector. Noise and unusual processing do the same now and then, so this is "
    "a reason to look closer, not a proof of an attack.",
    "damaged": "Damage leaves too little of this video to answer; see what was examined.",
    "cut_off": "Too little of this video is there to answer; see what was examined.",
    "untrained_model": "Random weights were used: this says nothing about the file.",
}


def unjudged_label(reason: str | None) -> VerdictLabel:
    """The answer for an input without anybody who can be judged: nobody is in it or to be seen, or it failed."""
    nobody = ("no_face", "no_stable_face", *HIDDEN.values())
    return VerdictLabel.NOT_APPLICABLE if reason in nobody else VerdictLabel.ERROR


# What is said of a picture that was turned clockwise by so many degrees.
TURNED = {
    90: "The faces lie on their side: the picture was turned a quarter to the right for them.",
    180: "The faces are upside down: the picture was turned for them.",
    270: "The faces lie on their side: the picture was turned a quarter to the left for them.",
}


def visible_people(
    people: Sequence[Person], limits: VisibilityLimits | None = None
) -> tuple[tuple[Person, ...], tuple[Hidden, ...]]:
    """Who can be judged, and by what can be seen of them.

    Somebody most of whose sightings are below a limit is not judged. Of the others dark sightings are left out, soft
    ones are not: a face that softens for a while may have been replaced for as long.

    Args:
        people: of one input.
        limits: of the detector; None for :data:`BLACK_ONLY`.

    Returns:
        Those who can, with the sightings that count; and those who cannot, with the reason, the most visible first.
    """
    limits = limits or BLACK_ONLY
    visible: list[Person] = []
    hidden_ones: list[tuple[float, Hidden]] = []
    for person in people:
        below = below_limits(visibility(person), limits)
        hidden = below.any(axis=0)
        if (share := float(1 - hidden.mean())) >= 0.5:
            kept = np.flatnonzero(~below[list(HIDDEN).index("luma")])
            track = replace(person.track, sightings=tuple(person.track.sightings[i] for i in kept))
            visible.append(person if len(kept) == len(person.crops) else Person(track, person.crops[kept]))
        else:
            firsts = below.argmax(axis=0)[hidden]
            hidden_ones.append((share, (person, list(HIDDEN.values())[int(np.bincount(firsts).argmax())])))
    hidden_ones.sort(key=lambda hidden: -hidden[0])
    return tuple(visible), tuple(hidden for _, hidden in hidden_ones)


def below_limits(visible: Visibility, limits: VisibilityLimits) -> NDArray[np.bool_]:
    """Which sightings are below which limit, ``bool [len(HIDDEN), T]``; a limit of 0 hides nothing."""
    pairs = [(getattr(visible, name), getattr(limits, name)) for name in HIDDEN]
    return np.array([(values < limit) & (limit > 0) for values, limit in pairs])


def abstain(
    extraction: Extraction, min_face_px: int, hidden: Sequence[Hidden] = (), limits: VisibilityLimits | None = None
) -> Verdict:
    """The answer for an input of which nobody can be scored; who is hidden as :func:`visible_people` says."""
    reason = hidden[0][1] if hidden else nobody_reason(extraction)
    message = MESSAGES[reason]
    step_s = (extraction.media.duration_s or 0.0) / max(1, extraction.frames_sampled)
    if reason in ("no_face", "no_stable_face") and extraction.frames_sampled > 1 and step_s:
        message += f" {extraction.frames_sampled} frames were looked at, {step_s:.{1 if step_s >= 1 else 2}f} s apart."
    if reason == "face_too_small":
        needed = max(min_face_px, math.ceil(limits.face_px) if limits else 0)
        message += f" The largest is {extraction.largest_px:.0f} pixels wide; at least {needed} are needed."
    return Verdict(VerdictLabel.NOT_APPLICABLE, None, reason, message)


def unjudged(extraction: Extraction, hidden: Sequence[Hidden]) -> tuple[UnjudgedTrack, ...]:
    """Who or what was followed in a file but cannot be judged, in the order of their numbers."""
    unseen = sorted(((person.track, reason) for person, reason in hidden), key=lambda entry: entry[0].id)
    tracks = [*unseen, *((track, "doubtful_face") for track in extraction.doubtful)]
    return tuple(
        UnjudgedTrack(
            track.id,
            reason,
            track.start_s,
            track.end_s,
            tuple(SightingResult(s.time_s, s.face.box, s.face.confidence) for s in track.sightings),
        )
        for track, reason in tracks
    )


def limit(verdict: Verdict, coverage: Coverage | None, n_frames: int) -> Verdict:
    """No "fake" or "real" where too little of a damaged or cut-off video is left.

    Args:
        verdict: on what is left.
        coverage: how much that is; None where nothing is left out.
        n_frames: that were sampled from it.
    """
    if coverage is None or not coverage.left_out:
        return verdict
    if verdict.label is VerdictLabel.NOT_APPLICABLE or verdict.reason == "untrained_model":
        return verdict
    if 1 - coverage.left_out >= _EXAMINED_SHARE and n_frames >= _EXAMINED_FRAMES:
        return verdict
    reason = "damaged" if coverage.damaged_s >= coverage.cut_off_s else "cut_off"
    tracks = tuple(replace(track, verdict=VerdictLabel.UNCERTAIN) for track in verdict.tracks)
    return replace(verdict, label=VerdictLabel.UNCERTAIN, reason=reason, message=MESSAGES[reason], tracks=tracks)


def notes_on(media: MediaInfo, coverage: Coverage | None, traces: Sequence[Trace] = ()) -> tuple[Note, ...]:
    """What there is to know of a file beside its answer."""
    notes = [Note(trace.code, TRACES[trace.code]) for trace in traces if trace.present]
    if coverage is not None and coverage.left_out:
        parts = [
            f"{seconds:.1f} s are {word}"
            for seconds, word in ((coverage.damaged_s, "damaged"), (coverage.cut_off_s, "cut off"))
            if seconds
        ]
        notes.append(
            Note(
                "damaged" if coverage.damaged_s else "cut_off",
                f"{coverage.examined_s:.1f} of {coverage.duration_s:.1f} s were examined "
                f"({100 * coverage.left_out:.0f} % left out): {' and '.join(parts)}.",
            )
        )
    if media.other_pictures:
        n = media.other_pictures
        others = "another picture" if n == 1 else f"{n} other pictures"
        notes.append(
            Note("other_pictures", f"The file also holds {others}, or a video, that is not shown first: not judged.")
            if media.kind == "image"
            else Note("other_pictures", f"The file holds {others}, which a player does not show first: not judged.")
        )
    return tuple(notes)


def decide(
    tracks: Sequence[Track],
    scores: Sequence[Score],
    calibration: Calibration,
    *,
    threshold: float | None = None,
    trained: bool = True,
    disagreements: Sequence[float] | None = None,
    n_left_out: int = 0,
) -> Verdict:
    """The answer for an input with at least one scored track.

    Args:
        tracks: the people, at least one.
        scores: one for each track.
        calibration: of the detector.
        threshold: the user's own; it replaces the detector's threshold and its uncertain band.
        trained: false for random weights: the verdict is then always "uncertain".
        disagreements: of each track, see :func:`deepscan.models.feature_squeezing.disagreements`: from 1 on there is no
            answer; None where none was looked for.
        n_left_out: people who are not among the tracks, so that nobody knows whether all are real.
    """
    if threshold is not None:
        calibration = calibration.model_copy(
            update={"threshold": threshold, "uncertain_low": threshold, "uncertain_high": threshold}
        )
    moved = [0.0] * len(tracks) if disagreements is None else disagreements
    decided = [
        _decide_track(track, score, calibration, disagreement, trained)
        for track, score, disagreement in zip(tracks, scores, moved, strict=True)
    ]
    results, reasons = [decision.result for decision in decided], [decision.reason for decision in decided]
    for i, reason in _not_sure(tracks, results, calibration if threshold is None else None):
        results[i], reasons[i] = replace(results[i], verdict=VerdictLabel.UNCERTAIN), reason
    segments = tuple(segment for decision in decided for segment in decision.segments)
    return _decide_input(results, reasons, segments, n_left_out)


class _TrackAnswer(NamedTuple):
    result: TrackResult
    reason: str | None
    segments: list[Segment]


def _decide_track(
    track: Track, score: Score, calibration: Calibration, disagreement: float, trained: bool
) -> _TrackAnswer:
    """One person's answer, whoever else is there."""
    probability = float(calibrated(score.video_logit, calibration.scale, calibration.bias))
    if math.isnan(probability):
        raise ValueError(f"Invalid logit {score.video_logit} of track {track.id}.")
    frames = calibrated(score.frame_logits, calibration.frame_scale, calibration.frame_bias)
    (decision,) = decisions([probability], calibration.threshold, calibration.band)
    label, reason = _LABELS[int(decision)], None
    if label is VerdictLabel.UNCERTAIN:
        reason = "low_confidence"
    elif label is VerdictLabel.REAL and _conflicts(frames, calibration.uncertain_high):
        label, reason = VerdictLabel.UNCERTAIN, "conflicting"
    segments = _segments(track, frames, calibration.uncertain_high, label)
    if not disagreement < 1:
        label, reason = VerdictLabel.UNCERTAIN, "possible_attack"
    if not trained:
        label, reason = VerdictLabel.UNCERTAIN, "untrained_model"
    result = _track_result(track, label, probability, frames)
    return _TrackAnswer(result, reason, [] if label is VerdictLabel.REAL else segments)


def _decide_input(
    results: Sequence[TrackResult], reasons: Sequence[str | None], segments: tuple[Segment, ...], n_left_out: int
) -> Verdict:
    """The most suspicious person decides; among equals fake before uncertain before real."""
    rank = {VerdictLabel.FAKE: 2, VerdictLabel.UNCERTAIN: 1, VerdictLabel.REAL: 0}
    worst = max(range(len(results)), key=lambda i: (rank[results[i].verdict], results[i].probability))
    label, reason = results[worst].verdict, reasons[worst]
    if label is VerdictLabel.REAL and n_left_out:
        label, reason = VerdictLabel.UNCERTAIN, "too_many_people"
    n_fake, n_like_fake = sum(r.verdict is VerdictLabel.FAKE for r in results), reasons.count("among_many")
    message = MESSAGES[reason].format(n=n_left_out, k=n_like_fake, people=len(results)) if reason else None
    if label is VerdictLabel.FAKE and len(results) > 1:
        message = f"{n_fake} of {len(results)} people {'looks' if n_fake == 1 else 'look'} manipulated."
    return Verdict(label, results[worst].probability, reason, message, tuple(results), segments)


def decisions(probabilities: ArrayLike, threshold: float, band: Band | None = None) -> NDArray[np.int8]:
    """The answers that probabilities alone give; :func:`decide` looks at more than these.

    Args:
        probabilities: calibrated, ``[n]``.
        threshold: from it on an answer is "fake".
        band: strictly between these there is no answer, nor anywhere where it spans 0 to 1; None answers everything.

    Returns:
        ``int8 [n]``: 0 real, 1 fake, -1 uncertain.
    """
    p = np.asarray(probabilities, np.float64)
    answers = (p >= threshold).astype(np.int8)
    if band is not None:
        # A band over everything means that no answer is sure, not even one that rounds to 0 or 1.
        everything = band[0] <= 0 and band[1] >= 1
        answers[((p > band[0]) & (p < band[1])) | everything] = -1
    return answers


def _not_sure(
    tracks: Sequence[Track], results: Sequence[TrackResult], calibration: Calibration | None
) -> list[tuple[int, str]]:
    """Who looks fake but is "uncertain" for the others in the file, and the reason.

    Nobody decides who is unsure beside sure ones. And the promise is made per file: with n people the limit rises until
    1/n as many reals lie above it; of the k-th above it n/k is asked (Simes' test), so that one person who is seen in k
    shots is judged no more strictly for being k tracks.

    Args:
        tracks, results: of the people.
        calibration: None where nothing was promised.
    """
    fakes = [i for i, result in enumerate(results) if result.verdict is VerdictLabel.FAKE]
    deciding = [i for i, track in enumerate(tracks) if track.sureness == "sure"] or list(range(len(tracks)))
    unsure = [(i, "unsure_face") for i in fakes if i not in deciding]
    if calibration is None or (calibration.tail is None and calibration.uncertain_low >= calibration.uncertain_high):
        return unsure
    fakes = sorted(set(fakes) & set(deciding), key=lambda i: -results[i].probability)
    n, high, tail = len(deciding), calibration.uncertain_high, calibration.tail or TAIL
    limit = math.log(high / (1 - high)) if high < 1 else math.inf
    kept = 0
    for k, i in enumerate(fakes, 1):
        if n == k or results[i].probability >= calibrated(limit + tail * math.log(n / k)):
            kept = k
    return unsure + [(i, "among_many") for i in fakes[kept:]]


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and end (exclusive) of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _conflicts(frames: NDArray[np.float64], limit: float) -> bool:
    longest = max((b - a for a, b in _runs(frames >= limit)), default=0)
    return (longest >= CONFLICT_RUN_FRAMES and longest >= CONFLICT_SHARE * len(frames)) or any(
        _stands_out(frames, a, b) for a, b in _runs(frames >= min(SEGMENT_FLOOR, limit))
    )


def _segments(track: Track, frames: NDArray[np.float64], limit: float, label: VerdictLabel) -> list[Segment]:
    """Runs of ``SEGMENT_FRAMES`` frames or more that look fake; ``limit`` is where a single frame is surely fake."""
    return [
        Segment(track.id, track.sightings[a].time_s, track.sightings[b - 1].time_s, float(frames[a:b].mean()))
        for a, b in _runs(frames >= min(SEGMENT_FLOOR, limit))
        if b - a >= SEGMENT_FRAMES
        and (label is VerdictLabel.FAKE or _is_sure(frames[a:b], limit) or _stands_out(frames, a, b))
    ]


def _is_sure(frames: NDArray[np.float64], limit: float) -> bool:
    return any(b - a >= SEGMENT_FRAMES for a, b in _runs(frames >= limit))


def _stands_out(frames: NDArray[np.float64], start: int, end: int) -> bool:
    """Whether a run is unlike the rest of the same person, whatever the detector makes of the person as such."""
    if end - start < _CONTRAST_FRAMES or len(frames) - (end - start) < _OTHER_FRAMES:
        return False
    bounded = frames.clip(1e-6, 1 - 1e-6)
    logits = np.log(bounded / (1 - bounded))
    others = np.concatenate([logits[:start], logits[end:]])
    return bool(logits[start:end].mean() - others.mean() >= _CONTRAST)


def _track_result(track: Track, label: VerdictLabel, probability: float, frames: NDArray[np.float64]) -> TrackResult:
    rows = tuple(
        FrameResult(s.time_s, s.face.box, s.face.confidence, float(p))
        for s, p in zip(track.sightings, frames, strict=True)
    )
    return TrackResult(track.id, label, probability, track.start_s, track.end_s, rows)
