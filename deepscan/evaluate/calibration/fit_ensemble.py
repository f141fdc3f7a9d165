"""Making an ensemble of detectors: shares and calibration from validation data, then one folder that is a detector."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscan.config import CalibrationSettings
from deepscan.datasets.data import check_rule
from deepscan.datasets.dataset import Sample, SampleSet
from deepscan.errors import ConfigError, import_extra
from deepscan.evaluate.calibration.calibrate import FittedCalibration
from deepscan.evaluate.calibration.refit import fit_scored, in_first_half
from deepscan.evaluate.calibration.visibility_limits import fit_visibility
from deepscan.evaluate.robustness.attack_check import fit_attack_check
from deepscan.evaluate.score_dataset import score_samples
from deepscan.evaluate.training_groups import group_hash, read_groups
from deepscan.files import write_atomically
from deepscan.models.card import EnsembleCard
from deepscan.models.checkpoint import CARD_FILE, card_bytes
from deepscan.models.ensemble import open_detector
from deepscan.models.ensemble_folder import (
    claim_folder,
    common_crop,
    distinct_names,
    normalised_shares,
    save_ensemble,
)
from deepscan.models.scorer import torch_scorer
from deepscan.types import Score

log = logging.getLogger(__name__)

# Pulls fitted weights towards the plain mean, in units of one scored input: few inputs do not single out one member.
_RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class CombinedEnsemble:
    """An ensemble that was made; ``warnings`` are sentences to know of its calibration and of what it lacks."""

    card: EnsembleCard
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fitting:
    """What shares and calibration are fitted on.

    Attributes:
        samples: validation data, that trained no member.
        name: of the data, for the card.
        calibration: what is promised.
        frames: at most so many of each video.
        device, tta: how the samples are scored.
        on_progress: called with a member's name, the videos done and their number.
    """

    samples: SampleSet
    name: str = "the data"
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    frames: int | None = None
    device: str = "cpu"
    tta: bool = True
    on_progress: Callable[[str, int, int], None] | None = None


@dataclass(frozen=True, slots=True)
class _MemberLogits:
    """What the members say of everybody, as calibrated logits.

    Attributes:
        people: n of them.
        logits: ``float64 [n, members]``.
        frame_logits: of each person ``float64 [members, T]``.
    """

    people: tuple[Sample, ...]
    logits: NDArray[np.float64]
    frame_logits: tuple[NDArray[np.float64], ...]

    def where(self, keep: NDArray[np.bool_]) -> _MemberLogits:
        """Some of the people."""
        rows = np.flatnonzero(keep)
        return _MemberLogits(
            tuple(self.people[row] for row in rows),
            self.logits[rows],
            tuple(self.frame_logits[row] for row in rows),
        )


def combine_detectors(
    folder: Path,
    sources: Sequence[Path],
    *,
    name: str,
    fitting: Fitting | None = None,
    weights: Sequence[float] | None = None,
    equal: bool = False,
) -> CombinedEnsemble:
    """Make an ensemble.

    With data, shares are fitted on half of its groups and the calibration on the other half: its promises hold for
    data that had no part in the shares. Where shares are given or equal, all of the data calibrates. What calibrates
    also sets the limits of what can be judged and of the check for attacked input.

    Args:
        folder: of the ensemble.
        sources: folders of the detectors.
        name: of the ensemble.
        fitting: without it shares are equal and nothing is calibrated.
        weights: shares from 0; None fits them.
        equal: do not fit shares.

    Raises:
        ConfigError: the detectors, weights or samples do not fit.
        ModelError: a detector is damaged.
        OutputError: the folder cannot be written.
    """
    origin = "equal" if weights is None else "given"
    if fitting is None:
        training: dict[str, Any] = {"shares": origin, "calibration": "none"}
        return CombinedEnsemble(save_ensemble(folder, sources, name=name, weights=weights, training=training))
    claim_folder(folder)
    given = normalised_shares(weights, len(sources)) if equal or weights is not None else None
    warnings = _leaks(sources, fitting.samples)
    scored = _score(sources, fitting)
    if given is not None:
        shares, rest, unseen = given, scored, fitting.samples
    else:
        half = np.array([_first_half(person) for person in scored.people], bool)
        first = scored.where(half)
        shares = fit_weights(first.logits, [person.label for person in first.people])
        origin = f"fitted on half of the groups of {fitting.name}, {len(first.people)} people"
        rest, unseen = scored.where(~half), fitting.samples.where(lambda sample: not _first_half(sample))
    fitted = _calibrated(rest, shares, fitting.calibration)
    training = {
        "shares": origin,
        "calibrated_on": f"{fitting.name}, {len(rest.people)} people",
        "calibration": {key: value for key, value in fitted.to_dict().items() if key != "calibration"},
    }
    card = save_ensemble(
        folder, sources, name=name, weights=list(map(float, shares)), calibration=fitted.calibration, training=training
    )
    card, notes = _with_limits(folder, card, unseen, fitting)
    return CombinedEnsemble(card, (*warnings, *fitted.warnings, *notes))


def _with_limits(
    folder: Path, card: EnsembleCard, samples: SampleSet, fitting: Fitting
) -> tuple[EnsembleCard, list[str]]:
    """The card with limits of what can be judged and of the check for attacks, written; and why some are missing."""
    scorer = torch_scorer(open_detector(folder), device=fitting.device, tta=fitting.tta)
    limits, notes = fit_visibility(scorer.score, card, samples, rate=fitting.calibration.error_rate)
    card = card.model_copy(update={"visibility": limits})
    check, why = fit_attack_check(scorer, card, samples)
    card = card.model_copy(update={"attack_check": check})
    write_atomically(folder / CARD_FILE, card_bytes(card))
    return card, [*notes, *([why] if why else [])]


def fit_weights(logits: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """The members' shares by logistic regression with weights from 0; both classes count the same.

    Args:
        logits: calibrated, ``[n, members]``.
        labels: ``[n]``, real = 0, fake = 1; both must be there.

    Returns:
        Shares ``float64 [members]`` that sum to 1; equal ones when no member tells fakes from reals.

    Raises:
        ConfigError: only one class is there.
    """
    x, y = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    if not (0 < y.mean() < 1 if len(y) else False):
        raise ConfigError("The members' shares cannot be fitted", "both reals and fakes are needed", "Give other data.")
    m = x.shape[1]
    cost = np.where(y == 1, 0.5 / y.mean(), 0.5 / (1 - y.mean()))

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w, bias = parameters[:m], parameters[m]
        z = x @ w + bias
        apart = w - 1 / m
        value = float(np.sum(cost * (np.logaddexp(0, z) - y * z)) + 0.5 * _RIDGE * apart @ apart)
        slope = cost * (0.5 * (1 + np.tanh(0.5 * z)) - y)
        return value, np.append(x.T @ slope + _RIDGE * apart, slope.sum())

    bounds = [(0.0, None)] * m + [(None, None)]
    optimize = import_extra(
        "scipy.optimize", "The members' shares cannot be fitted", "SciPy", "; or leave the data out for equal shares."
    )
    fitted = optimize.minimize(loss, np.append(np.full(m, 1 / m), 0.0), jac=True, method="L-BFGS-B", bounds=bounds)
    weights: NDArray[np.float64] = np.maximum(fitted.x[:m], 0.0)
    if not weights.sum() > 1e-6:
        log.warning("No member tells fakes from reals on this data: the members' shares are equal.")
        return np.full(m, 1 / m)
    return weights / weights.sum()


def _score(sources: Sequence[Path], fitting: Fitting) -> _MemberLogits:
    """Score everybody with every member, one member after the other; who lacks a score of any is left out."""
    members = [open_detector(source).load() for source in sources]
    cards = [member.card for member in members]
    crop = common_crop(cards, [str(source) for source in sources])
    for kept in {sample.crop for sample in fitting.samples.samples}:
        check_rule(kept, crop, "The data")
    by_id: dict[str, list[Score]] = {}
    people: dict[str, Sample] = {}
    for member, name in zip(members, distinct_names(cards, sources), strict=True):
        scorer = torch_scorer(member, device=fitting.device, tta=fitting.tta)
        calibration, size_px = member.card.calibration, member.card.crop.size_px
        scored = score_samples(
            scorer.score,
            size_px,
            fitting.samples,
            frames=fitting.frames,
            on_progress=None if fitting.on_progress is None else partial(fitting.on_progress, name),
        )
        for video in scored:
            for person, score in zip(video.scored, video.scores, strict=True):
                key = f"{person.track.path}#{person.track.track.id}"
                people[key] = person
                by_id.setdefault(key, []).append(
                    Score(
                        score.video_logit * calibration.scale + calibration.bias,
                        score.frame_logits * calibration.frame_scale + calibration.frame_bias,
                    )
                )
    whole = [key for key, scores in by_id.items() if len(scores) == len(members)]
    logits = np.array([[score.video_logit for score in by_id[key]] for key in whole], np.float64)
    return _MemberLogits(
        tuple(people[key] for key in whole),
        logits.reshape(len(whole), len(members)),
        tuple(np.stack([score.frame_logits for score in by_id[key]]) for key in whole),
    )


def _leaks(sources: Sequence[Path], samples: SampleSet) -> list[str]:
    """What of the data trained a member: shares and promises would rest on it."""
    hashes = {group_hash(sample.dataset, sample.group) for sample in samples.samples}
    shared = [(source, len(hashes & read_groups(source))) for source in sources]
    return [
        f"{source} was trained on {n} of the {len(hashes)} groups of this data: shares and promises may not hold."
        for source, n in shared
        if n
    ]


def _first_half(person: Sample) -> bool:
    """A half of the groups by their names alone; another hash than the one that divides splits."""
    return in_first_half(f"half\0{person.dataset}\0{person.group}")


def _calibrated(scored: _MemberLogits, shares: NDArray[np.float64], settings: CalibrationSettings) -> FittedCalibration:
    frame_logits = [shares @ logits for logits in scored.frame_logits]
    return fit_scored(scored.people, scored.logits @ shares, frame_logits, settings)
