"""What a verdict rests on, person by person: crops with their heat, the frames that count, and whole frames.

:func:`explain` goes from a path; :func:`explain_people` from people and a verdict that are there already, as in a
report that is made right after the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepscan.explain.gradcam import HeatMaps, explain_frames
from deepscan.explain.occlusion import Importance, TopFrames, explain_track, top_frames
from deepscan.explain.overlay import overlay_crop, overlay_frame
from deepscan.extract.crops import at_most, face_square
from deepscan.extract.isolation.client import probe, sample_frames
from deepscan.extract.people import Person
from deepscan.extract.video.sampling import frames_for
from deepscan.types import MediaInfo, RgbImage, TrackResult, Verdict, VerdictLabel

if TYPE_CHECKING:
    from deepscan.detector import Detector

N_SUPPORTING, N_OPPOSING, N_SHOWN = 4, 2, 8
_FRAME_SIDE_PX = 960


@dataclass(frozen=True, slots=True)
class PersonEvidence:
    """One person.

    Attributes:
        result: verdict and timeline.
        importance: of every sighting.
        counts_as_fake: the side that "supporting" means: that of the verdict, and of the nearer one where it is
            uncertain.
        by_importance: frames that most hold up or pull down the answer when they are left out.
        by_frame: frames that most look like it on their own.
        shown: positions of the sightings below, in the order of time: those of both kinds, and others in between.
        times_s: of the same.
        crops: RGB ``uint8 [K, S, S, 3]``.
        heat: for "fake", of the same; one scale for all people of a file.
        overlays: the crops with their heat, RGB ``uint8 [K, S, S, 3]``.
    """

    result: TrackResult
    importance: Importance
    counts_as_fake: bool
    by_importance: TopFrames
    by_frame: TopFrames
    shown: tuple[int, ...]
    times_s: tuple[float, ...]
    crops: NDArray[np.uint8]
    heat: HeatMaps
    overlays: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class FrameEvidence:
    """A whole frame with the heat of every person in it whose crop of that frame is shown.

    Attributes:
        time_s: of the frame.
        people: ids of the people it was chosen for.
        overlay: RGB ``uint8 [H, W, 3]``, scaled down so that its longer side is at most 960 pixels.
    """

    time_s: float
    people: tuple[int, ...]
    overlay: RgbImage


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything there is to look at for one input. Without a face there are no people and no frames."""

    path: Path
    media: MediaInfo
    verdict: Verdict
    people: tuple[PersonEvidence, ...]
    frames: tuple[FrameEvidence, ...]


def explain(detector: Detector, path: str | Path) -> Explanation:
    """Judge one video or image and show why.

    Args:
        detector: loaded.
        path: of the input.

    Raises:
        MediaError: the file cannot be read.
        ConfigError: the ``grad-cam`` package is not installed.
        ModelError: the network has no map to look at.
    """
    path = Path(path)
    found = detector.extract(path)
    visible, hidden = detector.visible(found.people)
    if not visible:
        return Explanation(path, found.media, detector.abstain(found, hidden), (), ())
    scores = detector.score([person.crops for person in visible])
    verdict = detector.answer(visible, scores, n_left_out=found.people_left_out)
    people = explain_people(detector, visible, verdict.tracks)
    # The heat maps are of the faces as turned; frames are shown as they are.
    frames = () if found.turned else explain_whole_frames(detector, path, visible, people)
    return Explanation(path, found.media, verdict, people, frames)


def explain_people(
    detector: Detector, people: Sequence[Person], results: Sequence[TrackResult]
) -> tuple[PersonEvidence, ...]:
    """Evidence for people who are judged already.

    Args:
        detector: that judged them.
        people: at least one.
        results: of the same, in the same order.
    """
    looked = [_look(detector, person, result) for person, result in zip(people, results, strict=True)]
    # One scale: the face of a person who is real must not look as hot as that of one who is fake.
    scale = max(own.heat.scale for own in looked)
    return tuple(
        _evidence(person, result, own, scale) for person, result, own in zip(people, results, looked, strict=True)
    )


