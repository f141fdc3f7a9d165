"""Where a detector fails: its figures by source, method, face size and any column of the data, the worst first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from deepscan.errors import ConfigError
from deepscan.evaluate.metrics import FEW_OF_A_CLASS, MetricValue, evaluate_scores, share

SLICE_METRICS = ("auc", "fpr", "fnr", "coverage", "real_called_fake", "fake_called_real", "error_answered_real",
                 "error_answered_fake")  # fmt: skip
FACE_EDGES_PX = (40.0, 80.0, 160.0)
LUMA_EDGES = (50.0, 100.0, 150.0)
NOT_KNOWN = "not known"
# What is known of every input, and what of people, where the data tells it.
BUILT_IN = ("source", "method", "family", "face size", "quality", "file type", "brightness")
OF_PEOPLE = ("sex", "age_band", "race", "skin_tone")
_OF_FAKES_ALONE = ("method", "family")
_OF_REALS = ("fpr", "real_called_fake", "error_answered_real")
_OF_FAKES = ("fnr", "fake_called_real", "error_answered_fake")
_NO_REALS = "its reals are those of its sources"
_TOO_FEW = f"fewer than {FEW_OF_A_CLASS}"
_BINS = {"face size": ("face_px", FACE_EDGES_PX, " px"), "brightness": ("luma", LUMA_EDGES, " of 255")}
_CLASSES = ((0, "reals", "fake"), (1, "fakes", "real"))


@dataclass(frozen=True, slots=True)
class SliceRow:
    """The figures of one part of the data.

    Attributes:
        by: what the data was cut by: one of :data:`BUILT_IN`, or a column.
        name: which part.
        n_real, n_fake: inputs, those without a usable face among them. A method or family has no reals of its own:
            these are those of its fakes' sources, which they are ranked against.
        not_applicable: inputs without a usable face.
        metrics: figures by name, of :data:`SLICE_METRICS`; without a value where fewer than 30 inputs would carry it.
    """

    by: str
    name: str
    n_real: int
    n_fake: int
    not_applicable: int
    metrics: dict[str, MetricValue]

    @property
    def wrong(self) -> float:
        """The larger share of wrong answers of the two classes; -1 where neither is known."""
        return max(-1.0 if (value := self.metrics[name].value) is None else value for name in _wrong_names(self.by))

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


def groupings(asked: Sequence[str] | None, columns: Iterable[str]) -> tuple[str, ...]:
    """What the data is to be cut by.

    Args:
        asked: of :data:`BUILT_IN` (``face_size`` will do for ``face size``) and columns; None for the usual ones.
        columns: that the data has.

    Raises:
        ConfigError: the data has no such column.
    """
    known = [*BUILT_IN, *sorted(set(columns) - set(BUILT_IN))]
    if asked is None:
        return tuple(name for name in known if name in (*BUILT_IN, *OF_PEOPLE))
    names = []
    for name in asked:
        plain = name.strip().lower()
        spaced = plain.replace("_", " ")
        if plain not in known and spaced not in BUILT_IN:
            raise ConfigError(f"--by {name}: the data has no such column", hint=f"It has {', '.join(known)}.")
        names.append(spaced if spaced in BUILT_IN else plain)
    return tuple(dict.fromkeys(names))


def slice_rows(
    videos: pd.DataFrame, by: Sequence[str] = BUILT_IN, *, threshold: float, resamples: int = 1000, seed: int = 0
) -> list[SliceRow]:
    """Figures for every part of the data that its columns tell apart; of each column the worst part first.

    A method's and a family's answers are those to its fakes; they are ranked against the reals of the same sources. A
    part of one class only has no AUC but still its error rate. Names that are the same for all inputs give no rows.

    Args:
        videos: ``label`` (real = 0, fake = 1), ``probability`` (NaN without a usable face), ``answer`` (0, 1, -1 for
            none), ``group``, ``face_px``, ``luma`` (NaN), and the columns that it is cut by (empty where not known).
        by: what it is cut by, in this order.
        threshold, resamples, seed: as for :func:`deepscan.evaluate.metrics.evaluate_scores`.
    """
    rows: list[SliceRow] = []
    for column in by:
        parts = _parts(videos, column)
        of_column = [_row(videos, column, *part, threshold, resamples, seed) for part in parts]
        rows += sorted(of_column, key=lambda row: (-row.wrong, row.metrics["coverage"].value or 0.0))
    return rows


def differences(
    videos: pd.DataFrame, rows: Sequence[SliceRow], *, promised: float, resamples: int = 1000, seed: int = 0
) -> list[str]:
    """What the rows show that chance does not explain, a sentence each.

    Of each column and class the worst part, where its interval lies above that of all other parts together; and every
    part of whose reals more are called fake than promised.

    Args:
        videos, resamples, seed: as for :func:`slice_rows`.
        rows: of these videos.
        promised: the share of reals that the detector promises to call fake at most.
    """
    sentences = []
    for column in dict.fromkeys(row.by for row in rows):
        members = {name: member for name, member, _ in _parts(videos, column) if name != NOT_KNOWN}
        for label, inputs, answer in _CLASSES:
            metric = ("error_answered_real", "error_answered_fake")[label]
            if metric not in _wrong_names(column):
                continue
            known = [row for row in rows if row.by == column and row.name in members and row.metrics[metric].value]
            if not known:
                continue
            worst = max(known, key=lambda row: row.metrics[metric].value or 0.0)
            others = np.logical_or.reduce(
                [m for name, m in members.items() if name != worst.name] or [videos.label < 0]
            )
            rest = videos[others & (videos.label == label) & (videos.answer >= 0)]
            if len(rest) < FEW_OF_A_CLASS:
                continue
            of_rest = share(rest.answer != label, rest.group.to_numpy(), resamples=resamples, seed=seed)
            if (worst.metrics[metric].low or 0.0) > (1.0 if of_rest.high is None else of_rest.high):
                sentences.append(
                    f"By {column}, answered {inputs} are called {answer} most in {worst.name}: "
                    f"{_with_interval(worst.metrics[metric])}, against {_with_interval(of_rest)} in all others. "
                    "Chance alone does not explain it."
                )
    for row in rows:
        called_fake = row.metrics["real_called_fake"]
        if row.by not in _OF_FAKES_ALONE and (called_fake.low or 0.0) > promised:
            sentences.append(
                f"Of the reals of {row.name} ({row.by}) {_with_interval(called_fake)} are called fake, above the "
                f"{_percent(promised)} promised."
            )
    return sentences


def _row(
    videos: pd.DataFrame,
    column: str,
    name: str,
    own: pd.Series,
    compared: pd.Series,
    threshold: float,
    resamples: int,
    seed: int,
) -> SliceRow:
    """The figures of the inputs that are a part's own; its AUC is against those that it is compared with."""
    part = videos[own | compared]
    n_fake, n_own = int(part["label"].sum()), int(own.sum())
    n_real = len(part) - n_fake
    count = {"auc": min(n_real, n_fake), "coverage": n_own}
    count |= dict.fromkeys(_OF_REALS, n_real) | dict.fromkeys(_OF_FAKES, n_fake)
    none = {metric: MetricValue(None, n=count[metric], reason=_TOO_FEW) for metric in SLICE_METRICS}
    row = SliceRow(column, name, n_real, n_fake, int(videos[own]["probability"].isna().sum()), none)
    if n_own < FEW_OF_A_CLASS:
        return row
    values = _evaluated(part, threshold, resamples, seed)
    if compared.any():
        answered = videos[own]["answer"].where(videos[own]["probability"].notna(), -1) >= 0
        groups = videos[own]["group"].to_numpy()
        values["coverage"] = share(answered, groups, resamples=resamples, seed=seed)
        values |= {name: MetricValue(None, reason=_NO_REALS) for name in _OF_REALS}
    too_few = {metric for metric in SLICE_METRICS if 0 < count[metric] < FEW_OF_A_CLASS}
    return replace(row, metrics={name: none[name] if name in too_few else values[name] for name in SLICE_METRICS})


