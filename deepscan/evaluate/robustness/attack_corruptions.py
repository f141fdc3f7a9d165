"""Attacks as changes of ``deepscan robustness``: on crops, and only where they are asked for by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from deepscan.evaluate.robustness.corruptions import Change, Crops
from deepscan.extract.crops import resized

if TYPE_CHECKING:
    from deepscan.detector import Detector
    from deepscan.evaluate.robustness.attacks import Attacker, AttackName, Knows

_SMALLEST_SCALE = 0.85


@dataclass(frozen=True, slots=True)
class AttackSetup:
    """How the attacks of a measurement are made.

    Attributes:
        knows: what the attacker knows of the detector, see :class:`deepscan.evaluate.robustness.attacks.Attack`.
        steps: of ``pgd``.
        source: detector that they are made on; None for the one that judges.
    """

    knows: Knows = "network"
    steps: int = 10
    source: Detector | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        source = None if self.source is None else {"name": self.source.card.name, "sha256": self.source.info.sha256}
        return {"knows": self.knows, "steps": self.steps, "made_on": source}


def attack_changes(setup: AttackSetup | None = None) -> dict[str, Change]:
    """The attacks by name, made in this way."""
    setup = setup or AttackSetup()
    more = "" if setup.knows == "network" else f", knows {setup.knows}"
    if setup.source is not None:
        more += f", made on {setup.source.card.name}"
    names: tuple[AttackName, ...] = ("fgsm", "pgd")
    return {
        name: Change(
            name, f"{name.upper()}{more}", "budget, grey levels of 255", (1.0, 2.0, 4.0, 8.0),
            attack=partial(_attacked, setup, name), low=1, high=64, whole=True,
        )
        for name in names
    }  # fmt: skip


def check_attackable(detector: Detector, setup: AttackSetup) -> None:
    """Fail before the work where attacks cannot be made.

    Raises:
        ModelError: they would be made on an ensemble.
        ConfigError: they would be made on a detector with another crop rule.
        DeepscanError: the Adversarial Robustness Toolbox is not installed.
    """
    from deepscan.datasets.data import check_rule

    source = setup.source or detector
    smaller = min(source.card.crop.size_px, detector.card.crop.size_px)
    check_rule(detector.card.crop, source.card.crop.model_copy(update={"size_px": smaller}), detector.card.name)
    _attacker(source, detector)


def rescaled(crops: Crops, rng: np.random.Generator) -> Crops:
    """Each crop of ``uint8 [T, S, S, 3]`` scaled by a factor drawn from 0.85 to 1, and back: a defence."""
    side = crops.shape[1]
    out = np.empty_like(crops)
    for index, crop in enumerate(crops):
        small = max(1, round(side * rng.uniform(_SMALLEST_SCALE, 1)))
        less = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
        out[index] = cv2.resize(less, (side, side), interpolation=cv2.INTER_LINEAR)
    return out


def _attacked(
    setup: AttackSetup, name: AttackName, crops: Crops, label: int, detector: Detector, strength: float, seed: int
) -> Crops:
    from deepscan.evaluate.robustness.attacks import Attack

    source = setup.source or detector
    attack = Attack(name=name, budget=int(strength), steps=setup.steps, knows=setup.knows)
    clean = resized(crops, source.card.crop.size_px)
    attacked = _attacker(source, detector).crops(clean[None], [label], attack, seed=seed)[0]
    return resized(attacked, crops.shape[1])


@lru_cache(maxsize=1)
def _attacker(source: Detector, detector: Detector) -> Attacker:
    """Kept: it holds a copy of the network."""
    from deepscan.evaluate.robustness.attacks import Attacker

    return Attacker(*source.networks.single(), detector.card.attack_check, str(source.device))
