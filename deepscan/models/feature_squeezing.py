"""Telling attacked input by squeezing it (Xu, Evans and Qi, NDSS 2018).

A change that was computed to deceive a network lives in values too fine to see. Fewer levels of each colour, a median
over neighbouring pixels, and non-local means, which average what looks alike, take much of it out and leave a face as
it was: where the score then moves far, the crops may have been attacked. It is a sign, no proof; and an attacker who
knows the check can make crops that pass it. How often it is right and wrong is measured, see docs/adversarial.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from deepscan.extract.video.sampling import evenly
from deepscan.models.card import AttackCheck, Calibration, Squeeze
from deepscan.models.scorer import Features, Scorer


def squeezed(crops: NDArray[np.uint8], check: AttackCheck) -> dict[Squeeze, NDArray[np.uint8]]:
    """Copies of crops ``uint8 [T, S, S, 3]``, as many and as large, by the squeeze; one for each limit."""
    squeezes: dict[Squeeze, Callable[[], NDArray[np.uint8]]] = {
        "bits": lambda: reduced_depth(crops, check.bits),
        "median": lambda: median_smoothed(crops, check.median_px),
        "denoise": lambda: denoised(crops, check.denoise),
    }
    return {name: squeezes[name]() for name in check.limits}


def reduced_depth(crops: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Crops of any shape whose values are the nearest of ``2 ** bits`` levels spread evenly over 0 to 255."""
    most = 2**bits - 1
    levels = np.rint(np.rint(np.arange(256) * most / 255) * 255 / most).astype(np.uint8)
    return levels[crops]


def median_smoothed(crops: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Crops ``uint8 [T, S, S, 3]``, every value the median of its own channel in a square around it."""
    return np.stack([cv2.medianBlur(crop, side_px) for crop in crops])


def denoised(crops: NDArray[np.uint8], strength: float) -> NDArray[np.uint8]:
    """Crops ``uint8 [T, S, S, 3]`` by non-local means: patches of 3 px, looked for within 7 px."""
    return np.stack([cv2.fastNlMeansDenoisingColored(crop, None, strength, strength, 3, 7) for crop in crops])


def disagreements(
    scorer: Scorer,
    crops: Sequence[NDArray[np.uint8]],
    calibration: Calibration,
    check: AttackCheck,
    features: Sequence[Sequence[Features]] | None = None,
) -> list[float]:
    """How far each person's score moves when the crops are squeezed; arguments as for :func:`changes`.

    Returns:
        The largest change of each person's calibrated video log-odds, as a share of its limit: from 1 on it is as after
        an attack.
    """
    return [
        max(change[name] / limit for name, limit in check.limits.items())
        for change in changes(scorer, crops, calibration, check, features)
    ]


def changes(
    scorer: Scorer,
    crops: Sequence[NDArray[np.uint8]],
    calibration: Calibration,
    check: AttackCheck,
    features: Sequence[Sequence[Features]] | None = None,
) -> list[dict[Squeeze, float]]:
    """The change of each person's calibrated video log-odds under each squeeze, from 0.

    Args:
        scorer: of the detector, in any runtime.
        crops: of each person, RGB ``uint8 [T, S, S, 3]``, T from 1.
        calibration: of the detector.
        check: what is done to the crops, and to how many of them.
        features: of all these crops, where they are known.
    """
    chosen = [evenly(len(of_person), check.crops) for of_person in crops]
    sequences = [of_person[indices] for of_person, indices in zip(crops, chosen, strict=True)]
    if features is None:
        plain = [score.video_logit for score in scorer.score(sequences)]
    else:
        plain = [
            scorer.judge([of_person[index] for index in indices]).video_logit
            for of_person, indices in zip(features, chosen, strict=True)
        ]
    moved: list[dict[Squeeze, float]] = []
    for batch in _batches(sequences, max(1, scorer.crops_per_batch // len(check.limits))):
        scores = iter(scorer.score([copy for sequence in batch for copy in squeezed(sequence, check).values()]))
        for _ in batch:
            before = plain[len(moved)]
            moved.append({name: calibration.scale * abs(next(scores).video_logit - before) for name in check.limits})
    return moved


def _batches(sequences: Sequence[NDArray[np.uint8]], n_crops: int) -> list[list[NDArray[np.uint8]]]:
    """People with about so many crops together: a crowd's are not all squeezed at once."""
    batches: list[list[NDArray[np.uint8]]] = []
    room = 0
    for sequence in sequences:
        if room <= 0:
            batches.append([])
            room = n_crops
        batches[-1].append(sequence)
        room -= len(sequence)
    return batches
