"""Face crops with a table: the DFDC crops with their CSV, and tars of crops.

Three forms, distinguished by the columns of the table:

1. ``videoname,...,label,original``: one row a DFDC video, whose crop is the image of the same name anywhere below the
   table (``metadata.csv`` beside ``faces_224/``). **group**: the original video, as for DFDC itself. **original**: the
   crop of that video.
2. ``file,shard,label[,group,split,method,source,family]``: one row an image in the tar ``shard``. **group**,
   **split**, **method**, **origin** (``source``) and **family**: those columns; an image without a group stands alone.
   Any further column is kept: ``deepscan evaluate --by`` takes its name.
   **original**: the real of the fake's group, where it is the only one.
3. No table: a tar, or a folder of tars, whose own name, or else whose folder's name, has the word ``real`` or ``fake``
   in it (``real_faces/*.tar``). **group**: the image itself. Names as UTKFace has them give the columns ``sex``,
   ``age_band`` and ``race``.

In the other forms the **method** is unknown. An item of a tar has the tar as ``path`` and the name inside as
``member``; nothing is unpacked. DFDC and its tables: Dolhansky et al., arXiv 2006.07397.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from deepscan.datasets.readers.base import (
    FAKE,
    REAL,
    UNKNOWN_METHOD,
    Corpus,
    CorpusItem,
    Position,
    Problem,
    Problems,
    Root,
    files_in,
    finish,
    is_safe,
    method_of,
    position_of,
    without_suffix,
)
from deepscan.datasets.readers.dfdc import original_groups
from deepscan.datasets.readers.metadata_files import columns_of, other_columns, parse_label, parse_split, read_rows
from deepscan.extract.file_kinds import IMAGE_SUFFIXES

_CROPS_COLUMNS = {"videoname", "label"}
_TAR_COLUMNS = {"file", "shard", "label"}
_USED = {*_TAR_COLUMNS, "group", "split", "method", "source", "family"}
# UTKFace: age, sex and race as its authors call them, then the date.
_UTKFACE = re.compile(r"(\d{1,3})_([01])_([0-4])_\d{10,17}\b.*")
_SEXES = ("male", "female")
_RACES = ("white", "black", "asian", "indian", "other")
_AGES = {0: "under 18", 18: "18 to 29", 30: "30 to 44", 45: "45 to 59", 60: "60 and over"}


class FaceCrops:
    """Reads face crops in folders or tars."""

    name = "facecrops"
    layout = (
        "a CSV videoname,...,label,original beside the crops; a CSV file,shard,label,group,split beside its tars; "
        "or tars in a folder with real or fake in its name"
    )

    def matches(self, root: Path) -> bool:
        if _tables(root, _CROPS_COLUMNS) or _tables(root, _TAR_COLUMNS):
            return True
        return any(_label_in_names(tar) is not None for tar in _tars(root))

    def read(self, root: Path) -> Corpus:
        border = Root(root if root.is_dir() else root.parent)
        problems = Problems()
        items: list[CorpusItem] = []
        originals: dict[Position, Position] = {}
        crops, tars = _tables(root, _CROPS_COLUMNS), _tables(root, _TAR_COLUMNS)
        for table in (*crops, *tars):
            if not border.admits(table, problems):
                continue
            if table in crops:
                items += _crops(border, table, problems, originals)
            else:
                items += _listed_tars(border, table, problems)
        originals |= _only_reals(item for item in items if item.member is not None)
        if not crops and not tars:
            for tar in _tars(root):
                items += _plain_tar(border, tar, problems)
        return finish(self, root, items, problems, originals)


def _tars(root: Path) -> list[Path]:
    """The tars of a folder, or the one that is given."""
    return [root] if root.is_file() and root.suffix.lower() == ".tar" else files_in(root, ".tar")


def _tables(root: Path, columns: set[str]) -> list[Path]:
    candidates = [root] if root.is_file() and root.suffix.lower() == ".csv" else files_in(root, ".csv")
    return [path for path in candidates if columns <= set(columns_of(path)[0])]


def _crops(border: Root, table: Path, problems: Problems, originals: dict[Position, Position]) -> list[CorpusItem]:
    """Form 1. Crops are found by name: every image below the table's folder has one row."""
    images: dict[str, Path] = {}
    for path in border.media(border.folder, IMAGE_SUFFIXES, problems):
        first = images.setdefault(path.stem, path)
        if first is not path:
            problems.add(path, "duplicate", f"{path.stem!r} is there twice; {border.relative(first)} is used")
    rows: dict[str, tuple[int, str]] = {}
    for number, row in read_rows(table, problems):
        row_name, name = f"line {number} of {table.name}", row["videoname"]
        label, stem = parse_label(row["label"]), Path(name).stem
        if label is None or not stem:
            reason = "bad_label" if label is None else "bad_row"
            problems.add(table, reason, f"{row_name}: {name!r} has label {row['label']!r}, not REAL or FAKE")
        elif Path(name).name != name:
            problems.add(table, "outside_root", f"{row_name}: {name!r} is not a plain file name")
        elif stem in rows:
            problems.add(table, "duplicate", f"{row_name}: {name!r} is listed again; the first row counts")
        else:
            original = Path(row.get("original", "")).stem if label == FAKE else ""
            rows[stem] = label, original
            if stem not in images:
                problems.add(table, "missing_file", f"{row_name}: there is no image of {name!r}")
    group_of = original_groups((stem, original) for stem, (_, original) in rows.items() if original)
    for stem, path in images.items():
        if stem not in rows:
            problems.add(path, "no_entry", f"{path.name!r} has no row in {table.name}")
        elif rows[stem][1] in images:
            originals[path, None] = images[rows[stem][1]], None
    return [
        CorpusItem(
            without_suffix(border.relative(images[stem])),
            images[stem],
            label,
            FaceCrops.name,
            method_of(label),
            group_of.get(stem, stem),
            None,
        )
        for stem, (label, _) in rows.items()
        if stem in images
    ]


