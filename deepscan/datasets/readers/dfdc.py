"""DFDC, the Deepfake Detection Challenge: ``dfdc_train_part_*/metadata.json`` beside its videos.

Dolhansky et al., "The DeepFake Detection Challenge (DFDC) Dataset", arXiv 2006.07397. ``metadata.json`` maps a file
name to ``{"label": "REAL" | "FAKE", "split": ..., "original": file name}``; only fakes have an original.

* **group**: the original video, by its name without ending and over all parts. A fake and its original share it even
  where the original is not on disk. The corpus does not say who is seen, so one actor may be in several groups.
* **split**: every entry of the published training parts says ``train``. That is the name of the download and divides
  nothing, so it counts as no split; where any entry of the tree says something else, all are kept.
* **method**: unknown.
* **original**: the video of that name in the same part; where the part does not list it, the only one in the others.
* **video_id**: ``part/name``, so that one name in two parts means two videos.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepscan.datasets.readers.base import (
    FAKE,
    Corpus,
    CorpusItem,
    Groups,
    Problem,
    Problems,
    Root,
    finish,
    method_of,
    natural,
    subfolders,
    without_suffix,
    writable,
)
from deepscan.datasets.readers.metadata_files import parse_label, parse_split, read_json
from deepscan.extract.file_kinds import VIDEO_SUFFIXES

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
        problems = Problems()
        originals: list[tuple[str, str]] = []
        listed: dict[Path, dict[str, Path | None]] = {}
        sources: dict[Path, tuple[Path, str]] = {}
        for part in _parts(root) or [root]:
            if not border.admits(part, problems):
                continue
            listed[part] = _read_part(border, part, items, problems, originals, sources)
        group_of = original_groups(originals)
        if not {"val", "test"} & {item.split for item in items}:
            items = [replace(item, split=None) for item in items]
        return finish(
            self,
            root,
            (replace(item, group=group_of.get(item.group, item.group)) for item in items),
            problems,
            {(fake, None): (original, None) for fake, original in _original_files(sources, listed).items()},
        )


def _parts(root: Path) -> list[Path]:
    """The part folders of a tree; the root itself when it is one."""
    folders = [folder for folder in subfolders(root) if folder.name.startswith(_PART)]
    deeper = [inner for folder in folders for inner in subfolders(folder) if inner.name.startswith(_PART)]
    outer = {inner.parent for inner in deeper}
    parts = sorted([folder for folder in folders if folder not in outer or (folder / _METADATA).exists()] + deeper)
    if parts:
        return parts
    if (root / _METADATA).is_file() and (root.name.startswith(_PART) or _is_metadata(read_json(root / _METADATA))):
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
    problems: Problems,
    originals: list[tuple[str, str]],
    sources: dict[Path, tuple[Path, str]],
) -> dict[str, Path | None]:
    """Add what one part holds; ``group`` is for now the video's own name.

    Returns:
        The file of each name that the part lists; None where it is not there.
    """
    part_root = Root(part)
    metadata = part / _METADATA
    entries: Any = None
    if not metadata.is_file():
        problems.add(metadata, "missing_file", f"{part.name} has no {_METADATA}")
    elif border.admits(metadata, problems):
        entries = read_json(metadata, problems)
        if entries is not None and not isinstance(entries, dict):
            problems.add(metadata, "broken_metadata", f"{_METADATA} is not a table of file names")
            entries = None
    files: dict[str, Path | None] = {}
    for name, entry in sorted((entries or {}).items()):
        file = part_root.find(name)
        files[name] = file if isinstance(file, Path) else None
        label = parse_label(entry.get("label")) if isinstance(entry, dict) else None
        if label is None:
            problems.add(part / writable(name), "bad_label", f"{name!r} has no label REAL or FAKE")
            continue
        stem = without_suffix(name)
        original = entry.get("original")
        has_original = label == FAKE and isinstance(original, str) and bool(original)
        if has_original:
            originals.append((stem, without_suffix(original)))
        if isinstance(file, Problem):
            problems.append(file)
            continue
        if has_original:
            sources[file] = part, original
        split = entry.get("split")
        if split and parse_split(split) is None:
            problems.add(file, "bad_split", f"{name!r} is in an unknown split {split!r}")
            continue
        prefix = f"{part.resolve().name}/" if part == border.folder else ""
        video_id = prefix + without_suffix(border.relative(file))
        method = method_of(label)
        items.append(CorpusItem(video_id, file, label, "dfdc", method, stem, parse_split(split)))
    listed = set(files.values())
    for video in part_root.media(part, VIDEO_SUFFIXES, problems):
        if video not in listed:
            problems.add(video, "no_entry", f"{video.name!r} is not listed in {_METADATA}")
    return files


def _original_files(
    sources: Mapping[Path, tuple[Path, str]], listed: Mapping[Path, Mapping[str, Path | None]]
) -> dict[Path, Path]:
    """The file of every fake's original. A name may be another video in another part: its own part counts first, and
    among the others there must be only one."""
    everywhere: dict[str, list[Path | None]] = {}
    for files in listed.values():
        for name, file in files.items():
            everywhere.setdefault(name, []).append(file)
    original_of = {}
    for fake, (part, name) in sources.items():
        candidates = [listed[part][name]] if name in listed[part] else everywhere.get(name, [])
        if len(candidates) == 1 and candidates[0] is not None:
            original_of[fake] = candidates[0]
    return original_of


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
