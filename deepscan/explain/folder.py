"""The evidence of one input as files: faces with and without heat, whole frames, and the numbers behind the charts."""

from __future__ import annotations

import csv
import io
import re
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from deepscan.errors import OutputError
from deepscan.files import write_atomically

if TYPE_CHECKING:
    from deepscan.explain.error_level import ErrorLevel
    from deepscan.explain.evidence import Explanation, PersonEvidence
    from deepscan.types import RgbImage

TIMELINE_FILE = "timeline.csv"
_COLUMNS = ("person", "time_s", "probability", "importance")
_LONGEST_NAME = 60


def folder_name(number: int, path: Path) -> str:
    """Of an input's folder: its place in the report, and what is left of its name in plain characters."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", path.stem).strip("._")[:_LONGEST_NAME]
    return f"{number:03}-{stem}" if stem else f"{number:03}"


def write_evidence(explanation: Explanation, folder: Path) -> list[Path]:
    """Write what an explanation shows.

    Args:
        explanation: of one input.
        folder: made if missing; files of the same names are replaced.

    Returns:
        The files: of each person ``person-1/0001.500s.png`` and ``...-heat.png``, ``frames/0001.500s.png`` and
        ``timeline.csv`` (person, time in seconds, P(fake) of the frame, log-odds that the person's answer owes to it).

    Raises:
        OutputError: they cannot be written.
    """
    written: list[Path] = []
    for person in explanation.people:
        person_folder = _made(folder / f"person-{person.result.id}")
        for time_s, crop, overlay in zip(person.times_s, person.crops, person.overlays, strict=True):
            written += [
                _picture(person_folder / f"{_when(time_s)}.png", crop),
                _picture(person_folder / f"{_when(time_s)}-heat.png", overlay),
            ]
    if explanation.frames:
        frames_folder = _made(folder / "frames")
        written += [
            _picture(frames_folder / f"{_when(frame.time_s)}.png", frame.overlay) for frame in explanation.frames
        ]
    if explanation.people:
        path = _made(folder) / TIMELINE_FILE
        write_atomically(path, _timeline(explanation.people).encode())
        written.append(path)
    return written


def write_error_level(level: ErrorLevel, folder: Path) -> list[Path]:
    """Write ``error-level/frame.png`` and ``face.png``, and return them.

    Raises:
        OutputError: they cannot be written.
    """
    made = _made(folder / "error-level")
    pictures = {"frame": level.frame} if level.face is None else {"frame": level.frame, "face": level.face}
    return [_picture(made / f"{name}.png", image) for name, image in pictures.items()]


def _timeline(people: tuple[PersonEvidence, ...]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for person in people:
        for frame, importance in zip(person.result.frames, person.importance.importance.tolist(), strict=True):
            writer.writerow((person.result.id, f"{frame.time_s:.3f}", f"{frame.probability:.4f}", f"{importance:+.4f}"))
    return out.getvalue()


def _when(time_s: float) -> str:
    return f"{time_s:08.3f}s"


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made", error.strerror or str(error)) from error
    return folder


def _picture(path: Path, image: RgbImage) -> Path:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())
    return path
