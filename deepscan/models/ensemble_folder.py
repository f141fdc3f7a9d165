"""Ensembles on disk: whole detectors in one folder, with a card that makes them one.

ensemble/
  card.json                     members and their shares, crop rule, calibration
  members/NAME-0123456789ab/    a whole detector each, which may be an ensemble itself
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscan.config import CropSettings
from deepscan.errors import ConfigError, DeepscanError, OutputError
from deepscan.files import write_atomically
from deepscan.models.card import Calibration, Card, EnsembleCard, EnsembleMember
from deepscan.models.checkpoint import CARD_FILE, GROUPS_FILE, WEIGHTS_FILE, card_bytes, load_card
from deepscan.models.ensemble import members_sha256, open_detector

MEMBERS_FOLDER = "members"
COMBINATION = "weighted mean of the members' calibrated logits"


def save_ensemble(
    folder: Path,
    sources: Sequence[Path],
    *,
    name: str,
    weights: Sequence[float] | None = None,
    calibration: Calibration | None = None,
    training: dict[str, Any] | None = None,
) -> EnsembleCard:
    """Copy detectors into one folder and write the card that makes them one detector.

    An ensemble that is in the folder stays whole and usable until the new card replaces its own.

    Args:
        folder: made if missing; may hold an older ensemble, and nothing else.
        sources: folders of at least two different detectors.
        name: of the ensemble.
        weights: shares from 0, of any sum; None makes them equal.
        calibration: of the combined logits; None takes the members' widest uncertain band and promises no more.
        training: for the card: how shares and calibration were found.

    Raises:
        ConfigError: too few detectors, one twice, crop rules that differ, or shares that are none.
        ModelError: a detector is damaged.
        OutputError: the folder holds something else, or cannot be written.
    """
    cards = [open_detector(source).load().card for source in sources]  # loaded: what is damaged is not copied
    crop = common_crop(cards, [str(source) for source in sources])
    shares = normalised_shares(weights, len(cards))
    claim_folder(folder)
    try:
        (folder / MEMBERS_FOLDER).mkdir(parents=True, exist_ok=True)
        copies = [_copy_member(source, card, folder) for source, card in zip(sources, cards, strict=True)]
    except OSError as error:
        raise OutputError(f"{folder} cannot be written", error.strerror or str(error)) from error
    members = tuple(
        EnsembleMember(
            folder=copy.relative_to(folder).as_posix(),
            weight=float(share),
            weights_sha256=card.weights_sha256,
            backbone=card.backbone,
            head=card.head,
        )
        for copy, card, share in zip(copies, cards, shares, strict=True)
    )
    details = {"combination": COMBINATION, "members": distinct_names(cards, sources), **(training or {})}
    card = _ensemble_card(name, cards, members, crop, calibration, details)
    write_atomically(folder / CARD_FILE, card_bytes(card))
    for stale in set((folder / MEMBERS_FOLDER).iterdir()) - set(copies):
        shutil.rmtree(stale, ignore_errors=True)
    return card


def _ensemble_card(
    name: str,
    cards: Sequence[Card],
    members: tuple[EnsembleMember, ...],
    crop: CropSettings,
    calibration: Calibration | None,
    training: dict[str, Any],
) -> EnsembleCard:
    return EnsembleCard(
        name=name,
        created=time.strftime("%Y-%m-%d"),
        crop=crop,
        calibration=calibration or _widest([card.calibration for card in cards]),
        weights_sha256=members_sha256(members),
        trained=all(card.trained for card in cards),
        training=training,
        data=_distinct(entry for card in cards for entry in card.data),
        limits=_distinct(limit for card in cards for limit in card.limits),
        members=members,
    )


def distinct_names(cards: Sequence[Card], sources: Sequence[Path]) -> list[str]:
    """The members' names; those that have the same get the folder, or the weights', that tells them apart.

    Args:
        cards: of the members, whose weights differ.
        sources: their folders.
    """
    names = [card.name for card in cards]
    for more in ([source.absolute().name for source in sources], [card.weights_sha256[:12] for card in cards]):
        names = [
            f"{name} ({extra})" if names.count(name) > 1 and extra != name else name
            for name, extra in zip(names, more, strict=True)
        ]
    return names


def common_crop(cards: Sequence[Card], names: Sequence[str]) -> CropSettings:
    """The crop rule that all share, at the largest of their sizes.

    Args:
        cards: of the detectors.
        names: of the same, for messages.

    Raises:
        ConfigError: fewer than two, one twice, or the rules differ.
    """
    if len(cards) < 2:
        raise ConfigError("An ensemble needs at least two detectors", f"{len(cards)} was given")
    first_by_sha: dict[str, str] = {}
    for card, name in zip(cards, names, strict=True):
        first_name = first_by_sha.setdefault(card.weights_sha256, name)
        if first_name is not name:
            raise ConfigError(f"{first_name} and {name} have the same weights", hint="Give every detector once.")
        if not card.crop.same_but_size(cards[0].crop):
            raise ConfigError(
                f"{names[0]} and {name} cut faces by different rules",
                f"{cards[0].crop.text}; {card.crop.text}",
                "Combine detectors that were trained on the same crops.",
            )
    return cards[0].crop.model_copy(update={"size_px": max(card.crop.size_px for card in cards)})


def claim_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an ensemble, or what a killed run left of one.

    Raises:
        OutputError: it does.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} cannot be written", "it is a file", "Give another --out.")
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    if not names <= {CARD_FILE, MEMBERS_FOLDER} or (CARD_FILE in names and MEMBERS_FOLDER not in names):
        raise OutputError(
            f"{folder} cannot take an ensemble", "it holds something else already", "Give a new or empty --out."
        )


def normalised_shares(weights: Sequence[float] | None, n: int) -> NDArray[np.float64]:
    """Shares ``float64 [n]`` that sum to 1; equal ones for None.

    Raises:
        ConfigError: the weights are not ``n`` numbers from 0, or all of them 0.
    """
    if weights is None:
        return np.full(n, 1 / n)
    shares = np.asarray(weights, np.float64)
    if shares.shape != (n,) or not np.isfinite(shares).all() or (shares < 0).any() or not shares.sum() > 0:
        raise ConfigError(
            f"Invalid weights ({', '.join(f'{w:g}' for w in weights)})", f"{n} are needed, from 0, not all of them 0"
        )
    return np.asarray(shares / shares.sum())


def _copy_member(source: Path, card: Card, folder: Path) -> Path:
    """Copy a detector to where its content says; it appears there whole or not at all."""
    content = hashlib.sha256((source / CARD_FILE).read_bytes() + card.weights_sha256.encode()).hexdigest()
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", card.name)[:40].strip("_") or "detector"
    copy = folder / MEMBERS_FOLDER / f"{stem}-{content[:12]}"
    if copy.is_dir() and _is_whole(copy):
        return copy
    shutil.rmtree(copy, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=copy.parent, prefix=".copy-"))
    try:
        _copy_files(source, card, temporary)
        temporary.chmod(0o755)
        temporary.rename(copy)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return copy


def _copy_files(source: Path, card: Card, target: Path) -> None:
    """What makes a detector: of a run folder neither checkpoints nor logs."""
    members = card.members if isinstance(card, EnsembleCard) else ()
    for name in [CARD_FILE, *([] if members else [WEIGHTS_FILE])]:
        shutil.copyfile(source / name, target / name)
    if (source / GROUPS_FILE).is_file():
        shutil.copyfile(source / GROUPS_FILE, target / GROUPS_FILE)
    for member in members:
        inner = target / member.folder
        inner.mkdir(parents=True)
        _copy_files(source / member.folder, load_card(source / member.folder), inner)


def _is_whole(folder: Path) -> bool:
    try:
        open_detector(folder).load()
    except DeepscanError:
        return False
    return True


def _widest(calibrations: Sequence[Calibration]) -> Calibration:
    """For calibrated logits that were measured on nothing: the band in which any member gives no answer."""
    low = min(c.uncertain_low for c in calibrations)
    high = max(c.uncertain_high for c in calibrations)
    threshold = float(np.clip(np.mean([c.threshold for c in calibrations]), low, high))
    return Calibration(threshold=threshold, uncertain_low=low, uncertain_high=high)


def _distinct(entries: Iterable[Any]) -> list[Any]:
    """Without repetitions, in their order; entries need no hash."""
    kept: list[Any] = []
    for entry in entries:
        if entry not in kept:
            kept.append(entry)
    return kept
