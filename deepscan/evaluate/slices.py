"""Where a detector fails: its figures by dataset, method, face size, quality and brightness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from deepscan.evaluate.metrics import MetricValue, evaluate_scores

SLICE_METRICS = ("auc", "fpr", "fnr", "coverage", "real_called_fake", "fake_called_real")
FACE_EDGES_PX = (40.0, 80.0, 160.0)
LUMA_EDGES = (50.0, 100.0, 150.0)
NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class SliceRow:
    """The figures of one part of the data.

    Attributes:
        by: what the data was cut by: ``dataset``, ``method``, ``face size``, ``quality`` or ``brightness``.
        name: which part.
        n_real, n_fake: inputs, those without a usable face among them.
        not_applicable: inputs without a usable face.
        metrics: figures by name, of :data:`SLICE_METRICS`.
    """

    by: str
    name: str
    n_real: int
    n_fake: int
    not_applicable: int
    metrics: dict[str, MetricValue]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "by": self.by,
            "name": self.name,
            "n_real": self.n_real,
            "n_fake": self.n_fake,
            "not_applicable": self.not_applicable,
            **{name: value.to_dict() for name, value in self.metrics.items()},
        }


def slice_rows(videos: pd.DataFrame, *, threshold: float, resamples: int = 1000, seed: int = 0) -> list[SliceRow]:
    """Figures for every part of the data that its columns tell apart.

    A method's row holds its fakes and all reals of the same dataset. A part of one class only has no AUC but still its
    error rate. Names that are the same for all inputs give no rows.

    Args:
        videos: ``label`` (real = 0, fake = 1), ``probability`` (NaN without a usable face), ``answer`` (0, 1, -1 for
            none), ``group``, ``dataset``, ``method``, ``quality`` (empty where not known), ``face_px``, ``luma`` (NaN).
        threshold, resamples, seed: as for :func:`deepscan.evaluate.metrics.evaluate_scores`.
    """
    rows = []
    for by, name, member in _parts(videos):
        part = videos[member]
        missing = part["probability"].isna()
        values = evaluate_scores(
            part["label"],
            part["probability"],
            part["group"].to_numpy(),
            threshold=threshold,
            answers=part["answer"],
            not_applicable=missing,
            resamples=resamples,
            seed=seed,
        )
        n_fake = int(part["label"].sum())
        metrics = {metric: values[metric] for metric in SLICE_METRICS}
        rows.append(SliceRow(by, name, len(part) - n_fake, n_fake, int(missing.sum()), metrics))
    return rows


def _parts(videos: pd.DataFrame) -> Iterator[tuple[str, str, pd.Series]]:
    """What the data is cut by, the part's name, and which inputs are in it."""
    dataset, method, quality = (
        videos[column].astype(object).mask(videos[column] == "").fillna(NOT_KNOWN)
        for column in ("dataset", "method", "quality")
    )
    real = videos["label"] == 0
    yield from _named("dataset", dataset)
    for source in sorted(dataset.unique()):
        here = dataset == source
        for name in sorted(method[here & ~real].unique()):
            full = f"{source}, {name}" if dataset.nunique() > 1 else name
            yield "method", full, here & (real | (method == name))
    yield from _binned("face size", videos["face_px"], FACE_EDGES_PX, " px")
    yield from _named("quality", quality)
    yield from _binned("brightness", videos["luma"], LUMA_EDGES, " of 255")


def _named(by: str, names: pd.Series) -> Iterator[tuple[str, str, pd.Series]]:
    """A part for each name, none if there is but one: its row would be that of all data again."""
    unique = sorted(names.unique())
    yield from ((by, name, names == name) for name in unique if len(unique) > 1)


def _binned(by: str, values: pd.Series, edges: Sequence[float], unit: str) -> Iterator[tuple[str, str, pd.Series]]:
    between = [f"{low:g} to {high:g}{unit}" for low, high in pairwise(edges)]
    labels = [f"under {edges[0]:g}{unit}", *between, f"{edges[-1]:g}{unit} and more"]
    bins = pd.cut(values.astype(float), [-np.inf, *edges, np.inf], right=False, labels=labels)
    for name in labels:
        if (member := bins == name).any():
            yield by, name, member
    if (unknown := bins.isna()).any():
        yield by, NOT_KNOWN, unknown
