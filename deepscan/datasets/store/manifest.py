"""What became of every video: ``manifest.csv`` and ``failures.csv``.

After the columns of :class:`ManifestRow` come those that the corpus has beyond them, if any, sorted by name.

UTF-8, LF, one line a row, sorted: equal rows make equal files. Cells are written as they are, apart from what
:func:`~.archive.escape_text` escapes: backslashes, control characters and bytes of file names that are
no UTF-8. Nothing is altered for the sake of spreadsheets. Both files are written whole at the end of a run, from the
journal (:mod:`deepscan.datasets.store.journal`), which is what a killed run leaves behind.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from deepscan.datasets.readers.base import FAKE, REAL, SPLITS, CorpusItem, Split, is_safe
from deepscan.datasets.store.archive import escape_text, replacing, unescape_text
from deepscan.errors import DeepscanError
from deepscan.files import check_target

Status = Literal["ok", "skipped", "failed"]
_STATUSES = ("ok", "skipped", "failed")


class ManifestError(DeepscanError):
    """A manifest cannot be read, or contradicts another one."""

    reason = "manifest"


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One video in ``manifest.csv``; the columns are these fields, ``columns`` by their own names.

    Attributes:
        video_id: with ``dataset``, unique in a manifest.
        path: the input as it was given, with forward slashes; the tar or folder for a file in one.
        label: 0 real, 1 fake.
        dataset: which corpus it is of.
        method: ``real``, or the name of the manipulation.
        group: what must not be divided between splits.
        split: ``train``, ``val`` or ``test``; empty where none was assigned.
        store: its file, relative to the output folder, with forward slashes; empty unless ``ok``.
        n_frames: frames that were looked at.
        n_tracks: people in the file.
        status: ``ok``; ``skipped``: readable, but nobody in it can be used; ``failed``: it could not be read.
        reason: why not ``ok``: one of the reasons in ``docs/report.md``.
        columns: what else the corpus says; none is empty or is called as another column here.
    """

    video_id: str
    path: str
    label: int
    dataset: str
    method: str
    group: str
    split: Split | None
    store: str | None
    n_frames: int
    n_tracks: int
    status: Status
    reason: str | None
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.label not in (REAL, FAKE) or self.status not in _STATUSES or self.split not in (None, *SPLITS):
            raise ValueError(f"Invalid label, status or split ({self.label!r}, {self.status!r}, {self.split!r}).")
        if self.n_frames < 0 or self.n_tracks < 0:
            raise ValueError(f"Invalid counts ({self.n_frames}, {self.n_tracks}).")
        if self.status == "ok" and (self.store is None or self.reason is not None or not self.n_tracks):
            raise ValueError("A row that is ok has a store, tracks, and no reason.")
        if self.status != "ok" and (self.store is not None or not self.reason or self.n_tracks):
            raise ValueError("A row that is not ok has a reason, and neither store nor tracks.")
        if self.store is not None and not is_safe(self.store):
            raise ValueError(f"The store {self.store!r} leads outside the folder.")

    @property
    def identity(self) -> tuple[str, str]:
        """What a video is known by: dataset and name."""
        return self.dataset, self.video_id

    @classmethod
    def of(
        cls,
        item: CorpusItem,
        status: Status,
        reason: str | None = None,
        *,
        store: str | None = None,
        n_frames: int = 0,
        n_tracks: int = 0,
    ) -> Self:
        """The row of a corpus' item."""
        path, facts = item.path.as_posix(), (item.label, item.dataset, item.method, item.group, item.split)
        further = further_columns(item)
        return cls(item.video_id, path, *facts, store, n_frames, n_tracks, status, reason, further)

    def cells(self) -> dict[str, str]:
        """As in the file: texts escaped, None empty."""
        further = {escape_text(name): _cell(self.columns[name]) for name in sorted(self.columns)}
        return {name: _cell(getattr(self, name)) for name in COLUMNS} | further

    @classmethod
    def from_cells(cls, cells: dict[str, str]) -> Self:
        """The row of such cells.

        Raises:
            ValueError: they are none.
        """
        if not set(cells) >= set(COLUMNS):
            raise ValueError(f"Invalid columns ({', '.join(cells)}).")
        values: dict[str, Any] = {name: unescape_text(cells[name]) for name in COLUMNS}
        further = {name: text for name, text in cells.items() if name not in COLUMNS and text}
        values["columns"] = {unescape_text(name): unescape_text(text) for name, text in further.items()}
        values |= {name: _number(values[name]) for name in ("label", "n_frames", "n_tracks")}
        values |= {name: values[name] or None for name in ("split", "store", "reason")}
        return cls(**values)


