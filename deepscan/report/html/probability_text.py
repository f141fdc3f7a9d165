"""What a probability means: how many of the files with such a score were fake where that was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepscan.models.card import Card

_VALIDATION = re.compile(r"\bval", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Meaning:
    """One probability beside what was measured.

    Attributes:
        part: the data it was measured on, in the card's words.
        probability: mean of the files that it is compared with.
        share, low, high: of them that were fake, with the 95 % interval.
        n: how many they are.
        base_rate: share of fakes among all files of that data.
        outside: whether the probability lies beyond all that were measured.
    """

    part: str
    probability: float
    share: float
    low: float
    high: float
    n: int
    base_rate: float
    outside: bool


def meaning(probability: float, card: Card | None) -> Meaning | None:
    """What was measured of files with such a probability, of the group whose mean is nearest.

    Groups equally near are taken together. Measured on validation data where the card has it, else on the first data
    for which it has a calibration curve.

    Returns:
        None where the card has no such curve.
    """
    curve = _curve(card)
    if curve is None:
        return None
    part, bins = curve
    off = min(abs(one["probability"] - probability) for one in bins)
    near = [one for one in bins if abs(one["probability"] - probability) <= off + 1e-9]
    n = sum(int(one["n"]) for one in near)

    def mean(name: str) -> float:
        return sum(float(one[name]) * int(one["n"]) for one in near) / n

    total = sum(int(one["n"]) for one in bins)
    base = sum(float(one["share"]) * int(one["n"]) for one in bins) / total
    means = [float(one["probability"]) for one in bins]
    # Beyond the outermost group's mean by more than the groups lie apart.
    reach = (max(means) - min(means)) / max(1, len(means) - 1)
    outside = not min(means) - reach <= probability <= max(means) + reach
    low, high = min(float(one["low"]) for one in near), max(float(one["high"]) for one in near)
    return Meaning(part, mean("probability"), mean("share"), low, high, n, base, outside)


def sentences(probability: float | None, kind: str | None, card: Card | None) -> tuple[str, ...]:
    """The same for a person, each a sentence; none for an input without a probability."""
    if probability is None:
        return ()
    if card is None or (group := meaning(probability, card)) is None:
        return (
            "What files with such a score turned out to be was not recorded for this detector: its card has no "
            "calibration curve. The probability is then only as good as its training.",
        )
    clips = "images" if kind == "image" else "clips"
    where = "on the validation data" if _VALIDATION.search(group.part) else "where that was measured"
    first = (
        f"Of 100 {clips} with a score like this, about {round(100 * group.share)} were fake {where}: "
        f"{group.n:,} files with a mean score of {100 * group.probability:.0f} % ({group.part}). The 95 % "
        f"interval is {100 * group.low:.0f} to {100 * group.high:.0f} of 100."
    )
    second = (
        f"In that data {100 * group.base_rate:.0f} % of all files were fake. Where fakes are rarer, so are fakes among "
        "the files with this score; and a kind of fake that was not in the data may get any score."
    )
    third = ("No file that was measured had so extreme a score: the nearest are taken.",) if group.outside else ()
    return (first, second, *third)


def _curve(card: Card | None) -> tuple[str, Sequence[Mapping[str, Any]]] | None:
    """Name of the data and groups of the card's calibration curve."""
    if card is None:
        return None
    known = [(str(e.get("part", "")), _usable(e.get("reliability") or ())) for e in card.evaluations]
    known = [(part, bins) for part, bins in known if bins]
    return next((one for one in known if _VALIDATION.search(one[0])), known[0] if known else None)


def _usable(bins: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    fields = ("probability", "share", "low", "high", "n")
    return [one for one in bins if all(isinstance(one.get(f), int | float) for f in fields) and one["n"] > 0]