def explain_whole_frames(
    detector: Detector,
    path: Path,
    people: Sequence[Person],
    evidence: Sequence[PersonEvidence],
) -> tuple[FrameEvidence, ...]:
    """The strongest frame of each person with heat, in the order of time. The file is read once more.

    Args:
        detector: that judged it.
        path: of the file.
        people: found in it.
        evidence: of the same, in the same order.
    """
    chosen: dict[int, list[int]] = {}
    heats: dict[int, list[tuple[NDArray[np.float32], int, int]]] = {}
    for number, (person, own) in enumerate(zip(people, evidence, strict=True)):
        best = next(iter((*own.by_importance.supporting, *own.by_frame.supporting, *own.shown)))
        chosen.setdefault(person.track.sightings[best].frame_index, []).append(number)
        for row, position in enumerate(own.shown):
            index = person.track.sightings[position].frame_index
            heats.setdefault(index, []).append((own.heat.heat[row], number, position))
    out = []
    settings = detector.settings
    n_frames = frames_for(
        settings.frames, probe(path, settings.limits, detector.isolation).duration_s, settings.min_segment_s
    )
    for frame in sample_frames(path, n_frames, settings.limits, detector.isolation):
        if frame.index not in chosen:
            continue
        faces = []
        for heat, number, position in heats[frame.index]:
            face = people[number].track.sightings[position].face
            faces.append((heat, face_square(face, frame.image.shape, detector.card.crop)))
        picture = at_most(overlay_frame(frame.image, faces), _FRAME_SIDE_PX)
        ids = tuple(people[number].track.id for number in chosen[frame.index])
        out.append(FrameEvidence(frame.time_s, ids, picture))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What is known of a person before the scale of all people's heat is."""

    importance: Importance
    fake: bool
    by_importance: TopFrames
    by_frame: TopFrames
    shown: tuple[int, ...]
    heat: HeatMaps


def _look(detector: Detector, person: Person, result: TrackResult) -> _Looked:
    networks = detector.networks
    importance = explain_track(networks, person.crops, tta=detector.settings.tta)
    fake = result.verdict is VerdictLabel.FAKE
    if result.verdict is VerdictLabel.UNCERTAIN:
        fake = result.probability >= detector.card.calibration.threshold
    by_importance = _top(importance.importance, fake=fake)
    by_frame = _top(importance.frame_logits, fake=fake)
    shown = _shown(len(person.crops), (*by_importance, *by_frame))
    heat = explain_frames(networks, person.crops[list(shown)])
    return _Looked(importance, fake, by_importance, by_frame, shown, heat)


def _evidence(person: Person, result: TrackResult, looked: _Looked, scale: float) -> PersonEvidence:
    crops, heat = person.crops[list(looked.shown)], looked.heat.on_scale(scale)
    return PersonEvidence(
        result=result,
        importance=looked.importance,
        counts_as_fake=looked.fake,
        by_importance=looked.by_importance,
        by_frame=looked.by_frame,
        shown=looked.shown,
        times_s=tuple(person.track.sightings[position].time_s for position in looked.shown),
        crops=crops,
        heat=heat,
        overlays=np.stack([overlay_crop(crop, own) for crop, own in zip(crops, heat.heat, strict=True)]),
    )


def _top(values: NDArray[np.float64], *, fake: bool) -> TopFrames:
    top = top_frames(values, max(N_SUPPORTING, N_OPPOSING), fake=fake)
    return TopFrames(top.supporting[:N_SUPPORTING], top.opposing[:N_OPPOSING])


def _shown(n: int, tops: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Positions to show: the strongest of every list in turn, then what lies evenly between, at most as many as fit."""
    turns = [top[rank] for rank in range(N_SUPPORTING) for top in tops if rank < len(top)]
    evenly = [round((i + 0.5) * n / N_SHOWN - 0.5) for i in range(N_SHOWN)] if n > N_SHOWN else list(range(n))
    return tuple(sorted(list(dict.fromkeys([*turns, *evenly]))[:N_SHOWN]))
