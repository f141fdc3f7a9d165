"""What a detector's scores are worth: every figure with a 95 % interval and the count it rests on.

Score = P(fake); real = 0, fake = 1. Figures come from scikit-learn where it has them. Intervals are bootstrapped by
group: crops of one video, or videos of one source, are drawn together, as they are not independent. A figure that the
data cannot carry is None with a reason, never 0.5 and never NaN.

Two ways of answering are measured side by side. Accuracy, precision, recall, F1, FPR and FNR force an answer on every
scored input: fake from the threshold on. ``coverage``, ``real_called_fake``, ``fake_called_real`` and
``error_answered_*`` are of the answers as deepscan gives them: none within the uncertain band, none without a face,
none for any other reason that it has. Their denominators are the reals or the fakes, never the answers: which share of
the files called real is fake depends on how many fakes there are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepscan.errors import import_extra
from deepscan.evaluate.bootstrap import (
    CURVES,
    RATIOS,
    Floats,
    Groups,
    Inputs,
    checked_inputs,
    equal_error_rate,
    resampled_figures,
    tpr_at_fpr,
)
from deepscan.models.card import FIGURE_TITLES, Metric

TITLES = FIGURE_TITLES
MAJORITY_WARNING = 0.65
FEW_OF_A_CLASS = 30
FEW_GROUPS = 20

_NO_PROPORTION = {"log_loss", "brier", "f1_fake", "f1_real"}
_CONSTANT = "every resample gives the same value"
_EMPTY = {
    "scored": "nothing was scored",
    "input": "there is no input",
    "real": "there is no scored real input",
    "fake": "there is no scored fake input",
    "over": "nothing is over the threshold",
    "under": "nothing is under the threshold",
    "f1_fake": "there is no fake input and nothing is over the threshold",
    "f1_real": "there is no real input and nothing is under the threshold",
    "real_answered": "no real input was answered",
    "fake_answered": "no fake input was answered",
}


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One figure.

    Attributes:
        value: None where it is undefined; ``reason`` then says why.
        low, high: 95 % interval, None where the resamples carry none; ``reason`` then says why.
        n: inputs the figure rests on: its denominator where it is a share.
        reason: why a value or an interval is missing.
        skipped: resamples in which the figure was undefined, left out of the interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    reason: str | None = None
    skipped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """``value``, ``low``, ``high`` to six digits and ``n``; ``reason`` and ``skipped`` where they say something."""
        out: dict[str, Any] = {k: _rounded(getattr(self, k)) for k in ("value", "low", "high")} | {"n": self.n}
        if self.reason:
            out["reason"] = self.reason
        if self.skipped:
            out["skipped"] = self.skipped
        return out


def evaluate_scores(
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: Groups = None,
    *,
    threshold: float,
    answers: ArrayLike | None = None,
    not_applicable: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, MetricValue]:
    """Every figure of :data:`TITLES`, in that order.

    Args:
        labels: ``[n]``, real = 0, fake = 1.
        probabilities: ``[n]`` in [0, 1], P(fake).
        groups: ``[n]`` ids; inputs of one group are resampled together. None takes every input for its own.
        threshold: from this probability on an answer is "fake".
        answers: ``[n]``, what was answered: 0 real, 1 fake, -1 nothing; None answers by the threshold.
        not_applicable: bool ``[n]``: no usable face. Such an input counts against ``scored`` and ``coverage`` and in
            nothing else; its probability may be NaN.
        resamples: of the bootstrap; 0 gives values without intervals.
        seed: the same seed gives the same intervals.

    Raises:
        ValueError: arrays of different lengths, labels that are not 0 or 1, probabilities outside [0, 1].
    """
    inputs = checked_inputs(labels, probabilities, groups, not_applicable, threshold, answers)
    values, reasons = _values(inputs, threshold)
    drawn = resampled_figures(inputs, resamples, seed)
    none = np.empty(0)
    return {n: _with_interval(inputs, n, values[n], reasons.get(n), drawn.get(n, none)) for n in TITLES}


def share(flags: ArrayLike, groups: Groups = None, *, resamples: int = 1000, seed: int = 0) -> MetricValue:
    """How often something is true, with the interval of any other share.

    Args:
        flags: bool ``[n]``.
        groups, resamples, seed: as for :func:`evaluate_scores`.
    """
    true = np.asarray(flags, np.float64)
    if not len(true):
        return MetricValue(None, reason="there is nobody to count")
    return evaluate_scores(np.zeros(len(true)), true, groups, threshold=0.5, resamples=resamples, seed=seed)["fpr"]


def count_inputs(
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: Groups = None,
    *,
    threshold: float,
    answers: ArrayLike | None = None,
    not_applicable: ArrayLike | None = None,
) -> dict[str, int]:
    """How many inputs there are of each kind: ``real``, ``fake``, ``groups``, then ``<class>_called_real``,
    ``<class>_called_fake``, ``<class>_uncertain`` and ``<class>_not_applicable`` for both classes."""
    inputs = checked_inputs(labels, probabilities, groups, not_applicable, threshold, answers)
    answer = np.where(inputs.scored, inputs.answers, 2)
    counts = {"real": int((~inputs.labels).sum()), "fake": int(inputs.labels.sum())}
    counts["groups"] = inputs.n_groups
    words = {0: "called_real", 1: "called_fake", -1: "uncertain", 2: "not_applicable"}
    for name, of in (("real", ~inputs.labels), ("fake", inputs.labels)):
        counts |= {f"{name}_{word}": int((of & (answer == code)).sum()) for code, word in words.items()}
    return counts


def find_warnings(
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: Groups = None,
    *,
    threshold: float,
    not_applicable: ArrayLike | None = None,
    train_groups: Iterable[Hashable] = (),
) -> list[str]:
    """What a reader of the figures must know: one sentence each, none if all is well.

    Args:
        labels, probabilities, groups, threshold, not_applicable: as for :func:`evaluate_scores`.
        train_groups: ids of the training data, to be disjoint from ``groups``.
    """
    inputs = checked_inputs(labels, probabilities, groups, not_applicable, threshold)
    y, scores = inputs.labels[inputs.scored], inputs.scores[inputs.scored]
    warnings = []
    for name, count in (("real", int((~y).sum())), ("fake", int(y.sum()))):
        if count == 0:
            warnings.append(f"No {name} input was scored: AUC and all that compares the classes is undefined.")
        elif count < FEW_OF_A_CLASS:
            warnings.append(f"Only {count} {name} inputs were scored: the figures are rough, see their intervals.")
    share = float(y.mean()) if len(y) else 0.5
    if 1 > max(share, 1 - share) > MAJORITY_WARNING:
        name = "fake" if share > 0.5 else "real"
        warnings.append(
            f"{max(share, 1 - share):.0%} of the scored inputs are {name}: always answering '{name}' would reach that "
            "accuracy. Read AUC and balanced accuracy."
        )
    over = scores >= threshold
    if len(over) and over.all() != (~over).all():
        name = "fake" if over.all() else "real"
        warnings.append(f"All {len(over)} scored inputs lie on the '{name}' side of the threshold {threshold:g}.")
    if groups is not None and 0 < inputs.n_groups < FEW_GROUPS:
        warnings.append(f"Only {inputs.n_groups} independent groups: the intervals are too narrow to be relied on.")
    # Compared as text, as a CSV file would give them.
    crossing = sorted({str(g) for g in train_groups} & {str(g) for g in (() if groups is None else groups)})
    if crossing:
        names = ", ".join(crossing[:5]) + (", ..." if len(crossing) > 5 else "")
        warnings.append(
            f"{len(crossing)} groups are in the training data and here ({names}): the figures are optimistic."
        )
    return warnings


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Inputs of about the same probability.

    Attributes:
        probability: their mean P(fake).
        share: of them that are fake.
        low, high: 95 % interval of the share (Wilson), inputs taken as independent.
        n: inputs.
    """

    probability: float
    share: float
    low: float
    high: float
    n: int


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> list[ReliabilityBin]:
    """How often inputs with a given probability are fake.

    Args:
        labels, probabilities: ``[n]``, all of inputs that were scored.
        bins: of equal mass; fewer come where many scores are equal.
    """
    from scipy.stats import binomtest

    y, p = np.asarray(labels).astype(np.int64), np.asarray(probabilities, np.float64)
    edges = np.quantile(p, np.arange(1, bins) / bins) if len(p) else np.empty(0)
    member = np.searchsorted(edges, p, side="left")
    reliability_bins = []
    for number in np.unique(member):
        inside = y[member == number]
        bounds = binomtest(int(inside.sum()), len(inside)).proportion_ci(method="wilson")
        mean = float(p[member == number].mean())
        reliability_bins.append(
            ReliabilityBin(mean, float(inside.mean()), float(bounds.low), float(bounds.high), len(inside))
        )
    return reliability_bins


