"""Drawings of pages that no test of a page looks into."""

from __future__ import annotations

import re

import pytest

from deepscan.report.html.figures import histogram, round_step


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
