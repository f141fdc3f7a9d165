"""What a page shows beside the result: file facts, faces, frames, heat maps. RGB arrays in, nothing here needs torch.

:func:`make_material` takes everything from an analysis; :func:`from_file` has the pictures of a result alone, as of a
file that an earlier run judged, and decodes the file for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepscan.analysis import Analysis
from deepscan.config import DEFAULT_LIMITS, MediaLimits
from deepscan.explain.error_level import ErrorLevel, error_level
from deepscan.explain.timeline import sampling_step_s, telling_frames
from deepscan.extract.crops import at_most
from deepscan.extract.file_facts.metadata import FileFacts
from deepscan.extract.isolation.client import file_facts, sample_frames
from deepscan.extract.people import crop_keys
from deepscan.extract.pictures import FACE_SIDE_PX, FRAME_SIDE_PX, KeepPictures, Pictures, thumbnail
from deepscan.extract.video.sampling import NEARBY_SHARE
from deepscan.types import Frame, FrameResult, Result, RgbImage, TrackResult
from deepscan.version import install_command

if TYPE_CHECKING:
    from deepscan.detector import Detector
    from deepscan.explain.evidence import Explanation

N_PICTURES = 4  # of a person
_SAME_TIME_S = 0.002  # times in reports are rounded to milliseconds
_NOT_EXPLAINED = f"Heat maps were not made for this report. They need the optional part: {install_command('explain')}."


@dataclass(frozen=True, slots=True)
class Picture:
    """A face.

    Attributes:
        image: RGB ``uint8 [S, S, 3]``.
        time_s: of the frame.
        heat: the crop that the network saw with its heat map, RGB ``uint8 [S, S, 3]``.
    """

    image: RgbImage
    time_s: float
    heat: RgbImage | None = None


@dataclass(frozen=True, slots=True)
class PersonMaterial:
    """One person.

    Attributes:
        id: of the track.
        pictures: the frames that look most like a fake, in the order of time.
        importance: time in seconds and log-odds by which the person's answer leans less to "fake" without the frame.
        heat_scale: log-odds that the hottest colour stands for.
    """

    id: int
    pictures: tuple[Picture, ...]
    importance: tuple[tuple[float, float], ...] = ()
    heat_scale: float | None = None


@dataclass(frozen=True, slots=True)
class FramePicture:
    """A whole frame: RGB ``uint8 [H, W, 3]``, its time, the people it was chosen for, and the same with their heat.

    ``scale`` is the picture's size as a share of the frame's, in whose pixels the boxes are.
    """

    image: RgbImage
    time_s: float
    people: tuple[int, ...]
    scale: float = 1.0
    heat: RgbImage | None = None


@dataclass(frozen=True, slots=True)
class Material:
    """All of one input.

    Attributes:
        facts: of the file; None where it could not be read.
        people: in any order; those without pictures may be left out.
        frames: in the order of time: of each person the one that looks most like a fake.
        not_explained: why there are no heat maps, a sentence for a person; None where there are.
        error_level: of the frame in which a face is largest; None where that was not kept.
    """

    facts: FileFacts | None = None
    people: tuple[PersonMaterial, ...] = ()
    frames: tuple[FramePicture, ...] = ()
    not_explained: str | None = _NOT_EXPLAINED
    error_level: ErrorLevel | None = None


def pictures_to_keep() -> KeepPictures:
    """What :func:`make_material` needs of an analysis."""
    return KeepPictures(frames=True, faces=True, largest=True)


def make_material(
    detector: Detector,
    analysis: Analysis,
    *,
    heat: bool,
    explanation: Explanation | None = None,
    not_explained: str | None = None,
) -> Material | None:
    """File facts, and pictures that the analysis kept; None for a file that could not be judged.

    Args:
        detector: that judged it.
        analysis: with :func:`pictures_to_keep`.
        heat: with heat maps.
        explanation: where it is made already.
        not_explained: why there are no heat maps, if not for lack of the optional part.

    Raises:
        MediaError: the file cannot be opened any more.
        ConfigError, ModelError: there can be no heat maps.
    """
    if analysis.extraction is None:
        return None
    media, pictures = analysis.extraction.media, analysis.extraction.pictures
    material = Material(
        file_facts(media.path, detector.settings.limits, detector.isolation),
        not_explained=not_explained or _NOT_EXPLAINED,
    )
    if pictures is not None:
        material = replace(material, **_kept(pictures, analysis))
    if not heat:
        return material
    from deepscan.explain.evidence import explain

    return with_heat(material, explanation or explain(detector, analysis))


def from_file(
    path: Path,
    result: Result,
    *,
    limits: MediaLimits = DEFAULT_LIMITS,
    n_pictures: int = N_PICTURES,
    not_explained: str | None = None,
) -> Material:
    """File facts and pictures of a file that was judged; the frames are decoded once more.

    Args:
        path: of the file.
        result: of the same.
        limits: as for the prediction.
        n_pictures: of each person.
        not_explained: why there are no heat maps, if not for lack of the optional part.

    Raises:
        MediaError: the file cannot be read any more.
    """
    wanted = {track.id: _telling(track, n_pictures) for track in result.tracks}
    faces: dict[tuple[int, float], tuple[float, RgbImage]] = {}
    frames: dict[int, tuple[float, FramePicture]] = {}
    for frame in _frames_near(path, result, [seen for shown in wanted.values() for seen in shown], limits):
        for number, shown in wanted.items():
            for seen in shown:
                off = abs(frame.time_s - seen.time_s)
                if off > _reach_s(result):
                    continue
                # Told apart by their time: damaged frames that are left out must not shift the others.
                if off < faces.get((number, seen.time_s), (off + 1,))[0]:
                    faces[number, seen.time_s] = off, thumbnail(frame.image, seen.box)
                if seen is shown[0] and off < frames.get(number, (off + 1,))[0]:
                    image = at_most(frame.image, FRAME_SIDE_PX)
                    scale = image.shape[1] / frame.image.shape[1]
                    frames[number] = off, FramePicture(image, seen.time_s, (number,), scale)
    people = tuple(
        PersonMaterial(
            number,
            tuple(
                Picture(faces[number, seen.time_s][1], seen.time_s)
                for seen in sorted(shown, key=lambda seen: seen.time_s)
                if (number, seen.time_s) in faces
            ),
        )
        for number, shown in wanted.items()
    )
    pictures = sorted((picture for _, picture in frames.values()), key=lambda picture: picture.time_s)
    return Material(file_facts(path, limits), people, tuple(pictures), not_explained or _NOT_EXPLAINED)


def with_heat(material: Material, explanation: Explanation) -> Material:
    """The same with what an explanation shows, scaled down to the sizes that a page has."""
    people, overlays = [], {frame.time_s: frame.overlay for frame in explanation.frames}
    known = {person.id: person.pictures for person in material.people}
    for person in explanation.people:
        faces = {round(picture.time_s, 3): picture.image for picture in known.get(person.result.id, ())}
        pictures = [
            Picture(faces.get(round(time_s, 3), crop), time_s, at_most(overlay, FACE_SIDE_PX))
            for time_s, crop, overlay in zip(person.times_s, person.crops, person.overlays, strict=True)
        ]
        times = [frame.time_s for frame in person.result.frames]
        importance = tuple(zip(times, person.importance.importance.tolist(), strict=False))
        people.append(PersonMaterial(person.result.id, tuple(pictures), importance, float(person.heat.scale)))
    frames = tuple(replace(frame, heat=overlays.get(frame.time_s)) for frame in material.frames)
    return replace(material, people=tuple(people), frames=frames, not_explained=None)


def _kept(pictures: Pictures, analysis: Analysis) -> dict[str, Any]:
    """The fields of :class:`Material` that are pictures."""
    people: list[PersonMaterial] = []
    frames: dict[float, FramePicture] = {}
    for person, track in zip(analysis.people, analysis.result.tracks, strict=True):
        keys, shown = crop_keys(person.track), telling_frames([f.probability for f in track.frames], N_PICTURES)
        faces = [(pictures.face(keys[i]), track.frames[i].time_s) for i in sorted(shown)]
        people.append(PersonMaterial(track.id, tuple(Picture(face, t) for face, t in faces if face is not None)))
        kept = pictures.frame(keys[shown[0]][0])
        if kept is not None:
            image, shape, time_s = kept
            before = frames[time_s].people if time_s in frames else ()
            scale = max(image.shape[:2]) / max(shape[:2])
            frames[time_s] = FramePicture(image, time_s, (*before, track.id), scale)
    level, largest = None, pictures.largest
    if largest is not None:
        level = error_level(largest.image, largest.box, largest.time_s)
        level = replace(level, frame=at_most(level.frame, FRAME_SIDE_PX))
    in_time = tuple(frames[time_s] for time_s in sorted(frames))
    return {"people": tuple(people), "frames": in_time, "error_level": level}


def _telling(track: TrackResult, n: int) -> tuple[FrameResult, ...]:
    return tuple(track.frames[i] for i in telling_frames([frame.probability for frame in track.frames], n))


def _reach_s(result: Result) -> float:
    """A frame further away than this shows something else: then there is no picture."""
    return (sampling_step_s(result) or 0.0) / 2 + _SAME_TIME_S


def _frames_near(path: Path, result: Result, wanted: Iterable[FrameResult], limits: MediaLimits) -> Iterator[Frame]:
    """The frames that were sampled, up to the last that is wanted."""
    last = max((seen.time_s for seen in wanted), default=None)
    if last is None:
        return
    share = NEARBY_SHARE if result.sampling_shift_s else 0.0
    for frame in sample_frames(path, max(1, result.frames_sampled), limits, nearby_share=share):
        yield frame
        if frame.time_s > last:
            return