def percentile_interval(value: float, drawn: Floats, n: int) -> MetricValue:
    """A figure with the 95 % interval that its resamples give.

    Args:
        value: of the figure.
        drawn: the figure in each resample, NaN where it is undefined.
        n: inputs that it rests on.
    """
    if len(drawn) == 0:
        return MetricValue(value, n=n, reason="no resamples were asked for")
    kept = drawn[~np.isnan(drawn)]
    skipped = len(drawn) - len(kept)
    if len(kept) * 2 < len(drawn):
        return MetricValue(value, n=n, reason=f"undefined in {skipped} of {len(drawn)} resamples", skipped=skipped)
    if np.ptp(kept) == 0:
        return MetricValue(value, n=n, reason=_CONSTANT, skipped=skipped)
    low, high = (float(x) for x in np.percentile(kept, [2.5, 97.5]))
    return MetricValue(value, low, high, n, skipped=skipped)


def to_json(values: Mapping[str, MetricValue]) -> dict[str, dict[str, Any]]:
    """``{"auc": {"value": .., "low": .., "high": .., "n": ..}, ...}``, ready for ``json.dumps``."""
    return {name: value.to_dict() for name, value in values.items()}


def card_metrics(
    values: Mapping[str, MetricValue], where: str, names: Iterable[str] | None = None
) -> dict[str, Metric]:
    """Figures for a model card, named like "AUC, DFDC test"; undefined ones are left out.

    Args:
        values: of :func:`evaluate_scores`.
        where: data and split.
        names: which, None for all.
    """
    out = {}
    for name in values if names is None else names:
        v = values[name]
        if v.value is not None:
            low, high = _rounded(v.low, 4), _rounded(v.high, 4)
            out[f"{TITLES[name]}, {where}"] = Metric(value=round(v.value, 4), low=low, high=high, n=v.n)
    return out


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None else round(value, digits)


