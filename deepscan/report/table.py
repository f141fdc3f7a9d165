"""A report as JSON, CSV or a table for people.

The JSON is the contract ``deepscan.report/1``; its JSON Schema comes with the package as
``deepscan/schema/report-1.json``.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deepscan.text import answer_rule, encodable, percent, printable
from deepscan.types import ModelInfo, Report, Result, TrackResult, UnjudgedTrack, VerdictLabel, json_text

SCHEMA_ID = "deepscan.report/1"
# How its CSV begins, for deepscan.files.check_target.
CSV_START = re.compile(rb"path,verdict,probability,")
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
# What a code of the table means and what to do next; the messages of single files say more of them.
EXPLANATIONS = {
    "no_face": "nothing to judge; if there is a face: longer excerpt, --min-segment 1s.",
    "no_stable_face": "no face is clear for long: longer excerpt, --min-segment 1s.",
    "face_too_small": "faces too small; find a larger copy, not an enlarged one.",
    "too_dark": "faces too dark; find a brighter original, or another excerpt.",
    "too_blurred": "faces too blurred; find a sharper copy, or another excerpt.",
    "too_compressed": "compression left too little of faces; find the original upload.",
    "low_confidence": "the evidence points neither way. Find the original upload or a longer excerpt; look at the "
    "frames with --html; do a reverse image search.",
    "conflicting": "real but for a stretch that looks manipulated: see --html.",
    "among_many": "some look manipulated, as of so many some do by chance: see --html.",
    "unsure_face": "who looks manipulated is seen too little: find a longer excerpt.",
    "too_many_people": "not all were judged: raise --max tracks=N, or cut the video.",
    "possible_attack": "it may have been altered to deceive the detector, or is only noisy: find the original upload.",
    "damaged": "part of it is damaged and was not examined; find a whole copy.",
    "cut_off": "its end is missing and was not examined; find a whole copy.",
    "untrained_model": "random weights; choose a detector with --model.",
    "other_pictures": "it holds further pictures, not judged: save them to files.",
    "double_jpeg": "it was saved as JPEG at least twice: find the first copy.",
    "scaled_up": "it was enlarged: find the smaller original.",
    "screen": "maybe a photograph of a screen: find the file that was shown.",
    "turned": "the faces do not stand upright; the picture was turned for them.",
    "unjudged": "somebody in it, or what looks like it, was not judged: see --html.",
}
FAKE_NEXT = "no proof. See its frames with --html; find the original; reverse search."
REAL_LIMITS = (
    "no sign of a manipulated face that this detector knows. It does not see voices, edits elsewhere, methods it "
    "never met, or whether the caption is true."
)
_FINDING = "Person and seconds, or why"
_FIXED_WIDTH = 24  # of verdict, probability, and the room between columns
_LEAST_NAME = 12

# The order is that of the table.
_STYLES = {
    VerdictLabel.FAKE: ("bold red", "FAKE"),
    VerdictLabel.UNCERTAIN: ("yellow", "uncertain"),
    VerdictLabel.ERROR: ("magenta", "error"),
    VerdictLabel.NOT_APPLICABLE: ("cyan", "no answer"),
    VerdictLabel.REAL: ("green", "real"),
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
        "results": [r.to_dict() for r in report.results],
        "passed_over": report.passed_over,
    }


def to_json(report: Report) -> str:
    """The report as JSON text, ending in a newline."""
    return json_text(to_dict(report))


def to_csv(report: Report) -> str:
    """One line a file, with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for result in report.results:
        row = result.to_dict()
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


def print_table(report: Report, console: Console) -> None:
    """The table a person reads: one line a file, urgent ones first, and below it, once each, what its words mean."""
    if not report.model.trained:
        console.print(
            Text("Random weights: these figures say nothing about the files.", style="bold white on red"),
        )
    root = _common_folder(report.results)
    if root:
        console.print(Text(f"In {_printable(root)}"))
    order = list(_STYLES)
    results = sorted(report.results, key=lambda r: (order.index(r.verdict), -(r.probability or 0)))
    band = report.model.uncertain_band
    console.print(_table(results, root, band, console.width))
    if len(results) == 1:
        for line in _details(results[0], band):
            console.print(line)
    elif results:
        console.print(Text(totals(Counter(result.verdict for result in results)), style="bold"))
    print_explanations(results, console)
    console.print(Text(_legend(report), style="dim"))


def print_explanations(results: Sequence[Result], console: Console) -> None:
    """What the words of results mean and what to do next, each once."""
    for code, text in _explanations(results).items():
        console.print(Text(f"{code}: ", style="bold") + Text(_printable(text), style="not bold"))


def status_line(result: Result, band: tuple[float, float]) -> Text:
    """Verdict, P(fake), and person and seconds or why, in one line."""
    style, word = _STYLES[result.verdict]
    probability = "-" if result.probability is None else percent(result.probability, band)
    return Text(f"{word:9}  ", style=style) + Text(f"{probability:>7}  {_printable(_finding(result))}", style="none")


