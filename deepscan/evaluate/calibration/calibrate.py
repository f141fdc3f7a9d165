"""From logits to probabilities and answers, fitted on validation data that trained nothing.

Three things are fitted: scale and bias of the logits, a threshold, and the uncertain band between the answers. The
band keeps a promise to each class: of reals at most alpha are called fake, of fakes at most alpha are called real; see
:mod:`~.conformal` for what that means. Fitting scale and bias on the same data takes nothing from it, as
the band rests on ranks alone, and they stay.

The promise is about one person's track. For a video with several people, each of them judged, the limit for "fake"
rises with their number by the tail that is fitted here, see :mod:`deepscan.verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscan.datasets.dataset import source_name
from deepscan.errors import import_extra
from deepscan.evaluate.bootstrap import Floats, Groups
from deepscan.evaluate.calibration.conformal import (
    ALPHA,
    NEUTRAL_THRESHOLD,
    checked_scores,
    fake_limit,
    group_weights,
    samples_needed,
    tail,
    uncertain_band,
)
from deepscan.models.card import Calibration
from deepscan.models.probability import calibrated
from deepscan.verdict import Band, decisions

MIN_SOURCE = 50
MIN_FIT = 50  # of a class, below which probabilities are said to be rough

# Standard deviations of what is believed before there is data: the natural logarithm of the scale, and the bias.
_LOG_SCALE_SD, _BIAS_SD = 1.0, 2.0
# No calibrated logit of the data passes their sum: from 37 on probabilities round to 1 and cannot be told apart.
_MAX_SPREAD, _MAX_BIAS = 24.0, 10.0
_FPR = "FPR "  # before the name of a source: its limit for the asked false positive rate


@dataclass(frozen=True, slots=True)
class FittedCalibration:
    """What was fitted, and what to know of it.

    Attributes:
        calibration: for the detector's card.
        warnings: one sentence each.
        limits: smallest probability from which "fake" keeps the promise, for "all" reals and by source; those for the
            asked false positive rate begin with "FPR ".
        figures: of the calibration data: counts, log loss before and after, and the answers' shares. They are what was
            fitted to, not what to expect elsewhere.
    """

    calibration: Calibration
    warnings: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "calibration": self.calibration.model_dump(),
            "warnings": list(self.warnings),
            "limits": dict(self.limits),
            "figures": dict(self.figures),
        }


def fit_scale(
    logits: ArrayLike,
    labels: ArrayLike,
    groups: Groups = None,
    *,
    shares: Floats | None = None,
) -> tuple[float, float]:
    """Scale and bias that make logits into probabilities (Platt scaling).

    The log loss is minimised against Platt's softened labels, with a weak pull towards "leave the logits as they are":
    neither few samples nor classes that do not overlap lead to certainty. The scale is positive, so the order stays.

    Args:
        logits: ``[n]``.
        labels: ``[n]``, both of them must occur.
        groups: ``[n]`` ids; each group weighs the same within a class.
        shares: ``[n]`` how much of its class a row stands for, above what its group leaves it; None for all alike.

    Raises:
        ValueError: one class only, or arrays that do not fit.
    """
    from scipy.optimize import minimize

    x, fake, ids = checked_scores(logits, labels, groups)
    if fake.all() or not fake.any():
        raise ValueError("Invalid labels: scale and bias need both classes.")
    weight, size = np.zeros(len(x)), {}
    for label in (False, True):
        of = fake == label
        weight[of] = group_weights(ids[of])
        size[label] = float(weight[of].sum())
        if shares is not None:
            weight[of] *= shares[of] * size[label] / float(weight[of] @ shares[of])
    soft = np.where(fake, (size[True] + 1) / (size[True] + 2), 1 / (size[False] + 2))
    total = size[True] + size[False]
    weight *= np.where(fake, 0.5 / size[True], 0.5 / size[False]) * total  # both classes count the same
    centre = float(np.average(x[fake], weights=weight[fake]) + np.average(x[~fake], weights=weight[~fake])) / 2
    x = x - centre
    spread, reach = max(float(x.std()), 1e-12), max(float(np.abs(x).max()), 1e-12)

    def loss(at: Floats) -> tuple[float, Floats]:
        scale = math.exp(at[0])
        z = scale * x + at[1]
        slope = weight * (calibrated(z) - soft)
        value = weight @ (np.logaddexp(0, z) - soft * z) + 0.5 * (
            (at[0] / _LOG_SCALE_SD) ** 2 + (at[1] / _BIAS_SD) ** 2
        )
        gradient = [scale * (slope @ x) + at[0] / _LOG_SCALE_SD**2, slope.sum() + at[1] / _BIAS_SD**2]
        return float(value) / total, np.array(gradient) / total

    largest = math.log(_MAX_SPREAD / reach)
    bounds = [(min(math.log(1e-3 / spread), largest), largest), (-_MAX_BIAS, _MAX_BIAS)]
    starts = [np.clip(start, *bounds[0]) for start in (0.0, -math.log(spread))]
    fits = [minimize(loss, np.array([s, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds) for s in starts]
    best = min(fits, key=lambda result: float(result.fun)).x
    scale = math.exp(best[0])
    return scale, float(best[1]) - scale * centre


def fit_calibration(
    logits: ArrayLike,
    labels: ArrayLike,
    sources: ArrayLike | None = None,
    *,
    groups: Groups = None,
    frame_logits: ArrayLike | None = None,
    frame_labels: ArrayLike | None = None,
    frame_groups: Groups = None,
    frame_sources: ArrayLike | None = None,
    alpha: float = ALPHA,
    target_fpr: float | None = None,
    shares: Mapping[str, float] | None = None,
) -> FittedCalibration:
    """Fit a detector's calibration.

    Scale and bias come from the sources that hold fakes. The limit for "fake" is the strictest over all reals together
    and each source of at least 50 independent reals, so that sources of reals only keep the promise as
    well. Too little data, or scores that cannot keep the promise, give a band from 0 to 1: every answer is "uncertain".

    Args:
        logits, labels: ``[n]``, of videos (tracks).
        sources: ``[n]`` names of the data's sources; None takes all for one.
        groups: ``[n]`` ids of what is not independent.
        frame_logits, frame_labels, frame_groups, frame_sources: ``[m]``, the same of single frames; without logits the
            frames' scale and bias stay 1 and 0.
        alpha: promised error of each class, and of what is answered in it.
        target_fpr: promised share of reals at or above the threshold; None asks for a threshold of 0.5.
        shares: how much each source or collection counts for scale and bias, by its name; None counts its groups.

    Raises:
        ValueError: arrays that do not fit, or rates outside (0, 1).
    """
    for rate in (alpha, target_fpr):
        if rate is not None and not 0 < rate < 1:
            raise ValueError(f"Invalid rate ({rate}). Supported are values between 0 and 1.")
    z, fake, ids = checked_scores(logits, labels, groups)
    source, warnings = _names(sources, len(z)), list[str]()
    scale, bias = _fit_main(z, fake, ids, source, "videos", warnings, shares)
    frame_scale, frame_bias = 1.0, 0.0
    if frame_logits is None:
        warnings.append("No frame logits were given: those of single frames stay uncalibrated.")
    else:
        of_frames = checked_scores(frame_logits, frame_labels, frame_groups)
        names = _names(frame_sources, len(of_frames[0]))
        frame_scale, frame_bias = _fit_main(*of_frames, names, "frames", warnings, shares)
    p, real = calibrated(z, scale, bias), ~fake
    enough = _with_enough(source, ids, fake)
    limits = _source_limits(p[real], ids[real], enough[real], alpha, target_fpr, warnings)
    band, threshold = _choose(p, fake, ids, limits, alpha, warnings)
    fitted = Calibration(
        scale=scale, bias=bias, frame_scale=frame_scale, frame_bias=frame_bias, threshold=threshold,
        uncertain_low=band[0], uncertain_high=band[1],
        tail=tail(z[real] * scale + bias, ids[real]),
    )  # fmt: skip
    known = {name: limit for name, limit in limits.items() if limit is not None}
    return FittedCalibration(fitted, tuple(warnings), known, _figures(z, p, fake, ids, threshold, band))


def _choose(
    p: Floats,
    fake: NDArray[np.bool_],
    ids: NDArray[Any],
    limits: Mapping[str, float | None],
    alpha: float,
    warnings: list[str],
) -> tuple[Band, float]:
    """Band and threshold; from 0 to 1 where the promise cannot be kept, with a warning that says why."""
    nothing: tuple[Band, float] = ((0.0, 1.0), NEUTRAL_THRESHOLD)
    enough = all(limit is not None for limit in limits.values())
    for name, of in (("real", ~fake), ("fake", fake)):
        n, needed = len(np.unique(ids[of])), samples_needed(alpha)
        if n < needed:
            enough = False
            warnings.append(
                f"{n} independent {name} samples cannot carry the promise of at most {alpha:.3g} errors: every answer "
                f"will be 'uncertain'. At least {needed} are needed; several hundred give a band worth having."
            )
    if not enough:
        return nothing
    known = {name: limit for name, limit in limits.items() if limit is not None}
    target = max((v for name, v in known.items() if name.startswith(_FPR)), default=NEUTRAL_THRESHOLD)
    strictest = max(known.values())
    band = uncertain_band(fake, p, alpha, ids, lowest_fake=strictest, wish=target)
    if band is None:
        warnings.append(
            f"These scores cannot keep the promise of at most {alpha:.3g} errors among the answered of each class: "
            "every answer will be 'uncertain'. The detector must get better, or more errors must be allowed."
        )
    return band or nothing


def _source_limits(
    p: Floats,
    ids: NDArray[Any],
    source: NDArray[Any],
    alpha: float,
    target_fpr: float | None,
    warnings: list[str],
) -> dict[str, float | None]:
    """Smallest probability from which "fake" keeps alpha and the target, by source; None where none does."""
    limits: dict[str, float | None] = {}
    counts = {str(name): len(np.unique(ids[source == name])) for name in np.unique(source)}
    for rate, prefix in ((alpha, ""), (target_fpr, _FPR)):
        if rate is None:
            continue
        needed = max(MIN_SOURCE, samples_needed(rate))
        limits[f"{prefix}all"] = fake_limit(p, ids, rate)
        for name, n in counts.items() if len(counts) > 1 else ():
            if n >= needed:
                limits[f"{prefix}{name}"] = fake_limit(p[source == name], ids[source == name], rate)
            else:
                warnings.append(
                    f"Source '{name}' has {n} independent real samples and needs {needed} for a limit of its own: at "
                    f"most {rate:.3g} errors are promised for all sources together, not for this one."
                )
        if prefix and len(np.unique(ids)) < samples_needed(rate):
            warnings.append(
                f"{len(np.unique(ids))} independent real samples cannot carry a false positive rate of {rate:.3g}: "
                f"every answer will be 'uncertain'. At least {samples_needed(rate)} are needed."
            )
    saturated = [name.removeprefix(_FPR) for name, limit in limits.items() if limit is None]
    if saturated and len(np.unique(ids)) >= max(samples_needed(r) for r in (alpha, target_fpr) if r is not None):
        warnings.append(f"Reals score up to a probability of 1 ({saturated[-1]}): every answer will be 'uncertain'.")
    return limits


def _fit_main(
    z: Floats,
    fake: NDArray[np.bool_],
    ids: NDArray[Any],
    source: NDArray[Any],
    what: str,
    warnings: list[str],
    shares: Mapping[str, float] | None,
) -> tuple[float, float]:
    """Scale and bias of the sources that hold fakes."""
    collection = _collections(source)
    main = np.isin(collection, np.unique(collection[fake]))
    n = {"fake": len(np.unique(ids[main & fake])), "real": len(np.unique(ids[main & ~fake]))}
    for name, count in n.items():
        if count == 0:
            warnings.append(f"There are no {name} {what} to calibrate with: scale 1 and bias 0 were kept.")
            return 1.0, 0.0
    if min(n.values()) < MIN_FIT:
        fewest = min(n, key=lambda name: n[name])
        warnings.append(f"Only {n[fewest]} independent {fewest} {what} calibrate: the probabilities are rough.")
    metrics = import_extra("sklearn.metrics", "A detector cannot be calibrated", "scikit-learn")
    auc = float(metrics.roc_auc_score(fake[main], z[main]))
    if auc <= 0.5:
        warnings.append(f"The scores of {what} rank fakes no higher than reals (AUC {auc:.3f}): they say nothing.")
    each = None if shares is None else _row_shares(collection[main], ids[main], fake[main], shares)
    return fit_scale(z[main], fake[main], ids[main], shares=each)


def _collections(source: NDArray[Any]) -> NDArray[Any]:
    """Names of sources without those of their origins."""
    return np.array([source_name(name) for name in source.tolist()], dtype=source.dtype)


def _with_enough(source: NDArray[Any], ids: NDArray[Any], fake: NDArray[np.bool_]) -> NDArray[Any]:
    """Sources, those with too few independent reals under the name of their collection."""
    counts = {name: len(np.unique(ids[(source == name) & ~fake])) for name in np.unique(source)}
    names = [name if counts[name] >= MIN_SOURCE else source_name(name) for name in source.tolist()]
    return np.array(names, dtype=source.dtype)


def _row_shares(
    collection: NDArray[Any], ids: NDArray[Any], fake: NDArray[np.bool_], shares: Mapping[str, float]
) -> Floats:
    """What each row counts for: a collection has its share of each class, one without a share its groups' part."""
    rows = np.ones(len(collection))
    named = np.isin(collection, list(shares))
    for label in (False, True):
        of = fake == label
        total, left = len(np.unique(ids[of & ~named])), 1 - sum(shares.get(n, 0.0) for n in np.unique(collection))
        for name in np.unique(collection[of & named]):
            here = of & (collection == name)
            rows[here] = shares[name] / len(np.unique(ids[here]))
        if total:
            rows[of & ~named] = max(left, 0.0) / total or 1 / len(np.unique(ids[of]))
    return rows