def _listed_tars(border: Root, table: Path, problems: Problems) -> list[CorpusItem]:
    """Form 2."""
    tars: dict[str, Path | Problem] = {}
    members: dict[str, set[str]] = {}
    met: dict[str, set[str]] = {}
    items = []
    for number, row in read_rows(table, problems):
        row_name, file, shard = f"line {number} of {table.name}", row["file"], row["shard"]
        if shard not in tars:
            tars[shard] = tar = border.find(shard)
            if isinstance(tar, Problem):
                problems.add(tar.path, tar.reason, f"{row_name}: {tar.message}; its rows are left out")
            else:
                members[shard], met[shard] = _members(tar, problems), set()
        tar = tars[shard]
        if isinstance(tar, Problem):
            continue
        label, group, split = parse_label(row["label"]), row.get("group") or "", row.get("split") or ""
        if label is None:
            problems.add(tar, "bad_label", f"{row_name}: label {row['label']!r} of {file!r} is not real or fake")
        elif split and parse_split(split) is None:
            problems.add(tar, "bad_split", f"{row_name}: {file!r} is in an unknown split {split!r}")
        elif file not in members[shard]:
            problems.add(tar, "missing_file", f"{row_name}: {file!r} is not in {shard}")
        elif file in met[shard]:
            problems.add(tar, "duplicate", f"{row_name}: {file!r} is listed again; the first row counts")
        else:
            item = _member(border, tar, file, label, group, split)
            method = method_of(label, row.get("method") or UNKNOWN_METHOD)
            origin, family = row.get("source") or "", row.get("family") or ""
            columns = other_columns(row, _USED)
            items.append(replace(item, method=method, origin=origin, family=family, columns=columns))
        met[shard].add(file)
    for shard, names in members.items():
        for name in sorted(names - met[shard]):
            problems.add(border.folder / shard, "no_entry", f"{name!r} in {shard} has no row in {table.name}")
    return items


def _only_reals(items: Iterable[CorpusItem]) -> dict[Position, Position]:
    """From every image to the real one of its group, in groups with one real."""
    by_group: dict[str, list[CorpusItem]] = {}
    for item in items:
        by_group.setdefault(item.group, []).append(item)
    originals = {}
    for group in by_group.values():
        reals = [position_of(item) for item in group if item.label == REAL]
        if len(reals) == 1:
            originals.update({position_of(item): reals[0] for item in group})
    return originals


def _plain_tar(border: Root, tar: Path, problems: Problems) -> list[CorpusItem]:
    """Form 3."""
    label = _label_in_names(tar)
    if label is None:
        problems.add(tar, "bad_label", f"neither {tar.name!r} nor its folder is called real or fake")
        return []
    if not border.admits(tar, problems):
        return []
    items = [_member(border, tar, name, label, "", "") for name in sorted(_members(tar, problems))]
    return [replace(item, columns=person_columns(Path(item.member or "").name)) for item in items]


def person_columns(name: str) -> dict[str, str]:
    """``age_band``, ``race`` and ``sex`` of a file that is called as in UTKFace, else nothing."""
    if (match := _UTKFACE.fullmatch(name)) is None:
        return {}
    age, sex, race = map(int, match.groups())
    band = _AGES[max(start for start in _AGES if start <= age)]
    return {"age_band": band, "race": _RACES[race], "sex": _SEXES[sex]}


def _member(border: Root, tar: Path, name: str, label: int, group: str, split: str) -> CorpusItem:
    video_id = f"{without_suffix(border.relative(tar))}/{without_suffix(name)}"
    official = parse_split(split) if split else None
    return CorpusItem(video_id, tar, label, FaceCrops.name, method_of(label), group or video_id, official, member=name)


def _members(tar: Path, problems: Problems) -> set[str]:
    """Names of the images in a tar: plain files whose name stays inside. Of a tar that was cut short the whole ones."""
    names: set[str] = set()
    try:
        with tarfile.open(tar, "r:") as archive:
            for entry in archive:
                if Path(entry.name).suffix.lower() not in IMAGE_SUFFIXES:
                    continue
                if not entry.isfile() or not is_safe(entry.name):
                    problems.add(tar, "outside_root", f"{entry.name!r} in {tar.name} is no plain file in it")
                elif entry.name in names:
                    problems.add(tar, "duplicate", f"{entry.name!r} is in {tar.name} twice; the last counts")
                else:
                    names.add(entry.name)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        problems.add(tar, "unreadable", f"{tar.name} cannot be read to its end: {error}")
    return names


def _label_in_names(tar: Path) -> int | None:
    """The label that a tar's name tells, or else its folder's; None when neither or both words are in it."""
    for name in (tar.stem, tar.parent.resolve().name):
        words = set(re.split(r"[^a-z]+", name.lower()))
        if ("real" in words) != ("fake" in words):
            return REAL if "real" in words else FAKE
    return None
