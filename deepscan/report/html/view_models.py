"""From results to views: what a page says, in words."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from deepscan.explain.draw import COLOURS, draw_box, style_for
from deepscan.explain.error_level import MEANING as ERROR_LEVEL_MEANING
from deepscan.explain.timeline import Timeline, longest_missed_s, timeline
from deepscan.extract.file_facts.metadata import Fact, duration_text
from deepscan.extract.traces import MESSAGES as TRACES
from deepscan.models.card import Card
from deepscan.report.html.evidence import FramePicture, Material, PersonMaterial, Picture
from deepscan.report.html.figures import WORDS, chart, clock, gauge, lanes, percent
from deepscan.report.html.pictures import Album, Plan, brightened, data_uri
from deepscan.report.html.probability_text import sentences
from deepscan.report.html.views import IndexRow, InputView, PersonView, PictureView
from deepscan.report.table import EXPLANATIONS, UNJUDGED
from deepscan.types import Box, ModelInfo, Result, RgbImage, TrackResult, VerdictLabel

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
_TRACES = {"double_jpeg": "Earlier JPEG", "scaled_up": "Scaled up by 2", "screen": "Screen"}
# Most urgent first; also the order of the people of one input.
_RANKS = {label: rank for rank, label in enumerate(
    (VerdictLabel.FAKE, VerdictLabel.UNCERTAIN, VerdictLabel.ERROR, VerdictLabel.NOT_APPLICABLE, VerdictLabel.REAL)
)}  # fmt: skip
_ORIGINAL = "Find the first upload: a reverse image search of a frame, or ask whoever sent it for the original file."
_NEXT = {
    VerdictLabel.FAKE: (
        "Watch the hatched seconds at full size and slowly: edges of the face, teeth, eyes, hair, glasses.",
        _ORIGINAL,
        "Compare with other recordings of the person. Do not decide about anybody by this page alone.",
    ),
    VerdictLabel.REAL: (_ORIGINAL, "Check who published it, when, and whether others report the same."),
    VerdictLabel.UNCERTAIN: (
        _ORIGINAL,
        "Judge that, or a longer or sharper excerpt: --frames 128 looks at more of it.",
        "Look at the frames yourself; treat it as not examined.",
    ),
    VerdictLabel.NOT_APPLICABLE: (_ORIGINAL,),
    VerdictLabel.ERROR: ("Play the file elsewhere, or get another copy, and judge that.",),
}
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
    order = sorted(result.tracks, key=lambda t: (_RANKS[t.verdict], -t.probability, t.id))
    pictures = _Pictures(material, plan, Album(plan.max_bytes), video=result.kind != "image")
    people = tuple(_person(track, line, result, model, pictures) for track in order[: plan.people])
    level = pictures.error_level()
    shown = result.probability if model.trained or result.probability is None else None
    scales = [person.heat_scale for person in material.people if person.heat_scale is not None]
    return InputView(
        number=number,
        anchor=f"input-{number}",
        name=base_name(result.path),
        verdict=str(result.verdict),
        word=WORDS[result.verdict],
        headline=_HEADLINES[result.verdict],
        statements=tuple(_statements(result, order)),
        probability=None if shown is None else percent(shown, model.uncertain_band),
        gauge=None if shown is None else gauge(shown, model.uncertain_band, model.threshold),
        people=people,
        people_left_out=max(0, len(order) - plan.people),
        lanes=lanes(line, name="Who is seen when") if line.duration_s and 1 < len(line.people) <= plan.people else None,
        brightened=pictures.brightened,
        next_steps=(*_reason_step(result), *_NEXT[result.verdict]),
        unseen=tuple(_unseen(result, line)),
        meaning=sentences(shown, result.kind, card),
        details=tuple(_details(result, line, model)),
        heat_note=(material.not_explained or _heat_words(scales)) if people else None,
        error_level=level,
        error_level_note=ERROR_LEVEL_MEANING,
        pictures_left_out=pictures.album.left_out,
        facts=material.facts and replace(material.facts, signs=(*material.facts.signs, *_trace_facts(result))),
        hashes=(("Path", result.path), ("Input, sha256", result.sha256 or "none: it could not be read to its end")),
    )


def _trace_facts(result: Result) -> Iterator[Fact]:
    """Traces that were looked for around the largest face."""
    for trace in result.traces:
        missing = "Not seen around the largest face; weak traces are missed."
        meaning = TRACES[trace.code] if trace.present else missing
        yield Fact(_TRACES[trace.code], "seen" if trace.present else "not seen", meaning, noticed=trace.present)


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
    spans = [f"{clock(s.start_s)} to {clock(s.end_s)} (person {s.track})" for s in result.segments]
    if spans:
        more = f" and {len(spans) - 5} more" if len(spans) > 5 else ""
        yield f"Frames look manipulated at {', '.join(spans[:5])}{more}."
    if result.message or not spans:
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


def _reason_step(result: Result) -> Iterator[str]:
    """What the terminal says of the reason, where there is no answer."""
    if result.verdict is VerdictLabel.NOT_APPLICABLE and result.reason in EXPLANATIONS:
        text = EXPLANATIONS[result.reason]
        yield text[0].upper() + text[1:]


def _unseen(result: Result, line: Timeline) -> Iterator[str]:
    """What this answer cannot exclude, for the first screen."""
    if result.verdict is VerdictLabel.ERROR:
        yield "Nothing was judged: this file may hold anything."
        return
    if result.verdict is VerdictLabel.NOT_APPLICABLE:
        yield "Nothing was judged: whether anything in this file was manipulated was not examined."
    yield "Only faces are judged: not voices, not lips against sound, not bodies, backgrounds, captions or cuts."
    if result.verdict is not VerdictLabel.NOT_APPLICABLE:
        yield "A kind of fake that it never met can look real to it; filters, make-up and compression can look fake."
    if line.step_s is not None and line.missed_s is not None:
        short = longest_missed_s(result, line.duration_s) if not line.people else line.missed_s
        yield (
            f"{result.frames_sampled:,} frames were looked at, one every {line.step_s:.2f} s: what is shorter than "
            f"{short:.1f} s can lie between them."
        )
    if result.left_out and result.duration_s:
        lost_s = result.left_out * result.duration_s
        yield f"{lost_s:.1f} of {result.duration_s:.1f} s were not looked at: they are damaged or cut off."


def _details(result: Result, line: Timeline, model: ModelInfo) -> Iterator[str]:
    """The same, what else there is to know."""
    n = result.frames_sampled
    if line.step_s is not None and line.people:
        yield "Starts and ends of stretches are as exact as the step between frames; --frames looks at more of them."
    if result.sampling_shift_s:
        yield f"Frames were taken up to {result.sampling_shift_s:.2f} s from their times, where that was quicker."
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


def _person(track: TrackResult, line: Timeline, result: Result, model: ModelInfo, pictures: _Pictures) -> PersonView:
    series = next(one for one in line.people if one.id == track.id)
    material = pictures.people.get(track.id)
    importance = material.importance if material else ()
    video = result.kind != "image" and bool(line.duration_s) and bool(series.times_s)
    name = f"person {track.id}"
    return PersonView(
        id=track.id,
        verdict=str(track.verdict),
        word=WORDS[track.verdict],
        probability=percent(track.probability, model.uncertain_band) if model.trained else "",
        seen=_seen(track, video=video),
        gauge=gauge(track.probability, model.uncertain_band, model.threshold) if model.trained else None,
        chart=chart(series, line, name=name) if video else None,
        weighed=chart(series, line, importance, name=name) if video and importance else None,
        frame=pictures.frame(track),
        faces=tuple(pictures.faces(track)),
        heat=tuple(pictures.heat(track)),
    )


def _seen(track: TrackResult, *, video: bool) -> str:
    sizes = [min(f.box[2] - f.box[0], f.box[3] - f.box[1]) for f in track.frames]
    size = f"face {statistics.median(sizes):.0f} px wide" if sizes else "no frames"
    if not video:
        return size[0].upper() + size[1:]
    frames = "1 frame" if len(track.frames) == 1 else f"{len(track.frames):,} frames"
    return f"Seen from {clock(track.start_s)} to {clock(track.end_s)} in {frames}; {size}"


def _heat_words(scales: Sequence[float]) -> str:
    if max(scales, default=0.0) <= 0:
        return "Nothing in these crops speaks for “fake”: the heat maps are empty."
    return (
        "Colour shows where the detector sees signs of “fake”, on one scale for all people of this file; grey is where "
        "it sees none. It shows where the detector looks, not where something was changed."
    )


@dataclass(slots=True)
class _Pictures:
    """Views of one input's pictures, within its budget; tells whether any was brightened."""

    material: Material
    plan: Plan
    album: Album
    video: bool
    brightened: bool = False

    @property
    def people(self) -> dict[int, PersonMaterial]:
        return {person.id: person for person in self.material.people}

    def frame(self, track: TrackResult) -> PictureView | None:
        """The whole frame of a person with the box in it."""
        chosen = self._frame_of(track)
        if chosen is None:
            return None
        seen = min(track.frames, key=lambda frame: abs(frame.time_s - chosen.time_s))
        x1, y1, x2, y2 = (value * chosen.scale for value in seen.box)
        image = self._brightened(chosen.image, (x1, y1, x2, y2)).copy()
        draw_box(image, (x1, y1, x2, y2), COLOURS[track.verdict], style_for(image))
        caption = f"Person {track.id}{self._at(chosen.time_s)}"
        return self._view(image, self.plan.frame_px, f"Frame with person {track.id} in a box", caption)

    def faces(self, track: TrackResult) -> Iterator[PictureView]:
        """Those that look most like a fake, in the order of time."""
        scores = {round(frame.time_s, 3): frame.probability for frame in track.frames}
        for picture in self._chosen(track):
            score = scores.get(round(picture.time_s, 3))
            caption = f"{clock(picture.time_s)}: " if self.video else ""
            caption += "" if score is None else f"{percent(score)} alone" if self.video else percent(score)
            alt = f"Face of person {track.id}{self._at(picture.time_s)}"
            view = self._view(self._brightened(picture.image), self.plan.side_px, alt, caption)
            if view is not None:
                yield view

    def heat(self, track: TrackResult) -> Iterator[PictureView]:
        """The same with their heat maps, and the whole frame."""
        frame = self._frame_of(track)
        pictures = [(p.heat, p.time_s, self.plan.side_px) for p in self._chosen(track)]
        if frame is not None:
            pictures.append((frame.heat, frame.time_s, self.plan.frame_px // 2))
        for image, time_s, side_px in pictures:
            if image is not None:
                at = self._at(time_s)
                view = self._view(image, side_px, f"Heat map of person {track.id}{at}", clock(time_s) if at else "")
                if view is not None:
                    yield view

    def error_level(self) -> tuple[PictureView, ...]:
        """Of the whole frame and of the face."""
        level = self.material.error_level
        if level is None:
            return ()
        side, at = self.plan.frame_px // 2, self._at(level.time_s)
        views = [self._view(level.frame, side, f"Error level of the frame{at}", f"Whole frame{at}")]
        if level.face is not None:
            views.append(self._view(level.face, side, f"Error level of the face{at}", f"Face; x {level.factor:.0f}"))
        return tuple(view for view in views if view is not None)

    def _chosen(self, track: TrackResult) -> Sequence[Picture]:
        person = self.people.get(track.id)
        return person.pictures[: self.plan.pictures] if person else ()

    def _frame_of(self, track: TrackResult) -> FramePicture | None:
        return next((frame for frame in self.material.frames if track.id in frame.people), None)

    def _brightened(self, image: RgbImage, box: Box | None = None) -> RgbImage:
        image, changed = brightened(image, box)
        self.brightened |= changed
        return image

    def _at(self, time_s: float) -> str:
        return f" at {clock(time_s)}" if self.video else ""

    def _view(self, image: RgbImage, side_px: int, alt: str, caption: str) -> PictureView | None:
        source = self.album.add(image, side_px)
        return None if source is None else PictureView(source, alt, caption)
