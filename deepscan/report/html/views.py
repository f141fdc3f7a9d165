"""What the templates show: plain values, in the order and the words of the page. No logic."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from deepscan.extract.file_facts.metadata import FileFacts

Row = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PictureView:
    """A picture as data URIs, with what it shows in words; ``heat`` is the same with its heat map."""

    source: str
    alt: str
    caption: str
    notes: tuple[str, ...] = ()
    heat: str | None = None


@dataclass(frozen=True, slots=True)
class PersonView:
    """One person's card."""

    id: int
    verdict: str
    word: str
    probability: str
    seen: str
    gauge: Markup | None
    chart: Markup | None
    weighed: bool
    segments: tuple[tuple[str, str, str], ...]
    segments_left_out: int
    pictures: tuple[PictureView, ...]
    heat: str | None
    values: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class InputView:
    """Everything about one input."""

    number: int
    anchor: str
    name: str
    path: str
    verdict: str
    word: str
    headline: str
    statements: tuple[str, ...]
    probability: str | None
    gauge: Markup | None
    meaning: tuple[str, ...]
    people: tuple[PersonView, ...]
    people_left_out: int
    lanes: Markup | None
    missed: tuple[str, ...]
    frames: tuple[PictureView, ...]
    not_explained: str | None
    pictures_left_out: int
    facts: FileFacts | None
    no_facts: str
    hashes: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One line of the index; ``rank`` and the numbers are what it is sorted by."""

    number: int
    href: str
    name: str
    folder: str
    verdict: str
    word: str
    rank: int
    probability: float | None
    probability_text: str
    people: int
    segments: int
    duration_s: float
    length: str
    why: str
    thumbnail: str | None = None


@dataclass(frozen=True, slots=True)
class ModelView:
    """Extract of the model card, and the settings of the run."""

    name: str
    trained: bool
    about: tuple[Row, ...]
    figures: tuple[tuple[str, str, str, str], ...]
    figures_of: str
    data: tuple[tuple[str, str, str], ...]
    limits: tuple[str, ...]
    settings: tuple[Row, ...]
    hashes: tuple[Row, ...]
