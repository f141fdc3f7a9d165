"""The figures of a detector under changes: by strength, against the unchanged subjects, and where it breaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepscan.datasets.readers.base import writable
from deepscan.evaluate.bootstrap import answers_of, checked_inputs, resampled_figures
from deepscan.evaluate.evaluation import model_to_dict, model_warnings
from deepscan.evaluate.metrics import MetricValue, evaluate_scores, percentile_interval, share, to_json
from deepscan.evaluate.robustness.attack_corruptions import AttackSetup
from deepscan.evaluate.robustness.corruptions import Change, Target
from deepscan.evaluate.robustness.sweep import Answer, Condition, Subject, SweepAnswers
from deepscan.models.card import AttackCheck
from deepscan.types import ModelInfo, VerdictLabel
from deepscan.version import __version__

SCHEMA_ID = "deepscan.robustness/1"
# Figures that are set against the unchanged subjects, and whether more of them is worse.
COMPARED = {
    "auc": False, "fpr": True, "fnr": True, "scored": False, "coverage": False, "real_called_fake": True,
    "fake_called_real": True,
}  # fmt: skip
# Where attacks were made. ``success``: of the inputs on the right side of the threshold unchanged, those on the wrong
# side. ``wrong``: real or fake was answered, and it is wrong. ``flagged``: the check for attacked input fires.
ATTACK_TITLES = {
    "success": "Attack succeeded",
    "wrong": "Wrong answers",
    "wrong_unflagged": "Wrong answers that pass the check",
    "flagged": "Check fired",
    "flagged_successes": "Check fired on successes",
}
_WEAKEST = 5


@dataclass(frozen=True, slots=True)
class RobustnessRow:
    """The figures under one condition.

    Attributes:
        condition: the change; the first row of a report is without.
        n_real, n_fake: subjects.
        not_scored: of these, by reason.
        figures: of :func:`deepscan.evaluate.metrics.evaluate_scores`, and of :data:`ATTACK_TITLES` beside attacks.
        differences: of :data:`COMPARED`, the figure minus that of the same subjects unchanged, groups drawn in pairs.
    """

    condition: Condition
    n_real: int
    n_fake: int
    not_scored: dict[str, int]
    figures: dict[str, MetricValue]
    differences: dict[str, MetricValue]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        change = self.condition.change
        return {
            "change": None if change is None else change.name,
            "strength": None if change is None else self.condition.strength,
            "n_real": self.n_real,
            "n_fake": self.n_fake,
            "not_scored": self.not_scored,
            "figures": to_json(self.figures),
            "differences": to_json(self.differences),
        }


@dataclass(frozen=True, slots=True)
class Break:
    """Where a change makes the detector no better than the floor.

    Attributes:
        change: which.
        strength: the mildest at which AUC's lower bound is not above the floor; None: it is above at all of them.
        unchanged: whether it is not above the floor even unchanged, so that the change is not to blame.
        known: whether there is an AUC at all.
    """

    change: Change
    strength: float | None
    unchanged: bool = False
    known: bool = True

    def text(self) -> str:
        """In a few words."""
        if not self.known:
            return "not known: one class only"
        if self.unchanged:
            return "already unchanged"
        return "never, of those measured" if self.strength is None else f"{self.strength:g}"


@dataclass(frozen=True, slots=True)
class RobustnessSettings:
    """What is measured, and how.

    Attributes:
        data: names of the data as given.
        target: what changes are done to.
        split: only this part of the data.
        limit: subjects at most.
        seconds: of each clip only the middle.
        frames: of each video.
        floor: AUC that the detector must be better than.
        resamples: of the bootstrap.
        seed: of everything that is drawn, and of the bootstrap.
        attack: how attacks were made; None without any.
        random_resize: whether crops are scaled at random before they are judged.
        check: for attacked input, that was measured.
    """

    data: tuple[str, ...] = ()
    target: Target = "crops"
    split: str | None = None
    limit: int | None = None
    seconds: float | None = None
    frames: int | None = None
    floor: float = 0.6
    resamples: int = 1000
    seed: int = 0
    attack: AttackSetup | None = None
    random_resize: bool = False
    check: AttackCheck | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        attack = None
        if self.attack is not None:
            check = None if self.check is None else self.check.model_dump()
            attack = self.attack.to_dict() | {"random_resize": self.random_resize, "check": check}
        names = ("split", "seed", "floor", "resamples", "limit", "seconds", "frames")
        data = [writable(name) for name in self.data]
        return {"data": data, "on": self.target, **{name: getattr(self, name) for name in names}, "attack": attack}


@dataclass(frozen=True, slots=True)
class Robustness:
    """A detector measured under changes.

    Attributes:
        model: which detector.
        settings: of the measurement.
        groups: that the subjects are of.
        n_judged: subjects that were, of ``n_wanted``; ``interrupted`` where Ctrl-C ended it.
        without: videos of the stores in which nobody was found; no change can be done to them.
        rows: the first is unchanged.
        breaks: one a change.
        warnings: sentences that belong to the figures.
    """

    model: ModelInfo
    settings: RobustnessSettings
    groups: int
    n_judged: int
    n_wanted: int
    interrupted: bool
    without: int
    rows: tuple[RobustnessRow, ...]
    breaks: tuple[Break, ...]
    warnings: tuple[str, ...]

    def rows_of(self, change: Change) -> list[RobustnessRow]:
        """From mild to severe."""
        return [row for row in self.rows if row.condition.change is change]

    @property
    def changes(self) -> list[Change]:
        """Those that have figures."""
        return list(dict.fromkeys(row.condition.change for row in self.rows if row.condition.change is not None))

    def weakest(self, name: str, most: int = _WEAKEST) -> list[RobustnessRow]:
        """Of each change the strength at which a figure differs most for the worse, the worst change first.

        Only where the interval of the difference leaves out 0, or all resamples agree that it is worse.
        """
        sign = 1 if COMPARED[name] else -1
        worst = []
        for change in self.changes:
            worse = [row for row in self.rows_of(change) if _is_worse(row.differences[name], sign)]
            if worse:
                worst.append(max(worse, key=lambda row: sign * (row.differences[name].value or 0.0)))
        return sorted(worst, key=lambda row: -sign * (row.differences[name].value or 0.0))[:most]

    def to_dict(self) -> dict[str, Any]:
        """As plain values: ``report.json``, by ``deepscan/schema/robustness-1.json``."""
        return {
            "schema": SCHEMA_ID,
            "version": __version__,
            "model": model_to_dict(self.model),
            **self.settings.to_dict(),
            "groups": self.groups,
            "judged": self.n_judged,
            "wanted": self.n_wanted,
            "interrupted": self.interrupted,
            "without_face_in_store": self.without,
            "changes": [
                {
                    "name": at.change.name,
                    "title": at.change.title,
                    "unit": at.change.unit,
                    "breaks_at": at.strength,
                    "breaks_unchanged": at.unchanged,
                    "breaks_known": at.known,
                }
                for at in self.breaks
            ],
            "rows": [row.to_dict() for row in self.rows],
            "warnings": list(self.warnings),
        }


def summarise(
    answers: SweepAnswers,
    model: ModelInfo,
    settings: RobustnessSettings,
    *,
    without: int = 0,
    train_groups: frozenset[str] = frozenset(),
) -> Robustness:
    """The figures of answers.

    Args:
        answers: of everybody, under every condition.
        model: that gave them.
        settings: of the measurement.
        without: videos of the stores in which nobody was found.
        train_groups: as for :func:`deepscan.evaluate.evaluation.evaluate`.
    """
    measured = (_row(answers, number, model.threshold, settings) for number in range(len(answers.conditions)))
    rows = [row for row in measured if row is not None]
    changes = dict.fromkeys(row.condition.change for row in rows if row.condition.change is not None)
    return Robustness(
        model,
        settings,
        len({subject.group_name for subject in answers.subjects}),
        len(answers.subjects),
        answers.wanted,
        answers.interrupted,
        without,
        tuple(rows),
        tuple(_break(change, rows, settings.floor) for change in changes),
        tuple(_warnings(answers, model, train_groups, without, changes)),
    )


def _break(change: Change, rows: Sequence[RobustnessRow], floor: float) -> Break:
    of_change = [row for row in rows if row.condition.change is change]
    known = any(row.figures["auc"].value is not None for row in of_change)
    lost = next((row.condition.strength for row in of_change if not _is_above(row.figures["auc"], floor)), None)
    already = not _is_above(rows[0].figures["auc"], floor)
    return Break(change, None if already or not known else lost, already and known, known)


def _row(answers: SweepAnswers, number: int, threshold: float, settings: RobustnessSettings) -> RobustnessRow | None:
    """None where the change cannot be done to any subject."""
    condition, resamples, seed = answers.conditions[number], settings.resamples, settings.seed
    pairs = [
        (subject, outcomes[number], outcomes[0])
        for subject, outcomes in zip(answers.subjects, answers.outcomes, strict=True)
        if outcomes[number].verdict is not None
    ]
    if not pairs:
        return None
    subjects = [subject for subject, _, _ in pairs]
    now = _arrays(subjects, [outcome for _, outcome, _ in pairs])
    before = _arrays(subjects, [outcome for _, _, outcome in pairs])
    figures = evaluate_scores(**now, threshold=threshold, resamples=resamples, seed=seed)
    differences = {}
    if condition.change is not None:
        inputs = [checked_inputs(**arrays, threshold=threshold) for arrays in (before, now)]
        # The same seed draws the same groups for both.
        drawn = [resampled_figures(each, resamples, seed) for each in inputs]
        old = evaluate_scores(**before, threshold=threshold, resamples=0)
        none = np.empty(0)
        differences = {
            name: _difference(figures[name], old[name], drawn[1].get(name, none) - drawn[0].get(name, none))
            for name in COMPARED
        }
    if settings.attack is not None:
        moved = None if settings.check is None else [outcome.moved for _, outcome, _ in pairs]
        figures |= _attack_figures(now, before if condition.change else None, moved, threshold, settings)
    reasons = Counter(str(outcome.reason) for _, outcome, _ in pairs if outcome.probability is None)
    n_fake = sum(subject.label for subject in subjects)
    return RobustnessRow(condition, len(subjects) - n_fake, n_fake, dict(sorted(reasons.items())), figures, differences)


def _attack_figures(
    now: dict[str, Any],
    before: dict[str, Any] | None,
    moved: Sequence[float | None] | None,
    threshold: float,
    settings: RobustnessSettings,
) -> dict[str, MetricValue]:
    """Figures of :data:`ATTACK_TITLES`; ``before`` and ``moved`` as far as there are any."""
    labels, groups = now["labels"], now["groups"]

    def of(flags: NDArray[np.bool_], among: NDArray[np.bool_] | None = None) -> MetricValue:
        chosen = slice(None) if among is None else among
        return share(flags[chosen], groups[chosen], resamples=settings.resamples, seed=settings.seed)

    wrong = now["answers"] == 1 - labels
    figures = {"wrong": of(wrong)}
    measured = np.array([value is not None for value in moved or ()], bool)
    fired = None if moved is None else np.array([value is not None and value >= 1 for value in moved], bool)
    if before is not None:
        scored = ~np.isnan(before["probabilities"]) & ~np.isnan(now["probabilities"])
        was_right = scored & ((before["probabilities"] >= threshold) == (labels == 1))
        succeeded = (now["probabilities"] >= threshold) != (labels == 1)
        figures["success"] = of(succeeded, was_right)
        if fired is not None:
            figures["flagged_successes"] = of(fired, was_right & succeeded)
    if fired is not None:
        figures |= {"flagged": of(fired, measured), "wrong_unflagged": of(wrong & ~fired)}
    return figures


def _arrays(subjects: Sequence[Subject], outcomes: Sequence[Answer]) -> dict[str, Any]:
    """What :func:`deepscan.evaluate.metrics.evaluate_scores` takes of them."""
    p = np.array([np.nan if outcome.probability is None else outcome.probability for outcome in outcomes], np.float64)
    return {
        "labels": np.array([subject.label for subject in subjects], np.int64),
        "probabilities": p,
        "groups": np.array([subject.group_name for subject in subjects]),
        "not_applicable": np.isnan(p),
        "answers": answers_of(outcome.verdict for outcome in outcomes),
    }


def _difference(now: MetricValue, before: MetricValue, drawn: NDArray[np.float64]) -> MetricValue:
    if now.value is None or before.value is None:
        return MetricValue(None, n=now.n, reason=now.reason or before.reason)
    return percentile_interval(now.value - before.value, drawn, now.n)


def _is_above(auc: MetricValue, floor: float) -> bool:
    """Whether it is shown to be above the floor. Where all resamples agree there is no bound but the value."""
    if auc.value is None or (auc.low is None and auc.skipped):
        return False
    return (auc.value if auc.low is None else auc.low) > floor


def _is_worse(difference: MetricValue, sign: int) -> bool:
    if difference.value is None:
        return False
    if difference.low is None or difference.high is None:  # as where all faces are lost, in every resample
        return not difference.skipped and sign * difference.value > 0
    return difference.low > 0 if sign > 0 else difference.high < 0


def _warnings(
    answers: SweepAnswers, model: ModelInfo, train_groups: frozenset[str], without: int, measured: dict[Change, None]
) -> list[str]:
    warnings = []
    if answers.interrupted:
        warnings.append(f"Interrupted: the figures are of {len(answers.subjects)} of {answers.wanted} subjects.")
    if answers.subjects:
        arrays = _arrays(answers.subjects, [outcomes[0] for outcomes in answers.outcomes])
        groups = {(subject.dataset, subject.group) for subject in answers.subjects}
        warnings += model_warnings(model, arrays, groups, train_groups)
    if without:
        warnings.append(
            f"{without} videos of the store have no crops: they are in no figure, as no change can reach them."
        )
    impossible = {c.change for c in answers.conditions if c.change is not None} - measured.keys()
    if impossible and answers.subjects:
        names = ", ".join(sorted(change.name for change in impossible))
        warnings.append(f"Not possible with stills, and left out: {names}.")
    failed = sum(o.verdict == VerdictLabel.ERROR for outcomes in answers.outcomes for o in outcomes)
    if failed:
        warnings.append(f"{failed} answers are failures (unreadable or not encodable); they count as not scored.")
    return [writable(warning) for warning in warnings]
