"""The pictures of the report page in docs, in headless Chromium: ``python scripts/report_pictures.py``.

The samples are judged first. Needs Chromium or Chrome. It fails if a page asks for anything beyond itself, or if the
console says anything.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Of a sheet of A4 at 96 dots per inch, and its margins in the style sheet.
SHEET_PX, MARGIN_PX = (794, 1123), 45
MOST_BYTES = 150_000
DESKTOP, PHONE = (1280, 1100), (390, 844)


def picture(
    browser: Browser, page: Path, size_px: tuple[int, int], *, dark: bool = False, paper: bool = False
) -> Image.Image:
    """What a window of ``size_px`` shows of a page first."""
    scheme = "dark" if dark else "light"
    view = browser.new_page(
        viewport={"width": size_px[0], "height": size_px[1]}, color_scheme=scheme, is_mobile=size_px[0] < 600
    )
    told: list[str] = []
    view.on(
        "request", lambda request: told.append(request.url) if not request.url.startswith(("file:", "data:")) else None
    )
    view.on("console", lambda message: told.append(message.text))
    view.emulate_media(media="print" if paper else "screen", color_scheme=scheme)
    view.goto(page.as_uri(), wait_until="load")
    image = Image.open(io.BytesIO(view.screenshot())).convert("RGB")
    view.close()
    if told:
        raise RuntimeError(f"{page.name}: {told}")
    return image


def save(image: Image.Image, path: Path) -> None:
    """As a JPEG, or a PNG of few colours, below :data:`MOST_BYTES`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for share in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5):
        small = image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.LANCZOS)
        if path.suffix == ".png":
            small.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
        else:
            small.save(path, quality=80, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path.relative_to(ROOT)}: {small.width} x {small.height} px, {path.stat().st_size:,} bytes")


def main() -> int:
    """Judge the samples, and take the pictures."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        print("No Chromium or Chrome was found.", file=sys.stderr)
        return 1
    docs = ROOT / "docs"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        pages = {name: Path(folder) / f"{name}.html" for name in ("self_blended", "real")}
        for name, page in pages.items():
            command = [sys.executable, "-m", "deepscan", "predict", f"data/samples/{name}.mp4", "--html", str(page)]
            subprocess.run(command, check=True, cwd=ROOT)
        browser = playwright.chromium.launch(executable_path=program)
        save(picture(browser, pages["self_blended"], DESKTOP), docs / "report.png")
        save(picture(browser, pages["real"], DESKTOP, dark=True), docs / "pictures" / "report-real-dark.jpg")
        save(picture(browser, pages["self_blended"], PHONE), docs / "pictures" / "report-phone.jpg")
        printed = picture(browser, pages["self_blended"], tuple(side - 2 * MARGIN_PX for side in SHEET_PX), paper=True)
        sheet = Image.new("RGB", SHEET_PX, "white")
        sheet.paste(printed, (MARGIN_PX, MARGIN_PX))
        save(sheet, docs / "pictures" / "report-print.jpg")
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
