"""Making an ensemble of detectors: shares and calibration from validation data, then one folder that is a detector."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepscan.config import CalibrationSettings
from deepscan.datasets.data import check_rule
from deepscan.datasets.dataset import Sample, SampleSet
from deepscan.errors import ConfigError, DeepscanError
from deepscan.evaluate.calibration.calibrate import FittedCalibration, fit_calibration
from deepscan.evaluate.calibration.visibility_limits import fit_visibility
from deepscan.evaluate.robustness.attack_check import fit_attack_check
from deepscan.evaluate.score_dataset import score_samples
from deepscan.evaluate.training_groups import group_hash, read_groups
from deepscan.files import write_atomically
from deepscan.models.card import Calibration, DetectorCard, EnsembleCard
from deepscan.models.checkpoint import CARD_FILE, card_bytes
from deepscan.models.ensemble import (
    claim_folder,
    combine,
    common_crop,
    create_scorer,
    load_network,
    names_apart,
    normalised_shares,
    save_ensemble,
)
from deepscan.types import Score

log = logging.getLogger(__name__)

# Pulls fitted weights towards the plain mean, in units of one scored input: few inputs do not single out one member.
_RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class Combined:
    """An ensemble that was made; ``warnings`` are sentences to know of its calibration and of what it lacks."""

    card: EnsembleCard
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Scored:
    """What the members say of everybody: rows are people, ``scores`` one a member."""

    people: tuple[Sample, ...]
    scores: tuple[tuple[Score, ...], ...]
    calibrations: tuple[Calibration, ...]

    def logits(self) -> NDArray[np.float64]:
        """Calibrated logits ``float64 [people, members]``."""
        rows = [
            [score.video_logit * c.scale + c.bias for score, c in zip(row, self.calibrations, strict=True)]
            for row in self.scores
        ]
        return np.array(rows, np.float64).reshape(len(rows), len(self.calibrations))

    def where(self, keep: NDArray[np.bool_]) -> _Scored:
        """Some of the rows."""
        rows = np.flatnonzero(keep)
        return _Scored(
            tuple(self.people[row] for row in rows), tuple(self.scores[row] for row in rows), self.calibrations
        )


def combine_detectors(
    folder: Path,
    sources: Sequence[Path],
    *,
    name: str,
    samples: SampleSet | None = None,
    data: str = "",
    weights: Sequence[float] | None = None,
    equal: bool = False,
    calibration: CalibrationSettings | None = None,
    frames: int | None = None,
    device: str = "cpu",
    tta: bool = True,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Combined:
    """Make an ensemble.

    With samples, shares are fitted on half of their groups and the calibration on the other half: its promises hold
    for data that had no part in the shares. Where shares are given or equal, all of the samples calibrate. What
    calibrates also sets the limits of the check for attacked input.

    Args:
        folder: of the ensemble.
        sources: folders of the detectors.
        name: of the ensemble.
        samples: validation data, that trained no member; without it shares are equal and nothing is calibrated.
        data: name of the samples, for the card.
        weights: shares from 0; None fits them.
        equal: do not fit shares.
        calibration: what is promised.
        frames: at most so many of each video.
        device, tta: how the samples are scored.
        on_progress: called with a member's name, the videos done and their number.

    Raises:
        ConfigError: the detectors, weights or samples do not fit.
        ModelError: a detector is damaged.
        OutputError: the folder cannot be written.
    """
    if samples is None:
        training: dict[str, Any] = {"shares": "equal" if weights is None else "given", "calibration": "none"}
        return Combined(save_ensemble(folder, sources, name=name, weights=weights, training=training))
    claim_folder(folder)
    given = normalised_shares(weights, len(sources)) if equal or weights is not None else None
    warnings = _leaks(sources, samples)
    scored = _score(sources, samples, frames, device, tta, on_progress)
    if given is not None:
        shares, rest, unseen = given, scored, samples
        told = "equal" if weights is None else "given"
    else:
        half = np.array([_first_half(person) for person in scored.people], bool)
        first = scored.where(half)
        shares = fit_weights(first.logits(), [person.label for person in first.people])
        told = f"fitted on half of the groups of {data or 'the data'}, {len(first.people)} people"
        rest, unseen = scored.where(~half), samples.where(lambda sample: not _first_half(sample))
    fitted = _calibrated(rest, shares, calibration or CalibrationSettings())
    training = {
        "shares": told,
        "calibrated_on": f"{data or 'the data'}, {len(rest.people)} people",
        "calibration": {key: value for key, value in fitted.to_dict().items() if key != "calibration"},
    }
    card = save_ensemble(
        folder, sources, name=name, weights=list(map(float, shares)), calibration=fitted.calibration, training=training
    )
    scorer = create_scorer(load_network(folder)[0], card, device=device, tta=tta)
    limits, told_of_limits = fit_visibility(
        scorer.score, card, unseen, rate=(calibration or CalibrationSettings()).error_rate
    )
    card = card.model_copy(update={"visibility": limits})
    check, why = fit_attack_check(scorer, card, unseen)
    card = card.model_copy(update={"attack_check": check})
    write_atomically(folder / CARD_FILE, card_bytes(card))
    return Combined(card, (*warnings, *fitted.warnings, *told_of_limits, *([why] if why else [])))


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
    found = _minimize()(loss, np.append(np.full(m, 1 / m), 0.0), jac=True, method="L-BFGS-B", bounds=bounds)
    weights: NDArray[np.float64] = np.maximum(found.x[:m], 0.0)
    if not weights.sum() > 1e-6:
        log.warning("No member tells fakes from reals on this data: the members' shares are equal.")
        return np.full(m, 1 / m)
    return weights / weights.sum()


def _score(
    sources: Sequence[Path],
    samples: SampleSet,
    frames: int | None,
    device: str,
    tta: bool,
    on_progress: Callable[[str, int, int], None] | None,
) -> _Scored:
    """Score everybody with every member, one member after the other; who lacks a score of any is left out."""
    loaded = [load_network(source) for source in sources]
    cards: list[DetectorCard | EnsembleCard] = [card for _, card in loaded]
    crop = common_crop(cards, [str(source) for source in sources])
    for kept in {sample.crop for sample in samples.samples}:
        check_rule(kept, crop, "The data")
    by_id: dict[str, list[Score]] = {}
    people: dict[str, Sample] = {}
    for (network, card), called in zip(loaded, names_apart(cards, sources), strict=True):
        scorer = create_scorer(network, card, device=device, tta=tta)

        def progress(done: int, total: int, name: str = called) -> None:
            if on_progress is not None:
                on_progress(name, done, total)

        size_px = card.crop.size_px
        for video in score_samples(scorer.score, size_px, samples, frames=frames, on_progress=progress):
            for person, score in zip(video.judged, video.scores, strict=True):
                key = f"{person.track.path}#{person.track.track.id}"
                people[key] = person
                by_id.setdefault(key, []).append(score)
    whole = [key for key, scores in by_id.items() if len(scores) == len(loaded)]
    return _Scored(
        tuple(people[key] for key in whole),
        tuple(tuple(by_id[key]) for key in whole),
        tuple(card.calibration for card in cards),
    )


def _leaks(sources: Sequence[Path], samples: SampleSet) -> list[str]:
    """What of the data trained a member: shares and promises would rest on it."""
    hashes = {group_hash(sample.dataset, sample.group) for sample in samples.samples}
    found = [(source, len(hashes & read_groups(source))) for source in sources]
    return [
        f"{source} was trained on {n} of the {len(hashes)} groups of this data: shares and promises may not hold."
        for source, n in found
        if n
    ]


def _first_half(person: Sample) -> bool:
    """A half of the groups by their names alone; another hash than the one that divides splits."""
    name = f"half\0{person.dataset}\0{person.group}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(name).digest()[0] % 2 == 0


def _calibrated(scored: _Scored, shares: NDArray[np.float64], settings: CalibrationSettings) -> FittedCalibration:
    combined = [combine(row, scored.calibrations, list(shares)) for row in scored.scores]
    sizes = [len(score.frame_logits) for score in combined]
    labels = np.array([person.label for person in scored.people], np.int64)
    groups = np.array([f"{person.dataset}/{person.group}" for person in scored.people], dtype=str)
    datasets = np.array([person.dataset for person in scored.people], dtype=str)
    return fit_calibration(
        np.array([score.video_logit for score in combined]),
        labels,
        datasets,
        groups=groups,
        frame_logits=np.concatenate([np.empty(0), *(score.frame_logits for score in combined)]),
        frame_labels=np.repeat(labels, sizes),
        frame_groups=np.repeat(groups, sizes),
        frame_sources=np.repeat(datasets, sizes),
        alpha=settings.error_rate,
        target_fpr=settings.threshold_fpr,
    )


def _minimize() -> Any:
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise DeepscanError(
            "The members' shares cannot be fitted",
            "SciPy is not installed",
            "Install it with: pip install 'deepscan[train]'; or leave the data out for equal shares.",
            reason="missing_package",
        ) from error
    return minimize
