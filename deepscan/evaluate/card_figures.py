"""What a detector's card keeps of an evaluation: enough for a page that can be checked, not the whole of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from deepscan.datasets.readers.base import REAL, writable
from deepscan.evaluate.evaluation import Evaluation, ScoredVideo
from deepscan.evaluate.metrics import reliability
from deepscan.types import VerdictLabel

FIGURES = ("auc", "log_loss", "brier", "ece", "eer", "accuracy", "balanced_accuracy", "scored", "coverage",
           "error_answered_real", "error_answered_fake")  # fmt: skip
# Fewer reals of a source say little of how it compares with another.
_ENOUGH_REALS = 30
# Sources as small as this are told video by video: a rate over ten clips says less than the ten answers.
_FEW_VIDEOS = 20


def condensed(evaluation: Evaluation, part: str) -> dict[str, Any]:
    """Figures, answers, tables and calibration of an evaluation as plain values.

    Args:
        evaluation: of the detector whose card it is for.
        part: which part of the data it is, in words.

    Returns:
        ``part``; ``figures`` (name: value, low, high, n); ``answers`` (source, label, n and how many got each verdict);
        ``shortcuts`` (pairs of real sources that the score tells apart most: see :func:`shortcuts`); ``tables`` (the
        rows of the evaluation, worst first), ``differences`` (between them, in sentences); ``reliability`` (bins of
        equal mass); ``videos`` (of small sources
        every video with its label, answer and probability, most suspicious first); ``warnings``.
    """
    scored = [video for video in evaluation.videos if video.probability is not None]
    labels = np.array([video.label for video in scored], np.int64)
    probabilities = np.array([video.probability for video in scored], np.float64)
    both = 0 < int(labels.sum()) < len(labels)
    sizes = Counter(video.source for video in evaluation.videos)
    few = sorted(
        (video for video in scored if sizes[video.source] <= _FEW_VIDEOS),
        key=lambda video: (video.source, -(video.probability or 0.0), video.video_id),
    )
    return {
        "part": part,
        "figures": {
            name: value.to_dict()
            for name, value in evaluation.video.items()
            # Where files without a face were not counted, it would say 100 %.
            if name in FIGURES and value.value is not None and (name != "scored" or evaluation.without)
        },
        "answers": _answers(evaluation),
        "shortcuts": shortcuts(scored),
        "tables": [_rounded(row.to_dict()) for row in evaluation.slices],
        "reliability": [_rounded(asdict(one)) for one in reliability(labels, probabilities)] if both else [],
        "videos": [_told(video) for video in few],
        "differences": list(evaluation.differences),
        "warnings": list(evaluation.warnings),
    }


def shortcuts(videos: Sequence[ScoredVideo], most: int = 3) -> list[dict[str, Any]]:
    """The pairs of real sources that a detector's score tells apart most; it should tell none of them apart.

    Args:
        videos: with a probability; fakes are not looked at, nor sources of fewer than 30 reals.
        most: pairs at most.

    Returns:
        ``one``, ``other``, ``auc`` (that a real of ``one`` scores above one of ``other``, from 0.5), ``n_one`` and
        ``n_other``, the widest first.
    """
    from sklearn.metrics import roc_auc_score

    scores: dict[str, list[float]] = {}
    for video in videos:
        if video.label == REAL:
            scores.setdefault(writable(video.source), []).append(float(video.probability or 0.0))
    enough = sorted(name for name, of in scores.items() if len(of) >= _ENOUGH_REALS)
    rows: list[dict[str, Any]] = []
    for one, other in combinations(enough, 2):
        labels = [1] * len(scores[one]) + [0] * len(scores[other])
        auc = float(roc_auc_score(labels, scores[one] + scores[other]))
        first, second = (one, other) if auc >= 0.5 else (other, one)
        rows.append(
            {
                "one": first,
                "other": second,
                "auc": round(max(auc, 1 - auc), 4),
                "n_one": len(scores[first]),
                "n_other": len(scores[second]),
            }
        )
    return sorted(rows, key=lambda row: row["auc"], reverse=True)[:most]


def _answers(evaluation: Evaluation) -> list[dict[str, Any]]:
    """How often each verdict was given, by source and label; files without a face are counted as such."""
    counts: dict[tuple[str, int], Counter[str]] = {}
    for video in evaluation.videos:
        counts.setdefault((writable(video.source), video.label), Counter())[str(video.verdict)] += 1
    rows = []
    for (source, label), verdicts in sorted(counts.items()):
        n = sum(verdicts.values())
        rows.append({"source": source, "label": label, "n": n, **{str(v): verdicts[str(v)] for v in VerdictLabel}})
    return rows


def _told(video: ScoredVideo) -> dict[str, Any]:
    return {
        "source": writable(video.source),
        "video": writable(video.video_id),
        "label": video.label,
        "method": writable(video.method),
        "verdict": str(video.verdict),
        "probability": round(float(video.probability or 0.0), 4),
    }


def _rounded(value: Any) -> Any:
    """Four decimals are more than the intervals allow."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
