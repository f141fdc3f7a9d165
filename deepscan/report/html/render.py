"""Views to HTML: every text is escaped, and the page may neither load nor run anything but its own sorting script."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from markupsafe import Markup

from deepscan.report.html.views import IndexRow, InputView, ModelView

if TYPE_CHECKING:
    from jinja2 import BaseLoader, Environment

_TEMPLATES = (
    "head.html.j2",
    "card.html.j2",
    "table.html.j2",
    "page.html.j2",
    "input.html.j2",
    "index.html.j2",
    "model.html.j2",
)
# Controls, line separators, halves of characters, and what turns the direction of writing round: they could disguise
# a text ("gpj.exe" for "exe.jpg") or are not allowed in a file.
_DISGUISING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_LONGEST_TEXT = 1000


@dataclass(frozen=True, slots=True)
class PageView:
    """One HTML file.

    Attributes:
        title: of the document.
        made: when, in words.
        version: of deepscan.
        inputs: shown in full.
        index: lines of the index; none for a page of one input.
        model: extract of the card.
        json_name, json_href: the report beside the page, and the way to it.
        back: the index that this page belongs to, relative to it.
        counts: how many inputs got which answer.
        passed_over: files of folders that were not looked at, as part of a sentence; empty if there are none.
        full: what is folded is open, and printed.
    """

    title: str
    made: str
    version: str
    inputs: Sequence[InputView]
    index: Sequence[IndexRow]
    model: ModelView
    json_name: str
    json_href: str
    back: str | None = None
    counts: Sequence[tuple[str, str, int]] = ()
    passed_over: str = ""
    full: bool = False


def page_html(view: PageView) -> Iterator[str]:
    """The page in pieces."""
    script = _text("sort.js") if view.index else ""
    return (
        _environment()
        .get_template("page.html.j2")
        .generate(
            view=view,
            policy=_policy(script),
            script=Markup(script),  # noqa: S704 - ours
            style=Markup(page_style()),  # noqa: S704 - ours
        )
    )


def first_screen(view: InputView) -> Markup:
    """The answer, its pictures and its timeline as a piece of HTML for another page; see :func:`page_style`."""
    module = _environment().get_template("card.html.j2").module
    return Markup(module.patterns() + module.first_screen(view, 3))  # type: ignore[attr-defined]  # noqa: S704 - escaped


def page_style() -> str:
    """Style sheet of whole pages, and of :func:`first_screen`."""
    return _text("style.css") + _text("card.css")


def render_page(template: str, **values: object) -> str:
    """A page of another kind with the head and the style of the report; it may not run anything.

    Args:
        template: text of it, which sets ``title`` and ``own_style`` and includes ``head.html.j2``.
        values: of its variables; texts are escaped, see :func:`plain`.
    """
    style = Markup(page_style())  # noqa: S704 - ours
    return _environment().from_string(template).render(policy=_policy(""), style=style, **values)


def plain(value: object) -> object:
    r"""A text with what could disguise it shown as ``\uXXXX``, and cut if very long; other values unchanged."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    text = _DISGUISING.sub(lambda match: f"\\u{ord(match[0]):04x}", value)
    if len(text) <= _LONGEST_TEXT or text.startswith("data:image/jpeg;base64,"):
        return text
    half = _LONGEST_TEXT // 2
    return f"{text[:half]}…{text[-half:]}"


def _policy(script: str) -> str:
    rules = [
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        rules.insert(3, f"script-src 'sha256-{digest}'")
    return "; ".join(rules)


@cache
def _text(name: str) -> str:
    return files("deepscan.report.html").joinpath(f"templates/{name}").read_text(encoding="utf-8")


def new_environment(loader: BaseLoader) -> Environment:
    """For templates of HTML: texts are escaped and shown as by :func:`plain`."""
    from jinja2 import Environment, StrictUndefined

    return Environment(
        autoescape=True, finalize=plain, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader
    )


@cache
def _environment() -> Environment:
    from jinja2 import DictLoader

    environment = new_environment(DictLoader({name: _text(name) for name in _TEMPLATES}))
    environment.filters["count"] = "{:,}".format
    return environment
