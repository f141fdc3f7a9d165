"""Pictures of what was measured: PNG, 800 pixels wide, written atomically, the same bytes for the same numbers.

Inputs without a score (NaN) are left out, but for the confusion matrix. Colours are those of Okabe and Ito, told apart
by colour-blind readers; lines differ in style as well. matplotlib is imported when a picture is drawn, and its global
state (settings, backend, open figures) stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from deepscan.errors import import_extra
from deepscan.evaluate.bootstrap import Floats
from deepscan.evaluate.metrics import MetricValue, reliability
from deepscan.files import temporary_beside
from deepscan.text import answer_rule, limit_percent
from deepscan.verdict import Band

REAL_COLOUR, FAKE_COLOUR, NEUTRAL = "#0072B2", "#D55E00", "#6E6E6E"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", "-.", ":")
_SIZE_IN, _DPI = (8.0, 6.0), 100
_BINS = np.linspace(0, 1, 41)
_UNIT_SQUARE = {"xlim": (-0.01, 1.01), "ylim": (-0.01, 1.01)}
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so pictures are the same everywhere
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "lines.linewidth": 2.2,
    "legend.fontsize": 12,
    "legend.framealpha": 0.9,
    "text.parse_math": False,  # names with a $ are names
}

Curves = Mapping[str, tuple[ArrayLike, ArrayLike]]


def plot_confusion(
    path: Path,
    labels: ArrayLike,
    answers: ArrayLike,
    *,
    threshold: float,
    band: Band | None = None,
    not_applicable: ArrayLike | None = None,
    title: str = "Answers",
) -> None:
    """Confusion matrix: what deepscan answered of real and of fake inputs, as counts and shares of each row.

    Args:
        path: of the PNG; its folder must exist.
        labels, answers: ``[n]``; 0 real, 1 fake, an answer also -1 for uncertain.
        threshold, band: of the answers, for the legend.
        not_applicable: bool ``[n]``; if any, they have their own column.
        title: above the picture.

    Raises:
        OutputError: the file cannot be written.
        DeepscanError: matplotlib is not installed.
    """
    fake = np.asarray(labels).astype(bool)
    missing = np.zeros(len(fake), bool) if not_applicable is None else np.asarray(not_applicable, bool)
    answer = np.where(missing, 2, answers)
    uncertain = (band is not None and band[0] < band[1]) or (answer == -1).any()
    kinds = {0: "called real", **({-1: "uncertain"} if uncertain else {}), 1: "called fake"}
    if missing.any():
        kinds[2] = "no usable face"
    counts = np.array([[int((of & (answer == kind)).sum()) for kind in kinds] for of in (~fake, fake)])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cells = [
        [f"{n:,}\n{100 * share:.1f} %" for n, share in zip(*row, strict=True)]
        for row in zip(counts, shares, strict=True)
    ]
    with picture(path, title) as figure:
        axes = figure.subplots()
        _cells(axes, shares, cells, "Blues", dark_from=0.65, bounds=(0, 1))
        axes.set_xticks(range(len(kinds)), kinds.values())
        totals = counts.sum(axis=1)
        axes.set_yticks((0, 1), (f"real\nn = {totals[0]:,}", f"fake\nn = {totals[1]:,}"))
        axes.set_xlabel(f"Answer ({answer_rule(threshold, band or (threshold, threshold))})")
        axes.set_ylabel("Truth")


def plot_roc(
    path: Path,
    curves: Curves,
    *,
    intervals: Mapping[str, MetricValue] | None = None,
    threshold: float | None = None,
    title: str = "ROC",
) -> None:
    """ROC curves.

    Args:
        path: of the PNG.
        curves: labels and probabilities by name; one with one class only is named in the legend and not drawn.
        intervals: AUC by the same names, to show with its interval.
        threshold: marked on every curve.
        title: above the picture.
    """
    with picture(path, title) as figure:
        from sklearn.metrics import roc_auc_score, roc_curve

        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=NEUTRAL, linewidth=1, linestyle=":", label="chance: AUC 0.500")
        for name, y, p, style in _drawable(axes, curves):
            fpr, tpr, _ = roc_curve(y, p)
            auc = (intervals or {}).get(name) or MetricValue(float(roc_auc_score(y, p)))
            bounds = "" if auc.low is None or auc.high is None else f" [{auc.low:.3f}, {auc.high:.3f}]"
            axes.plot(fpr, tpr, label=f"{name}: AUC {auc.value:.3f}{bounds}, n = {len(y):,}", **style)
            if threshold is not None:
                at = [float(np.mean(p[y == label] >= threshold)) for label in (0, 1)]
                axes.plot(*at, marker="o", markersize=9, color=style["color"], linestyle="none")
        if threshold is not None:
            mark = {"marker": "o", "markersize": 9, "color": NEUTRAL, "linestyle": "none"}
            axes.plot([], [], label=f"threshold {threshold:.3g}", **mark)
        axes.set(xlabel="False positive rate: share of reals over the threshold", **_UNIT_SQUARE)
        axes.set(ylabel="True positive rate: share of fakes over it")
        _legend(axes, "lower right")


def plot_precision_recall(path: Path, curves: Curves, *, title: str = "Precision and recall") -> None:
    """Precision-recall curves of the class "fake", with the share of fakes that chance would reach.

    Args:
        path: of the PNG.
        curves: labels and probabilities by name, as for :func:`plot_roc`.
        title: above the picture.
    """
    with picture(path, title) as figure:
        from sklearn.metrics import average_precision_score, precision_recall_curve

        axes = figure.subplots()
        for name, y, p, style in _drawable(axes, curves):
            precision, recall, _ = precision_recall_curve(y, p)
            label = f"{name}: AP {average_precision_score(y, p):.3f}, chance {y.mean():.3f}, n = {len(y):,}"
            axes.plot(recall, precision, drawstyle="steps-post", label=label, **style)
            axes.axhline(y.mean(), color=style["color"], linewidth=1, linestyle=":")
        axes.set(xlabel="Recall: share of fakes found", **_UNIT_SQUARE)
        axes.set(ylabel="Precision: share of fakes among those called fake")
        _legend(axes, "lower left")


def plot_reliability(
    path: Path, labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 10, title: str = "Reliability"
) -> None:
    """How often inputs with a given probability are fake: calibrated scores lie on the diagonal.

    Args:
        path: of the PNG.
        labels, probabilities: ``[n]``.
        bins: of equal mass; bars are the 95 % interval of each share (Wilson), inputs taken as independent.
        title: above the picture.
    """
    with picture(path, title) as figure:
        y, p = _pair((labels, probabilities))
        used = reliability(y, p, bins)
        mean, share = [one.probability for one in used], [one.share for one in used]
        reach = np.array([[b.share - b.low, b.high - b.share] for b in used]).reshape(-1, 2).clip(0).T
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color=NEUTRAL, linewidth=1.2, linestyle=":", label="perfectly calibrated")
        points = {"color": REAL_COLOUR, "marker": "o", "markersize": 7, "capsize": 4}
        upper.errorbar(mean, share, yerr=reach, label="measured, 95 % interval", **points)
        upper.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="Share that is fake")
        _legend(upper, "upper left")
        lower.hist(p, bins=_BINS, color=NEUTRAL)
        lower.set(xlabel=f"Probability of fake (n = {len(p):,}, {len(used)} bins of equal mass)", ylabel="Inputs")


def plot_scores(
    path: Path,
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    threshold: float,
    band: Band | None = None,
    title: str = "Scores",
) -> None:
    """Histogram of the scores of real and fake inputs, with threshold and, shaded, uncertain band."""
    y, p = _pair((labels, probabilities))
    with picture(path, title) as figure:
        axes = figure.subplots()
        if band is not None and band[0] < band[1]:
            between = f"{limit_percent(band[0])} to {limit_percent(band[1])}"
            axes.axvspan(*band, color="#E8E8E8", label=f"uncertain: {between}")
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1.5, label=f"threshold {threshold:.3g}")
        for label, name, colour, hatch in ((0, "real", REAL_COLOUR, ""), (1, "fake", FAKE_COLOUR, "///")):
            of = p[y == label]
            shared: dict[str, Any] = {"bins": _BINS, "weights": np.full(len(of), 100 / max(len(of), 1))}
            axes.hist(of, color=colour, alpha=0.35, hatch=hatch, edgecolor=colour, linewidth=0, **shared)
            axes.hist(of, color=colour, histtype="step", linewidth=2, label=f"{name}, n = {len(of):,}", **shared)
        axes.set(xlim=(0, 1), xlabel="Probability of fake", ylabel="Share of the class, % per bin of 0.025")
        _legend(axes, "best")


def plot_training(path: Path, rows: Sequence[Mapping[str, Any]], *, title: str = "Training") -> None:
    """Loss, AUC and accuracy over the epochs, one panel each; the best epoch on validation data is marked.

    Args:
        path: of the PNG.
        rows: one an epoch, in order: figures by name, such as ``train_loss``, ``val_log_loss``, ``val_auc``,
            ``val_accuracy``. A figure belongs to the panel of the word in its name; what is missing or NaN in a row is
            skipped. A key ``stage`` marks where a new stage begins; epochs are numbered through.
        title: above the picture.
    """
    table = pd.DataFrame(list(rows)).replace("", np.nan)
    wanted = (("Loss", "loss", -1), ("AUC", "auc", 1), ("Accuracy", "accuracy", 1))
    names = list(map(str, table))
    panels = [(heading, [n for n in names if word in n.lower().split("_")], end) for heading, word, end in wanted]
    panels = [panel for panel in panels if panel[1]]
    epochs = np.arange(1, len(rows) + 1)
    stages = [row.get("stage") for row in rows]
    starts = [i for i in range(1, len(rows)) if stages[i] != stages[i - 1]]
    height = max(len(panels), 1)
    with picture(path, f"{title}, {len(rows)} epochs", height_in=1.2 + 2.6 * height) as figure:
        every = np.atleast_1d(figure.subplots(height, 1, sharex=True))
        for axes, (heading, keys, end) in zip(every, panels, strict=False):
            for key, style in zip(keys, line_styles(), strict=False):
                _draw_epochs(axes, epochs, table[key].to_numpy(float), key, end, style)
            for start in starts:
                axes.axvline(epochs[start] - 0.5, color=NEUTRAL, linewidth=1, linestyle=":")
            axes.set_ylabel(heading)
            _legend(axes, "best")
        for start in (0, *starts) if any(stages) else ():
            top, where = every[0].get_xaxis_transform(), (epochs[start] - 0.45, 1.01)
            every[0].text(*where, f"stage {stages[start]}", transform=top, fontsize=11, color=NEUTRAL)
        starred = any(key.startswith("val") for _, keys, _ in panels for key in keys)
        every[-1].set_xlabel("Epoch (star: best on validation data)" if starred else "Epoch")
        every[-1].set_xlim(0.5, max(len(rows), 1) + 0.5)  # a single epoch would have no width, and its label no place
        every[-1].xaxis.get_major_locator().set_params(integer=True)


def _draw_epochs(axes: Any, epochs: NDArray[np.int64], y: Floats, key: str, end: int, style: dict[str, Any]) -> None:
    """What is not known is left out."""
    known = ~np.isnan(y)
    label = key.replace("_", " ").replace("auc", "AUC")
    axes.plot(epochs[known], y[known], marker="o", markersize=4, label=label, **style)
    if key.startswith("val") and known.any():
        best = int(np.nanargmax(end * y))
        axes.plot(epochs[best], y[best], marker="*", markersize=16, color=style["color"], linestyle="none")


def plot_matrix(
    path: Path, values: ArrayLike, rows: Sequence[str], columns: Sequence[str], *, title: str = "AUC"
) -> None:
    """Heat map of AUC, from chance at the light end to 1 at the dark one.

    Args:
        path: of the PNG.
        values: ``[rows, columns]``, NaN where not measured.
        rows, columns: names of detectors and of data.
        title: above the picture.
    """
    table = np.asarray(values, np.float64).reshape(len(rows), len(columns))
    cells = [["not\nmeasured" if np.isnan(value) else f"{value:.3f}" for value in row] for row in table]
    with picture(path, title) as figure:
        axes = figure.subplots()
        image = _cells(axes, table, cells, "cividis_r", dark_from=0.8, bounds=(0.5, 1))
        axes.set_facecolor("#F2F2F2")
        slanted = max((len(name) for name in columns), default=0) * len(columns) > 55
        turned: dict[str, Any] = {"rotation": 30, "ha": "right"} if slanted else {}
        axes.set_xticks(range(len(columns)), columns, **turned)
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlabel="Measured on", ylabel="Detector")
        bar = figure.colorbar(image, ax=axes, extend="min")
        bar.set_label("AUC (0.5 is chance)")
        bar.outline.set_visible(False)


@contextmanager
def picture(path: Path, title: str, height_in: float = _SIZE_IN[1]) -> Iterator[Any]:
    """A figure with matplotlib's own defaults and ``_STYLE``; saved at the end, all settings as they were before."""
    import_extra("matplotlib", f"{path} cannot be drawn", "matplotlib")
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The backend is no matter of a figure with its own canvas, and setting it would import a window system.
    defaults: dict[Any, Any] = {
        key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith("backend")
    }
    with mpl.rc_context(defaults | _STYLE):
        # Not through pyplot: a figure of our own is in no list of open ones, and gone when it is written.
        figure = Figure(figsize=(_SIZE_IN[0], height_in), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=15)
        yield figure
        with temporary_beside(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def line_styles() -> Iterator[dict[str, Any]]:
    """Colours and line styles, without end."""
    return ({"color": colour, "linestyle": line} for colour, line in zip(cycle(_COLOURS), cycle(_LINES), strict=False))


def _pair(pair: tuple[ArrayLike, ArrayLike]) -> tuple[NDArray[np.int64], Floats]:
    y, p = np.asarray(pair[0]).astype(np.int64), np.asarray(pair[1], np.float64)
    return y[~np.isnan(p)], p[~np.isnan(p)]


def _drawable(axes: Any, curves: Curves) -> Iterator[tuple[str, NDArray[np.int64], Floats, dict[str, Any]]]:
    """Curves that have both classes; the others are named in the legend alone."""
    for (name, pair), style in zip(curves.items(), line_styles(), strict=False):
        y, p = _pair(pair)
        if 0 < y.sum() < len(y):
            yield name, y, p, style
        else:
            axes.plot([], [], label=f"{name}: one class only, n = {len(y):,}", **style)


def _cells(
    axes: Any, table: Floats, texts: list[list[str]], colours: str, *, dark_from: float, bounds: tuple[float, float]
) -> Any:
    """A matrix of coloured cells with texts, without a frame; returns the image."""
    axes.grid(visible=False)
    low, high = bounds
    image = axes.imshow(np.ma.masked_invalid(table), cmap=colours, vmin=low, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        style = {"fontsize": 11 if np.isnan(value) else 16, "color": "white" if value > dark_from else "black"}
        axes.text(column, row, texts[row][column], ha="center", va="center", **style)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def _legend(axes: Any, where: str) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=where)
