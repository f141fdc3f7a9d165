"""From results to views: what a page says, in words."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from deepscan.explain.timeline import PersonSeries, Timeline, longest_missed_s, timeline
from deepscan.extract.file_facts.metadata import duration_text
from deepscan.models.card import Card
from deepscan.report.html.evidence import Material, PersonMaterial, Picture
from deepscan.report.html.figures import WORDS, chart, clock, gauge, lanes, percent
from deepscan.report.html.pictures import Album, Plan, data_uri
from deepscan.report.html.probability_text import sentences
from deepscan.report.html.views import IndexRow, InputView, PersonView, PictureView
from deepscan.report.table import UNJUDGED
from deepscan.types import ModelInfo, Result, TrackResult, VerdictLabel

_HEADLINES = {
    VerdictLabel.FAKE: "Looks manipulated",
    VerdictLabel.REAL: "No sign of manipulation found",
    VerdictLabel.UNCERTAIN: "No clear answer",
    VerdictLabel.NOT_APPLICABLE: "Nothing to judge",
    VerdictLabel.ERROR: "Could not be judged",
}
_MEANINGS = {
    VerdictLabel.FAKE: "At least one person's face looks manipulated.",
    VerdictLabel.REAL: (
        "Nobody's face looks manipulated, as far as this detector can tell. That does not show that the file is "
        "authentic, or that it shows what is said of it."
    ),
    VerdictLabel.UNCERTAIN: "There are faces, but what was seen does not carry an answer either way.",
    VerdictLabel.NOT_APPLICABLE: "There is no face that can be judged. This is neither “real” nor “fake”.",
    VerdictLabel.ERROR: "The file could not be read or scored.",
}
# Most urgent first; also the order of the people of one input.
_RANKS = {label: rank for rank, label in enumerate(
    (VerdictLabel.FAKE, VerdictLabel.UNCERTAIN, VerdictLabel.ERROR, VerdictLabel.NOT_APPLICABLE, VerdictLabel.REAL)
)}  # fmt: skip
_MOST_SEGMENTS = 40
_MOST_UNJUDGED = 3
_INDEX_THUMBNAIL_PX = 48


def input_view(
    number: int, result: Result, material: Material | None, model: ModelInfo, card: Card | None, plan: Plan
) -> InputView:
    """One input.

    Args:
        number: its place in the report, from 1.
        result: of it.
        material: pictures and file facts; None where there are none.
        model: that judged it.
        card: of the model, for what a probability means.
        plan: how much is shown.
    """
    material = material or Material()
    line = timeline(result)
    album = Album(plan.max_bytes)
    order = sorted(result.tracks, key=lambda t: (_RANKS[t.verdict], -t.probability, t.id))
    known = {person.id: person for person in material.people}
    series = {one.id: one for one in line.people}
    people = tuple(
        _person(track, series[track.id], line, known.get(track.id), result, model, plan, album)
        for track in order[: plan.people]
    )
    frames = tuple(_frames(material, plan, album))
    shown = result.probability if model.trained or result.probability is None else None
    return InputView(
        number=number,
        anchor=f"input-{number}",
        name=base_name(result.path),
        path=result.path,
        verdict=str(result.verdict),
        word=WORDS[result.verdict],
        headline=_HEADLINES[result.verdict],
        statements=tuple(_statements(result, order)),
        probability=None if shown is None else percent(shown, model.uncertain_band),
        gauge=None if shown is None else gauge(shown, model.uncertain_band, model.threshold),
        meaning=sentences(shown, result.kind, card),
        people=people,
        people_left_out=max(0, len(order) - plan.people),
        lanes=lanes(line, name="Who is seen when") if line.duration_s and 1 < len(line.people) <= plan.people else None,
        missed=tuple(_missed(result, line, model)),
        frames=frames,
        not_explained=material.not_explained if people else None,
        pictures_left_out=album.left_out,
        facts=material.facts,
        no_facts="The file could not be read again, or was not, for this report.",
        hashes=(("Path", result.path), ("Input, sha256", result.sha256 or "none: it could not be read to its end")),
    )


def index_row(number: int, result: Result, href: str, thumbnail: str | None, band: tuple[float, float]) -> IndexRow:
    """The line of one input in the index; ``band`` is the detector's."""
    return IndexRow(
        number=number,
        href=href,
        name=base_name(result.path),
        folder=str(PurePath(result.path).parent) if len(PurePath(result.path).parts) > 1 else "",
        verdict=str(result.verdict),
        word=WORDS[result.verdict],
        rank=_RANKS[result.verdict],
        probability=result.probability,
        probability_text="" if result.probability is None else percent(result.probability, band),
        people=len(result.tracks),
        segments=len(result.segments),
        duration_s=result.duration_s or 0.0,
        length="image" if result.kind == "image" else duration_text(result.duration_s) if result.duration_s else "",
        why=" ".join([result.message or "", *(note.text for note in result.notes)]).strip(),
        thumbnail=thumbnail,
    )


