"""Writing pages: one file that holds everything, or an index with a page for each input where they are many.

Up to :data:`MOST_TOGETHER` inputs share one file. Beyond, the file is the index, and the pages lie in the folder
``NAME_files`` beside it, each self-contained. Either way the report as JSON lies beside the file, and memory holds the
pictures of one file only: pages of their own are written as they are made.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deepscan.errors import DeepscanError, OutputError
from deepscan.extract.file_kinds import passed_over_text
from deepscan.files import check_target as check_file
from deepscan.files import json_of, temporary_beside, write_atomically
from deepscan.models.card import Card
from deepscan.report.html.evidence import Material
from deepscan.report.html.figures import WORDS
from deepscan.report.html.model_view import model_view
from deepscan.report.html.pictures import plan_for
from deepscan.report.html.render import PageView, page_html
from deepscan.report.html.view_models import index_order, index_row, index_thumbnail, input_view
from deepscan.report.html.views import IndexRow, InputView, ModelView
from deepscan.report.table import SCHEMA_ID, to_json
from deepscan.types import Report, Result, VerdictLabel

log = logging.getLogger(__name__)

MOST_TOGETHER = 100
# Beyond, the index has no pictures: it would grow by 2 kB an input.
MOST_INDEX_THUMBNAILS = 2000
_PAGE_NAME = re.compile(r"\d{6,}-[0-9a-f]{8}\.html")
_SUFFIXES = (".html", ".htm")
# A page of this version or one before, for deepscan.files.check_target.
OURS = re.compile(rb"\s*<!DOCTYPE html>.*Made by deepscan ", re.DOTALL)

Make = Callable[[Result], Material | None]


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the page to open, the report beside it, and the pages of single inputs, if any."""

    page: Path
    json: Path
    pages: tuple[Path, ...]


def check_name(out: Path) -> None:
    """Raises OutputError where a page cannot have that name."""
    if out.suffix.lower() not in _SUFFIXES:
        raise OutputError(f"{out} cannot be written", "a report page is an .html file", f"Name it {out.name}.html.")


def check_target(out: Path) -> Path:
    """Where the JSON goes for a page; call it before the work begins.

    Raises:
        OutputError: ``out`` is no ``.html``, its folder is missing, or files lie there that are no report of ours.
    """
    check_name(out)
    check_file(out, OURS)
    beside = out.with_suffix(".json")
    check_file(beside, json_of(SCHEMA_ID))
    return beside


