"""Pictures of a page in headless Chromium: ``python scripts/screenshot_report.py report.html docs/report.png``.

Needs Chromium or Chrome. It fails if the page asks for anything beyond itself, or if the console shows an error.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Error, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_TALLEST_PX = 12_000


@dataclass
class Look:
    """What happened while the page was looked at: addresses it asked for, and errors in the console."""

    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    height_px: int = 0
    evaluated: Any = None


def find_browser() -> str | None:
    """Path of an installed browser."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def look(
    page: Path,
    out: Path | None = None,
    *,
    width_px: int = 1280,
    dark: bool = False,
    height_px: int | None = None,
    media: Literal["screen", "print"] = "screen",
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
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=program)
        view = chrome.new_page(
            viewport={"width": width_px, "height": height_px or 900},
            color_scheme="dark" if dark else "light",
            is_mobile=width_px < 600,
        )
        view.emulate_media(media=media)
        view.on("request", lambda request: seen.requests.append(request.url))
        view.on("pageerror", lambda error: seen.errors.append(str(error)))
        view.on("console", lambda said: seen.errors.append(said.text) if said.type in ("error", "warning") else None)
        view.goto(address, wait_until="load")
        if script is not None:
            seen.evaluated = view.evaluate(script)
        seen.height_px = view.evaluate("document.documentElement.scrollHeight")
        if out is not None:
            view.set_viewport_size({"width": width_px, "height": height_px or min(seen.height_px, _TALLEST_PX)})
            view.screenshot(path=out)
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
    options = parser.parse_args()
    try:
        seen = look(
            options.page, options.out, width_px=options.width, height_px=options.height, dark=options.dark,
            media="print" if options.print else "screen", browser=options.browser,
        )  # fmt: skip
    except (RuntimeError, OSError, Error) as error:
        print(f"{options.page} cannot be shown: {error}", file=sys.stderr)
        return 1
    for url in seen.requests:
        print(f"the page asked for {url[:200]}", file=sys.stderr)
    for text in seen.errors:
        print(f"console: {text}", file=sys.stderr)
    print(f"{options.out}: {options.width} px wide, page {seen.height_px} px high")
    return 1 if seen.requests or seen.errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