def _evaluated(part: pd.DataFrame, threshold: float, resamples: int, seed: int) -> dict[str, MetricValue]:
    return evaluate_scores(
        part["label"],
        part["probability"],
        part["group"].to_numpy(),
        threshold=threshold,
        answers=part["answer"],
        not_applicable=part["probability"].isna(),
        resamples=resamples,
        seed=seed,
    )


def _wrong_names(column: str) -> tuple[str, ...]:
    return ("error_answered_fake",) if column in _OF_FAKES_ALONE else ("error_answered_real", "error_answered_fake")


def _parts(videos: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.Series, pd.Series]]:
    """The parts' names, which inputs are in each, and which others it is compared with."""
    nobody = videos["label"] < 0
    if column in _BINS:
        values, edges, unit = _BINS[column]
        for name, member in _binned(videos[values], edges, unit):
            yield name, member, nobody
        return
    if column not in videos:
        return
    names = videos[column].astype(object).mask(videos[column] == "").fillna(NOT_KNOWN)
    if column in _OF_FAKES_ALONE:
        fake = videos["label"] == 1
        source = videos["source"]
        for name in sorted(names[fake].unique()):
            own = fake & (names == name)
            yield name, own, ~fake & source.isin(source[own].unique())
        return
    unique = sorted(names.unique())
    if column not in BUILT_IN:  # of a column that only some of the data has, the others are no part
        unique = [name for name in unique if name != NOT_KNOWN]
    if len(unique) > 1:
        yield from ((name, names == name, nobody) for name in unique)


def _binned(values: pd.Series, edges: Sequence[float], unit: str) -> Iterator[tuple[str, pd.Series]]:
    between = [f"{low:g} to {high:g}{unit}" for low, high in pairwise(edges)]
    labels = [f"under {edges[0]:g}{unit}", *between, f"{edges[-1]:g}{unit} and more"]
    bins = pd.cut(values.astype(float), [-np.inf, *edges, np.inf], right=False, labels=labels)
    for name in labels:
        if (member := bins == name).any():
            yield name, member
    if (unknown := bins.isna()).any() and not unknown.all():
        yield NOT_KNOWN, unknown


def _with_interval(value: MetricValue) -> str:
    bounds = "" if value.low is None or value.high is None else f"{_percent(value.low)} to {_percent(value.high)}, "
    return f"{_percent(value.value or 0.0)} ({bounds}n = {value.n})"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
