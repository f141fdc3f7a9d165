"""How a detector holds up when its inputs are changed: every subject is judged as it is, and under every change.

What is judged is given by a bench (:mod:`deepscan.evaluate.robustness.subjects`): clips whose frames are changed
before a face is looked for, or crops of a store. Every answer is a line of a journal, so that a run that was
interrupted goes on where it was; the figures (:mod:`deepscan.evaluate.robustness.report`) are of the subjects that
were judged under all changes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from deepscan.append_log import LineFile
from deepscan.errors import ConfigError
from deepscan.evaluate.robustness.corruptions import Change, Target

log = logging.getLogger(__name__)

JOURNAL_ID = "deepscan.robustness.rows/1"
UNCHANGED = "unchanged"
_ANSWER = ("verdict", "probability", "reason", "moved")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged: a clip or picture of a corpus, or the people of one in a store.

    Attributes:
        key: unique, the same on every machine.
        label: 0 real, 1 fake.
        dataset, group: what is drawn together.
        split: where the data says.
    """

    key: str
    label: int
    dataset: str
    group: str
    split: str | None

    @property
    def group_name(self) -> str:
        """Group with its dataset: what is resampled together."""
        return f"{self.dataset}/{self.group}"


@dataclass(frozen=True, slots=True)
class Condition:
    """A change at a strength; neither for the subject as it is."""

    change: Change | None = None
    strength: float = 0.0

    @property
    def key(self) -> str:
        """As in the journal."""
        return UNCHANGED if self.change is None else f"{self.change.name}={self.strength:g}"


@dataclass(frozen=True, slots=True)
class Answer:
    """The detector's answer; without a probability where nobody could be judged.

    ``verdict`` None stands for a change that cannot be done to the subject: frames of a still cannot be dropped.
    ``moved`` is how far the check for attacked input saw the score move, as a share of its limit, if measured.
    """

    verdict: str | None
    probability: float | None = None
    reason: str | None = None
    moved: float | None = None


NOT_POSSIBLE = Answer(None)


class Bench(Protocol):
    """What changes are done to, and how it is judged then."""

    target: Target

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """Everything that there is."""
        ...

    def judge(self, subject: Subject, conditions: Sequence[Condition]) -> Iterator[tuple[Condition, Answer]]:
        """The answers under each of the conditions, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class SweepAnswers:
    """Answers of the subjects that were judged under all conditions.

    Attributes:
        subjects: in the order in which they were judged.
        conditions: the first is the subject as it is.
        outcomes: by subject and condition, ``[subjects][conditions]``.
        wanted: subjects that were to be judged.
        interrupted: whether Ctrl-C ended it early.
    """

    subjects: tuple[Subject, ...]
    conditions: tuple[Condition, ...]
    outcomes: tuple[tuple[Answer, ...], ...]
    wanted: int
    interrupted: bool = False


class AnswerLog(LineFile[tuple[str, str], Answer]):
    """The answers so far, one a line; a context manager.

    Args:
        path: made if it is not there; None keeps nothing.
        recipe: what decides the answers beside subject and condition.

    Raises:
        ConfigError: the file is of another recipe.
        OutputError: it cannot be read or written, holds something else, or another run writes to it.
    """

    def __init__(self, path: Path | None, recipe: Mapping[str, Any]) -> None:
        self._head = {"schema": JOURNAL_ID, "recipe": json.loads(json.dumps(recipe))}
        super().__init__(path or Path(os.devnull), self._parse, schema=JOURNAL_ID)
        if not self.n_lines:
            self.append_line(_line(self._head))

    def _parse(self, line: bytes) -> tuple[tuple[str, str], Answer] | None:
        content = json.loads(line)
        try:
            if "recipe" not in content:
                outcome = Answer(*(content[name] for name in _ANSWER))
                return (content["subject"], content["change"]), outcome
        except (KeyError, TypeError) as error:
            raise ValueError(f"Invalid line ({error}).") from error
        if content != self._head:
            raise ConfigError(
                "The journal is of another measurement",
                "model, settings, data or seed were others",
                "Give another folder with --out, or remove it.",
            )
        return None

    def answer(self, subject: Subject, condition: Condition) -> Answer | None:
        """An answer that is there already."""
        return self.get((subject.key, condition.key))

    def add(self, subject: Subject, condition: Condition, outcome: Answer) -> None:
        """Keep an answer.

        Raises:
            OutputError: it cannot be written.
        """
        line = {"subject": subject.key, "change": condition.key} | {name: getattr(outcome, name) for name in _ANSWER}
        self.append_line(_line(line), (subject.key, condition.key), outcome)


def conditions_of(picked: Sequence[tuple[Change, Sequence[float]]]) -> tuple[Condition, ...]:
    """The subject as it is, then every change at each of its strengths."""
    changed = (Condition(change, strength) for change, strengths in picked for strength in strengths)
    return (Condition(), *changed)


def subject_seed(seed: int, key: str) -> int:
    """Of everything random that is done to one subject: the same in every run and order."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "surrogatepass")).digest()[:4])


