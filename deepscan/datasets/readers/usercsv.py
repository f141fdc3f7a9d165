"""A user's own list: a CSV with the columns ``path,label`` and, where wanted, ``group,split,method,original``, and of a
collection ``source,family``. ``file`` is understood for ``path``. Any further column is kept, and ``deepscan evaluate
--by`` takes its name.

Each row is one video or image. ``path`` is relative to the CSV's folder; an absolute path will do when it leads into
that folder. Anything that leads elsewhere, ``../`` and links included, is refused: a list that somebody was given
must not make deepscan read other files. To list files of several places put the CSV above them. ``label`` is
``real``/``fake`` or ``0``/``1``; ``split`` is ``train``, ``val`` or ``test`` (or a usual name for one). A row that is
not understood is reported and left out, never guessed. Files that no row names are not part of the corpus and are not
reported.

* **group**: the column's value; where it is empty, the path: such a file stands alone.
* **split**: the column's value; where it is empty, none.
* **method**: the column's value for a fake; else unknown.
* **origin**, **family**: the columns ``source`` and ``family``.
* **original**: the column's value for a fake: the path, as in ``path``, of the video it was made from frame by frame,
  which is in the list too. One that is not is reported, and the fake is read without.
"""

from __future__ import annotations

from pathlib import Path

from deepscan.datasets.readers.base import (
    FAKE,
    UNKNOWN_METHOD,
    Corpus,
    CorpusItem,
    Position,
    Problem,
    Problems,
    Root,
    files_in,
    finish,
    method_of,
    without_suffix,
)
from deepscan.datasets.readers.metadata_files import columns_of, other_columns, parse_label, parse_split, read_rows

_COLUMNS = {"path", "file"}
_USED = {*_COLUMNS, "label", "group", "split", "method", "original", "source", "family"}
_COMPARED = "label, group, split, method or original"


class UserCsv:
    """Reads one CSV, or every CSV with such columns that lies directly in a folder."""

    name = "csv"
    layout = "a CSV file, or a folder with one, that has the columns path,label[,group,split,method,original]"

    def matches(self, root: Path) -> bool:
        return bool(_tables(root))

    def read(self, root: Path) -> Corpus:
        border = Root(root if root.is_dir() else root.parent)
        entries: dict[Path, tuple[CorpusItem, Path | None]] = {}
        contradicted: set[Path] = set()
        problems = Problems()
        for table in _tables(root):
            if not border.admits(table, problems):
                continue
            for number, row in read_rows(table, problems):
                item = _item(border, row)
                row_name = f"line {number} of {table.name}"
                if isinstance(item, Problem):
                    problems.add(item.path, item.reason, f"{row_name}: {item.message}")
                    continue
                original = _original(border, row, item)
                if isinstance(original, Problem):
                    problems.add(item.path, original.reason, f"{row_name}: its original {original.message}")
                    original = None
                before = entries.setdefault(item.path, (item, original))
                if before[0] is item:
                    continue
                reason, state = "duplicate", "again"
                if before != (item, original):
                    reason, state = "conflict", f"again with another {_COMPARED}; it is left out"
                    contradicted.add(item.path)
                problems.add(item.path, reason, f"{row_name}: {_name(row)!r} is listed {state}")
        kept = {path: entry for path, entry in entries.items() if path not in contradicted}
        originals = {path: original for path, (_, original) in kept.items() if original is not None}
        for path, original in originals.items():
            if original not in kept:
                cause = (
                    f"{border.relative(original)!r}, the original of {path.name!r}, is not in the list or was left out"
                )
                problems.add(path, "no_entry", cause)
        links: dict[Position, Position] = {(path, None): (original, None) for path, original in originals.items()}
        return finish(self, root, (item for item, _ in kept.values()), problems, links)


def _tables(root: Path) -> list[Path]:
    candidates = [root] if root.is_file() and root.suffix.lower() == ".csv" else files_in(root, ".csv")
    return [path for path in candidates if _COLUMNS & set(columns_of(path)[0]) and "label" in columns_of(path)[0]]


def _item(border: Root, row: dict[str, str]) -> CorpusItem | Problem:
    """One row as an item, or what is wrong with it."""
    path = border.find(_name(row))
    if isinstance(path, Problem):
        return path
    label = parse_label(row["label"])
    if label is None:
        return Problem(path, "bad_label", f"label {row['label']!r} of {_name(row)!r} is neither real, fake, 0 nor 1")
    split = parse_split(row["split"]) if row.get("split") else None
    if row.get("split") and split is None:
        return Problem(path, "bad_split", f"split {row['split']!r} of {_name(row)!r} is neither train, val nor test")
    video_id = without_suffix(border.relative(path))
    method = method_of(label, row.get("method") or UNKNOWN_METHOD)
    return CorpusItem(
        video_id,
        path,
        label,
        UserCsv.name,
        method,
        row.get("group") or video_id,
        split,
        origin=row.get("source") or "",
        family=row.get("family") or "",
        columns=other_columns(row, _USED),
    )


def _name(row: dict[str, str]) -> str:
    return row.get("path") or row.get("file") or ""


def _original(border: Root, row: dict[str, str], item: CorpusItem) -> Path | Problem | None:
    """The file that a fake was made from; None where the row does not tell."""
    name = row.get("original")
    return border.find(name) if name and item.label == FAKE else None
