"""A user's own list: a CSV with the columns ``path,label`` and, where wanted, ``group,split,method``.

Each row is one video or image. ``path`` is relative to the CSV's folder; an absolute path will do when it leads into
that folder. Anything that leads elsewhere, ``../`` and links included, is refused: a list that somebody was given
must not make deepscan read other files. To list files of several places put the CSV above them. ``label`` is
``real``/``fake`` or ``0``/``1``; ``split`` is ``train``, ``val`` or ``test`` (or a usual name for one). A row that is
not understood is reported and left out, never guessed. Files that no row names are not part of the corpus and are not
reported.

* **group**: the column's value; where it is empty, the path: such a file stands alone.
* **split**: the column's value; where it is empty, none.
* **method**: the column's value for a fake; else not told.
"""

from __future__ import annotations

from pathlib import Path

from deepscan.extract.datasets.base import (
    UNTOLD_METHOD,
    Corpus,
    CorpusItem,
    Problem,
    Root,
    columns_of,
    files_in,
    finish,
    method_of,
    parse_label,
    parse_split,
    read_rows,
    without_suffix,
)


class UserCsv:
    """Reads one CSV, or every CSV with such columns that lies directly in a folder."""

    name = "csv"
    layout = "a CSV file, or a folder with one, that has the columns path,label[,group,split,method]"

    def matches(self, root: Path) -> bool:
        return bool(_tables(root))

    def read(self, root: Path) -> Corpus:
        border = Root(root if root.is_dir() else root.parent)
        items: dict[Path, CorpusItem] = {}
        contradicted: set[Path] = set()
        problems: list[Problem] = []
        for table in _tables(root):
            if not border.holds(table):
                problems.append(
                    Problem(table, "outside_root", f"{table.name!r} is a link that leads outside the corpus")
                )
                continue
            for number, row in read_rows(table, problems):
                item = _item(border, row)
                where = f"line {number} of {table.name}"
                if isinstance(item, Problem):
                    problems.append(Problem(item.path, item.reason, f"{where}: {item.message}"))
                    continue
                before = items.setdefault(item.path, item)
                if before is item:
                    continue
                reason = "duplicate" if before == item else "conflict"
                told = "again" if before == item else "again with another label, group, split or method; it is left out"
                problems.append(Problem(item.path, reason, f"{where}: {row['path']!r} is listed {told}"))
                if before != item:
                    contradicted.add(item.path)
        return finish(self, root, (item for path, item in items.items() if path not in contradicted), problems)


def _tables(root: Path) -> list[Path]:
    candidates = [root] if root.is_file() and root.suffix.lower() == ".csv" else files_in(root, ".csv")
    return [path for path in candidates if {"path", "label"} <= set(columns_of(path)[0])]


def _item(border: Root, row: dict[str, str]) -> CorpusItem | Problem:
    """One row as an item, or what is wrong with it."""
    path = border.find(row["path"])
    if isinstance(path, Problem):
        return path
    label = parse_label(row["label"])
    if label is None:
        return Problem(path, "bad_label", f"label {row['label']!r} of {row['path']!r} is neither real, fake, 0 nor 1")
    split = parse_split(row["split"]) if row.get("split") else None
    if row.get("split") and split is None:
        return Problem(path, "bad_split", f"split {row['split']!r} of {row['path']!r} is neither train, val nor test")
    video_id = without_suffix(border.relative(path))
    method = method_of(label, row.get("method") or UNTOLD_METHOD)
    return CorpusItem(video_id, path, label, UserCsv.name, method, row.get("group") or video_id, split)
