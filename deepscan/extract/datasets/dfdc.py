"""DFDC, the Deepfake Detection Challenge: ``dfdc_train_part_*/metadata.json`` beside its videos.

Dolhansky et al., "The DeepFake Detection Challenge (DFDC) Dataset", arXiv 2006.07397. ``metadata.json`` maps a file
name to ``{"label": "REAL" | "FAKE", "split": ..., "original": file name}``; only fakes have an original.

* **group**: the original video, by its name without ending and over all parts. A fake and its original share it even
  where the original is not on disk. The corpus does not say who is seen, so one actor may be in several groups.
* **split**: every entry of the published training parts says ``train``. That is the name of the download and divides
  nothing, so it counts as no split; where any entry of the tree says something else, all are kept.
* **method**: not told by the corpus.
* **video_id**: ``part/name``, so that one name in two parts means two videos.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepscan.extract.datasets.base import (
    FAKE,
    Corpus,
    CorpusItem,
    Groups,
    Problem,
    Root,
    finish,
    method_of,
    natural,
    parse_label,
    parse_split,
    printable,
    read_json,
    subfolders,
    video_suffixes,
    without_suffix,
)

_PART = "dfdc_train_part_"
_METADATA = "metadata.json"


class Dfdc:
    """Reads a folder of parts, the parts one folder deeper (as the archives unpack), or one part alone."""

    name = "dfdc"
    layout = "dfdc_train_part_*/metadata.json beside the videos that it lists"

    def matches(self, root: Path) -> bool:
        return bool(_parts(root))

    def read(self, root: Path) -> Corpus:
        border = Root(root)
        items: list[CorpusItem] = []
        problems: list[Problem] = []
        originals: list[tuple[str, str]] = []
        for part in _parts(root) or [root]:
            if not border.holds(part):
                problems.append(Problem(part, "outside_root", f"{part.name!r} is a link that leads outside the corpus"))
                continue
            _read_part(border, part, items, problems, originals)
        group_of = original_groups(originals)
        if not {"val", "test"} & {item.split for item in items}:
            items = [replace(item, split=None) for item in items]
        return finish(
            self, root, (replace(item, group=group_of.get(item.group, item.group)) for item in items), problems
        )


def _parts(root: Path) -> list[Path]:
    """The part folders of a tree; the root itself when it is one."""
    found = [folder for folder in subfolders(root) if folder.name.startswith(_PART)]
    deeper = [inner for folder in found for inner in subfolders(folder) if inner.name.startswith(_PART)]
    outer = {inner.parent for inner in deeper}
    parts = sorted([folder for folder in found if folder not in outer or (folder / _METADATA).exists()] + deeper)
    if parts:
        return parts
    if (root / _METADATA).is_file() and (root.name.startswith(_PART) or _is_metadata(read_json(root / _METADATA, []))):
        return [root]
    return []


def _is_metadata(content: Any) -> bool:
    return isinstance(content, dict) and any(
        isinstance(entry, dict) and str(entry.get("label")).upper() in ("REAL", "FAKE") for entry in content.values()
    )


def _read_part(
    border: Root,
    part: Path,
    items: list[CorpusItem],
    problems: list[Problem],
    originals: list[tuple[str, str]],
) -> None:
    """Add what one part holds; ``group`` is for now the video's own name."""
    own_border = Root(part)
    metadata = part / _METADATA
    entries: Any = None
    if not metadata.is_file():
        problems.append(Problem(metadata, "missing_file", f"{part.name} has no {_METADATA}"))
    elif not border.holds(metadata):
        problems.append(Problem(metadata, "outside_root", f"{_METADATA} is a link that leads outside the corpus"))
    else:
        entries = read_json(metadata, problems)
        if entries is not None and not isinstance(entries, dict):
            problems.append(Problem(metadata, "broken_metadata", f"{_METADATA} is not a table of file names"))
            entries = None
    listed: set[Path] = set()
    for name, entry in sorted((entries or {}).items()):
        found = own_border.find(name)
        if isinstance(found, Path):
            listed.add(found)
        label = parse_label(entry.get("label")) if isinstance(entry, dict) else None
        if label is None:
            problems.append(Problem(part / printable(name), "bad_label", f"{name!r} has no label REAL or FAKE"))
            continue
        stem = without_suffix(name)
        original = entry.get("original")
        if label == FAKE and isinstance(original, str) and original:
            originals.append((stem, without_suffix(original)))
        if isinstance(found, Problem):
            problems.append(found)
            continue
        split = entry.get("split")
        if split and parse_split(split) is None:
            problems.append(Problem(found, "bad_split", f"{name!r} is in an unknown split {split!r}"))
            continue
        prefix = f"{part.resolve().name}/" if part == border.folder else ""
        video_id = prefix + without_suffix(border.relative(found))
        method = method_of(label)
        items.append(CorpusItem(video_id, found, label, "dfdc", method, stem, parse_split(split)))
    for video in own_border.media(part, video_suffixes(), problems):
        if video not in listed:
            problems.append(Problem(video, "no_entry", f"{video.name!r} is not listed in {_METADATA}"))


def original_groups(originals: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The group of every name in pairs of a fake and its original: the original, the first one of a chain."""
    pairs = list(originals)
    joined = Groups()
    for fake, original in pairs:
        joined.join(fake, original)
    fakes = {fake for fake, _ in pairs}
    names = {name for pair in pairs for name in pair}
    called: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (name in fakes, natural(name))):
        called.setdefault(joined.of(name), name)
    return {name: called[joined.of(name)] for name in names}
