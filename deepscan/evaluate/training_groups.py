"""Which groups a detector was trained on, so that an evaluation can tell a leak.

``groups.txt`` beside a detector's card: one line for each group of the training data, 16 hex digits of a sha256 over
its dataset and name. Nobody's name is passed on with the detector.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from deepscan.errors import ModelError
from deepscan.files import write_atomically
from deepscan.models.card import EnsembleCard
from deepscan.models.checkpoint import GROUPS_FILE, load_card

_LINE = re.compile(r"[0-9a-f]{16}")


def group_hash(dataset: str, group: str) -> str:
    """What stands for a group in ``groups.txt``."""
    return hashlib.sha256(f"{dataset}\0{group}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def write_groups(folder: Path, groups: Iterable[tuple[str, str]]) -> None:
    """Write ``groups.txt``.

    Args:
        folder: of the detector or run.
        groups: dataset and group of every training sample.

    Raises:
        OutputError: it cannot be written.
    """
    lines = sorted({group_hash(dataset, group) for dataset, group in groups})
    write_atomically(folder / GROUPS_FILE, "".join(f"{line}\n" for line in lines).encode())


def read_groups(folder: Path) -> frozenset[str]:
    """The hashes of a detector's training groups, of an ensemble those of all its members; empty where none are told.

    Raises:
        ModelError: a file is there but cannot be read, or is no list of hashes.
    """
    hashes: set[str] = set()
    file = folder / GROUPS_FILE
    if file.is_file():
        try:
            lines = file.read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{file} cannot be read", str(error), "Copy the model again.") from error
        if not all(map(_LINE.fullmatch, lines)):
            raise ModelError(f"{file} is no list of groups", "a line is not 16 hex digits", "Copy the model again.")
        hashes.update(lines)
    card = load_card(folder)
    if isinstance(card, EnsembleCard):
        for member in card.members:
            hashes |= read_groups(folder / member.folder)
    return frozenset(hashes)
