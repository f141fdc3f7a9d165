"""Pictures of a page in headless Chromium: ``python scripts/screenshot_report.py report.html docs/report.png``.

Needs Chromium or Chrome, nothing else: it is driven through its own pipe. The script fails if the page asks for
anything beyond itself, or if the console shows an error.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_TALLEST_PX = 12_000


@dataclass
class Look:
    """What happened while the page was looked at: addresses it asked for, and errors in the console."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    height_px: int = 0
    evaluated: Any = None


class Browser:
    """A headless browser behind a pipe (the DevTools protocol, messages ended by NUL)."""

    def __init__(self, program: str, timeout_s: float = 60.0) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        ours_in, its_out = os.pipe()
        its_in, ours_out = os.pipe()
        self._reader, self._writer = os.fdopen(ours_in, "rb", buffering=0), os.fdopen(ours_out, "wb", buffering=0)
        # The browser reads from descriptor 3 and writes to 4; the shell puts ours there.
        redirect = f'exec "$@" 3<&{its_in} 4>&{its_out}'
        options = ["--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--hide-scrollbars",
                   "--disable-background-networking", "--disable-component-update", "--force-color-profile=srgb",
                   f"--user-data-dir={self._folder.name}"]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            options.append("--no-sandbox")  # it refuses to run as root otherwise
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", redirect, "bash", program, *options, "about:blank"],
            pass_fds=(its_in, its_out), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(its_in)
        os.close(its_out)
        self._numbers, self._rest, self._timeout_s = itertools.count(1), b"", timeout_s
        self._session: str | None = None
        self.on_event: Callable[[dict[str, Any]], None] = lambda event: None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events on the way go to ``on_event``."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._writer.write(json.dumps(message).encode() + b"\0")
        return self._until(lambda answer: answer.get("id") == number, method).get("result", {})

    def wait_for(self, event: str) -> None:
        """Until an event comes."""
        self._until(lambda answer: answer.get("method") == event, event)

    def close(self) -> None:
        """End the browser and remove its folder."""
        self._writer.close()
        self._reader.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._folder.cleanup()

    def _until(self, wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        end = time.monotonic() + self._timeout_s
        while True:
            message = self._next(end, what)
            if "error" in message and wanted(message):
                raise RuntimeError(f"{what}: {message['error'].get('message')}")
            if "method" in message:
                self.on_event(message)
            if wanted(message):
                return message

    def _next(self, end: float, what: str) -> dict[str, Any]:
        import select

        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reader], [], [], max(0.0, end - time.monotonic()))
            data = self._reader.read(1 << 16) if ready else b""
            if not data:
                raise RuntimeError(f"the browser did not answer to {what}" if not ready else "the browser has ended")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        loaded: dict[str, Any] = json.loads(message)
        return loaded


def find_browser() -> str | None:
    """Path of an installed browser."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def look(
    page: Path,
    out: Path | None = None,
    *,
    width_px: int = 1280,
    dark: bool = False,
    height_px: int | None = None,
    media: str = "",
    script: str | None = None,
    browser: str | None = None,
) -> Look:
    """Open a page and take a picture of it.

    Args:
        page: the file.
        out: PNG to write; None takes no picture.
        width_px: of the window.
        dark: what the system prefers, as the page is told.
        height_px: of the picture; None takes the whole page.
        media: ``print`` shows the page as it would be printed.
        script: evaluated in the page once it is loaded.
        browser: program; None takes the first that is installed.
    """
    program = browser or find_browser()
    if program is None:
        raise RuntimeError("No Chromium or Chrome was found. Install one, or name it with --browser.")
    seen, address = Look(), page.resolve().as_uri()
    chrome = Browser(program)

    def note(event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            seen.requests.append(told["request"]["url"])
        elif event["method"] == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            seen.errors.append(told["entry"]["text"])
        elif event["method"] == "Runtime.exceptionThrown":
            seen.errors.append(json.dumps(told["exceptionDetails"].get("text")))
        elif event["method"] == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning"):
            seen.errors.append(json.dumps(told["args"]))

    chrome.on_event = note
    try:
        for domain in ("Page", "Network", "Log", "Runtime"):
            chrome.call(f"{domain}.enable")
        size = {"width": width_px, "height": height_px or 900, "deviceScaleFactor": 1, "mobile": width_px < 600}
        chrome.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        chrome.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        chrome.call("Page.navigate", url=address)
        chrome.wait_for("Page.loadEventFired")
        if script is not None:
            answer = chrome.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
            seen.evaluated = answer["result"].get("value")
        content = chrome.call("Page.getLayoutMetrics")["cssContentSize"]
        seen.height_px = int(content["height"])
        if out is not None:
            height = height_px or min(seen.height_px, _TALLEST_PX)
            chrome.call("Emulation.setDeviceMetricsOverride", **{**size, "height": height})
            out.write_bytes(base64.b64decode(chrome.call("Page.captureScreenshot", format="png")["data"]))
    finally:
        chrome.close()
    seen.requests = [url for url in seen.requests if url != address and not url.startswith("data:")]
    return seen


def main() -> int:
    """Take the picture; 1 if the page asked for anything or had errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="HTML file")
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--width", type=int, default=1280, help="of the window, in pixels")
    parser.add_argument("--height", type=int, default=None, help="of the picture; the whole page if not given")
    parser.add_argument("--dark", action="store_true", help="as on a system that prefers dark")
    parser.add_argument("--print", action="store_true", help="as it would be printed")
    parser.add_argument("--browser", help="program; the first that is installed if not given")
    given = parser.parse_args()
    try:
        seen = look(
            given.page, given.out, width_px=given.width, height_px=given.height, dark=given.dark,
            media="print" if given.print else "", browser=given.browser,
        )  # fmt: skip
    except (RuntimeError, OSError) as error:
        print(f"{given.page} cannot be shown: {error}", file=sys.stderr)
        return 1
    for url in seen.requests:
        print(f"the page asked for {url[:200]}", file=sys.stderr)
    for text in seen.errors:
        print(f"console: {text}", file=sys.stderr)
    print(f"{given.out}: {given.width} px wide, page {seen.height_px} px high")
    return 1 if seen.requests or seen.errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