def totals(counts: Mapping[str, int], what: str = "file") -> str:
    """``3 files: 1 fake, 2 real`` from how often each verdict was given."""
    words = {label: word.lower() for label, (_, word) in _STYLES.items()}
    words[VerdictLabel.ERROR] += "s" if counts.get(VerdictLabel.ERROR, 0) > 1 else ""
    parts = (f"{counts[label]:,} {words[label]}" for label in VerdictLabel if counts.get(label))
    n_all = sum(counts.values())
    return f"{n_all:,} {what}{'s' * (n_all != 1)}: {', '.join(parts)}"


def _table(results: Sequence[Result], root: str, band: tuple[float, float], width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("Verdict", no_wrap=True, min_width=9)
    table.add_column("P(fake)", justify="right", no_wrap=True, min_width=7)
    table.add_column("File", no_wrap=True, min_width=_LEAST_NAME)
    table.add_column(_FINDING, no_wrap=True, overflow="ellipsis")
    findings = [_printable(_finding(result)) for result in results]
    room = width - _FIXED_WIDTH
    name_width = max(room - max(map(cell_len, [_FINDING, *findings])), room // 2, _LEAST_NAME)
    for result, finding in zip(results, findings, strict=True):
        style, word = _STYLES[result.verdict]
        table.add_row(
            Text(word, style=style),
            "-" if result.probability is None else percent(result.probability, band),
            Text(_shortened(_printable(_below(result.path, root)), name_width)),
            Text(finding),
        )
    return table


def _finding(result: Result) -> str:
    """Who and when for a fake; for others the codes of what there is to know."""
    parts = _codes(result)
    if result.verdict is VerdictLabel.FAKE:
        fakes = [track for track in result.tracks if track.verdict is VerdictLabel.FAKE]
        worst = max(fakes, key=lambda track: track.probability, default=None)
        spans = [_span(s.start_s, s.end_s) for s in result.segments if worst is not None and s.track == worst.id]
        if worst is not None and result.kind != "image":
            spans = spans or [_span(worst.start_s, worst.end_s)]
        who = "" if worst is None else f"person {worst.id}"
        who += f" and {len(fakes) - 1} more" if len(fakes) > 1 else ""
        when = f"{spans[0]} and {len(spans) - 1} more" if len(spans) > 1 else "".join(spans)
        parts = [part for part in (who, when) if part] + parts
    return ", ".join(parts)


def _codes(result: Result) -> list[str]:
    """The reason, and what else is explained below the table."""
    codes = [result.reason, *(note.code for note in result.notes)]
    codes += ["turned" if result.turned else None, "unjudged" if result.unjudged else None]
    return list(dict.fromkeys(code for code in codes if code))


def _explanations(results: Sequence[Result]) -> dict[str, str]:
    """Each code that occurred, with what it means and what to do; an error's first message says both."""
    texts: dict[str, str] = {}
    for result in results:
        for code in _codes(result):
            if result.verdict is VerdictLabel.ERROR and code == result.reason:
                texts.setdefault(code, result.message or "")
            else:
                texts.setdefault(code, EXPLANATIONS.get(code, result.message or ""))
    verdicts = {result.verdict for result in results}
    if VerdictLabel.FAKE in verdicts:
        texts["fake"] = FAKE_NEXT
    if VerdictLabel.REAL in verdicts:
        texts["real"] = REAL_LIMITS
    return texts


def _details(result: Result, band: tuple[float, float]) -> list[Text]:
    """Of a single file: everybody in it, and what is to be said of it in full."""
    lines = []

    def seen(one: TrackResult | UnjudgedTrack) -> str:
        return "" if result.kind == "image" else f", seen {_span(one.start_s, one.end_s)}"

    for track in result.tracks if len(result.tracks) > 1 or len(result.segments) > 1 else ():
        style, word = _STYLES[track.verdict]
        line = Text(f"  person {track.id}{seen(track)}: ")
        line.append(f"{word} ({percent(track.probability, band)})", style=style)
        spans = [_span(s.start_s, s.end_s) for s in result.segments if s.track == track.id]
        if spans:
            line.append(f"; frames look manipulated at {', '.join(spans)}")
        lines.append(line)
    for left in result.unjudged:
        lines.append(Text(f"  not judged{seen(left)}: {UNJUDGED[left.reason]}", style="dim"))
    message = None if result.verdict is VerdictLabel.ERROR else result.message  # an error's is its explanation
    texts = [message, *(note.text for note in result.notes)]
    return lines + [Text(f"  {_printable(text)}") for text in texts if text]


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
        f"P(fake) is a calibrated probability: {rule}. "
        f"Model {report.model.name} {report.model.version}; `deepscan card` says what was measured."
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


def _printable(text: str) -> str:
    """For the terminal; bytes that are no text stay legible."""
    return printable(encodable(text))


def _span(start_s: float, end_s: float) -> str:
    return f"{start_s:.1f}-{end_s:.1f} s"


def _shortened(name: str, width: int) -> str:
    """The name in so many cells: its end tells files of one series apart."""
    if cell_len(name) <= width:
        return name
    end_width = (width - 3) // 2
    end = set_cell_size(name[::-1], end_width)[::-1]
    return f"{set_cell_size(name, width - 3 - end_width)}...{end}"
