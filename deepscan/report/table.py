"""A report as JSON, CSV or a table for people.

The JSON is the contract ``deepscan.report/1``; its JSON Schema comes with the package as
``deepscan/schema/report-1.json``.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from deepscan.text import answer_rule, encodable, percent, printable
from deepscan.types import Box, ModelInfo, Report, Result, Segment, TrackResult, UnjudgedTrack, VerdictLabel

SCHEMA_ID = "deepscan.report/1"
CSV_COLUMNS = (
    "path", "verdict", "probability", "reason", "message", "kind", "duration_s", "frames_sampled",
    "frames_with_face", "people", "segments", "model", "model_sha256", "sha256", "unjudged", "turned",
    "examined_s", "left_out", "notes",
)  # fmt: skip

# Why somebody or something in a file was not judged.
UNJUDGED = {
    "doubtful_face": "not surely a face",
    "too_dark": "too dark",
    "face_too_small": "too small",
    "too_blurred": "too blurred",
    "too_compressed": "too compressed",
}
_STYLES = {
    VerdictLabel.FAKE: ("bold red", "FAKE"),
    VerdictLabel.REAL: ("green", "real"),
    VerdictLabel.UNCERTAIN: ("yellow", "uncertain"),
    VerdictLabel.NOT_APPLICABLE: ("cyan", "no answer"),
    VerdictLabel.ERROR: ("magenta", "error"),
}


def schema() -> dict[str, Any]:
    """The JSON Schema of the report."""
    text = files("deepscan").joinpath("schema/report-1.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def to_dict(report: Report) -> dict[str, Any]:
    """The report as plain values, rounded to what is meaningful: probabilities 4 digits, times 3, boxes 1."""
    return {
        "schema": SCHEMA_ID,
        "version": report.version,
        "model": _model(report.model),
        "results": [result_to_dict(r) for r in report.results],
        "passed_over": report.passed_over,
    }


def to_json(report: Report) -> str:
    """The report as JSON text, ending in a newline."""
    return encodable(json.dumps(to_dict(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def to_csv(report: Report) -> str:
    """One line a file, with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for result in report.results:
        row = result_to_dict(result)
        row |= {
            "people": len(result.tracks),
            "unjudged": len(result.unjudged),
            "segments": " ".join(f"{s.start_s:.1f}-{s.end_s:.1f}" for s in result.segments),
            "model": report.model.name,
            "model_sha256": report.model.sha256,
            "notes": " ".join(note.text for note in result.notes),
        }
        writer.writerow({name: row[name] for name in CSV_COLUMNS})
    return encodable(out.getvalue())


def result_to_dict(result: Result) -> dict[str, Any]:
    """One entry of ``results``."""
    return {
        "path": result.path,
        "sha256": result.sha256,
        "kind": result.kind,
        "verdict": str(result.verdict),
        "reason": result.reason,
        "message": result.message,
        "probability": _rounded(result.probability, 4),
        "duration_s": _rounded(result.duration_s, 3),
        "frames_sampled": result.frames_sampled,
        "frames_with_face": result.frames_with_face,
        "sampling": result.sampling,
        "turned": result.turned,
        "tracks": [*map(_track, result.tracks), *map(_unjudged, result.unjudged)],
        "segments": [_segment(s) for s in result.segments],
        "timing_s": {name: round(value, 3) for name, value in result.timing_s.items()},
        "examined_s": _rounded(result.examined_s, 3),
        "left_out": _rounded(result.left_out, 4),
        "notes": [{"code": note.code, "text": note.text} for note in result.notes],
    }


def print_table(report: Report, console: Console) -> None:
    """The table a person reads, with what it rests on below it."""
    if not report.model.trained:
        console.print(
            Text("Random weights: these figures say nothing about the files.", style="bold white on red"),
        )
    root = _common_folder(report.results)
    if root:
        console.print(Text(f"In {_printable(root)}"))
    console.print(_table(report, root))
    details = [line for r in report.results for line in _details(r, root, report.model.uncertain_band)]
    if details:
        console.print(Group(*details))
    console.print(Text(_legend(report), style="dim"))