def choose_subjects(subjects: Sequence[Subject], limit: int | None, seed: int) -> list[Subject]:
    """Subjects in the order in which they are to be judged, so that any beginning of it is balanced too.

    From each group in turn, drawn at random, comes one real and one fake, then the next of each; so as many groups as
    can be take part, and pairs stay together. No class has more than half of the limit unless the other has too few.

    Args:
        subjects: of which to choose.
        limit: how many; None takes all.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    ordered = sorted(subjects, key=lambda subject: subject.key)
    drawn = [ordered[index] for index in rng.permutation(len(ordered))]
    groups: dict[str, tuple[list[Subject], list[Subject]]] = {}
    for subject in drawn:
        groups.setdefault(subject.group_name, ([], []))[subject.label].append(subject)
    rounds = max((max(map(len, both)) for both in groups.values()), default=0)
    # Groups that have both classes first: what differs within them is the change alone.
    by_use = sorted(groups.values(), key=lambda both: not (both[0] and both[1]))
    turns = [both[label][n] for n in range(rounds) for both in by_use for label in (0, 1) if n < len(both[label])]
    if limit is None or limit >= len(turns):
        return turns
    have = [sum(subject.label == label for subject in turns) for label in (0, 1)]
    room = [max(limit - limit // 2, limit - have[1]), max(limit // 2, limit - have[0])]
    chosen: list[Subject] = []
    for subject in turns:
        if room[subject.label] > 0 and len(chosen) < limit:
            room[subject.label] -= 1
            chosen.append(subject)
    return chosen


def judge_all(
    bench: Bench,
    subjects: Sequence[Subject],
    conditions: Sequence[Condition],
    journal: AnswerLog,
    on_progress: Callable[[int, int], None] | None = None,
) -> SweepAnswers:
    """Judge subjects under conditions; Ctrl-C ends it, and what is done counts.

    Args:
        bench: judges.
        subjects: in this order.
        conditions: of :func:`conditions_of`.
        journal: of the answers; what is in it is not done again.
        on_progress: called with the answers done and their number.

    Raises:
        OutputError: the journal cannot be written.
    """
    total, done = len(subjects) * len(conditions), 0
    whole: list[tuple[Subject, tuple[Answer, ...]]] = []
    interrupted = False
    try:
        for subject in subjects:
            missing = [condition for condition in conditions if journal.answer(subject, condition) is None]
            done += len(conditions) - len(missing)
            for condition, outcome in bench.judge(subject, missing) if missing else ():
                journal.add(subject, condition, outcome)
                done += 1
                if on_progress is not None:
                    on_progress(done, total)
            recorded = [journal.answer(subject, condition) for condition in conditions]
            whole.append((subject, tuple(outcome for outcome in recorded if outcome is not None)))
    except KeyboardInterrupt:
        interrupted = True
        log.warning("Interrupted: %d of %d answers are there, %d subjects have all.", done, total, len(whole))
    return SweepAnswers(
        tuple(subject for subject, _ in whole),
        tuple(conditions),
        tuple(outcomes for _, outcomes in whole),
        len(subjects),
        interrupted,
    )


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode() + b"\n"
