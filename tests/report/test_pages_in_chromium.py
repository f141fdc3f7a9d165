"""Pages in a real browser: nothing is asked for, nothing fails, one sheet of paper, a phone, and who cannot see it."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from datetime import UTC, datetime

import madereports as made
import pytest

from deepscan.report.html import write_pages

pytestmark = pytest.mark.slow
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
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
# What is wider than its place, and words outside of names that are cut into two lines.
TOO_WIDE = """[...document.querySelectorAll("body, body *")]
  .filter((e) => e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1 && !e.closest("svg, .aloud, thead"))
  .map((e) => e.outerHTML.slice(0, 80))"""
CUT_WORDS = r"""(() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const cut = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.parentElement.closest("bdi, code, script, style, .aloud, thead")) { continue; }
    for (const word of node.data.matchAll(/[^\s\u00a0-]+/g)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size > 1) { cut.push(word[0]); }
    }
  }
  return cut;
})()"""
UNFOLD = 'document.querySelectorAll("details").forEach((details) => { details.open = true; })'


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome is installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    def write(*results, **options):
        out = tmp_path_factory.mktemp("page") / "report.html"
        now = datetime(2026, 1, 2, tzinfo=UTC)
        options = {"made": now, "card": made.card(), "material": made.material, **options}
        return write_pages(made.report(*results), out, **options).page

    return write


@pytest.fixture(scope="module")
def alone(write):
    return write(made.one_face())


@pytest.fixture(scope="module")
def several(write):
    return write(made.image("a.jpg"), made.two_people("b.mp4"), made.no_face("c.mp4"), made.error("<b>d.mp4"))


@contextmanager
def opened(browser, page, *, width_px=1280, dark=False):
    """The page; it may ask for nothing, and its console stays empty."""
    context = browser.new_context(
        viewport={"width": width_px, "height": 844}, color_scheme="dark" if dark else "light", is_mobile=width_px < 600
    )
    view, told = context.new_page(), []
    address = page.resolve().as_uri()
    view.on("request", lambda request: told.append(request.url) if request.url != address else None)
    view.on("pageerror", lambda error: told.append(str(error)))
    view.on("console", lambda message: told.append(message.text))
    view.goto(address, wait_until="load")
    yield view
    context.close()
    assert [one for one in told if not one.startswith("data:")] == []


def n_sheets(view):
    return len(re.findall(rb"/Type\s*/Page\b", view.pdf(format="A4", print_background=False)))


def test_the_index_sorts(browser, several):
    with opened(browser, several) as view:
        first, down, up, by_name, told = view.evaluate(SORT)
    assert first == ["b.mp4", "<b>d.mp4", "c.mp4", "a.jpg"]
    assert down == ["b.mp4", "a.jpg", "<b>d.mp4", "c.mp4"]  # without a probability: last either way
    assert up == ["a.jpg", "b.mp4", "<b>d.mp4", "c.mp4"]
    assert sorted(by_name) == sorted(first)
    assert by_name[-3:] == ["a.jpg", "b.mp4", "c.mp4"]
    assert told == "Sorted by File, ascending."


@pytest.mark.parametrize("which", ["alone", "several"])
@pytest.mark.parametrize("width_px", [390, 1280])
def test_nothing_scrolls_sideways_and_no_word_is_cut(browser, request, which, width_px):
    with opened(browser, request.getfixturevalue(which), width_px=width_px, dark=width_px < 600) as view:
        assert (view.evaluate(TOO_WIDE), view.evaluate(CUT_WORDS)) == ([], [])
        view.evaluate(UNFOLD)
        assert (view.evaluate(TOO_WIDE), view.evaluate(CUT_WORDS)) == ([], [])


def test_one_person_is_one_sheet_of_a4_and_all_of_it_is_more(browser, alone, write):
    with opened(browser, alone) as view:
        assert n_sheets(view) == 1
    with opened(browser, write(made.one_face(), full=True)) as view:
        assert n_sheets(view) > 1
        assert view.evaluate('[...document.querySelectorAll("details")].every((details) => details.open)')


@pytest.mark.parametrize("which", ["alone", "several"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_stands_in_the_way_of_who_cannot_see_it(browser, request, which, dark):
    with opened(browser, request.getfixturevalue(which), dark=dark) as view:
        view.evaluate(UNFOLD)
        violations = axe.Axe().run(view).response["violations"]
    serious = [one for one in violations if one["impact"] in ("serious", "critical")]
    assert {one["id"]: [node["html"][:120] for node in one["nodes"]] for one in serious} == {}