def _table(report: Report, root: str) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("File", overflow="fold", ratio=3)
    table.add_column("Verdict", no_wrap=True)
    table.add_column("P(fake)", justify="right", no_wrap=True)
    table.add_column("People", justify="right", no_wrap=True)
    table.add_column("Length", justify="right", no_wrap=True)
    table.add_column("Why", overflow="fold", ratio=4)
    for result in report.results:
        style, word = _STYLES[result.verdict]
        table.add_row(
            Text(_printable(_below(result.path, root))),
            Text(word, style=style),
            "-" if result.probability is None else percent(result.probability, report.model.uncertain_band),
            str(len(result.tracks)) if result.tracks else "-",
            _length(result),
            Text(_printable(" ".join([result.message or "", *(note.text for note in result.notes)]).strip())),
        )
    return table


def _details(result: Result, root: str, band: tuple[float, float]) -> list[RenderableType]:
    """Who and when, for files where there is something to point at."""
    if len(result.tracks) < 2 and not result.segments and not result.unjudged:
        return []
    lines: list[RenderableType] = [Text(f"\n{_printable(_below(result.path, root))}", style="bold")]
    for track in result.tracks:
        style, word = _STYLES[track.verdict]
        line = Text(f"  person {track.id}, seen {_span(track.start_s, track.end_s)}: ")
        line.append(f"{word} ({percent(track.probability, band)})", style=style)
        spans = [_span(s.start_s, s.end_s) for s in result.segments if s.track == track.id]
        if spans:
            line.append(f"; frames look manipulated at {', '.join(spans)}")
        lines.append(line)
    for left in result.unjudged:
        why = UNJUDGED[left.reason]
        lines.append(Text(f"  not judged, seen {_span(left.start_s, left.end_s)}: {why}", style="dim"))
    return lines


def _common_folder(results: Sequence[Result]) -> str:
    """The folder that all files share: said once, it need not fill the table's narrow column."""
    folders = [os.path.dirname(r.path) for r in results]  # noqa: PTH120 - paths are shown as they were given
    try:
        return os.path.commonpath(folders) if len(folders) > 1 else ""
    except ValueError:  # relative and absolute paths, or several drives
        return ""


def _below(path: str, root: str) -> str:
    return path.removeprefix(root).lstrip(os.sep) if root else path


def _legend(report: Report) -> str:
    rule = answer_rule(report.model.threshold, report.model.uncertain_band)
    return (
        f"\nP(fake) is a calibrated probability: {rule}. "
        f"Model {report.model.name} {report.model.version}; `deepscan models` says what was measured of it."
    )


def _model(model: ModelInfo) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "sha256": model.sha256,
        "threshold": round(model.threshold, 4),
        "uncertain_band": [round(v, 4) for v in model.uncertain_band],
        "trained": model.trained,
        "backbone": model.backbone,
        "head": model.head,
        "settings": model.settings,
    }


def _track(track: TrackResult) -> dict[str, Any]:
    return {
        "id": track.id,
        "verdict": str(track.verdict),
        "probability": round(track.probability, 4),
        "start_s": round(track.start_s, 3),
        "end_s": round(track.end_s, 3),
        "frames": [
            {**_sighting(f.time_s, f.box, f.confidence), "probability": round(f.probability, 4)} for f in track.frames
        ],
    }


def _sighting(time_s: float, box: Box, confidence: float) -> dict[str, Any]:
    return {"time_s": round(time_s, 3), "box": [round(v, 1) for v in box], "confidence": round(confidence, 4)}


def _unjudged(track: UnjudgedTrack) -> dict[str, Any]:
    return {
        "id": track.id,
        "verdict": str(VerdictLabel.NOT_APPLICABLE),
        "reason": track.reason,
        "probability": None,
        "start_s": round(track.start_s, 3),
        "end_s": round(track.end_s, 3),
        "frames": [{**_sighting(f.time_s, f.box, f.confidence), "probability": None} for f in track.frames],
    }


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "track": segment.track,
        "start_s": round(segment.start_s, 3),
        "end_s": round(segment.end_s, 3),
        "probability": round(segment.probability, 4),
    }


def _printable(text: str) -> str:
    """For the terminal; bytes that are no text stay legible."""
    return printable(encodable(text))


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _span(start_s: float, end_s: float) -> str:
    return f"{start_s:.1f}-{end_s:.1f} s"


def _length(result: Result) -> str:
    if result.kind == "image":
        return "image"
    if result.duration_s is None:
        return "-"
    minutes, seconds = divmod(round(result.duration_s, 1), 60)
    return f"{int(minutes)}:{seconds:04.1f}" if minutes else f"{seconds:.1f} s"
