"""Promises about single answers, by split-conformal prediction.

Say ``n`` real inputs calibrate, and a further real input comes from where they came from. Above the conformal limit of
the ``n`` it lies with a chance of at most alpha, over the draw of all ``n + 1``: for any detector and any finite ``n``.
Where ids of groups are given, ``n`` counts groups, and one input of a further group keeps the promise: hierarchical
conformal prediction (Lee, Barber and Willett, 2023), in which each group weighs the same.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscan.evaluate.bootstrap import Floats, Groups
from deepscan.models.card import TAIL
from deepscan.verdict import Band, decisions

ALPHA = 0.05
NEUTRAL_THRESHOLD = 0.5
_TAIL_SHARE, _TAIL_GROUPS, _TAIL_PRIOR = 0.2, 10, 5.0
_SLACK = 1e-9  # rounding of sums of weights


def samples_needed(alpha: float) -> int:
    """Fewest independent samples of a class that can carry a promise at level alpha: 19 for 5 %, 99 for 1 %."""
    return max(1, math.ceil((1 - alpha) / alpha - _SLACK))


def fake_limit(probabilities: Floats, ids: NDArray[Any], rate: float) -> float | None:
    """The smallest probability from which "fake" is answered for at most this share of reals like the given ones.

    With ``n`` groups it lies just above the ``ceil((n + 1) * (1 - rate))``-th smallest. The chance is over the draw of
    the ``n`` as well: with one given set the rate is this give or take its sampling error, about ``sqrt(rate / n)``.

    Args:
        probabilities: of the reals, ``[n]``.
        ids: of their groups, ``[n]``.
        rate: in (0, 1).

    Returns:
        The limit, below 1; None where there is none, for too few reals or because they score up to 1.
    """
    limit = conformal_limit(probabilities, ids, rate)
    return None if limit is None or _above(limit) >= 1 else _above(limit)


def uncertain_band(
    labels: ArrayLike,
    probabilities: ArrayLike,
    alpha: float = ALPHA,
    groups: Groups = None,
    *,
    among_answered: bool = True,
    lowest_fake: float = 0.0,
    wish: float = NEUTRAL_THRESHOLD,
) -> tuple[Band, float] | None:
    """The narrowest band that keeps the promise in both classes, and a threshold in it.

    Of reals at most alpha are called fake, of fakes at most alpha are called real. With ``among_answered`` the band is
    then widened until at most alpha are wrong among the answered of each class, too, as counted here with one more
    wrong answer for the input to come. A weak detector then answers next to nothing: with normal scores of AUC 0.77
    1 % at an alpha of 5 %, instead of 32 %; of AUC 0.9 it is 36 % instead of 60 %.

    Args:
        labels, probabilities: ``[n]``.
        alpha: promised error of each class, in (0, 1).
        groups: ``[n]`` ids of what is not independent.
        among_answered: see above.
        lowest_fake: "fake" is answered from here on at the earliest.
        wish: the threshold, as far as the band allows.

    Returns:
        Band and threshold; where no band is needed, both its ends are the threshold. None where none keeps the promise.
    """
    p, fake, ids = checked_scores(probabilities, labels, groups)
    weight = np.zeros(len(p))
    for label in (False, True):
        weight[fake == label] = group_weights(ids[fake == label])
    highest, lowest = fake_limit(p[~fake], ids[~fake], alpha), conformal_limit(-p[fake], ids[fake], alpha)
    if highest is None or lowest is None:
        return None
    high, low = max(highest, lowest_fake), _below(-lowest)
    while low >= 0 and high < 1:
        band, threshold = _meet(low, high, wish)
        if not among_answered:
            return band, threshold
        answer = decisions(p, threshold, band)
        sums = {
            (label, a): float(weight[(fake == label) & (answer == a)].sum()) for label in (False, True) for a in (0, 1)
        }
        # One more wrong answer than was counted: the same correction for the unseen one as in the limits.
        real_wrong, fake_wrong = sums[False, 1], sums[True, 0]
        real_allowed = (alpha * (sums[False, 0] + 1) - 1) / (1 - alpha) + _SLACK
        fake_allowed = (alpha * (sums[True, 1] + 1) - 1) / (1 - alpha) + _SLACK
        if real_wrong <= real_allowed and fake_wrong <= fake_allowed:
            return band, threshold
        if real_allowed < 0 or fake_allowed < 0:
            return None  # even without any wrong answer there are too few right ones to know
        if real_wrong > real_allowed:
            high = max(high, _above(_exceeded_by(p[~fake], weight[~fake], real_allowed)))
        if fake_wrong > fake_allowed:
            low = min(low, _below(-_exceeded_by(-p[fake], weight[fake], fake_allowed)))
    return None


def _meet(low: float, high: float, wish: float) -> tuple[Band, float]:
    """Band and threshold from the highest score of a sure "real" and the lowest of a sure "fake"."""
    if high <= _above(low):  # the answers meet: any threshold between the limits keeps both promises
        threshold = min(max(wish, high), _above(low))
        return (threshold, threshold), threshold
    return (low, high), min(max(wish, _above(low)), high)


def conformal_limit(values: Floats, ids: NDArray[Any], alpha: float) -> float | None:
    """The conformal quantile: a further value lies above it with a chance of at most alpha; None with too few groups.

    Every one of K groups weighs ``1 / (K + 1)``, shared by its values; the rest is the group that is yet to come.
    """
    if len(values) == 0:
        return None
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(group_weights(ids)[order]) / (len(np.unique(ids)) + 1)
    index = int(np.searchsorted(reached, 1 - alpha - _SLACK))
    return float(values[order[index]]) if index < len(values) else None


def tail(log_odds: Floats, ids: NDArray[Any]) -> float | None:
    """By how much the log-odds have to rise, high up, for the share of reals above them to fall by a factor of e.

    The mean by which the highest groups' values exceed the limit that a fifth lies above: what lies above a high
    limit is exponential, nearly. A few groups count as if it were what is taken without data, which is 1 at least.

    Args:
        log_odds: calibrated, of the reals, ``[n]``.
        ids: of their groups, ``[n]``.

    Returns:
        Log-odds; None where fewer than ten groups lie above.
    """
    limit = conformal_limit(log_odds, ids, _TAIL_SHARE)
    if limit is None:
        return None
    above, weight = log_odds > limit, group_weights(ids)
    if len(np.unique(ids[above])) < _TAIL_GROUPS:
        return None
    excess = float((weight * (log_odds - limit))[above].sum())
    return max(1.0, (excess + _TAIL_PRIOR * TAIL) / (float(weight[above].sum()) + _TAIL_PRIOR))


def _exceeded_by(values: Floats, weight: Floats, allowed: float) -> float:
    """The smallest value that values of at most the allowed weight exceed."""
    order = np.argsort(-values, kind="stable")
    index = int(np.searchsorted(np.cumsum(weight[order]), allowed, side="right"))
    return float(values[order[min(index, len(values) - 1)]])


def group_weights(ids: NDArray[Any]) -> Floats:
    """1 / (size of the row's group), so that all groups weigh the same."""
    _, inverse, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / sizes[inverse.reshape(-1)], np.float64)


