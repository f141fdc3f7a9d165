"""Ensembles: several detectors that answer as one.

    ensemble/
      card.json                     members and their shares, crop rule, calibration
      members/NAME-0123456789ab/    a whole detector each, which may be an ensemble itself

**Combination.** Every member's logits are first calibrated with its own card, so that they mean the same; the
ensemble's logit is their mean, weighted with the members' shares (from 0, together 1). That goes for people and for
single frames alike. The ensemble's own calibration comes on top.

**Crops.** Members may differ in backbone and input size, not in the crop rule: faces are cut once, at the largest size,
and resized for each member.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepscan.config import CropSettings
from deepscan.errors import ConfigError, DeepscanError, ModelError, OutputError
from deepscan.extract.crops import resized
from deepscan.files import write_atomically
from deepscan.models.card import Calibration, DetectorCard, EnsembleCard, EnsembleMember
from deepscan.models.checkpoint import (
    CARD_FILE,
    GROUPS_FILE,
    WEIGHTS_FILE,
    DetectorFiles,
    card_bytes,
    load_card,
    open_files,
    refuse_exported,
)
from deepscan.models.scorer import Features, Scorer, TorchScorer, score_sequences
from deepscan.runtimes import Precision
from deepscan.types import Score

if TYPE_CHECKING:
    from deepscan.models.network import DetectorNetwork

log = logging.getLogger(__name__)

MEMBERS_FOLDER = "members"
COMBINATION = "weighted mean of the members' calibrated logits"


@dataclass(frozen=True, slots=True)
class LoadedMember:
    """A detector of an ensemble, with its share."""

    network: DetectorNetwork | Ensemble
    card: DetectorCard | EnsembleCard
    weight: float


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The networks of an ensemble."""

    members: tuple[LoadedMember, ...]


@dataclass(frozen=True, slots=True)
class EnsembleFiles:
    """An ensemble's folder whose files were seen to be whole and to belong together.

    Attributes:
        card: of the ensemble.
        members: in the card's order.
    """

    card: EnsembleCard
    members: tuple[DetectorFiles | EnsembleFiles, ...]

    def load(self) -> Ensemble:
        """All networks, in evaluation mode.

        Raises:
            ModelError: weights cannot be read or do not fit their card.
        """
        shares = (entry.weight for entry in self.card.members)
        return Ensemble(tuple(LoadedMember(m.load(), m.card, w) for m, w in zip(self.members, shares, strict=True)))


class EnsembleScorer:
    """Scores sequences with every member and combines.

    Args:
        card: its crop size is that of the sequences.
        members: a scorer of each detector, the detector's card and its share; those without a share can be left out.
    """

    def __init__(
        self, card: EnsembleCard, members: Sequence[tuple[Scorer, DetectorCard | EnsembleCard, float]]
    ) -> None:
        self.card, self._members = card, members

    @property
    def crops_per_batch(self) -> int:
        """Crops that go through the members' backbones together."""
        return min(scorer.crops_per_batch for scorer, _, _ in self._members)

    def features(self, crops: NDArray[np.uint8]) -> list[Features]:
        """The members' features of each crop, RGB ``uint8 [N, S, S, 3]`` with S the ensemble's crop size."""
        parts = [scorer.features(resized(crops, card.crop.size_px)) for scorer, card, _ in self._members]
        return list(zip(*parts, strict=True))

    def judge(self, features: Sequence[Features]) -> Score:
        """One person's score.

        Args:
            features: of the person's crops in the order of time, at least one.
        """
        scores = [
            scorer.judge([one[member] for one in features]) for member, (scorer, _, _) in enumerate(self._members)
        ]
        calibrations = [card.calibration for _, card, _ in self._members]
        return combine(scores, calibrations, [weight for _, _, weight in self._members])

    def score(self, sequences: Sequence[NDArray[np.uint8]]) -> list[Score]:
        """Score each sequence.

        Args:
            sequences: RGB ``uint8 [T, S, S, 3]``, T from 1, S the ensemble's crop size.

        Returns:
            One score for each sequence, frame logits of length T.
        """
        return score_sequences(self, sequences)


def create_scorer(
    network: DetectorNetwork | Ensemble,
    card: DetectorCard | EnsembleCard,
    *,
    device: str = "cpu",
    tta: bool = True,
    precision: Precision = "float32",
) -> Scorer:
    """The scorer in torch of a detector, be it one network or several.

    Args:
        network: of the detector.
        card: of the same.
        device: torch device.
        tta, precision: as for :class:`~deepscan.models.scorer.TorchScorer`.

    Raises:
        ValueError: the card is not of this kind of network.
    """
    if isinstance(network, Ensemble) and isinstance(card, EnsembleCard):
        members = [
            (create_scorer(m.network, m.card, device=device, tta=tta, precision=precision), m.card, m.weight)
            for m in network.members
            if m.weight > 0
        ]
        return EnsembleScorer(card, members)
    if not isinstance(network, Ensemble) and isinstance(card, DetectorCard):
        return TorchScorer(network, card, device=device, tta=tta, precision=precision)
    raise ValueError(f"Invalid card ({type(card).__name__}) for {type(network).__name__}.")


