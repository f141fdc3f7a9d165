"""Plain folders: ``real/`` and ``fake/``, or ``Train``/``Validation``/``Test`` with ``Real`` and ``Fake`` in each.

Names count in any case. Videos and images are read, at any depth. A folder that is itself called ``real`` or ``fake``
may be given directly; one of the two may be missing.

* **group**: the file itself, by its path below ``real/`` or ``fake/`` and without ending, so that ``real/a.mp4`` and
  ``fake/a.mp4``, which are often an original and its fake, stay together. Images in a subfolder share the group of
  that subfolder, as frames of one video are usually kept so. Nothing else is read from names: where several files
  show one person, say so in a CSV with a ``group`` column.
* **split**: from the folder names, where there are any. The same name in two of these folders means two files.
* **method** and **original**: unknown.
* **columns**: of files called as in UTKFace ``sex``, ``age_band`` and ``race``.
"""

from __future__ import annotations

from pathlib import Path

from deepscan.datasets.readers.base import (
    FAKE,
    REAL,
    Corpus,
    CorpusItem,
    Problems,
    Root,
    Split,
    finish,
    method_of,
    subfolders,
    without_suffix,
)
from deepscan.datasets.readers.facecrops import person_columns
from deepscan.datasets.readers.metadata_files import parse_split
from deepscan.extract.file_kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES

_LABELS = {"real": REAL, "fake": FAKE}


class Folders:
    """Reads labels, and splits, from folder names.

    Args:
        follow_links: take what links lead to also outside the folder.
    """

    def __init__(self, *, follow_links: bool = False) -> None:
        self._follow_links = follow_links

    name = "folders"
    layout = "real/ and fake/, or Train/ Validation/ Test/ with Real/ and Fake/ in each, of videos or images"

    def matches(self, root: Path) -> bool:
        return bool(_labelled(root))

    def read(self, root: Path) -> Corpus:
        border = Root(root, follow_links=self._follow_links)
        items: list[CorpusItem] = []
        problems = Problems()
        suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES
        for folder, label, split in _labelled(root):
            for path in border.media(folder, suffixes, problems):
                name = without_suffix(path.relative_to(folder).as_posix())
                if path.suffix.lower() in IMAGE_SUFFIXES and path.parent != folder:
                    name = path.parent.relative_to(folder).as_posix()
                group = f"{split}/{name}" if split else name
                prefix = f"{folder.resolve().name}/" if folder == root else ""
                video_id = prefix + without_suffix(border.relative(path))
                columns = person_columns(path.name)
                items.append(
                    CorpusItem(video_id, path, label, self.name, method_of(label), group, split, columns=columns)
                )
        return finish(self, root, items, problems, passed_over=border.passed_over)


def _labelled(root: Path) -> list[tuple[Path, int, Split | None]]:
    """Every folder whose name is a label, with the split that its parent's name gives."""
    folders: list[tuple[Path, int, Split | None]] = []
    for folder in subfolders(root):
        if folder.name.lower() in _LABELS:
            folders.append((folder, _LABELS[folder.name.lower()], None))
        elif split := parse_split(folder.name):
            inner = [sub for sub in subfolders(folder) if sub.name.lower() in _LABELS]
            folders.extend((sub, _LABELS[sub.name.lower()], split) for sub in inner)
    name = root.resolve().name.lower()
    if not folders and root.is_dir() and name in _LABELS:
        folders.append((root, _LABELS[name], None))
    return folders