def write_pages(
    report: Report,
    out: Path,
    *,
    made: datetime,
    card: Card | None = None,
    material: Make | None = None,
    full: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write the evidence report of a run. The same arguments give the same bytes.

    Args:
        report: of the run.
        out: ``.html`` file; the JSON gets the same name with ``.json``.
        made: when, for the page; shown as it is, with its time zone where it has one.
        card: of the model; None leaves out what a probability means and what was measured.
        material: pictures and file facts of a result, called once for each in their order and then forgotten. None,
            a :class:`~deepscan.errors.DeepscanError` from it (logged as a warning) and a None of it leave them out.
        full: unfold everything, so that it is printed.
        on_progress: called with the inputs done so far and in all.

    Raises:
        OutputError: a file cannot be written, or must not be; see :func:`check_target`. What was there before stays.
    """
    beside = check_target(out)
    text = to_json(report).encode()
    model = model_view(report.model, card, report.version, beside.name, hashlib.sha256(text).hexdigest())
    writer = _PageWriter(report, out, made, card, material, model, on_progress, full=full)
    views: list[InputView] = []
    pages: tuple[Path, ...] = ()
    if len(report.results) <= MOST_TOGETHER:
        views, rows = writer.together()
    else:
        rows, pages = writer.apart()
    write_atomically(beside, text)
    index = sorted(rows, key=index_order) if len(report.results) != 1 else []
    if index:
        order = {row.number: place for place, row in enumerate(index)}
        views.sort(key=lambda view: order[view.number])
    title = (
        f"{views[0].name}: {views[0].word}" if len(views) == 1 and not index else f"Deepfake report on {_files(report)}"
    )
    _write(out, writer.page(title, views, index, beside.name))
    if pages:
        _remove_others(pages)
    return Written(out, beside, pages)


class _PageWriter:
    """What all pages of a report share."""

    def __init__(
        self,
        report: Report,
        out: Path,
        made: datetime,
        card: Card | None,
        material: Make | None,
        model: ModelView,
        on_progress: Callable[[int, int], None] | None,
        *,
        full: bool,
    ) -> None:
        self._report, self._out, self._card, self._make, self._model = report, out, card, material, model
        self._made = " ".join(part for part in (made.strftime("%Y-%m-%d %H:%M:%S"), made.strftime("%Z")) if part)
        self._progress, self._full = on_progress, full

    def together(self) -> tuple[list[InputView], list[IndexRow]]:
        """All inputs, to be shown in one file."""
        n = len(self._report.results)
        plan = plan_for(n)
        views, rows = [], []
        band = self._report.model.uncertain_band
        for number, result in enumerate(self._report.results, 1):
            material = self._material(result)
            views.append(input_view(number, result, material, self._report.model, self._card, plan))
            thumbnail = index_thumbnail(material) if n > 1 else None
            rows.append(index_row(number, result, f"#{views[-1].anchor}", thumbnail, band))
            self._done(number)
        return views, rows

    def apart(self) -> tuple[list[IndexRow], tuple[Path, ...]]:
        """Write each input's page, and give the lines of the index."""
        folder = self._out.with_name(f"{self._out.stem}_files")
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder} cannot be made", error.strerror or str(error)) from error
        plan = plan_for(2)
        rows, pages = [], []
        band = self._report.model.uncertain_band
        back, beside = f"../{self._out.name}", f"../{self._out.with_suffix('.json').name}"
        for number, result in enumerate(self._report.results, 1):
            material = self._material(result)
            view = input_view(number, result, material, self._report.model, self._card, plan)
            pieces = list(self.page(f"{view.name}: {view.word}", [view], [], beside, back))
            # Named by what is in it: an index from before this run still leads to its own pages until it is replaced.
            digest = hashlib.sha256("".join(pieces).encode("utf-8", "replace")).hexdigest()[:8]
            pages.append(folder / f"{number:06}-{digest}.html")
            _write(pages[-1], pieces)
            thumbnail = index_thumbnail(material) if number <= MOST_INDEX_THUMBNAILS else None
            rows.append(index_row(number, result, f"{_quoted(folder.name)}/{pages[-1].name}", thumbnail, band))
            self._done(number)
        return rows, tuple(pages)

    def page(
        self, title: str, inputs: Iterable[InputView], index: list[IndexRow], beside: str, back: str | None = None
    ) -> Iterable[str]:
        """One HTML file in pieces."""
        totals = Counter(row.verdict for row in index)
        counts = [(str(label), WORDS[label], totals[str(label)]) for label in VerdictLabel if totals[str(label)]]
        others = self._report.passed_over
        passed_over = passed_over_text(others) if others and back is None else ""
        view = PageView(
            title, self._made, self._report.version, tuple(inputs), index, self._model, Path(beside).name,
            _quoted(beside), None if back is None else _quoted(back), counts, passed_over, self._full,
        )  # fmt: skip
        return page_html(view)

    def _material(self, result: Result) -> Material | None:
        if self._make is None:
            return None
        try:
            return self._make(result)
        except DeepscanError as error:
            # The answer stands without its pictures.
            log.warning("%s; its report has no pictures and no file facts", error)
            return None

    def _done(self, number: int) -> None:
        if self._progress is not None:
            self._progress(number, len(self._report.results))


def _write(path: Path, pieces: Iterable[str]) -> None:
    with temporary_beside(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for piece in pieces:
            file.write(piece)


def _remove_others(pages: tuple[Path, ...]) -> None:
    """Pages of an earlier run that no index leads to any more."""
    kept = {page.name for page in pages}
    for path in pages[0].parent.iterdir():
        if _PAGE_NAME.fullmatch(path.name) and path.name not in kept:
            try:
                path.unlink()
            except OSError as error:
                log.warning("%s is of an earlier report and cannot be removed: %s", path, error.strerror or error)


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path, errors="surrogateescape")


def _files(report: Report) -> str:
    n = len(report.results)
    return "1 file" if n == 1 else f"{n:,} files"
