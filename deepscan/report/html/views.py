"""What the templates show: plain values, in the order and the words of the page. No logic."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from deepscan.extract.file_facts.metadata import FileFacts

Row = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PictureView:
    """A picture as a data URI, with what it shows in words."""

    source: str
    alt: str
    caption: str


@dataclass(frozen=True, slots=True)
class PersonView:
    """One person: ``chart`` is of single frames, ``weighed`` the same with what each does to the answer."""

    id: int
    verdict: str
    word: str
    probability: str
    seen: str
    gauge: Markup | None
    chart: Markup | None
    weighed: Markup | None
    frame: PictureView | None
    faces: tuple[PictureView, ...]
    heat: tuple[PictureView, ...]


@dataclass(frozen=True, slots=True)
class InputView:
    """Everything about one input; ``people`` begin with the one who decides."""

    number: int
    anchor: str
    name: str
    verdict: str
    word: str
    headline: str
    statements: tuple[str, ...]
    probability: str | None
    gauge: Markup | None
    people: tuple[PersonView, ...]
    people_left_out: int
    lanes: Markup | None
    brightened: bool
    next_steps: tuple[str, ...]
    unseen: tuple[str, ...]
    meaning: tuple[str, ...]
    details: tuple[str, ...]
    heat_note: str | None
    error_level: tuple[PictureView, ...]
    error_level_note: str
    pictures_left_out: int
    facts: FileFacts | None
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
    figures: tuple[tuple[str, str, str], ...]
    figures_of: str
    data: tuple[tuple[str, str, str], ...]
    limits: tuple[str, ...]
    settings: tuple[Row, ...]
    hashes: tuple[Row, ...]
