"""The page in a real browser: a file goes in, the verdict comes out, the report opens, nothing leaves the machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

pytest.importorskip("gradio", reason="deepscan-video[web] is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed"),
]
WAIT_MS = 120_000
# What a browser says of a picture that a page has none of.
HARMLESS = ("favicon",)


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


@pytest.fixture
def page(address):
    """A page that records what it asks for and what goes wrong."""
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        tab = browser.new_page(viewport={"width": 1280, "height": 1400})
        tab.elsewhere, tab.errors = [], []
        tab.on("request", lambda r: _foreign(r.url, address) and tab.elsewhere.append(r.url))
        tab.on("console", lambda m: m.type == "error" and tab.errors.append(m.text))
        tab.on("pageerror", lambda e: tab.errors.append(str(e)))
        tab.goto(address, wait_until="load")
        yield tab
        browser.close()


def _foreign(url: str, address: str) -> bool:
    return not url.startswith((address, "data:", "blob:"))


def judge(page, path):
    page.set_input_files("#upload input[type=file]", str(path))
    page.wait_for_selector(f"#upload :text('{path.stem[:8]}')", timeout=WAIT_MS)
    page.click("#judge")
    page.wait_for_selector("#answer [data-verdict]", timeout=WAIT_MS)
    return page.get_attribute("#answer [data-verdict]", "data-verdict")


def test_a_file_is_judged_and_the_report_opens(page, address, face_clip, tmp_path):
    verdict = judge(page, face_clip)
    assert verdict in ("fake", "real", "uncertain")
    page.wait_for_selector("#faces img", timeout=WAIT_MS)
    page.wait_for_selector("#timeline canvas, #timeline svg", timeout=WAIT_MS)
    assert "%" in page.inner_text("#bars")
    with page.expect_download() as download:
        page.click("#report")
    report = tmp_path / "report.html"
    download.value.save_as(report)
    with page.expect_download() as download:
        page.click("#json")
    download.value.save_as(tmp_path / "report.json")
    (result,) = json.loads((tmp_path / "report.json").read_text())["results"]
    assert (result["verdict"], result["path"]) == (verdict, face_clip.name)
    page.screenshot(path=tmp_path / "page.png")
    assert page.errors == []
    assert page.elsewhere == []
    page.goto(report.as_uri())
    assert verdict in page.inner_text("body").lower()
    assert page.elsewhere == [report.as_uri()]
    assert page.errors == []


def test_two_people_and_nobody(page, two_people_clip, no_face_clip):
    assert judge(page, two_people_clip) in ("fake", "real", "uncertain")
    page.wait_for_selector("#faces img", timeout=WAIT_MS)
    page.reload()
    assert judge(page, no_face_clip) == "not_applicable"
    assert not page.is_visible("#bars")
    assert page.errors == []


def test_what_is_no_video_is_said(page, tmp_path):
    notes = tmp_path / "broken.mp4"
    notes.write_bytes(b"this is no video at all")
    assert judge(page, notes) == "error"
    assert "broken.mp4" in page.inner_text("#answer")
    assert page.errors == []


def test_a_session_that_ends_takes_its_files(address, face_clip, tmp_path):
    """Seen from outside: the pictures that the page was given are no longer there for who knows their address."""
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        tab = browser.new_page()
        tab.goto(address, wait_until="load")
        judge(tab, face_clip)
        tab.wait_for_selector("#faces img", timeout=WAIT_MS)
        link = tab.get_attribute("#faces img", "src")
        with urlopen(link) as answer:  # noqa: S310 - ours
            assert answer.status == 200
        tab.close()
        browser.close()
    from urllib.error import HTTPError

    from webapps import wait_until

    def gone() -> bool:
        try:
            with urlopen(link):  # noqa: S310
                return False
        except HTTPError as error:
            return error.code in (403, 404)

    wait_until(gone, 60)


def test_the_api_is_on_the_same_port(address, portrait_image):
    import httpx

    with Path(portrait_image).open("rb") as file:
        answer = httpx.post(f"{address}api/predict", files={"file": file}, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["results"][0]["kind"] == "image"
