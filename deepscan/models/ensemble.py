"""The networks of a detector: one, or several that answer as one.

Every detector is a weighted sum of networks, with one term or several, so that nothing else has to ask which it is. In
an ensemble every member's logits are first calibrated with its own card, so that they mean the same; the ensemble's
logit is their mean, weighted with the members' shares. An ensemble may be a member itself: shares and calibrations are
multiplied out.

Members may differ in backbone and input size, not in the crop rule: faces are cut once, at the largest size, and
resized for each network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from deepscan.config import CropSettings
from deepscan.errors import ModelError
from deepscan.models.card import Card, DetectorCard, EnsembleCard, EnsembleMember
from deepscan.models.checkpoint import CARD_FILE, check_weights, feature_dim, load_card, read_network, refuse_exported
from deepscan.types import Score

if TYPE_CHECKING:
    from deepscan.models.network import DetectorNetwork


@dataclass(frozen=True, slots=True)
class Part:
    """A network of a detector, on disk or in memory.

    Attributes:
        card: of this network.
        folder: that it is loaded from; None where it is in memory alone.
        network: in evaluation mode; None where it is not loaded.
        weight, frame_weight: of its logits in the detector's.
    """

    card: DetectorCard
    folder: Path | None = None
    network: DetectorNetwork | None = None
    weight: float = 1.0
    frame_weight: float = 1.0

    @property
    def feature_dim(self) -> int:
        """Length of the backbone's feature vector; see :func:`~deepscan.models.checkpoint.feature_dim`."""
        return feature_dim(self.folder) if self.network is None and self.folder else self.load().backbone.feature_dim

    def load(self) -> DetectorNetwork:
        """The network, read now if it is on disk alone.

        Raises:
            ModelError: the weights cannot be read or do not fit their card.
        """
        if self.network is not None:
            return self.network
        assert self.folder is not None  # noqa: S101 - it is somewhere
        return read_network(self.folder, self.card)


@dataclass(frozen=True, slots=True)
class Networks:
    """All networks of a detector.

    Attributes:
        card: of the detector.
        parts: those whose answers count; their weighted logits and the bias sum up to the detector's, which its card
            calibrates.
        bias, frame_bias: of the sums for a person and for single frames.
    """

    card: Card
    parts: tuple[Part, ...]
    bias: float = 0.0
    frame_bias: float = 0.0

    @classmethod
    def of(cls, network: DetectorNetwork, card: DetectorCard) -> Self:
        """A network in memory."""
        return cls(card, (Part(card, network=network),))

    @property
    def on_disk(self) -> bool:
        """Whether they can be loaded again at any time, as their card says."""
        return all(part.folder is not None for part in self.parts)

    @property
    def n_parameters(self) -> int:
        """Parameters of all networks."""
        return sum(parameter.numel() for part in self.parts for parameter in part.load().parameters())

    def load(self) -> Networks:
        """The same in memory.

        Raises:
            ModelError: weights cannot be read or do not fit their card.
        """
        return replace(self, parts=tuple(replace(part, network=part.load(), folder=None) for part in self.parts))

    def single(self) -> tuple[DetectorNetwork, DetectorCard]:
        """The only network, for what cannot be done to several.

        Raises:
            ModelError: it is an ensemble; or as :meth:`load`.
        """
        if isinstance(self.card, EnsembleCard):
            members = ", ".join(member.folder for member in self.card.members)
            hint = f"Give one of its members: {members}."
            raise ModelError(f"{self.card.name} is an ensemble", "one network is needed here", hint)
        (part,) = self.parts
        return part.load(), part.card

    def combine(self, scores: Sequence[Score]) -> Score:
        """The detector's score of a person from that of each part."""
        video = self.bias + sum(part.weight * s.video_logit for part, s in zip(self.parts, scores, strict=True))
        frames = [part.frame_weight * s.frame_logits for part, s in zip(self.parts, scores, strict=True)]
        return Score(float(video), np.asarray(np.sum(frames, axis=0) + self.frame_bias))


def weighted(members: Sequence[Networks], shares: Sequence[float], card: Card) -> Networks:
    """Detectors as one: the mean of their calibrated logits, weighted with shares that sum to 1.

    Args:
        members: in the order of the shares; one whose share is 0 has no part in the answers.
        card: of the whole.
    """
    parts: list[Part] = []
    bias = frame_bias = 0.0
    for member, share in zip(members, shares, strict=True):
        calibration = member.card.calibration
        bias += share * (calibration.scale * member.bias + calibration.bias)
        frame_bias += share * (calibration.frame_scale * member.frame_bias + calibration.frame_bias)
        for part in member.parts if share > 0 else ():
            weight, frame_weight = (
                share * calibration.scale * part.weight,
                share * calibration.frame_scale * part.frame_weight,
            )
            parts.append(replace(part, weight=weight, frame_weight=frame_weight))
    return Networks(card, tuple(parts), bias, frame_bias)


def open_detector(folder: Path) -> Networks:
    """Check what is in a detector's folder; its networks are loaded later, if at all.

    Raises:
        ModelError: a file is missing, damaged or was exchanged; or the members' crop rules differ.
    """
    card = load_card(folder)
    refuse_exported(folder)
    if isinstance(card, DetectorCard):
        check_weights(folder, card)
        return Networks(card, (Part(card, folder),))
    assert isinstance(card, EnsembleCard)  # noqa: S101 - there are two kinds
    if card.weights_sha256 != members_sha256(card.members):
        raise ModelError(
            f"{folder / CARD_FILE} was changed by hand", "its sha256 is not that of its members", "Make it again."
        )
    members = [_open_member(folder, entry, card.crop) for entry in card.members]
    return weighted(members, [entry.weight for entry in card.members], card)


def _open_member(folder: Path, entry: EnsembleMember, crop: CropSettings) -> Networks:
    path = folder / entry.folder
    # Strictly below: a link back up would load the ensemble into itself.
    if folder.resolve() not in path.resolve().parents:
        raise ModelError(f"{path} is no member of its ensemble", "the link leads out of the folder", "Copy it again.")
    member = open_detector(path)
    digest = member.card.weights_sha256
    if digest != entry.weights_sha256:
        raise ModelError(
            f"{path} was exchanged",
            f"its sha256 is {digest[:12]}..., the ensemble's card says {entry.weights_sha256[:12]}...",
            "Make the ensemble again.",
        )
    if not crop.same_but_size(member.card.crop) or member.card.crop.size_px > crop.size_px:
        raise ModelError(f"{path} does not fit its ensemble", "it asks for other crops", "Make it again.")
    return member


def members_sha256(members: Sequence[EnsembleMember]) -> str:
    """What stands for an ensemble's weights: hex sha256 over its members' and their shares, in their order."""
    lines = "".join(f"{member.weights_sha256} {member.weight!r}\n" for member in members)
    return hashlib.sha256(lines.encode("ascii", "replace")).hexdigest()
