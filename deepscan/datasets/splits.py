"""Dividing a corpus into train, val and test so that no group is in two of them.

A group's split is a function of its name and the seed alone: the same on every machine, in any order of the items, and
whatever else is in the corpus. The price is that the shares are met on average, by number of groups; a small corpus may
come out uneven, and a corpus of one group cannot be divided at all.
"""

from __future__ import annotations

import hashlib
import logging
import unicodedata
from collections.abc import Iterable
from dataclasses import replace

from deepscan.datasets.readers.base import SPLITS, CorpusItem, Split
from deepscan.errors import ConfigError

log = logging.getLogger(__name__)

_EXAMPLES = 3


def assign_splits(items: Iterable[CorpusItem], val: float = 0.1, test: float = 0.1, seed: int = 0) -> list[CorpusItem]:
    """Give every item a split.

    A corpus' own split is kept, and its group follows it: an item without one takes that of the others in its
    group. Groups without any are divided by a hash of their name.

    Args:
        items: of one corpus or of several; equal group names are one group.
        val: share of the groups for validation, in [0, 1).
        test: share of the groups for the test, in [0, 1).
        seed: another seed gives another division.

    Returns:
        The items in their order, each with a split.

    Raises:
        ConfigError: the shares leave nothing for training; or (``split_leak``) the corpus' own splits divide a group.
    """
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise ConfigError(
            f"Shares of {val} for val and {test} for test cannot be taken",
            "each must be in [0, 1) and both together below 1",
            "Give for example --val 0.1 --test 0.1.",
        )
    listed = list(items)
    check_groups(listed)
    official: dict[str, Split] = {item.group: item.split for item in listed if item.split is not None}
    division = {
        group: official.get(group) or _drawn(group, val, test, seed) for group in {item.group for item in listed}
    }
    divided = [replace(item, split=division[item.group]) for item in listed]
    _warn(listed, divided, official, {"val": val, "test": test})
    return divided


def check_groups(items: Iterable[CorpusItem]) -> None:
    """Fail loudly when a group is in more than one split; items without a split are passed over.

    Raises:
        ConfigError: with reason ``split_leak``; names the first such groups and an item of each split.
    """
    first: dict[str, dict[Split, str]] = {}
    for item in items:
        if item.split is not None:
            by_split = first.setdefault(item.group, {})
            by_split[item.split] = min(by_split.get(item.split, item.video_id), item.video_id)
    crossing = sorted(group for group, by_split in first.items() if len(by_split) > 1)
    if not crossing:
        return
    shown = "; ".join(
        f"{group} is in {' and '.join(f'{split} ({first[group][split]})' for split in SPLITS if split in first[group])}"
        for group in crossing[:_EXAMPLES]
    )
    more = f"; and {len(crossing) - _EXAMPLES} more" if len(crossing) > _EXAMPLES else ""
    raise ConfigError(
        f"{len(crossing)} of {len(first)} groups are in more than one split",
        shown + more,
        "What a group shares would leak from training into the test: correct the splits, or take them out to have the "
        "groups divided anew.",
        reason="split_leak",
    )


def _drawn(group: str, val: float, test: float, seed: int) -> Split:
    """The split of a group without one. Composed and decomposed accents are the same name, whatever the file system."""
    text = f"{seed}\0{unicodedata.normalize('NFC', group)}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64
    return "test" if draw < test else "val" if draw < test + val else "train"


def _warn(
    listed: list[CorpusItem], divided: list[CorpusItem], official: dict[str, Split], shares: dict[Split, float]
) -> None:
    """Warn of what a person may not expect of the division."""
    followed = sum(item.split is None and item.group in official for item in listed)
    if followed:
        log.warning("%d items without a split of their own follow the others of their group", followed)
    filled = {item.split for item in divided}
    for split, share in shares.items():
        if divided and share > 0 and split not in filled:
            log.warning("no group fell into %s: give a larger share or another seed, or keep the corpus' splits", split)
