"""Attacks as changes of ``deepscan robustness``: on crops, and only where they are asked for by name.

``deepscan attack`` measures more of them: what the attacker knows, transfer, defences, the check for attacked input.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Literal

from deepscan.evaluate.robustness.corruptions import Change, Crops

if TYPE_CHECKING:
    from deepscan.detector import Detector
    from deepscan.evaluate.robustness.attacks import Attacker

_BUDGETS = (1.0, 2.0, 4.0, 8.0)
_UNIT = "budget, grey levels of 255"


def _attacked(
    name: Literal["fgsm", "pgd"], crops: Crops, label: int, detector: Detector, strength: float, seed: int
) -> Crops:
    from deepscan.evaluate.robustness.attacks import Attack

    attack = Attack(name=name, budget=int(strength))
    return _attacker(detector).crops(crops[None], [label], attack, seed=seed)[0]


@lru_cache(maxsize=1)
def _attacker(detector: Detector) -> Attacker:
    """Kept: it holds a copy of the network."""
    from deepscan.evaluate.robustness.attacks import Attacker

    return Attacker(*detector.networks.single(), detector.card.attack_check, str(detector.device))


ATTACKS: dict[str, Change] = {
    change.name: change
    for change in (
        Change("fgsm", "FGSM", _UNIT, _BUDGETS, attack=partial(_attacked, "fgsm"), low=1, high=64, whole=True),
        Change("pgd", "PGD", _UNIT, _BUDGETS, attack=partial(_attacked, "pgd"), low=1, high=64, whole=True),
    )
}