def _figures(
    z: Floats, p: Floats, fake: NDArray[np.bool_], ids: NDArray[Any], threshold: float, band: Band
) -> dict[str, float]:
    answer = decisions(p, threshold, band)
    out = {
        "n_real": float((~fake).sum()),
        "n_fake": float(fake.sum()),
        "groups_real": float(len(np.unique(ids[~fake]))),
        "groups_fake": float(len(np.unique(ids[fake]))),
    }
    if not len(z):
        return out
    out["answered"] = float(np.mean(answer >= 0))
    for name, scores in (("before", calibrated(z)), ("after", p)):
        sure = np.clip(np.where(fake, scores, 1 - scores), np.finfo(np.float64).eps, 1)
        out[f"log_loss_{name}"] = float(-np.log(sure).mean())
    if fake.any():
        out["fake_called_real"] = float(np.mean(answer[fake] == 0))
    if not fake.all():
        out["real_called_fake"] = float(np.mean(answer[~fake] == 1))
    return out


def _names(sources: ArrayLike | None, n: int) -> NDArray[Any]:
    names = np.full(n, "") if sources is None else np.asarray(sources).astype(str)
    if names.shape != (n,):
        raise ValueError(f"Invalid shape {names.shape} of sources. Supported is [n], as of the logits.")
    return names
