"""What a page shows beside the result: file facts, thumbnails, heat maps. RGB arrays in, nothing here needs torch.

:func:`make_material` takes everything from an analysis; :func:`from_file` has thumbnails of a result alone, as of a
file that an earlier run judged, and decodes the file for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepscan.analysis import Analysis
from deepscan.config import DEFAULT_LIMITS, MediaLimits
from deepscan.explain.timeline import sampling_step_s
from deepscan.extract.crops import at_most
from deepscan.extract.file_facts.metadata import FileFacts
from deepscan.extract.isolation.client import file_facts, sample_frames
from deepscan.extract.people import crop_keys
from deepscan.extract.pictures import FACE_SIDE_PX, KeepPictures, thumbnail
from deepscan.extract.video.sampling import NEARBY_SHARE, evenly
from deepscan.types import Box, Frame, Result, RgbImage
from deepscan.version import install_command

if TYPE_CHECKING:
    from deepscan.detector import Detector
    from deepscan.explain.evidence import Explanation, PersonEvidence

_FRAME_SIDE_PX = 640
_THUMBNAILS = 4  # of a person
_SAME_TIME_S = 0.002  # times in reports are rounded to milliseconds
_NOT_EXPLAINED = f"Heat maps were not made for this report. They need the optional part: {install_command('explain')}."


@dataclass(frozen=True, slots=True)
class Picture:
    """A face.

    Attributes:
        image: RGB ``uint8 [S, S, 3]``.
        time_s: of the frame.
        heat: the same with its heat map, RGB ``uint8 [S, S, 3]``.
        notes: what is special about it, in a few words each.
    """

    image: RgbImage
    time_s: float
    heat: RgbImage | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PersonMaterial:
    """One person.

    Attributes:
        id: of the track.
        pictures: in the order of time.
        importance: time in seconds and log-odds by which the person's answer leans less to "fake" without the frame.
        heat_scale: log-odds that the hottest colour stands for.
    """

    id: int
    pictures: tuple[Picture, ...]
    importance: tuple[tuple[float, float], ...] = ()
    heat_scale: float | None = None


@dataclass(frozen=True, slots=True)
class FramePicture:
    """A whole frame: RGB ``uint8 [H, W, 3]``, when it is shown, and the people whose heat is in it."""

    image: RgbImage
    time_s: float
    people: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """All of one input.

    Attributes:
        facts: of the file; None where it could not be read.
        people: in any order; those without pictures may be left out.
        frames: in the order of time.
        not_explained: why there are no heat maps, a sentence for a person; None where there are.
    """

    facts: FileFacts | None = None
    people: tuple[PersonMaterial, ...] = ()
    frames: tuple[FramePicture, ...] = ()
    not_explained: str | None = _NOT_EXPLAINED


def pictures_to_keep(*, heat: bool) -> KeepPictures:
    """What :func:`make_material` needs of an analysis."""
    return KeepPictures(frames=heat, faces=not heat)


def make_material(
    detector: Detector, analysis: Analysis, *, heat: bool, not_explained: str | None = None
) -> Material | None:
    """File facts, and pictures that the analysis kept; None for a file that could not be judged.

    Args:
        detector: that judged it.
        analysis: with :func:`pictures_to_keep`.
        heat: with heat maps.
        not_explained: why there are none, if not for lack of the optional part.

    Raises:
        MediaError: the file cannot be opened any more.
        ConfigError, ModelError: there can be no heat maps.
    """
    if analysis.extraction is None:
        return None
    facts = file_facts(analysis.extraction.media.path, detector.settings.limits, detector.isolation)
    if heat:
        from deepscan.explain.evidence import explain

        return from_explanation(explain(detector, analysis), facts)
    return Material(facts, tuple(_thumbnails(analysis)), (), not_explained or _NOT_EXPLAINED)


def from_file(
    path: Path,
    result: Result,
    *,
    limits: MediaLimits = DEFAULT_LIMITS,
    n_pictures: int = _THUMBNAILS,
    not_explained: str | None = None,
) -> Material:
    """File facts and thumbnails of a file that was judged; the frames are decoded once more.

    Args:
        path: of the file.
        result: of the same.
        limits: as for the prediction.
        n_pictures: of each person.
        not_explained: why there are no heat maps, if not for lack of the optional part.

    Raises:
        MediaError: the file cannot be read any more.
    """
    wanted = {track.id: [track.frames[i] for i in evenly(len(track.frames), n_pictures)] for track in result.tracks}
    pictures: dict[tuple[int, float], tuple[float, RgbImage]] = {}
    # A frame further away than this shows something else: then there is no picture.
    reach = (sampling_step_s(result) or 0.0) / 2 + _SAME_TIME_S
    if any(wanted.values()):
        last = max(seen.time_s for frames in wanted.values() for seen in frames)
        share = NEARBY_SHARE if result.sampling_shift_s else 0.0
        for frame in sample_frames(path, max(1, result.frames_sampled), limits, nearby_share=share):
            for number, frames in wanted.items():
                for seen in frames:
                    if abs(frame.time_s - seen.time_s) <= reach:
                        _keep_nearest(pictures, (number, seen.time_s), frame, seen.box)
            if frame.time_s > last:
                break
    people = tuple(
        PersonMaterial(
            number,
            tuple(Picture(pictures[number, s.time_s][1], s.time_s) for s in frames if (number, s.time_s) in pictures),
        )
        for number, frames in wanted.items()
    )
    return Material(file_facts(path, limits), people, (), not_explained or _NOT_EXPLAINED)


def from_explanation(explanation: Explanation, facts: FileFacts | None) -> Material:
    """What an explanation shows, scaled down to the sizes that a page has.

    Args:
        explanation: of the same input as the result.
        facts: of its file.
    """
    people = tuple(_person(person) for person in explanation.people)
    frames = tuple(FramePicture(at_most(f.overlay, _FRAME_SIDE_PX), f.time_s, f.people) for f in explanation.frames)
    return Material(facts, people, frames, None)


def _person(person: PersonEvidence) -> PersonMaterial:
    side, other = ("fake", "real") if person.counts_as_fake else ("real", "fake")
    lists = (
        (person.by_importance.supporting, f"moves the answer towards “{side}”"),
        (person.by_importance.opposing, f"moves the answer towards “{other}”"),
        (person.by_frame.supporting, f"on its own looks most {side}"),
        (person.by_frame.opposing, f"on its own looks least {side}"),
    )
    pictures = []
    for row, (position, time_s) in enumerate(zip(person.shown, person.times_s, strict=True)):
        notes = tuple(note for positions, note in lists if position in positions)
        crop, heat = (at_most(images[row], FACE_SIDE_PX) for images in (person.crops, person.overlays))
        pictures.append(Picture(crop, time_s, heat, notes))
    times = [frame.time_s for frame in person.result.frames]
    importance = tuple(zip(times, person.importance.importance.tolist(), strict=False))
    return PersonMaterial(person.result.id, tuple(pictures), importance, float(person.heat.scale))


def _thumbnails(analysis: Analysis) -> Iterator[PersonMaterial]:
    pictures = analysis.extraction.pictures if analysis.extraction else None
    if pictures is None:
        return
    for person, result in zip(analysis.people, analysis.result.tracks, strict=True):
        keys = crop_keys(person.track)
        faces = [(pictures.face(keys[i]), result.frames[i].time_s) for i in evenly(len(keys), _THUMBNAILS)]
        yield PersonMaterial(result.id, tuple(Picture(face, time_s) for face, time_s in faces if face is not None))


def _keep_nearest(
    pictures: dict[tuple[int, float], tuple[float, RgbImage]], key: tuple[int, float], frame: Frame, box: Box
) -> None:
    """Frames are told apart by their time: damaged ones that are left out must not shift the others."""
    off = abs(frame.time_s - key[1])
    if key not in pictures or off < pictures[key][0]:
        pictures[key] = (off, thumbnail(frame.image, box))
