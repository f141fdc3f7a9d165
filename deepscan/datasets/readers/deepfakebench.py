"""The JSON index of DeepfakeBench, read and written.

Yan et al., "DeepfakeBench: A Comprehensive Benchmark of Deepfake Detection", NeurIPS 2023, arXiv 2307.01426. One file
a dataset, called as the dataset: ``{dataset: {label: {split: {video: {"label": label, "frames": [path, ...]}}}}}``,
with one level more for the compression, ``{split: {compression: {video: ...}}}``, in those made of FaceForensics++. A
label is a name such as ``FF-real``, ``FF-F2F`` or ``DFDC_Fake``. Frames are relative to the index' folder;
backslashes count as slashes; what leads outside is refused.

* **group**: the entry's own ``group``, which deepscan writes and DeepfakeBench passes over; else the persons or
  videos in the names of FaceForensics++ and Celeb-DF; else the video itself (an index does not tell the original of a
  DFDC fake).
* **split**: as listed. Many an index lists a video in several splits: ``val`` gives way to another one (it is often a
  mere copy) and ``train`` to ``test``; how many is reported.
* **method**: from the label.
* **original**: none. Frames were sampled for each video on its own, so it is not known which ones belong together.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepscan.datasets.readers import celebdf, faceforensics
from deepscan.datasets.readers.base import (
    FAKE,
    REAL,
    SPLITS,
    UNTOLD_METHOD,
    Corpus,
    CorpusItem,
    Groups,
    Problem,
    Root,
    Split,
    files_in,
    finish,
    image_suffixes,
    is_safe,
    method_of,
    read_json,
)
from deepscan.errors import ConfigError, OutputError
from deepscan.files import write_atomically

_METHODS = {
    "FF-DF": "Deepfakes",
    "FF-F2F": "Face2Face",
    "FF-FS": "FaceSwap",
    "FF-NT": "NeuralTextures",
    "FF-FH": "FaceShifter",
    "DFD_fake": "DeepFakeDetection",
    "CelebDFv1_fake": "Celeb-synthesis",
    "CelebDFv2_fake": "Celeb-synthesis",
    "DFDC_Fake": UNTOLD_METHOD,
}
_LABELS = {method: label for label, method in _METHODS.items() if label.startswith(("FF-", "DFD_"))}
_DATASETS = {"celebdf": "Celeb-DF-v2", "dfdc": "DFDC"}
_OWN_NAMES = {
    **{theirs: ours for ours, theirs in _DATASETS.items()},
    **dict.fromkeys(("FaceForensics++", "DeepFakeDetection", "FaceShifter"), "faceforensics"),
    **dict.fromkeys(("FF-DF", "FF-F2F", "FF-FS", "FF-NT", "FF-FH"), "faceforensics"),
    "Celeb-DF-v1": "celebdf",
}
_FAKE_NAME = re.compile(r"(.*?)[_-]?fake", re.IGNORECASE)


class DeepfakeBench:
    """Reads one index, or every index that lies directly in a folder."""

    name = "deepfakebench"
    layout = "a DeepfakeBench index DATASET.json, or a folder with one, with the frames below that folder"

    def matches(self, root: Path) -> bool:
        return any(_is_index(read_json(path, [])) for path in _candidates(root))

    def read(self, root: Path) -> Corpus:
        border = Root(root if root.is_dir() else root.parent)
        problems: list[Problem] = []
        entries: dict[tuple[str, ...], tuple[dict[str, Any], set[str]]] = {}
        for path in _candidates(root):
            if not border.holds(path):
                problems.append(Problem(path, "outside_root", f"{path.name!r} is a link that leads outside the corpus"))
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
                why = (
                    f"{several} videos of {path.name} are in several splits; test counts before train, train before val"
                )
                problems.append(Problem(path, "conflict", why))
        return finish(self, root, _items(border, entries, problems), problems)


def write_index(
    items: Corpus | Iterable[CorpusItem], path: str | Path, frames: Mapping[str, Sequence[Path]] | None = None
) -> list[Path]:
    """Write what DeepfakeBench reads.

    Args:
        items: a corpus or its items; every item has a split (see :func:`deepscan.datasets.splits.assign_splits`).
        path: a folder, which gets one ``DATASET.json`` for each dataset; or one file ``NAME.json`` for items of one
            dataset, which DeepfakeBench then knows as NAME (it has to be a known one where there are compressions).
        frames: the frames or crops of each video by ``video_id``; videos without any are left out. Without it the items
            must be images themselves.

    Returns:
        The files written. Frames below an index' folder are written relative to it, others absolute. A label that
        DeepfakeBench does not know yet (``METHOD_Fake``) has to be added to its ``label_dict``.

    Raises:
        ConfigError: an item has no split or no frames, or one file is to hold several datasets.
        OutputError: it cannot be written.
    """
    target = Path(path)
    indexes: dict[str, list[CorpusItem]] = {}
    for item in items.items if isinstance(items, Corpus) else items:
        indexes.setdefault(_dataset(item), []).append(item)
    one_file = target.suffix.lower() == ".json"
    if one_file and len(indexes) > 1:
        raise ConfigError(
            f"{target} cannot hold {', '.join(sorted(indexes))}", "an index holds one dataset", "Name a folder."
        )
    folder = target.parent if one_file else target
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made", error.strerror or str(error)) from error
    written = []
    for dataset, members in sorted(indexes.items()):
        file = target if one_file else folder / f"{dataset}.json"
        index = {file.stem: _index(members, folder, frames)}
        write_atomically(file, json.dumps(index, indent=1, ensure_ascii=False).encode("utf-8", "surrogateescape"))
        written.append(file)
    return written


def _candidates(root: Path) -> list[Path]:
    return [root] if root.is_file() and root.suffix.lower() == ".json" else files_in(root, ".json")


def _is_index(content: Any) -> bool:
    """Whether ``{dataset: {label: {split: {...}}}}`` is in it somewhere."""
    labels = [value for value in content.values() if isinstance(value, dict)] if isinstance(content, dict) else []
    splits = [value for label in labels for value in label.values() if isinstance(value, dict)]
    return any(isinstance(value.get(split), dict) for value in splits for split in SPLITS)


def _entries(
    path: Path, index: dict[str, Any], problems: list[Problem]
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
                            where = "/".join((dataset, label, split, *keys))
                            problems.append(Problem(path, "bad_row", f"{where!r} in {path.name} lists no frames"))


def _items(
    border: Root, entries: dict[tuple[str, ...], tuple[dict[str, Any], set[str]]], problems: list[Problem]
) -> list[CorpusItem]:
    groups = Groups()
    found: list[tuple[CorpusItem, tuple[str, ...]]] = []
    taken: set[tuple[Path, ...]] = set()
    for keys, (entry, splits) in sorted(entries.items(), key=lambda pair: pair[0]):
        video_id = "/".join(keys)
        what = _label(keys[0], keys[1])
        if not all(is_safe(key) for key in keys):
            problems.append(Problem(border.folder, "bad_name", f"{video_id!r} cannot be used as a name"))
            continue
        if what is None:
            problems.append(
                Problem(border.folder, "bad_label", f"{video_id!r}: {keys[1]!r} is neither a real nor a fake")
            )
            continue
        frames = tuple(_frames(border, video_id, entry["frames"], problems))
        if not frames or frames in taken:  # the reals are repeated in each index of one manipulation
            continue
        taken.add(frames)
        label, method = what
        own = entry.get("group")
        named = () if isinstance(own, str) and own else _identities(keys, label)
        if named:
            groups.join(*named)
        one = len(frames) == 1
        path = frames[0] if one else frames[0].parent
        split: Split = "test" if "test" in splits else "train" if "train" in splits else "val"
        group = own if isinstance(own, str) and own else video_id
        dataset = _OWN_NAMES.get(keys[0], keys[0])
        item = CorpusItem(video_id, path, label, dataset, method, group, split, None, () if one else frames)
        found.append((item, named))
    return [
        CorpusItem(
            i.video_id,
            i.path,
            i.label,
            i.dataset,
            i.method,
            groups.of(named[0]) if named else i.group,
            i.split,
            None,
            i.frames,
        )
        for i, named in found
    ]


def _frames(border: Root, video_id: str, names: list[Any], problems: list[Problem]) -> Iterator[Path]:
    """The frames that are there; what is wrong with the others is told once a video and reason."""
    wrong: dict[str, list[str]] = {}
    for name in names:
        path = border.find(str(name).replace("\\", "/"))
        if isinstance(path, Path) and path.suffix.lower() in image_suffixes():
            yield path
        else:
            wrong.setdefault(path.reason if isinstance(path, Problem) else "bad_name", []).append(str(name))
    told = {"missing_file": "are not there", "outside_root": "point outside the corpus", "bad_name": "are no images"}
    for reason, bad in wrong.items():
        why = f"{len(bad)} of {len(names)} frames of {video_id!r} {told[reason]}, first {bad[0]!r}"
        problems.append(Problem(border.folder, reason, why))


def _label(dataset: str, label: str) -> tuple[int, str] | None:
    """Label and method that a label's name stands for; None when it does not tell."""
    if label in _METHODS:
        return FAKE, _METHODS[label]
    if label.lower().endswith("real"):
        return REAL, method_of(REAL)
    match = _FAKE_NAME.match(label)
    if match is None:
        return None
    return FAKE, UNTOLD_METHOD if match[1] in ("", dataset) else match[1]


