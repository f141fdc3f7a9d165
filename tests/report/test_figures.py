"""Drawings of pages that no test of a page looks into."""

from __future__ import annotations

import re

import pytest
from madereports import MODEL, card

from deepscan.explain.timeline import PersonSeries, Timeline
from deepscan.report.html.figures import chart, gauge, histogram, round_step
from deepscan.report.html.model_view import model_view
from deepscan.types import Segment, VerdictLabel


def test_the_bars_of_a_histogram_are_as_high_as_their_shares():
    drawn = str(
        histogram([("real", (0.75, 0.25)), ("fake", (0.5, 0.5))], ((0.25, "1"), (0.75, "<2")), label="Some & all")
    )
    heights = {
        name: [116 - float(height) for height in re.findall(r"V([\d.]+)H", path)]
        for name, path in re.findall(r'class="bars (\w+)" d="([^"]*)"', drawn)
    }
    assert heights == {"real": pytest.approx([108, 36]), "fake": pytest.approx([72, 72])}
    assert re.findall(r">([^<>]+)</text>", drawn) == ["20 %", "40 %", "60 %", "1", "&lt;2"]
    assert 'aria-label="Some &amp; all"' in drawn


@pytest.mark.parametrize(("most", "step"), [(1, 1), (0.99, 0.5), (0.2, 0.2), (49, 20), (700, 500)])
def test_steps_are_round(most, step):
    assert round_step(most) == pytest.approx(step)


def test_frames_stand_on_their_own_scale_hatched_only_where_a_face_was_seen():
    seen = PersonSeries(
        1, VerdictLabel.FAKE, 0.94, (0.0, 1.0, 3.0, 4.0), (0.8,) * 4, ((0, 2), (2, 4)), ((1.0, 3.0),),
        (Segment(1, 0.0, 4.0, 0.8),),
    )  # fmt: skip
    drawn = str(chart(seen, Timeline(4.0, 1.0, (seen,), None), name="person 1"))
    kinds = re.findall(r'<(?:rect|text) class="(\w+)"', drawn)
    assert "band" not in kinds
    spans = [
        (float(x), float(w)) for x, w in re.findall(r'class="segment" x="([\d.]+)" y="26" width="([\d.]+)"', drawn)
    ]
    assert spans == [(64, pytest.approx(161)), (547, pytest.approx(161))]
    assert kinds.index("tick") > max(i for i, kind in enumerate(kinds) if kind in ("segment", "gap"))
    # Where the time axis begins and ends, for scripts that turn a click into a time.
    assert 'data-end-s="4" data-left="0.0889" data-right="0.9833"' in drawn


@pytest.mark.parametrize(
    ("band", "zones", "words"),
    [
        ((0.27, 0.9), ["zone-real", "band", "zone-fake"], ["real up to 27 %", "uncertain", "fake from 90 %"]),
        ((0.5, 0.5), ["zone-real", "zone-fake"], ["real", "fake from 50 %"]),
        ((0.0, 1.0), ["band"], ["uncertain"]),
    ],
)
def test_a_probability_stands_in_its_band(band, zones, words):
    drawn = str(gauge(0.94, band, 0.5))
    assert re.findall(r'<rect class="([a-z-]+)"', drawn) == zones
    assert re.findall(r">([^<>]+)</text>", drawn) == [*words, "94\u00a0%"]


def test_figures_of_a_handful_of_files_stay_in_the_card():
    figures = {"auc": {"value": 0.5, "low": 0.0, "high": 1.0, "n": 7}, "accuracy": {"value": 0.9, "n": 20}}
    made = card().model_copy(update={"evaluations": [{"part": "test", "figures": figures, "reliability": []}]})
    assert [row[2] for row in model_view(MODEL, made, "1", "a.json", "ab").figures] == ["20"]
