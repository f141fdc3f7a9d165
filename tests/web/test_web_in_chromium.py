"""The page in a real browser: files go in, verdicts come out, the timeline moves the player, nothing leaves."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

pytest.importorskip("starlette", reason="deepscan-video[web] is not installed")

from webapps import wait_until

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed"),
]
WAIT_MS = 120_000


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """A server in a process of its own, as a user starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = tmp_path_factory.mktemp("server")
    process = subprocess.Popen(
        [sys.executable, "-m", "deepscan", "serve", "--port", str(port), "--frames", "8"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(kept)},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "is the page" in line:
                break
        else:
            pytest.fail("the server did not start")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=60)
    assert out == ""
    assert process.returncode == 143
    assert list(kept.glob("deepscan-*")) == [], "uploads stayed behind"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        started = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield started
        started.close()


@pytest.fixture
def page(browser, address):
    """A page that records what it asks for and what goes wrong."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.elsewhere, tab.errors = [], []
    context.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or tab.elsewhere.append(r.url))
    tab.on("console", lambda m: m.type in ("error", "warning") and tab.errors.append(m.text))
    tab.on("pageerror", lambda e: tab.errors.append(str(e)))
    tab.goto(address, wait_until="load")
    yield tab
    assert tab.elsewhere == []
    assert tab.errors == []
    context.close()


def judge(page, *paths):
    """The verdicts, in the order in which the files stand on the page."""
    n = page.locator("#files li").count() + len(paths)
    page.set_input_files("#choose", [str(path) for path in paths])
    wait_until(lambda: page.locator("#files .badge:not(:empty)").count() == n, 120)
    page.wait_for_selector("#answer [data-verdict]", timeout=WAIT_MS)
    return [badge.inner_text().lower() for badge in page.locator("#files .badge").all()]


def serious(page):
    """What axe-core says of the page, of what matters."""
    found = axe.Axe().run(page).response["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]


def test_two_files_at_once_and_the_timeline_moves_the_player(page, address, face_clip, two_people_clip, tmp_path):
    verdicts = judge(page, face_clip, two_people_clip)
    assert len(verdicts) == 2
    assert set(verdicts) <= {"fake", "real", "uncertain"}
    page.click(f"#files .open:has-text('{two_people_clip.name}')")
    page.wait_for_selector(f"#answer h2:has-text('{two_people_clip.name}')")
    wait_until(lambda: page.evaluate("document.querySelector('#answer video').readyState") >= 1)
    chart = page.locator("#answer svg[data-end-s]").first
    left, right, end_s = (float(chart.get_attribute(f"data-{name}")) for name in ("left", "right", "end-s"))
    box = chart.bounding_box()
    chart.click(position={"x": box["width"] * (left + (right - left) * 0.75), "y": box["height"] / 2})
    wait_until(lambda: not page.evaluate("document.querySelector('#answer video').seeking"))
    time_s = page.evaluate("document.querySelector('#answer video').currentTime")
    assert time_s == pytest.approx(0.75 * end_s, abs=0.03 * end_s)
    head = page.locator("#answer .playhead").first
    width = float(chart.get_attribute("viewBox").split()[2])
    assert float(head.get_attribute("x1")) == pytest.approx(width * (left + (right - left) * 0.75), abs=0.02 * width)
    assert serious(page) == []
    with page.expect_download() as download:
        page.click("#answer a[download$='.json']")
    download.value.save_as(tmp_path / "report.json")
    (result,) = json.loads((tmp_path / "report.json").read_text())["results"]
    assert (result["verdict"], result["path"]) == (verdicts[1], two_people_clip.name)
    with page.context.expect_page() as opened:
        page.click("#answer a[target]")
    opened.value.wait_for_load_state()
    assert two_people_clip.name in opened.value.inner_text("h1")
    # Its own style is applied: the policy of the server does not forbid it.
    assert opened.value.evaluate("getComputedStyle(document.querySelector('.badge')).fontWeight") == "700"
    page.reload()
    page.wait_for_selector("#answer [data-verdict]", timeout=WAIT_MS)
    assert page.locator("#files li").count() == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_and_in_the_dark(page, scheme, portrait_image):
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=scheme)
    judge(page, portrait_image)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert serious(page) == []


def test_what_is_no_video_is_an_answer_and_can_be_removed(page, no_face_clip, tmp_path):
    notes = tmp_path / "broken.mp4"
    notes.write_bytes(b"this is no video at all")
    assert judge(page, notes, no_face_clip) == ["error", "no answer"]
    assert "broken.mp4" in page.inner_text("#answer")
    page.click("[aria-label='Remove broken.mp4']")
    page.wait_for_selector("#answer", state="hidden")
    page.click("#end")
    page.wait_for_selector("#files li", state="detached")


def test_what_is_too_large_or_empty_is_not_sent(page, tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    page.set_input_files("#choose", str(empty))
    page.wait_for_selector("#files .state:has-text('empty')")
    page.click("[aria-label='Remove empty.mp4']")
    assert page.locator("#files li").count() == 0


def test_a_browser_that_comes_back_without_its_session(page, address, face_clip):
    judge(page, face_clip)
    address_of_report = page.get_attribute("#answer a[target]", "href")
    page.context.clear_cookies()
    assert page.context.request.get(address + address_of_report.removeprefix("/")).status == 403
    page.goto(address)
    page.wait_for_timeout(500)
    assert page.locator("#files li").count() == 0


def test_the_documentation_of_the_api(page, address):
    page.goto(f"{address}docs")
    assert "/api/predict" in page.inner_text("main")
    assert serious(page) == []


def test_the_api_is_on_the_same_port(page, address, portrait_image):
    answer = page.context.request.post(f"{address}api/predict", multipart={"file": portrait_image})
    assert answer.status == 200
    assert answer.json()["results"][0]["kind"] == "image"
