"""The server's pages, made of the report's parts: HTML without a script or a style in it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from deepscan.models.card import Card
from deepscan.report.html.figures import clock
from deepscan.report.html.pictures import plan_for
from deepscan.report.html.render import first_screen, new_environment, page_style
from deepscan.report.html.view_models import input_view
from deepscan.version import __version__
from deepscan.web.service import JudgeService, UploadResult
from deepscan.web.uploads import SUFFIXES, Upload

if TYPE_CHECKING:
    from jinja2 import Environment

# What browsers play, if they know the codec in it.
VIDEO_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
}
_STATIC = {"serve.css": "text/css", "serve.js": "text/javascript"}


def static_file(name: str) -> tuple[str, str]:
    """Media type and text of a file of the pages; raises KeyError for others."""
    if name == "report.css":
        return "text/css", page_style()
    return _STATIC[name], _text(f"static/{name}")


def start_html(service: JudgeService) -> str:
    """The page on which files are dropped."""
    limits = service.limits
    return _page(
        "page.html.j2",
        title="deepscan",
        upload_bytes=limits.upload_bytes,
        duration_s=limits.duration_s,
        suffixes=",".join(SUFFIXES),
        card=service.detector.card,
        with_heat=service.with_heat,
    )


def docs_html(description: dict[str, Any], address: str) -> str:
    """The API for people.

    Args:
        description: as of OpenAPI.
        address: of the server, for examples.
    """
    return _page("docs.html.j2", title="deepscan: API", api=description, address=address)


def file_html(number: int, upload: Upload, upload_result: UploadResult, card: Card) -> str:
    """The answer for one file, as a part of the page.

    Args:
        number: of the file on the page: no two have the same.
        upload: the file.
        upload_result: its answer.
        card: of the detector.
    """
    result, model = upload_result.result, upload_result.report.model
    view = input_view(number, result, upload_result.material, model, card, plan_for(1))
    plays = result.kind == "video" and upload.path.suffix in VIDEO_TYPES
    values = {"one": view, "screen": first_screen(view), "result": result, "plays": plays}
    return _page("file.html.j2", folder=f"/session/files/{upload.id}", **values)


def _page(template: str, **values: object) -> str:
    return _environment().get_template(template).render(version=__version__, **values)


@cache
def _environment() -> Environment:
    from jinja2 import PackageLoader

    environment = new_environment(PackageLoader("deepscan.web"))
    environment.filters["clock"] = clock
    return environment


def _text(name: str) -> str:
    return files("deepscan.web").joinpath(name).read_text(encoding="utf-8")
