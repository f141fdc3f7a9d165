"""Curves of figures against the strength of changes, one panel a change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepscan.evaluate.metrics import MetricValue
from deepscan.evaluate.plots import NEUTRAL, line_styles, picture
from deepscan.evaluate.robustness.report import Robustness
from deepscan.evaluate.robustness.tables import names_of

_COLUMNS = 3
_PANEL_IN = 2.35
_SMALL = 9
CURVES = {"auc": "AUC", "fpr": "FPR", "scored": "Scored (a usable face)", "coverage": "Answered real or fake"}


def draw_robustness(report: Robustness, path: Path) -> None:
    """The curves of a report: AUC, FPR and coverage against strength, with their intervals, one panel a change.

    Raises:
        OutputError: the PNG cannot be written.
        DeepscanError: matplotlib is not installed.
    """
    settings, breaks = report.settings, report.breaks
    title = f"{report.model.name} on {names_of(report)}; changes on {settings.target}"
    lines = max(1, -(-len(breaks) // _COLUMNS))
    with picture(path, title[:90], max(6.0, 0.9 + lines * _PANEL_IN)) as figure:
        panels = figure.subplots(lines, _COLUMNS, squeeze=False, sharey=True).ravel()
        for axes, at in zip(panels, breaks, strict=False):
            rows = [report.rows[0], *report.rows_of(at.change)]
            strengths = [row.condition.strength for row in rows[1:]]
            for (name, label), style in zip(CURVES.items(), line_styles(), strict=False):
                _draw_curve(axes, [row.figures[name] for row in rows], label, style)
            axes.axhline(settings.floor, color=NEUTRAL, linewidth=1, linestyle=":", label=f"AUC {settings.floor:g}")
            if at.strength is not None:
                x = 1 + strengths.index(at.strength)
                axes.axvline(x, color=NEUTRAL, linewidth=1)
                axes.text(x, 0.02, " breaks", fontsize=_SMALL - 1, color=NEUTRAL, ha="right", rotation=90)
            axes.set_title(at.change.title, fontsize=_SMALL + 1)
            axes.set_xlabel(at.change.unit, fontsize=_SMALL)
            axes.set_xticks(range(len(rows)), ["none", *(f"{strength:g}" for strength in strengths)])
            axes.tick_params(labelsize=_SMALL)
            axes.set_ylim(-0.02, 1.02)
        for axes in panels[len(breaks) :]:
            axes.set_axis_off()
        if breaks:
            handles, names = panels[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside lower left", ncols=3, fontsize=_SMALL, frameon=False)


def _draw_curve(axes: Any, values: Sequence[MetricValue], label: str, style: dict[str, Any]) -> None:
    """What is undefined is left out."""
    known = [(x, m) for x, m in enumerate(values) if m.value is not None]
    line = style | {"linewidth": 1.5, "marker": "o", "markersize": 3, "label": label}
    axes.plot([x for x, _ in known], [m.value for _, m in known], **line)
    bounds = [(x, m.low, m.high) for x, m in known if m.low is not None and m.high is not None]
    if bounds:
        axes.fill_between(*zip(*bounds, strict=True), color=style["color"], alpha=0.13, linewidth=0)
