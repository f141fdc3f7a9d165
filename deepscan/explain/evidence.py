"""What a verdict rests on, person by person: crops with their heat, the frames that count, and whole frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepscan.analysis import Analysis
from deepscan.explain.gradcam import HeatMaps, explain_frames
from deepscan.explain.occlusion import Importance, TopFrames, explain_track, top_frames
from deepscan.explain.overlay import overlay_crop, overlay_frame
from deepscan.extract.crops import face_square
from deepscan.extract.people import Person
from deepscan.types import Face, RgbImage, TrackResult, VerdictLabel

if TYPE_CHECKING:
    from deepscan.detector import Detector

N_SUPPORTING, N_OPPOSING, N_SHOWN = 4, 2, 8


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

    people: tuple[PersonEvidence, ...] = ()
    frames: tuple[FrameEvidence, ...] = ()


def explain(detector: Detector, analysis: Analysis) -> Explanation:
    """Show why a video or image was judged as it was. The file is not read again.

    Args:
        detector: that judged it.
        analysis: of the file; whole frames are shown where they were kept.

    Raises:
        ConfigError: the ``grad-cam`` package is not installed.
        ModelError: the network has no map to look at.
    """
    if not analysis.people:
        return Explanation()
    people = explain_people(detector, analysis.people, analysis.result.tracks)
    # The heat maps are of the faces as turned; frames are shown as they are.
    frames = () if analysis.result.turned else _whole_frames(detector, analysis, people)
    return Explanation(people, frames)


def explain_people(
    detector: Detector, people: Sequence[Person], results: Sequence[TrackResult]
) -> tuple[PersonEvidence, ...]:
    """Evidence for people who are judged already.

    Args:
        detector: that judged them.
        people: at least one.
        results: of the same, in the same order.
    """
    weighed = [_weigh(detector, person, result) for person, result in zip(people, results, strict=True)]
    # One scale: the face of a person who is real must not look as hot as that of one who is fake.
    scale = max(one.heat.scale for one in weighed)
    return tuple(
        _evidence(person, result, one, scale) for person, result, one in zip(people, results, weighed, strict=True)
    )


def _whole_frames(
    detector: Detector, analysis: Analysis, evidence: Sequence[PersonEvidence]
) -> tuple[FrameEvidence, ...]:
    """The strongest frame of each person with heat, in the order of time, as far as they were kept."""
    pictures = analysis.extraction.pictures if analysis.extraction else None
    chosen: dict[int, list[int]] = {}
    heats: dict[int, list[tuple[NDArray[np.float32], Face]]] = {}
    for person, shown in zip(analysis.people, evidence, strict=True):
        best = next(iter((*shown.by_importance.supporting, *shown.by_frame.supporting, *shown.shown)))
        chosen.setdefault(person.track.sightings[best].frame_index, []).append(person.track.id)
        for heat, position in zip(shown.heat.heat, shown.shown, strict=True):
            sighting = person.track.sightings[position]
            heats.setdefault(sighting.frame_index, []).append((heat, sighting.face))
    frames = []
    for index, ids in sorted(chosen.items()):
        kept = pictures.frame(index) if pictures else None
        if kept is not None:
            image, shape, time_s = kept
            scale = max(image.shape[:2]) / max(shape[:2])
            faces = [(heat, face_square(face, shape, detector.card.crop).scaled(scale)) for heat, face in heats[index]]
            frames.append(FrameEvidence(time_s, tuple(ids), overlay_frame(image, faces)))
    return tuple(frames)


@dataclass(frozen=True, slots=True)
class _Weighed:
    """What is known of a person before the scale of all people's heat is."""

    importance: Importance
    fake: bool
    by_importance: TopFrames
    by_frame: TopFrames
    shown: tuple[int, ...]
    heat: HeatMaps


def _weigh(detector: Detector, person: Person, result: TrackResult) -> _Weighed:
    networks = detector.networks
    importance = explain_track(networks, person.crops, tta=detector.settings.tta)
    fake = result.verdict is VerdictLabel.FAKE
    if result.verdict is VerdictLabel.UNCERTAIN:
        fake = result.probability >= detector.card.calibration.threshold
    by_importance = _top(importance.importance, fake=fake)
    by_frame = _top(importance.frame_logits, fake=fake)
    shown = positions_to_show(len(person.crops), (*by_importance, *by_frame))
    heat = explain_frames(networks, person.crops[list(shown)])
    return _Weighed(importance, fake, by_importance, by_frame, shown, heat)


def _evidence(person: Person, result: TrackResult, weighed: _Weighed, scale: float) -> PersonEvidence:
    crops, heat = person.crops[list(weighed.shown)], weighed.heat.on_scale(scale)
    return PersonEvidence(
        result=result,
        importance=weighed.importance,
        counts_as_fake=weighed.fake,
        by_importance=weighed.by_importance,
        by_frame=weighed.by_frame,
        shown=weighed.shown,
        times_s=tuple(person.track.sightings[position].time_s for position in weighed.shown),
        crops=crops,
        heat=heat,
        overlays=np.stack([overlay_crop(crop, of_crop) for crop, of_crop in zip(crops, heat.heat, strict=True)]),
    )


def _top(values: NDArray[np.float64], *, fake: bool) -> TopFrames:
    top = top_frames(values, max(N_SUPPORTING, N_OPPOSING), fake=fake)
    return TopFrames(top.supporting[:N_SUPPORTING], top.opposing[:N_OPPOSING])


def positions_to_show(n: int, tops: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Positions to show: the strongest of every list in turn, then what lies evenly between, at most as many as fit."""
    turns = [top[rank] for rank in range(N_SUPPORTING) for top in tops if rank < len(top)]
    evenly = [round((i + 0.5) * n / N_SHOWN - 0.5) for i in range(N_SHOWN)] if n > N_SHOWN else list(range(n))
    return tuple(sorted(list(dict.fromkeys([*turns, *evenly]))[:N_SHOWN]))
