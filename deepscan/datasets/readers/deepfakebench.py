"""The JSON index of DeepfakeBench.

Yan et al., "DeepfakeBench: A Comprehensive Benchmark of Deepfake Detection", NeurIPS 2023, arXiv 2307.01426. One file
a dataset, called as the dataset: ``{dataset: {label: {split: {video: {"label": label, "frames": [path, ...]}}}}}``,
with one level more for the compression, ``{split: {compression: {video: ...}}}``, in those made of FaceForensics++. A
label is a name such as ``FF-real``, ``FF-F2F`` or ``DFDC_Fake``. Frames are relative to the index' folder;
backslashes count as slashes; what leads outside is refused.

* **group**: the entry's own ``group``, which DeepfakeBench passes over; else the persons or
  videos in the names of FaceForensics++ and Celeb-DF; else the video itself (an index does not tell the original of a
  DFDC fake).
* **split**: as listed. Many an index lists a video in several splits: ``val`` gives way to another one (it is often a
  mere copy) and ``train`` to ``test``; how many is reported.
* **method**: from the label.
* **original**: none. Frames were sampled for each video on its own, so it is not known which ones belong together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepscan.datasets.readers import celebdf, faceforensics
from deepscan.datasets.readers.base import (
    FAKE,
    REAL,
    SPLITS,
    UNKNOWN_METHOD,
    Corpus,
    CorpusItem,
    Groups,
    Problem,
    Problems,
    Root,
    Split,
    files_in,
    finish,
    is_safe,
    method_of,
)
from deepscan.datasets.readers.metadata_files import read_json
from deepscan.extract.file_kinds import IMAGE_SUFFIXES

_METHODS = {
    "FF-DF": "Deepfakes",
    "FF-F2F": "Face2Face",
    "FF-FS": "FaceSwap",
    "FF-NT": "NeuralTextures",
    "FF-FH": "FaceShifter",
    "DFD_fake": "DeepFakeDetection",
    "CelebDFv1_fake": "Celeb-synthesis",
    "CelebDFv2_fake": "Celeb-synthesis",
    "DFDC_Fake": UNKNOWN_METHOD,
}
_DATASET_NAMES = {
    **dict.fromkeys(("FaceForensics++", "DeepFakeDetection", "FaceShifter"), "faceforensics"),
    **dict.fromkeys(("FF-DF", "FF-F2F", "FF-FS", "FF-NT", "FF-FH"), "faceforensics"),
    **dict.fromkeys(("Celeb-DF-v1", "Celeb-DF-v2"), "celebdf"),
    "DFDC": "dfdc",
}
_FAKE_NAME = re.compile(r"(.*?)[_-]?fake", re.IGNORECASE)


class DeepfakeBench:
    """Reads one index, or every index that lies directly in a folder."""

    name = "deepfakebench"
    layout = "a DeepfakeBench index DATASET.json, or a folder with one, with the frames below that folder"

    def matches(self, root: Path) -> bool:
        return any(_is_index(read_json(path)) for path in _candidates(root))

    def read(self, root: Path) -> Corpus:
        border = Root(root if root.is_dir() else root.parent)
        problems = Problems()
        entries: dict[tuple[str, ...], tuple[dict[str, Any], set[str]]] = {}
        for path in _candidates(root):
            if not border.admits(path, problems):
                continue
            index = read_json(path, problems)
            if not _is_index(index):
                continue
            several = 0
            for key, split, entry in _entries(path, index, problems):
                _, splits = entries.setdefault(key, (entry, set()))
                several += len(splits) == 1
                splits.add(split)
            if several:
                cause = (
                    f"{several} videos of {path.name} are in several splits; test counts before train, train before val"
                )
                problems.add(path, "conflict", cause)
        return finish(self, root, _items(border, entries, problems), problems)


def _candidates(root: Path) -> list[Path]:
    return [root] if root.is_file() and root.suffix.lower() == ".json" else files_in(root, ".json")


def _is_index(content: Any) -> bool:
    """Whether ``{dataset: {label: {split: {...}}}}`` is in it somewhere."""
    labels = [value for value in content.values() if isinstance(value, dict)] if isinstance(content, dict) else []
    splits = [value for label in labels for value in label.values() if isinstance(value, dict)]
    return any(isinstance(value.get(split), dict) for value in splits for split in SPLITS)


def _entries(
    path: Path, index: dict[str, Any], problems: Problems
) -> Iterator[tuple[tuple[str, ...], Split, dict[str, Any]]]:
    """Every listed video as (dataset, label, compression if any, video), its split and what is said of it."""
    for dataset, labels in index.items():
        for label, splits in labels.items() if isinstance(labels, dict) else ():
            for split in SPLITS:
                videos = splits.get(split) if isinstance(splits, dict) else None
                for name, entry in videos.items() if isinstance(videos, dict) else ():
                    listed: dict[tuple[str, ...], Any] = {(name,): entry}
                    if isinstance(entry, dict) and "frames" not in entry:
                        listed = {(name, video): inner for video, inner in entry.items()}
                    for keys, inner in listed.items():
                        if isinstance(inner, dict) and isinstance(inner.get("frames"), list):
                            yield (dataset, label, *keys), split, inner
                        else:
                            branch = "/".join((dataset, label, split, *keys))
                            problems.add(path, "bad_row", f"{branch!r} in {path.name} lists no frames")


def _items(
    border: Root, entries: dict[tuple[str, ...], tuple[dict[str, Any], set[str]]], problems: Problems
) -> list[CorpusItem]:
    groups = Groups()
    items: list[tuple[CorpusItem, tuple[str, ...]]] = []
    used: set[tuple[Path, ...]] = set()
    for keys, (entry, splits) in sorted(entries.items(), key=lambda pair: pair[0]):
        video_id = "/".join(keys)
        label_method = _label(keys[0], keys[1])
        if not all(is_safe(key) for key in keys):
            problems.add(border.folder, "bad_name", f"{video_id!r} cannot be used as a name")
            continue
        if label_method is None:
            problems.add(border.folder, "bad_label", f"{video_id!r}: {keys[1]!r} is neither a real nor a fake")
            continue
        frames = tuple(_frames(border, video_id, entry["frames"], problems))
        if not frames or frames in used:  # the reals are repeated in each index of one manipulation
            continue
        used.add(frames)
        label, method = label_method
        group = entry.get("group")
        has_group = isinstance(group, str) and bool(group)
        named = () if has_group else _identities(keys, label)
        if named:
            groups.join(*named)
        is_image = len(frames) == 1
        path = frames[0] if is_image else frames[0].parent
        split: Split = "test" if "test" in splits else "train" if "train" in splits else "val"
        name = str(group) if has_group else video_id
        dataset = _DATASET_NAMES.get(keys[0], keys[0])
        item = CorpusItem(video_id, path, label, dataset, method, name, split, None, () if is_image else frames)
        items.append((item, named))
    return [replace(item, group=groups.of(named[0])) if named else item for item, named in items]


def _frames(border: Root, video_id: str, names: list[Any], problems: Problems) -> Iterator[Path]:
    """The frames that are there; what is wrong with the others is told once a video and reason."""
    wrong: dict[str, list[str]] = {}
    for name in names:
        path = border.find(str(name).replace("\\", "/"))
        if isinstance(path, Path) and path.suffix.lower() in IMAGE_SUFFIXES:
            yield path
        else:
            wrong.setdefault(path.reason if isinstance(path, Problem) else "bad_name", []).append(str(name))
    faults = {"missing_file": "are not there", "outside_root": "point outside the corpus", "bad_name": "are no images"}
    for reason, bad in wrong.items():
        cause = f"{len(bad)} of {len(names)} frames of {video_id!r} {faults[reason]}, first {bad[0]!r}"
        problems.add(border.folder, reason, cause)


def _label(dataset: str, label: str) -> tuple[int, str] | None:
    """Label and method that a label's name stands for; None when it does not tell."""
    if label in _METHODS:
        return FAKE, _METHODS[label]
    if label.lower().endswith("real"):
        return REAL, method_of(REAL)
    match = _FAKE_NAME.match(label)
    if match is None:
        return None
    return FAKE, UNKNOWN_METHOD if match[1] in ("", dataset) else match[1]


def _identities(keys: tuple[str, ...], label: int) -> tuple[str, ...]:
    if keys[1].startswith(("FF-", "DFD_")):
        return faceforensics.identities(keys[-1], label)
    if keys[1].startswith("CelebDF"):
        return celebdf.identities(keys[-1], label)
    return ()
