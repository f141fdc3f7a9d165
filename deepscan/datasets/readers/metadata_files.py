"""JSON and CSV files that come with a corpus and their values, read without trust: what is wrong is a problem."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from deepscan.datasets.readers.base import FAKE, REAL, Problems, Split, writable

_LONGEST_HEADER = 1 << 16
_LABELS = {"0": REAL, "0.0": REAL, "real": REAL, "1": FAKE, "1.0": FAKE, "fake": FAKE}
_SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def read_json(path: Path, problems: Problems | None = None) -> Any:
    """The content of a JSON file; None, and a problem where they are given, if it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        cause = f"{path.name} cannot be read: {error.strerror or error}"
    except (ValueError, RecursionError) as error:
        cause = f"{path.name} is no valid JSON: {error}"
    if problems is not None:
        problems.add(path, "broken_metadata", cause)
    return None


def columns_of(path: Path) -> tuple[list[str], str]:
    """The columns that the first line of a CSV names, in lower case, and what separates them; none if unreadable."""
    try:
        with path.open("rb") as handle:
            line = handle.readline(_LONGEST_HEADER).decode("utf-8-sig").strip()
    except (OSError, ValueError):
        return [], ","
    separator = max(",;\t", key=line.count)
    return [column.strip().strip('"').lower() for column in line.split(separator)], separator


def read_rows(path: Path, problems: Problems) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV with their line numbers. Each line is one row, so a quote left open costs that row only."""
    columns, separator = columns_of(path)
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        problems.add(path, "broken_metadata", f"{path.name} cannot be read: {error.strerror or error}")
        return []
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        try:
            values = next(csv.reader([line.decode("utf-8")], delimiter=separator, strict=True))
        except (csv.Error, ValueError) as error:
            problems.add(path, "bad_row", f"line {number} of {path.name} is no CSV row: {error}")
            continue
        if len(values) > len(columns):
            cause = f"line {number} of {path.name} has {len(values)} values for {len(columns)} columns"
            problems.add(path, "bad_row", cause)
            continue
        values += [""] * (len(columns) - len(values))
        rows.append((number, {column: value.strip() for column, value in zip(columns, values, strict=True)}))
    return rows


def other_columns(row: Mapping[str, str], used: Collection[str]) -> dict[str, str]:
    """The columns of a user's table that a reader does not use itself, without the empty ones."""
    return {name: writable(text) for name, text in row.items() if name and text and name not in used}


def parse_label(value: object) -> int | None:
    """0 for ``0`` or ``real``, 1 for ``1`` or ``fake``, in any case; None for anything else."""
    return None if isinstance(value, bool) else _LABELS.get(str(value).strip().lower())


def parse_split(value: object) -> Split | None:
    """``train``, ``val`` or ``test`` from the names in use for them; None for anything else."""
    return _SPLITS.get(str(value).strip().lower())
