"""The arithmetic of :mod:`deepscan.evaluate.metrics` under weights, so that all resamples are taken in one go.

A resample is a weight for each input: how often its group was drawn. Ratios need only sums over groups; curves need one
sorting of the scores, whatever the weights. That is what makes 1,000 resamples a matter of a second.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscan.types import VerdictLabel
from deepscan.verdict import decisions

Floats = NDArray[np.float64]
Groups = Sequence[Hashable] | NDArray[Any] | None

CURVES = ("auc", "average_precision", "eer", "tpr_at_fpr_1", "tpr_at_fpr_5")
# Numerator and denominator of every figure that is a ratio of two sums over the inputs; see _columns.
RATIOS = {
    "log_loss": ("log_loss", "scored"),
    "brier": ("squared_error", "scored"),
    "accuracy": ("right", "scored"),
    "precision_fake": ("fake_over", "over"),
    "recall_fake": ("fake_over", "fake"),
    "f1_fake": ("fake_over", "f1_fake"),
    "precision_real": ("real_under", "under"),
    "recall_real": ("real_under", "real"),
    "f1_real": ("real_under", "f1_real"),
    "fpr": ("real_over", "real"),
    "fnr": ("fake_under", "fake"),
    "scored": ("scored", "input"),
    "coverage": ("answered", "input"),
    "real_called_fake": ("real_called_fake", "real"),
    "fake_called_real": ("fake_called_real", "fake"),
    "error_answered_real": ("real_called_fake", "real_answered"),
    "error_answered_fake": ("fake_called_real", "fake_answered"),
}
ECE_BINS = 15  # of equal mass: the same number of scores in each
MIN_BIN_SCORES = 10  # fewer bins rather than bins of fewer scores
# Groups x resamples and scores x resamples handled at once: the arrays then stay in the processor's cache.
_BLOCK = 400_000


@dataclass(frozen=True, slots=True)
class Inputs:
    """Checked arrays of ``[n]``, and the columns that figures are sums of.

    Attributes:
        labels: true for fake.
        scores: P(fake); 0 where nothing was scored, and not looked at there.
        scored: false where there was no usable face.
        answers: ``int8``, 0 real, 1 fake, -1 none; not looked at where nothing was scored.
        group_of: number of the input's group, from 0.
        sums: what ratios are made of, summed by group, ``float64 [groups]`` each, by name.
        gaps: score minus label, summed by group and calibration bin, ``float64 [groups, bins]``.
        order: rows that were scored, from the highest score down.
        last: positions in ``order`` of the last of each run of equal scores: the thresholds of a curve.
    """

    labels: NDArray[np.bool_]
    scores: Floats
    scored: NDArray[np.bool_]
    answers: NDArray[np.int8]
    group_of: NDArray[np.intp]
    sums: dict[str, Floats]
    gaps: Floats
    order: NDArray[np.intp]
    last: NDArray[np.intp]

    @property
    def n_groups(self) -> int:
        return len(self.gaps)

    def total(self, name: str) -> float:
        """The sum over all groups."""
        return float(self.sums[name].sum())


def checked_inputs(
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: Groups,
    not_applicable: ArrayLike | None,
    threshold: float,
    answers: ArrayLike | None = None,
) -> Inputs:
    """Arrays as :func:`deepscan.evaluate.metrics.evaluate_scores` takes them.

    Raises:
        ValueError: they do not fit together, or hold what is no label or probability.
    """
    y, scores = np.asarray(labels), np.asarray(probabilities, np.float64)
    n = len(scores) if scores.ndim == 1 else -1
    missing = np.zeros(max(n, 0), bool) if not_applicable is None else np.asarray(not_applicable).astype(bool)
    ids = np.arange(max(n, 0)) if groups is None else np.asarray(groups)
    for name, array in (("labels", y), ("probabilities", scores), ("not_applicable", missing), ("groups", ids)):
        if array.shape != (n,):
            raise ValueError(f"Invalid shape {array.shape} of {name}. Supported is [n], the same for all.")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("Invalid labels. Supported values are 0 (real) and 1 (fake).")
    bad = np.flatnonzero(~missing & ~((scores >= 0) & (scores <= 1)))
    if len(bad):
        raise ValueError(f"Invalid probability ({scores[bad[0]]} in row {bad[0]}). Supported values are in [0, 1].")
    if ids.dtype == object:
        ids = ids.astype(str)  # ids of mixed types cannot be sorted
    if answers is None:
        called = decisions(np.where(missing, 0.0, scores), threshold)
    else:
        called = np.asarray(answers, np.int8)
        if called.shape != (n,) or not np.isin(called, (0, 1, -1)).all():
            raise ValueError("Invalid answers. Supported are [n] of 0 (real), 1 (fake) and -1 (none).")
    group_of = np.unique(ids, return_inverse=True)[1].reshape(-1)
    y, scores = y.astype(bool), np.where(missing, 0.0, scores)
    n_groups = int(group_of.max(initial=-1)) + 1
    sums = {
        name: np.bincount(group_of, column, n_groups).astype(np.float64)
        for name, column in _columns(y, scores, ~missing, threshold, called).items()
    }
    gaps = np.zeros((n_groups, ECE_BINS))
    np.add.at(gaps, (group_of[~missing], _bins(scores[~missing])), (scores - y)[~missing])
    rows = np.flatnonzero(~missing)
    order = rows[np.argsort(-scores[rows], kind="stable")]
    last = np.flatnonzero(np.diff(scores[order], append=-1.0))
    return Inputs(y, scores, ~missing, called, group_of, sums, gaps, order, last)


def answers_of(verdicts: Iterable[str | None]) -> NDArray[np.int8]:
    """Verdicts as answers ``int8 [n]``: 0 real, 1 fake, -1 anything else."""
    codes = {str(VerdictLabel.REAL): 0, str(VerdictLabel.FAKE): 1}
    return np.array([codes.get(str(verdict), -1) for verdict in verdicts], np.int8)


def resampled_figures(inputs: Inputs, resamples: int, seed: int) -> dict[str, Floats]:
    """Every figure in every resample of the groups: each ``float64 [resamples]``, NaN where undefined."""
    n, n_groups = len(inputs.labels), inputs.n_groups
    rng, parts = np.random.default_rng(seed), []
    block = max(1, _BLOCK // max(n, 1))
    for start in range(0, resamples if n else 0, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(0, n_groups, (rows, n_groups)) + n_groups * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n_groups).reshape(rows, n_groups)
        parts.append(weighted_figures(inputs, counts.astype(np.float64)))
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def weighted_figures(inputs: Inputs, weights: Floats) -> dict[str, Floats]:
    """Every figure under weights of the groups ``float64 [b, groups]``: each ``float64 [b]``, NaN where undefined."""
    sums = {name: weights @ column for name, column in inputs.sums.items()}
    with np.errstate(invalid="ignore", divide="ignore"):
        out = {name: sums[part] / sums[whole] for name, (part, whole) in RATIOS.items()}
        out["balanced_accuracy"] = (out["recall_real"] + out["recall_fake"]) / 2
        out["ece"] = np.abs(weights @ inputs.gaps).sum(axis=1) / sums["scored"]
        curves = _weighted_curves(inputs, weights, sums["real"], sums["fake"])
    undefined = (sums["real"] == 0) | (sums["fake"] == 0)
    return out | {name: np.where(undefined, np.nan, drawn) for name, drawn in curves.items()}


def equal_error_rate(fpr: Floats, tpr: Floats) -> Floats:
    """Where the ROC curves ``[b, k]``, their points joined by straight lines, cross FPR = FNR."""
    if fpr.shape[1] < 2:
        return np.full(len(fpr), np.nan)
    gap = fpr + tpr - 1  # rises from -1 to 1
    after = np.maximum(np.argmax(gap >= 0, axis=1), 1)[:, None]
    x0, x1 = np.take_along_axis(fpr, after - 1, 1), np.take_along_axis(fpr, after, 1)
    g0, g1 = np.take_along_axis(gap, after - 1, 1), np.take_along_axis(gap, after, 1)
    return np.asarray((x0 + (x1 - x0) * -g0 / (g1 - g0))[:, 0])


def tpr_at_fpr(fpr: Floats, tpr: Floats, target: float) -> Floats:
    """The best TPR of the ROC curves ``[b, k]`` that some threshold reaches with an FPR of at most the target."""
    return np.asarray(np.max(np.where(fpr <= target, tpr, 0.0), axis=1, initial=0.0))


def _weighted_curves(inputs: Inputs, weights: Floats, real: Floats, fake: Floats) -> dict[str, Floats]:
    w = weights[:, inputs.group_of[inputs.order]]
    seen = np.cumsum(w, axis=1)[:, inputs.last]
    tp = np.cumsum(w * inputs.labels[inputs.order], axis=1)[:, inputs.last]
    precision = tp / np.maximum(seen, 1)  # 0 before the first score that was drawn
    start = np.zeros((len(w), 1))
    tpr = np.concatenate([start, tp / fake[:, None]], axis=1)
    fpr = np.concatenate([start, (seen - tp) / real[:, None]], axis=1)
    steps = np.diff(tpr, axis=1)
    return {
        # The area left of the curve: trapezoids between neighbouring thresholds.
        "auc": np.sum(steps * (1 - (fpr[:, 1:] + fpr[:, :-1]) / 2), axis=1),
        "average_precision": np.sum(steps * precision, axis=1),
        "eer": equal_error_rate(fpr, tpr),
        "tpr_at_fpr_1": tpr_at_fpr(fpr, tpr, 0.01),
        "tpr_at_fpr_5": tpr_at_fpr(fpr, tpr, 0.05),
    }


def _columns(
    labels: NDArray[np.bool_], scores: Floats, scored: NDArray[np.bool_], threshold: float, answer: NDArray[np.int8]
) -> dict[str, Floats]:
    fake, real = labels & scored, ~labels & scored
    over = (scores >= threshold) & scored
    under = scored & ~over
    answered = scored & (answer >= 0)
    # Clipped as scikit-learn does, so that one sure and wrong score costs 36, not infinity.
    eps = np.finfo(np.float64).eps
    right_p = np.clip(np.where(labels, scores, 1 - scores), eps, 1 - eps)
    columns: dict[str, NDArray[Any]] = {
        "input": np.ones(len(scores)),
        "scored": scored,
        "real": real,
        "fake": fake,
        "over": over,
        "under": under,
        "fake_over": fake & over,
        "fake_under": fake & under,
        "real_over": real & over,
        "real_under": real & under,
        "right": (fake & over) | (real & under),
        "answered": answered,
        "real_answered": real & answered,
        "fake_answered": fake & answered,
        "real_called_fake": real & (answer == 1),
        "fake_called_real": fake & (answer == 0),
        "f1_fake": (fake.astype(float) + over) / 2,
        "f1_real": (real.astype(float) + under) / 2,
        "log_loss": scored * -np.log(right_p),
        "squared_error": scored * (scores - labels) ** 2,
    }
    return {name: np.asarray(column, np.float64) for name, column in columns.items()}


def _bins(scores: Floats) -> NDArray[np.intp]:
    """The calibration bin of each score: bins of equal mass, at most ``ECE_BINS``."""
    bins = int(np.clip(len(scores) // MIN_BIN_SCORES, 1, ECE_BINS))
    inner = np.quantile(scores, np.arange(1, bins) / bins) if len(scores) else np.empty(0)
    # Left: equal scores share a bin, so heavily tied scores give fewer and larger ones.
    return np.searchsorted(inner, scores, side="left")