def index_order(row: IndexRow) -> tuple[int, float, int]:
    """Most urgent first: fake, uncertain, error, no answer, real; within each by probability."""
    return row.rank, -(row.probability or 0.0), row.number


def index_thumbnail(material: Material | None) -> str | None:
    """The first face there is, very small."""
    pictures = (picture for person in (material.people if material else ()) for picture in person.pictures)
    first = next(pictures, None)
    return None if first is None else data_uri(first.image, _INDEX_THUMBNAIL_PX)


def base_name(path: str) -> str:
    """Last part of a path; the whole where there is none."""
    return PurePath(path).name or path


def settings_sha256(model: ModelInfo) -> str:
    """Of the settings as sorted, compact JSON with the threshold and the band: equal for equal settings."""
    settings = {"settings": model.settings, "threshold": model.threshold, "uncertain_band": list(model.uncertain_band)}
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


# Words


def _statements(result: Result, order: Sequence[TrackResult]) -> Iterator[str]:
    yield result.message or _MEANINGS[result.verdict]
    if result.message and result.verdict in (VerdictLabel.UNCERTAIN, VerdictLabel.NOT_APPLICABLE):
        yield _MEANINGS[result.verdict]
    yield from (note.text for note in result.notes)
    if len(order) > 1:
        yield f"{len(order)} people were judged; the most suspicious, person {order[0].id}, decides."
    for track in result.unjudged[:_MOST_UNJUDGED]:
        yield f"Not judged, at {clock(track.start_s)} to {clock(track.end_s)}: {UNJUDGED[track.reason]}."
    if len(result.unjudged) > _MOST_UNJUDGED:
        yield f"{len(result.unjudged) - _MOST_UNJUDGED} more were not judged."
    spans = [f"{clock(s.start_s)} to {clock(s.end_s)} (person {s.track})" for s in result.segments]
    if spans:
        more = f" and {len(spans) - 5} more" if len(spans) > 5 else ""
        yield f"Frames look manipulated at {', '.join(spans[:5])}{more}."


def _missed(result: Result, line: Timeline, model: ModelInfo) -> Iterator[str]:
    """What this answer cannot exclude."""
    if result.verdict is VerdictLabel.ERROR:
        yield "Nothing was judged: this file may hold anything."
        return
    n = result.frames_sampled
    if result.verdict is VerdictLabel.NOT_APPLICABLE:
        yield "Nothing was judged: whether anything in this file was manipulated was not examined."
        if line.step_s is not None:
            unseen = longest_missed_s(result, line.duration_s)
            yield f"{n:,} frames were looked at; a face that shows for less than {unseen:.1f} s can lie between them."
    elif line.step_s is not None and line.missed_s is not None:
        yield (
            f"{n:,} frames were looked at, one every {line.step_s:.2f} s. A manipulated stretch of up to "
            f"{line.missed_s:.1f} s can lie between them unreported; more frames (--frames) find shorter ones. "
            f"Starts and ends of stretches are as exact as this step."
        )
    if result.sampling_shift_s:
        yield f"Frames were taken up to {result.sampling_shift_s:.2f} s from their times, where that was quicker."
    if result.left_out and result.duration_s:
        lost_s = result.left_out * result.duration_s
        yield f"{lost_s:.1f} of {result.duration_s:.1f} s were not looked at: they are damaged or cut off."
    lost = n - result.frames_with_face
    if 0 < lost < n and result.kind == "video":
        yield f"In {lost:,} of the {n:,} frames no face was found; what happens there was not judged."
    gaps = sum(len(person.gaps) for person in line.people)
    if gaps:
        times = "once" if gaps == 1 else f"{gaps} times"
        yield f"Somebody was out of sight for a while {times}; the charts show it as “not seen”."
    face = model.settings.get("face")
    smallest = face.get("min_face_px") if isinstance(face, dict) else None
    if smallest:
        yield f"Faces of less than {smallest} pixels, very dark ones and those seen only in passing are not judged."
    yield "Only faces are judged: not voices, not lips against sound, not bodies, backgrounds, captions or cuts."


