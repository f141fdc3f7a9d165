"""Corpora: from a folder as it was downloaded to labelled items, one reader for each layout.

    corpus = read_corpus("corpora/ffpp")
    for item in corpus.items: ...
    for problem in corpus.problems: ...

Nothing is decoded here. Which videos may not be divided between splits is the item's ``group``; the division itself is
:mod:`deepscan.datasets.splits`.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from deepscan.datasets.readers.base import Corpus, CorpusItem, Problem, Reader, Split, subfolders
from deepscan.datasets.readers.celebdf import CelebDf
from deepscan.datasets.readers.deepfakebench import DeepfakeBench
from deepscan.datasets.readers.dfdc import Dfdc
from deepscan.datasets.readers.facecrops import FaceCrops
from deepscan.datasets.readers.faceforensics import FaceForensics
from deepscan.datasets.readers.folders import Folders
from deepscan.datasets.readers.usercsv import UserCsv
from deepscan.errors import ConfigError, MediaError

__all__ = [
    "Corpus",
    "CorpusItem",
    "Problem",
    "Reader",
    "Split",
    "corpus_name",
    "detect_corpus",
    "list_corpora",
    "log_problems",
    "read_corpus",
]

log = logging.getLogger(__name__)

# In the order of detection: a layout that says more comes before one that says less.
_READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (Dfdc(), FaceForensics(), CelebDf(), FaceCrops(), DeepfakeBench(), UserCsv(), Folders())
}
_ALIASES = {"ffpp": "faceforensics", "ff++": "faceforensics", "faceforensics++": "faceforensics"}


def list_corpora() -> list[str]:
    """The names that ``--dataset`` takes, in the order in which layouts are tried."""
    return list(_READERS)


def detect_corpus(root: str | Path) -> str:
    """Name of the corpus that a folder (or a CSV, or an index) is laid out as.

    Raises:
        MediaError: there is no such folder.
        ConfigError: no layout fits.
    """
    folder = _existing(root)
    detected = _matching(folder)
    if detected is None:
        inner = [(sub, name) for sub in subfolders(folder) if (name := _matching(sub))]
        hint = (
            f"Its folder {inner[0][0].name} looks like {inner[0][1]}; give that."
            if inner
            else f"Force one with --dataset ({', '.join(_READERS)}), or list the files in a CSV with path,label."
        )
        raise ConfigError(f"{folder} is laid out like no corpus known here", hint=hint, reason="unknown_layout")
    return detected


def read_corpus(root: str | Path, dataset: str | None = None, *, follow_links: bool = False) -> Corpus:
    """Everything in a corpus.

    Args:
        root: its folder; a file for ``csv``, ``facecrops`` and ``deepfakebench``.
        dataset: a name of :func:`list_corpora`; detected from the layout when not given.
        follow_links: also out of the folder; for ``folders`` alone, where no metadata names files.

    Raises:
        MediaError: there is no such folder, or nothing in it can be used.
        ConfigError: no layout fits, the name is unknown, or links are to be followed in a corpus with metadata.
    """
    folder = _existing(root)
    name = corpus_name(folder, dataset)
    if not follow_links:
        return _READERS[name].read(folder)
    if name != Folders.name:
        raise ConfigError(
            "--follow-links is not used",
            f"{folder} is a {name} corpus, whose metadata may name only files inside of it",
            "Copy into it what its links lead to, or mount it there.",
        )
    return Folders(follow_links=True).read(folder)


def corpus_name(root: str | Path, dataset: str | None = None) -> str:
    """The name of the corpus that ``dataset`` stands for; detected from the layout when not given.

    Raises:
        MediaError, ConfigError: as :func:`read_corpus`.
    """
    if dataset is None:
        return detect_corpus(root)
    name = dataset.strip().lower()
    name = _ALIASES.get(name, name)
    if name not in _READERS:
        raise ConfigError(f"Unknown dataset {dataset!r}", hint=f"Known are {', '.join(_READERS)}.")
    return name


def log_problems(corpus: Corpus) -> None:
    """Warn of a corpus' problems: how many of each reason, and the first."""
    for reason, count in Counter(problem.reason for problem in corpus.problems).most_common():
        first = next(problem for problem in corpus.problems if problem.reason == reason)
        log.warning("%s: %d x %s, first: %s", corpus.root, count, reason, first.message)


def _existing(root: str | Path) -> Path:
    path = Path(root)
    if not path.exists():
        raise MediaError(f"{path} cannot be read as a corpus", "there is no such file or folder", reason="not_found")
    return path


def _matching(root: Path) -> str | None:
    return next((name for name, reader in _READERS.items() if reader.matches(root)), None)
