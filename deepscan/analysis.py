"""What is known of one file: it is decoded once, its faces are found once, and everybody takes it from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deepscan.extract.people import Extraction, Person
from deepscan.models.scorer import Features
from deepscan.types import Result, Score


@dataclass(frozen=True, slots=True)
class Analysis:
    """One file and its answer.

    Attributes:
        result: the answer, with the verdict ``error`` where there is none.
        extraction: what was found, with the media facts and the pictures that were to be kept; None where it failed.
        people: those who were judged, with their crops, in the order of ``result.tracks``.
        features: of every crop of each.
        scores: of each.
        error: what failed.
    """

    result: Result
    extraction: Extraction | None = None
    people: tuple[Person, ...] = ()
    features: Sequence[Sequence[Features]] = ()
    scores: tuple[Score, ...] = ()
    error: Exception | None = None
