"""Curves of figures against the strength of changes, one panel a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepscan.evaluate.metrics import MetricValue
from deepscan.evaluate.plots import NEUTRAL, line_styles, picture
from deepscan.evaluate.robustness.report import Robustness
from deepscan.evaluate.robustness.tables import names_of

_COLUMNS = 3
_PANEL_IN = 2.35
_SMALL = 9
CURVES = {"auc": "AUC", "fpr": "FPR", "scored": "Scored (a usable face)", "coverage": "Answered real or fake"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One change.

    Attributes:
        title, unit: above and below.
        ticks: strengths as text, from mild to severe, "none" first.
        curves: a figure for each tick, by name.
        breaks: index of the tick that is marked; None marks none.
    """

    title: str
    unit: str
    ticks: Sequence[str]
    curves: Mapping[str, Sequence[MetricValue]]
    breaks: int | None = None


def draw_robustness(report: Robustness, path: Path) -> None:
    """The curves of a report: AUC, FPR and coverage against strength, with their intervals.

    Args:
        report: measured.
        path: of the PNG.

    Raises:
        OutputError: it cannot be written.
        DeepscanError: matplotlib is not installed.
    """
    panels = []
    for at in report.breaks:
        rows = [report.rows[0], *report.rows_of(at.change)]
        strengths = [row.condition.strength for row in rows[1:]]
        panels.append(
            Panel(
                at.change.title,
                at.change.unit,
                ["none", *(f"{strength:g}" for strength in strengths)],
                {title: [row.figures[name] for row in rows] for name, title in CURVES.items()},
                None if at.strength is None else 1 + strengths.index(at.strength),
            )
        )
    plot_strengths(
        path, panels, floor=report.floor, title=f"{report.model.name} on {names_of(report)}; changes on {report.place}"
    )


def plot_strengths(
    path: Path, panels: Sequence[Panel], *, floor: float | None = None, title: str = "Robustness"
) -> None:
    """Draw panels.

    Args:
        path: of the PNG.
        panels: in reading order; none give an empty picture.
        floor: of AUC, a dotted line.
        title: above the picture.
    """
    lines = max(1, -(-len(panels) // _COLUMNS))
    with picture(path, title[:90], max(6.0, 0.9 + lines * _PANEL_IN)) as figure:
        every = figure.subplots(lines, _COLUMNS, squeeze=False, sharey=True).ravel()
        for axes, panel in zip(every, panels, strict=False):
            for (name, values), style in zip(panel.curves.items(), line_styles(), strict=False):
                known = [(x, m) for x, m in enumerate(values) if m.value is not None]
                axes.plot(
                    [x for x, _ in known], [m.value for _, m in known], marker="o", markersize=3, label=name,
                    **(style | {"linewidth": 1.5}),
                )  # fmt: skip
                bounds = [(x, m.low, m.high) for x, m in known if m.low is not None and m.high is not None]
                if bounds:
                    axes.fill_between(*zip(*bounds, strict=True), color=style["color"], alpha=0.13, linewidth=0)
            if floor is not None:
                axes.axhline(floor, color=NEUTRAL, linewidth=1, linestyle=":", label=f"AUC {floor:g}")
            if panel.breaks is not None:
                axes.axvline(panel.breaks, color=NEUTRAL, linewidth=1)
                axes.text(panel.breaks, 0.02, " breaks", fontsize=_SMALL - 1, color=NEUTRAL, ha="right", rotation=90)
            axes.set_title(panel.title, fontsize=_SMALL + 1)
            axes.set_xlabel(panel.unit, fontsize=_SMALL)
            axes.set_xticks(range(len(panel.ticks)), panel.ticks)
            axes.tick_params(labelsize=_SMALL)
            axes.set_ylim(-0.02, 1.02)
        for axes in every[len(panels) :]:
            axes.set_axis_off()
        if panels:
            handles, names = every[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside lower left", ncols=3, fontsize=_SMALL, frameon=False)