def _identities(keys: tuple[str, ...], label: int) -> tuple[str, ...]:
    if keys[1].startswith(("FF-", "DFD_")):
        return faceforensics.identities(keys[-1], label)
    if keys[1].startswith("CelebDF"):
        return celebdf.identities(keys[-1], label)
    return ()


def _dataset(item: CorpusItem) -> str:
    """The name that DeepfakeBench has for an item's dataset."""
    if item.dataset == "faceforensics":
        return "DeepFakeDetection" if item.group.startswith("actor-") else "FaceForensics++"
    return _DATASETS.get(item.dataset, item.dataset.replace("/", "_"))


def _label_name(item: CorpusItem) -> str:
    dataset = _dataset(item)
    if item.dataset == "faceforensics":
        real = "DFD_real" if dataset == "DeepFakeDetection" else "FF-real"
        return real if item.label == REAL else _LABELS.get(item.method, f"{item.method}_Fake")
    if item.dataset == "celebdf":
        return "CelebDFv2_real" if item.label == REAL else "CelebDFv2_fake"
    if item.label == REAL:
        return f"{dataset}_Real"
    return f"{dataset if item.method == UNTOLD_METHOD else item.method.replace('/', '_')}_Fake"


def _index(
    items: list[CorpusItem], folder: Path, frames: Mapping[str, Sequence[Path]] | None
) -> dict[str, dict[str, dict[str, Any]]]:
    """``{label: {split: {[compression:] {video: entry}}}}``; every label has every split, as DeepfakeBench expects."""
    levels = {item.video_id: item.video_id.split("/")[-2:-1] for item in items if item.dataset == "faceforensics"}
    every_level = sorted({level for found in levels.values() for level in found})
    index: dict[str, dict[str, dict[str, Any]]] = {}
    for item in sorted(items, key=lambda one: one.video_id):
        if item.split is None:
            raise ConfigError(f"{item.video_id!r} has no split", "an index is made of splits", "Assign splits first.")
        images = list(frames.get(item.video_id, ()) if frames is not None else item.frames or _own_image(item))
        if not images:
            continue
        label = _label_name(item)
        by_split = index.setdefault(label, {split: {level: {} for level in every_level} for split in SPLITS})
        videos = by_split[item.split]
        for level in levels.get(item.video_id, ()):
            videos = videos[level]
        short = item.video_id.rsplit("/", 1)[-1]
        name = item.video_id if short in videos else short
        listed = [_relative(image, folder) for image in images]
        videos[name] = {"label": label, "frames": listed, "group": item.group}
    return index


def _own_image(item: CorpusItem) -> tuple[Path, ...]:
    if item.member is None and item.path.suffix.lower() in image_suffixes():
        return (item.path,)
    raise ConfigError(
        f"{item.video_id!r} has no frames", "DeepfakeBench reads images only", "Cut its face crops first."
    )


def _relative(image: Path, folder: Path) -> str:
    path, base = Path(os.path.abspath(image)), Path(os.path.abspath(folder))  # noqa: PTH100 - links stay as they are
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