def load_network(folder: Path) -> tuple[DetectorNetwork | Ensemble, DetectorCard | EnsembleCard]:
    """Load what is in a detector's folder, in evaluation mode, with its card.

    Raises:
        ModelError: a file is missing, damaged or was exchanged; or the members' crop rules differ.
    """
    files = open_detector(folder)
    return files.load(), files.card


def open_detector(folder: Path) -> DetectorFiles | EnsembleFiles:
    """Check what is in a detector's folder; its networks are loaded later, if at all.

    Raises:
        ModelError: a file is missing, damaged or was exchanged; or the members' crop rules differ.
    """
    card = load_card(folder)
    if isinstance(card, DetectorCard):
        return open_files(folder, card)
    refuse_exported(folder)
    if card.weights_sha256 != members_sha256(card.members):
        raise ModelError(
            f"{folder / CARD_FILE} was changed by hand", "its sha256 is not that of its members", "Make it again."
        )
    members = tuple(_open_member(folder, member) for member in card.members)
    for entry, member in zip(card.members, members, strict=True):
        if _rule(member.card.crop) != _rule(card.crop) or member.card.crop.size_px > card.crop.size_px:
            raise ModelError(
                f"{folder / entry.folder} does not fit its ensemble", "it asks for other crops", "Make it again."
            )
    return EnsembleFiles(card, members)


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

    Returns:
        The card as written.

    Raises:
        ConfigError: too few detectors, one twice, crop rules that differ, or shares that are none.
        ModelError: a detector is damaged.
        OutputError: the folder holds something else, or cannot be written.
    """
    cards = [load_network(source)[1] for source in sources]  # loaded, not only read: what is damaged is not copied
    crop = common_crop(cards, [str(source) for source in sources])
    shares = normalised_shares(weights, len(cards))
    claim_folder(folder)
    try:
        (folder / MEMBERS_FOLDER).mkdir(parents=True, exist_ok=True)
        places = [_copy_member(source, card, folder) for source, card in zip(sources, cards, strict=True)]
    except OSError as error:
        raise OutputError(f"{folder} cannot be written", error.strerror or str(error)) from error
    members = tuple(
        EnsembleMember(
            folder=place.relative_to(folder).as_posix(),
            weight=float(share),
            weights_sha256=card.weights_sha256,
            backbone=card.backbone,
            head=card.head,
        )
        for place, card, share in zip(places, cards, shares, strict=True)
    )
    card = EnsembleCard(
        name=name,
        created=time.strftime("%Y-%m-%d"),
        crop=crop,
        calibration=calibration or _widest([card.calibration for card in cards]),
        weights_sha256=members_sha256(members),
        trained=all(card.trained for card in cards),
        training={"combination": COMBINATION, "members": names_apart(cards, sources), **(training or {})},
        data=_once(entry for card in cards for entry in card.data),
        limits=_once(limit for card in cards for limit in card.limits),
        members=members,
    )
    write_atomically(folder / CARD_FILE, card_bytes(card))
    for stale in set((folder / MEMBERS_FOLDER).iterdir()) - set(places):
        shutil.rmtree(stale, ignore_errors=True)
    return card


def names_apart(cards: Sequence[DetectorCard | EnsembleCard], sources: Sequence[Path]) -> list[str]:
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


def common_crop(cards: Sequence[DetectorCard | EnsembleCard], names: Sequence[str]) -> CropSettings:
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
        other = first_by_sha.setdefault(card.weights_sha256, name)
        if other is not name:
            raise ConfigError(f"{other} and {name} have the same weights", hint="Give every detector once.")
    odd = next((index for index, card in enumerate(cards) if _rule(card.crop) != _rule(cards[0].crop)), None)
    if odd is not None:
        raise ConfigError(
            f"{names[0]} and {names[odd]} cut faces by different rules",
            f"{rule_text(cards[0].crop)}; {rule_text(cards[odd].crop)}",
            "Combine detectors that were trained on the same crops.",
        )
    return cards[0].crop.model_copy(update={"size_px": max(card.crop.size_px for card in cards)})


def combine(scores: Sequence[Score], calibrations: Sequence[Calibration], weights: Sequence[float]) -> Score:
    """One score from the members': the weighted mean of their calibrated logits.

    Args:
        scores: of one sequence, one a member.
        calibrations: of the members.
        weights: their shares, summing to 1.
    """
    video = sum(w * (s.video_logit * c.scale + c.bias) for s, c, w in zip(scores, calibrations, weights, strict=True))
    frames = np.sum(
        [
            w * (s.frame_logits * c.frame_scale + c.frame_bias)
            for s, c, w in zip(scores, calibrations, weights, strict=True)
        ],
        axis=0,
    )
    return Score(float(video), np.asarray(frames, np.float64))


def members_sha256(members: Sequence[EnsembleMember]) -> str:
    """What stands for an ensemble's weights: hex sha256 over its members' and their shares, in their order."""
    lines = "".join(f"{member.weights_sha256} {member.weight!r}\n" for member in members)
    return hashlib.sha256(lines.encode("ascii", "replace")).hexdigest()


def count_parameters(network: DetectorNetwork | Ensemble) -> int:
    """Parameters of all networks."""
    if isinstance(network, Ensemble):
        return sum(count_parameters(member.network) for member in network.members)
    return sum(parameter.numel() for parameter in network.parameters())


def rule_text(crop: CropSettings) -> str:
    """A crop rule in words."""
    return f"margin {crop.margin:g}, shift {crop.shift_y:g}, align {crop.align}, {crop.size_px} px"


def _rule(crop: CropSettings) -> CropSettings:
    """A crop rule apart from its size."""
    return crop.model_copy(update={"size_px": 32})


def _open_member(folder: Path, entry: EnsembleMember) -> DetectorFiles | EnsembleFiles:
    place = folder / entry.folder
    # Strictly below: a link back up would load the ensemble into itself.
    if folder.resolve() not in place.resolve().parents:
        raise ModelError(f"{place} is no member of its ensemble", "the link leads out of the folder", "Copy it again.")
    files = open_detector(place)
    found = files.card.weights_sha256
    if found != entry.weights_sha256:
        raise ModelError(
            f"{place} was exchanged",
            f"its sha256 is {found[:12]}..., the ensemble's card says {entry.weights_sha256[:12]}...",
            "Make the ensemble again.",
        )
    return files


def _copy_member(source: Path, card: DetectorCard | EnsembleCard, folder: Path) -> Path:
    """Copy a detector to where its content says; it appears there whole or not at all."""
    content = hashlib.sha256((source / CARD_FILE).read_bytes() + card.weights_sha256.encode()).hexdigest()
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", card.name)[:40].strip("_") or "detector"
    place = folder / MEMBERS_FOLDER / f"{stem}-{content[:12]}"
    if place.is_dir() and _is_whole(place):
        return place
    shutil.rmtree(place, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=".copy-"))
    try:
        _copy_files(source, card, temporary)
        temporary.chmod(0o755)
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return place


def _copy_files(source: Path, card: DetectorCard | EnsembleCard, target: Path) -> None:
    """What makes a detector: of a run folder neither checkpoints nor logs."""
    names = [CARD_FILE, *([WEIGHTS_FILE] if isinstance(card, DetectorCard) else [])]
    for name in [*names, *([GROUPS_FILE] if (source / GROUPS_FILE).is_file() else [])]:
        shutil.copyfile(source / name, target / name)
    for member in card.members if isinstance(card, EnsembleCard) else ():
        inner = target / member.folder
        inner.mkdir(parents=True)
        _copy_files(source / member.folder, load_card(source / member.folder), inner)


def _is_whole(place: Path) -> bool:
    try:
        load_network(place)
    except DeepscanError:
        return False
    return True


def claim_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an ensemble, or what a killed run left of one.

    Raises:
        OutputError: it does.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} cannot be written", "it is a file", "Give another --out.")
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    if not found <= {CARD_FILE, MEMBERS_FOLDER} or (CARD_FILE in found and MEMBERS_FOLDER not in found):
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
    given = np.asarray(weights, np.float64)
    if given.shape != (n,) or not np.isfinite(given).all() or (given < 0).any() or not given.sum() > 0:
        raise ConfigError(
            f"Invalid weights ({', '.join(f'{w:g}' for w in weights)})", f"{n} are needed, from 0, not all of them 0"
        )
    return np.asarray(given / given.sum())


def _widest(calibrations: Sequence[Calibration]) -> Calibration:
    """For calibrated logits that were measured on nothing: the band in which any member gives no answer."""
    low = min(c.uncertain_low for c in calibrations)
    high = max(c.uncertain_high for c in calibrations)
    threshold = float(np.clip(np.mean([c.threshold for c in calibrations]), low, high))
    return Calibration(threshold=threshold, uncertain_low=low, uncertain_high=high)


def _once(entries: Any) -> list[Any]:
    found: list[Any] = []
    for entry in entries:
        if entry not in found:
            found.append(entry)
    return found
