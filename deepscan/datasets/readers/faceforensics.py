"""FaceForensics++ and the DeepFakeDetection videos that are distributed with it.

Rössler et al., "FaceForensics++: Learning to Detect Manipulated Facial Images", ICCV 2019, arXiv 1901.08971. The
tree: ``original_sequences/<source>/<compression>/videos/ID.mp4`` and
``manipulated_sequences/<method>/<compression>/videos/TARGET_SOURCE.mp4``. The official ``train.json``, ``val.json``
and ``test.json`` are lists of pairs ``["ID1", "ID2"]`` that were swapped with one another; they are looked for in the
root and in ``splits/``. DeepFakeDetection names its actors: ``NN__scene.mp4``, and ``TARGET_SOURCE__scene__HASH.mp4``
for fakes.

* **group**: the target and the source of a fake belong together, and so do the two of an official pair; a group is a
  connected set of such videos, called by its first (``youtube-004``, ``actor-01``). Every compression and method of a
  video is in it. The 28 actors of DeepFakeDetection are swapped with so many others that they end in one or very few
  groups. That some of the 1000 originals were cut from the same web video is not in the tree and is not known here.
* **split**: from the official lists; DeepFakeDetection has none.
* **method**: the name of the folder below ``manipulated_sequences``.
* **original**: the target, at the same compression; of an actor's fake the target's video of the same scene.
"""

from __future__ import annotations

import re
from pathlib import Path

from deepscan.datasets.readers.base import (
    FAKE,
    REAL,
    SPLITS,
    Corpus,
    CorpusItem,
    Groups,
    Position,
    Problems,
    Root,
    Split,
    finish,
    method_of,
    subfolders,
)
from deepscan.datasets.readers.metadata_files import read_json
from deepscan.extract.file_kinds import VIDEO_SUFFIXES

_ORIGINAL, _MANIPULATED = "original_sequences", "manipulated_sequences"
_PAIR = re.compile(r"(\d+)_(\d+)")
_NUMBER = re.compile(r"\d+")
_ACTOR = re.compile(r"(\d+)(?:_(\d+))?__.+")
_SCENE = re.compile(r"(\d+)_\d+(__.+)__[^_]+")


class FaceForensics:
    """Reads the official tree, complete or in part."""

    name = "faceforensics"
    layout = "original_sequences/<source>/<compression>/videos and manipulated_sequences/<method>/<compression>/videos"

    def matches(self, root: Path) -> bool:
        return any((root / name).is_dir() for name in (_ORIGINAL, _MANIPULATED))

    def read(self, root: Path) -> Corpus:
        border = Root(root)
        problems = Problems()
        groups = Groups()
        official = _official_splits(border, groups, problems)
        videos: list[tuple[str, Path, int, str, tuple[str, ...]]] = []
        reals: dict[tuple[str, str | None], list[Path]] = {}
        sources: dict[Path, tuple[str, str | None]] = {}
        for folder, label in ((_ORIGINAL, REAL), (_MANIPULATED, FAKE)):
            for kind in subfolders(root / folder):
                for compression in subfolders(kind):
                    if compression.name == "masks" or not (compression / "videos").is_dir():
                        continue
                    for video in border.media(compression / "videos", VIDEO_SUFFIXES, problems):
                        keys = identities(video.stem, label)
                        if keys:
                            groups.join(*keys)
                            video_id = f"{kind.name}/{compression.name}/{video.stem}"
                            videos.append((video_id, video, label, kind.name, keys))
                            if label == REAL:
                                reals.setdefault((compression.name, video.stem), []).append(video)
                            else:
                                sources[video] = compression.name, original_stem(video.stem)
                        else:
                            cause = f"{video.name!r} does not say which video it was made from (TARGET_SOURCE.mp4)"
                            problems.add(video, "bad_name", cause)
        items = [
            CorpusItem(
                video_id, path, label, self.name, method_of(label, kind), groups.of(keys[0]), official.get(keys[0])
            )
            for video_id, path, label, kind, keys in videos
        ]
        originals: dict[Position, Position] = {
            (fake, None): (reals[name][0], None) for fake, name in sources.items() if len(reals.get(name, ())) == 1
        }
        return finish(self, root, items, problems, originals, border.passed_over)


def identities(stem: str, label: int) -> tuple[str, ...]:
    """Whose face and whose body are in a video of this name: one key for an original, target and source for a fake.

    Empty for a fake whose name does not tell; an original of any other name stands for itself.
    """
    if match := _ACTOR.fullmatch(stem):
        target, source = match.groups()
        if label == REAL:
            return (f"actor-{target}",)
        return (f"actor-{target}", f"actor-{source}") if source else ()
    if label == REAL:
        return (f"youtube-{stem}",) if _NUMBER.fullmatch(stem) else (f"original-{stem}",)
    match = _PAIR.fullmatch(stem)
    return (f"youtube-{match[1]}", f"youtube-{match[2]}") if match else ()


def original_stem(stem: str) -> str | None:
    """What the video is called, without ending, that a fake of this name was made from: the target's."""
    if match := _PAIR.fullmatch(stem):
        return match[1]
    match = _SCENE.fullmatch(stem)
    return match[1] + match[2] if match else None


def _official_splits(border: Root, groups: Groups, problems: Problems) -> dict[str, Split]:
    """Split by key from the official lists, whose pairs are joined in ``groups``."""
    official: dict[str, Split] = {}
    for split in SPLITS:
        candidates = (border.folder / f"{split}.json", border.folder / "splits" / f"{split}.json")
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
        if path is None:
            continue
        if not border.admits(path, problems):
            continue
        pairs = read_json(path, problems)
        if pairs is not None and not isinstance(pairs, list):
            problems.add(path, "broken_metadata", f"{path.name} is not a list of pairs")
        for pair in pairs if isinstance(pairs, list) else []:
            if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) and name for name in pair)):
                problems.add(path, "bad_row", f'{pair!r:.80} in {path.name} is no pair ["ID1", "ID2"]')
                continue
            keys = [f"youtube-{name}" for name in pair]
            groups.join(*keys)
            for key, name in zip(keys, pair, strict=True):
                before = official.setdefault(key, split)
                if before != split:
                    problems.add(path, "conflict", f"{name} is in {before}.json and in {split}.json")
    return official