@dataclass(frozen=True, slots=True, order=True)
class Failure:
    """One line of ``failures.csv``: a video that failed, or a problem of the corpus; ``message`` is for a person."""

    dataset: str
    video_id: str
    path: str
    reason: str
    message: str


COLUMNS = tuple(f.name for f in fields(ManifestRow) if f.name != "columns")
FAILURE_COLUMNS = tuple(f.name for f in fields(Failure))


def further_columns(item: CorpusItem) -> dict[str, str]:
    """Those columns of an item that a manifest has no other column of that name for."""
    return {name: text for name, text in item.further_columns.items() if name not in COLUMNS}


def check_tables(manifest: Path, failures: Path) -> None:
    """Look whether tables of ours, or none, lie where they are to be written.

    Raises:
        OutputError: they are somebody else's; a corpus may have a ``manifest.csv``, too.
    """
    for path, columns in ((manifest, COLUMNS), (failures, FAILURE_COLUMNS)):
        if path.exists():
            check_target(path, re.compile(",".join(columns).encode()))


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write rows, sorted by dataset and name, so that equal rows make equal files.

    Raises:
        ManifestError: a video is in two different rows.
        OutputError: it cannot be written; an older manifest is then as it was.
    """
    unique = unique_rows(rows)
    columns = [*COLUMNS, *sorted({escape_text(name) for row in unique for name in row.columns})]
    cells = (row.cells() for row in unique)
    _write_csv(path, columns, ([of_row.get(name, "") for name in columns] for of_row in cells))


def write_failures(path: Path, failures: Iterable[Failure]) -> None:
    """Write failures, sorted, each once.

    Raises:
        OutputError: it cannot be written.
    """
    _write_csv(path, FAILURE_COLUMNS, (map(_cell, astuple(failure)) for failure in sorted(set(failures))))


def read_manifest(path: Path) -> list[ManifestRow]:
    """The rows of a manifest.

    Raises:
        ManifestError: it cannot be read, or a line is no row.
    """
    rows = []
    for number, cells in _read_csv(path, COLUMNS, more=True):
        try:
            rows.append(ManifestRow.from_cells(cells))
        except ValueError as error:
            raise _broken(path, f"line {number}: {error}") from error
    return rows


def read_failures(path: Path) -> list[Failure]:
    """The lines of a ``failures.csv``.

    Raises:
        ManifestError: it cannot be read.
    """
    return [
        Failure(**{name: unescape_text(cell) for name, cell in cells.items()})
        for _, cells in _read_csv(path, FAILURE_COLUMNS)
    ]


def unique_rows(rows: Iterable[ManifestRow]) -> list[ManifestRow]:
    """Rows sorted by dataset and name; the same row twice is one.

    Raises:
        ManifestError: two rows disagree about a video; names the first.
    """
    unique: dict[tuple[str, str], ManifestRow] = {}
    for row in rows:
        listed = unique.setdefault(row.identity, row)
        if listed != row:
            differing = [name for name in (*COLUMNS, "columns") if getattr(listed, name) != getattr(row, name)]
            cause = ", ".join(f"{name} {getattr(listed, name)!r} and {getattr(row, name)!r}" for name in differing)
            raise ManifestError(
                f"{row.dataset} {row.video_id!r} is in two rows that disagree",
                cause,
                "Delete the manifest that is out of date, or run its part again.",
                reason="manifest_conflict",
            )
    return [unique[identity] for identity in sorted(unique)]


def _cell(value: object) -> str:
    return "" if value is None else escape_text(str(value))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise ValueError(f"Invalid number ({text!r}).")
    return int(text)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def _read_csv(path: Path, columns: Sequence[str], *, more: bool = False) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows with their line numbers; with ``more`` further columns may follow."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ManifestError(f"{path} cannot be read", error.strerror or str(error), "Check the folder.") from error
    except UnicodeDecodeError as error:
        raise _broken(path, "it is not UTF-8") from error
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines, [])
        if (
            header[: len(columns)] != list(columns)
            or len(set(header)) < len(header)
            or not (more or len(header) == len(columns))
        ):
            raise _broken(path, f"its first line is not {','.join(columns)}")
        for cells in lines:
            if len(cells) != len(header):
                raise _broken(path, f"line {lines.line_num} has {len(cells)} cells, not {len(header)}")
            yield lines.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise _broken(path, f"line {lines.line_num}: {error}") from error


def _broken(path: Path, cause: str) -> ManifestError:
    return ManifestError(f"{path} is damaged or no file of deepscan preprocess", cause, "Run the preprocessing again.")