def _above(value: float) -> float:
    """The next number up: "at or above it" is then "above the value"."""
    return float(np.nextafter(value, np.inf))


def _below(value: float) -> float:
    return float(np.nextafter(value, -np.inf))


def checked_scores(
    scores: ArrayLike, labels: ArrayLike | None, groups: Groups
) -> tuple[Floats, NDArray[np.bool_], NDArray[Any]]:
    """Scores ``float64 [n]``, true where fake, and ids of groups (of its own for every input without ``groups``).

    Raises:
        ValueError: they do not fit together, or hold what is no score or label.
    """
    x, y = np.asarray(scores, np.float64), np.asarray([] if labels is None else labels)
    ids = np.arange(len(x)) if groups is None else np.asarray(groups)
    ids = ids.astype(str) if ids.dtype == object else ids
    if not (x.ndim == 1 and x.shape == y.shape == ids.shape):
        raise ValueError(f"Invalid shapes {x.shape}, {y.shape}, {ids.shape}. Supported are three of [n].")
    if not np.isfinite(x).all():
        raise ValueError(f"Invalid score in row {int(np.flatnonzero(~np.isfinite(x))[0])}. Supported are finite ones.")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("Invalid labels. Supported values are 0 (real) and 1 (fake).")
    return x, y.astype(bool), ids