def _values(inputs: Inputs, threshold: float) -> tuple[dict[str, float | None], dict[str, str]]:
    """The figures of all inputs, and why some are undefined."""
    y, p = inputs.labels[inputs.scored].astype(int), inputs.scores[inputs.scored]
    sums = {name: inputs.total(name) for name in inputs.sums}
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for name, (part, whole) in RATIOS.items():
        values[name] = sums[part] / sums[whole] if sums[whole] else None
        if not sums[whole]:
            reasons[name] = _EMPTY[whole]
    values["ece"] = float(np.abs(inputs.gaps.sum(axis=0)).sum() / len(y)) if len(y) else None
    both = [*CURVES, "balanced_accuracy"]
    if not len(y) or y.min() == y.max():
        values |= dict.fromkeys(both)
        why = f"only {'fake' if y.any() else 'real'} inputs were scored" if len(y) else _EMPTY["scored"]
        reasons |= dict.fromkeys(both if len(y) else [*both, "ece"], why)
        return values, reasons
    m = import_extra("sklearn.metrics", "Scores cannot be measured", "scikit-learn")
    over = (p >= threshold).astype(int)
    fpr, tpr, _ = m.roc_curve(y, p, drop_intermediate=False)
    precision, recall, f1, _ = m.precision_recall_fscore_support(y, over, labels=[0, 1], zero_division=0.0)
    library = {
        "auc": m.roc_auc_score(y, p),
        "average_precision": m.average_precision_score(y, p),
        "eer": equal_error_rate(fpr[None], tpr[None])[0],
        "tpr_at_fpr_1": tpr_at_fpr(fpr[None], tpr[None], 0.01)[0],
        "tpr_at_fpr_5": tpr_at_fpr(fpr[None], tpr[None], 0.05)[0],
        "log_loss": m.log_loss(y, p),
        "brier": m.brier_score_loss(y, p),
        "accuracy": m.accuracy_score(y, over),
        "balanced_accuracy": m.balanced_accuracy_score(y, over),
    }
    for index, name in enumerate(("real", "fake")):
        library |= {f"precision_{name}": precision[index], f"recall_{name}": recall[index], f"f1_{name}": f1[index]}
    values |= {name: float(value) for name, value in library.items() if name not in reasons}
    return values, reasons


def _with_interval(inputs: Inputs, name: str, value: float | None, reason: str | None, drawn: Floats) -> MetricValue:
    n = _count(inputs, name)
    if value is None:
        return MetricValue(None, n=n, reason=reason)
    interval = percentile_interval(value, drawn, n)
    if interval.reason == _CONSTANT:
        # All resamples agree: that is no certainty. For a share of 0 or 1 the exact binomial bound over the
        # independent groups still holds (Clopper and Pearson); for the rest there is no interval.
        whole = RATIOS.get(name, ("", ""))[1]
        if name in _NO_PROPORTION or not whole or value not in (0.0, 1.0):
            return interval
        groups = int((inputs.sums[whole] > 0).sum())
        reach = 1 - 0.025 ** (1 / groups)
        low, high = (0.0, reach) if value == 0 else (1 - reach, 1.0)
        return replace(interval, low=low, high=high, reason=None)
    if name == "ece" and interval.low is not None and interval.high is not None:
        # Resampling adds noise, and noise only ever raises this figure: the reflected interval takes that out again,
        # though not the noise that the value itself holds.
        low, high = max(0.0, min(value, 2 * value - interval.high)), min(1.0, max(value, 2 * value - interval.low))
        return replace(interval, low=low, high=high)
    return interval


def _count(inputs: Inputs, name: str) -> int:
    whole = RATIOS.get(name, ("", "scored"))[1]
    return int(inputs.total("scored" if whole.startswith("f1_") else whole))
