"""What a verdict rests on, person by person: crops with their heat, the frames that count, and whole frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepscan.analysis import Analysis
from deepscan.explain.gradcam import HeatMaps, explain_frames
from deepscan.explain.occlusion import Importance, explain_track
from deepscan.explain.overlay import overlay_crop, overlay_frame
from deepscan.explain.timeline import telling_frames
from deepscan.extract.crops import face_square
from deepscan.extract.people import Person
from deepscan.types import Face, RgbImage, TrackResult

if TYPE_CHECKING:
    from deepscan.detector import Detector

N_SHOWN = 4


@dataclass(frozen=True, slots=True)
class PersonEvidence:
    """One person.

    Attributes:
        result: verdict and timeline.
        importance: of every sighting.
        shown: positions of the sightings below, in the order of time: those that look most like a fake.
        times_s: of the same.
        crops: RGB ``uint8 [K, S, S, 3]``.
        heat: for "fake", of the same; one scale for all people of a file.
        overlays: the crops with their heat, RGB ``uint8 [K, S, S, 3]``.
    """

    result: TrackResult
    importance: Importance
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
    shown = [sorted(telling_frames([f.probability for f in result.frames], N_SHOWN)) for result in results]
    heats = [
        explain_frames(detector.networks, person.crops[of_person])
        for person, of_person in zip(people, shown, strict=True)
    ]
    # One scale: the face of a person who is real must not look as hot as that of one who is fake.
    scale = max(heat.scale for heat in heats)
    evidence = []
    for person, result, of_person, heat in zip(people, results, shown, heats, strict=True):
        crops, scaled = person.crops[of_person], heat.on_scale(scale)
        evidence.append(
            PersonEvidence(
                result,
                explain_track(detector.networks, person.crops, tta=detector.settings.tta),
                tuple(of_person),
                tuple(person.track.sightings[position].time_s for position in of_person),
                crops,
                scaled,
                np.stack([overlay_crop(crop, of_crop) for crop, of_crop in zip(crops, scaled.heat, strict=True)]),
            )
        )
    return tuple(evidence)


def _whole_frames(
    detector: Detector, analysis: Analysis, evidence: Sequence[PersonEvidence]
) -> tuple[FrameEvidence, ...]:
    """The strongest frame of each person with heat, in the order of time, as far as they were kept."""
    pictures = analysis.extraction.pictures if analysis.extraction else None
    chosen: dict[int, list[int]] = {}
    heats: dict[int, list[tuple[NDArray[np.float32], Face]]] = {}
    for person, shown in zip(analysis.people, evidence, strict=True):
        best = max(shown.shown, key=lambda position: shown.result.frames[position].probability)
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