def _person(
    track: TrackResult,
    series: PersonSeries,
    line: Timeline,
    material: PersonMaterial | None,
    result: Result,
    model: ModelInfo,
    plan: Plan,
    album: Album,
) -> PersonView:
    segments = series.segments
    importance = material.importance if material else ()
    video = result.kind != "image" and bool(line.duration_s) and bool(series.times_s)
    heat = material.heat_scale if material else None
    pictures = tuple(_pictures(track, material, plan, album, video=video))
    return PersonView(
        id=track.id,
        verdict=str(track.verdict),
        word=WORDS[track.verdict],
        probability=percent(track.probability, model.uncertain_band) if model.trained else "",
        seen=_seen(track, video=video),
        gauge=gauge(track.probability, model.uncertain_band, model.threshold) if model.trained else None,
        chart=chart(series, line, importance, name=f"person {track.id}") if video else None,
        weighed=bool(importance),
        segments=tuple((clock(s.start_s), clock(s.end_s), percent(s.probability)) for s in segments[:_MOST_SEGMENTS]),
        segments_left_out=max(0, len(segments) - _MOST_SEGMENTS),
        pictures=pictures,
        heat=_heat_words(heat) if heat is not None and any(p.heat for p in pictures) else None,
        values=tuple(_values(track, importance)) if video and len(track.frames) <= plan.values else (),
    )


def _seen(track: TrackResult, *, video: bool) -> str:
    sizes = [min(f.box[2] - f.box[0], f.box[3] - f.box[1]) for f in track.frames]
    size = f"face {statistics.median(sizes):.0f} px wide" if sizes else "no frames"
    if not video:
        return size[0].upper() + size[1:]
    frames = "1 frame" if len(track.frames) == 1 else f"{len(track.frames):,} frames"
    return f"Seen from {clock(track.start_s)} to {clock(track.end_s)} in {frames}; {size}"


def _heat_words(scale: float) -> str:
    if scale <= 0:
        return "Nothing in these crops speaks for “fake”: the heat maps are empty."
    return (
        "Colour shows where the detector sees signs of “fake”, on one scale for all people of this file; grey is where "
        "it sees none. It shows where the detector looks, not where something was changed."
    )


def _values(track: TrackResult, importance: Sequence[tuple[float, float]]) -> Iterator[tuple[str, str, str]]:
    known = {round(time, 3): value for time, value in importance}
    for frame in track.frames:
        value = known.get(round(frame.time_s, 3))
        yield f"{frame.time_s:.2f} s", percent(frame.probability), "" if value is None else f"{value:+.2f}"


def _pictures(
    track: TrackResult, material: PersonMaterial | None, plan: Plan, album: Album, *, video: bool
) -> Iterator[PictureView]:
    pictures = material.pictures if material else ()
    known = {round(frame.time_s, 3): frame.probability for frame in track.frames}
    for picture in _chosen(pictures, plan.pictures):
        source = album.add(picture.image, plan.side_px)
        if source is None:
            continue
        when = f" at {clock(picture.time_s)}" if video else ""
        probability = known.get(round(picture.time_s, 3))
        score = f"P(fake) {percent(probability)}" if probability is not None else ""
        yield PictureView(
            source=source,
            alt=f"Face of person {track.id}{when}",
            caption=", ".join(part for part in (clock(picture.time_s) if video else "", score) if part),
            notes=picture.notes,
            heat=None if picture.heat is None else album.add(picture.heat, plan.side_px),
        )


def _chosen(pictures: Sequence[Picture], n: int) -> list[Picture]:
    """At most ``n``: those with something to say first, in the order of time."""
    ranked = sorted(range(len(pictures)), key=lambda i: (-len(pictures[i].notes), i))[:n]
    return [pictures[i] for i in sorted(ranked)]


def _frames(material: Material, plan: Plan, album: Album) -> Iterator[PictureView]:
    for frame in material.frames[: plan.frames]:
        source = album.add(frame.image, plan.frame_px)
        if source is not None:
            who = " and ".join(f"person {number}" for number in frame.people)
            yield PictureView(source, f"Frame at {clock(frame.time_s)} with heat maps, chosen for {who}",
                              f"{clock(frame.time_s)}: the frame that counts most for {who}")  # fmt: skip
