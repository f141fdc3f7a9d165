"""Pages in a real browser: nothing is asked for, nothing fails, the index sorts, nothing is wider than a phone."""

from __future__ import annotations

import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path

import madereports as made
import pytest

from deepscan.report.html import write_pages

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "scripts" / "screenshot_report.py"
SORT = """(() => {
  const names = () => [...document.querySelectorAll(".sortable tbody tr")].map((r) => r.cells[1].dataset.key);
  const seen = [names()];
  for (const place of [3, 3, 1]) {
    document.querySelectorAll(".sortable thead button")[place].click();
    seen.push(names());
  }
  seen.push(document.getElementById("sorted").textContent);
  return seen;
})()"""
WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"


@pytest.fixture(scope="module")
def browser():
    spec = importlib.util.spec_from_file_location("screenshot_report", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if module.find_browser() is None:
        pytest.skip("no Chromium or Chrome is installed")
    return module


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    results = made.image("a.jpg"), made.two_people("b.mp4"), made.no_face("c.mp4"), made.error("<b>d.mp4")
    card = made.card()
    out = tmp_path_factory.mktemp("page") / "report.html"
    now = datetime(2026, 1, 2, tzinfo=UTC)
    return write_pages(made.report(*results), out, made=now, card=card, material=made.material).page


def test_it_asks_for_nothing_and_sorts(browser, page, tmp_path):
    seen = browser.look(page, tmp_path / "page.png", script=SORT, height_px=800)
    assert seen.requests == []
    assert seen.errors == []
    first, down, up, by_name, told = seen.evaluated
    assert first == ["b.mp4", "<b>d.mp4", "c.mp4", "a.jpg"]
    assert down == ["b.mp4", "a.jpg", "<b>d.mp4", "c.mp4"]  # without a probability: last either way
    assert up == ["a.jpg", "b.mp4", "<b>d.mp4", "c.mp4"]
    assert sorted(by_name) == sorted(first)
    assert by_name[-3:] == ["a.jpg", "b.mp4", "c.mp4"]
    assert told == "Sorted by File, ascending."
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_it_fits_a_phone_in_the_dark(browser, page):
    seen = browser.look(page, width_px=390, dark=True, script=WIDTHS)
    assert (seen.requests, seen.errors) == ([], [])
    assert seen.evaluated[0] <= seen.evaluated[1] == 390
