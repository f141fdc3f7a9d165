"""The page: drop a file, see the verdict, the faces, the seconds, and take the report along."""

from __future__ import annotations

import html
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
from gradio.themes import Base
from PIL import Image

from deepscan.errors import DeepscanError
from deepscan.report.html.figures import WORDS
from deepscan.report.html.pictures import plan_for
from deepscan.report.html.view_models import input_view
from deepscan.text import answer_rule, percent
from deepscan.types import Result
from deepscan.version import __version__
from deepscan.web.service import SUFFIXES, JudgeService, UploadResult, shown_name

log = logging.getLogger(__name__)

TITLE = "deepscan"
# Uploads that nobody came back for, and what was made of them, are removed after an hour.
_SWEEP_EVERY_S, _KEPT_S = 300, 3600
# A page that is left or loaded anew may still be fetching its pictures.
_GRACE_S = 5.0
_WORD_COLOURS = {"fake": "#c62828", "real": "#2e7d32", "uncertain": "#8a6d00"}
_OTHER_COLOUR = "#5f6368"
_STYLE = """
.answer h2 { margin: 0 0 .3em; font-size: 1.6em; }
.answer .word { font-weight: 700; }
.answer p { margin: .25em 0; }
#bars meter { width: 60%; vertical-align: middle; margin-left: .6em; }
footer a[href*="gradio"] { display: none; }
"""


@dataclass(slots=True)
class _Sessions:
    """Folders by browser session: of its uploads, and of what was made of them. They go soon after the session ends.

    Attributes:
        service: removes the folders.
        grace_s: how long they stay after the end, for what is on its way to a page that is loaded anew.
    """

    service: JudgeService
    grace_s: float = _GRACE_S
    _folders: dict[str, set[Path]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def folder(self, session: str) -> Path:
        """A new one."""
        folder = self.service.folder()
        self.adopt(session, folder)
        return folder

    def adopt(self, session: str, folder: Path) -> None:
        """One that is there already. The same upload of two sessions is in the same folder."""
        with self._lock:
            self._folders.setdefault(session, set()).add(folder)

    def end(self, session: str) -> None:
        """Have what no other session has removed after the grace."""
        later = threading.Timer(self.grace_s, self._remove, [session, time.time()])
        later.daemon = True
        later.start()

    def _remove(self, session: str, ended_at: float) -> None:
        with self._lock:
            folders = self._folders.pop(session, set()).difference(*self._folders.values())
            for folder in folders:
                # The same file, uploaded anew, is of a session that has not adopted it yet.
                if not any(file.stat().st_mtime > ended_at for file in folder.glob("*")):
                    self.service.forget(folder)


def make_page(service: JudgeService) -> gr.Blocks:
    """The page as Gradio blocks.

    Args:
        service: judges what is dropped. Its folder is Gradio's, too: what lies there is not copied once more.
    """
    sessions = _Sessions(service)
    limits = service.limits
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(_SWEEP_EVERY_S, _KEPT_S)) as page:
        gr.Markdown(
            "# deepscan\nIs a face in this video or picture manipulated? The file is judged on this server and sent "
            "nowhere; it is removed when you close this page."
        )
        with gr.Row():
            with gr.Column(scale=1):
                upload = gr.File(
                    label=f"A video or a picture: up to {limits.upload_bytes / 2**20:g} MiB and "
                    f"{limits.duration_s / 60:g} minutes",
                    file_types=list(SUFFIXES),
                    elem_id="upload",
                )
                start = gr.Button("Judge it", variant="primary", elem_id="judge")
                gr.Markdown(_about(service))
            with gr.Column(scale=2):
                outputs = _outputs()

        def adopt(file: str | None, request: gr.Request) -> None:
            if file:
                sessions.adopt(str(request.session_hash), Path(file).parent)

        def leave(request: gr.Request) -> None:
            sessions.end(str(request.session_hash))

        def judge(file: str | None, request: gr.Request, progress: gr.Progress = gr.Progress()) -> list[Any]:  # noqa: B008 - Gradio reads this default
            if not file:
                raise gr.Error("Choose a file first.", print_exception=False)
            try:
                upload_result = service.judge(
                    Path(file),
                    shown_name(file),
                    sessions.folder(str(request.session_hash)),
                    lambda share, what: progress(share, desc=what),
                )
            except DeepscanError as error:
                raise gr.Error(html.escape(str(error)), print_exception=False) from error
            return _shown(upload_result, service)

        start.click(
            judge,
            upload,
            outputs,
            show_progress="full",
            show_progress_on=outputs[:1],
            concurrency_limit=limits.waiting,
            api_visibility="private",
        )
        upload.upload(adopt, upload, None, queue=False, api_visibility="private")
        page.unload(leave)
    page.queue(max_size=limits.waiting)
    return page


def _outputs() -> list[Any]:
    """Where the answer goes, in the order of :func:`_shown`."""
    answer = gr.HTML(elem_id="answer", elem_classes=["answer"], label="Verdict")
    bars = gr.HTML(visible=False, elem_id="bars", label="Probability")
    timeline = gr.LinePlot(
        x="seconds", y="probability", color="person", y_lim=[0, 1], tooltip="all", height=220,
        title="Probability of “fake” over time; drag to look closer", visible=False, elem_id="timeline",
    )  # fmt: skip
    faces = gr.Gallery(
        label="Faces; what speaks for “fake” is hot", columns=4, object_fit="contain", format="png",
        visible=False, elem_id="faces", buttons=["download", "fullscreen"], interactive=False,
    )  # fmt: skip
    with gr.Row():
        whole = gr.DownloadButton("Report (HTML)", visible=False, elem_id="report")
        data = gr.DownloadButton("Report (JSON)", visible=False, elem_id="json")
    return [answer, bars, timeline, faces, whole, data]


def theme() -> Base:
    """With fonts that are there: others would be loaded from elsewhere."""
    return gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def style() -> str:
    """Of the page."""
    return _STYLE


def _about(service: JudgeService) -> str:
    card = service.detector.card
    heat = "" if service.with_heat else " Heat maps need the package grad-cam, which is not installed."
    return (
        f"deepscan {__version__}, detector {card.name} {card.version}. A probability is no proof: read the limits in "
        f"the report.{heat} For programs: `POST /api/predict`."
    )


def _shown(upload_result: UploadResult, service: JudgeService) -> list[Any]:
    """Of every output of the page."""
    result = upload_result.result
    times = _times(result)
    pictures = list(_pictures(upload_result))
    return [
        _answer(upload_result, service),
        gr.HTML(value=_bars(upload_result), visible=result.probability is not None),
        gr.LinePlot(value=times, visible=result.kind == "video" and len(times) > 0),
        gr.Gallery(value=pictures, visible=bool(pictures)),
        gr.DownloadButton(value=str(upload_result.page), visible=True),
        gr.DownloadButton(value=str(upload_result.json), visible=True),
    ]


def _answer(upload_result: UploadResult, service: JudgeService) -> str:
    """The words of the report page. All of them are escaped: names come from files."""
    result = upload_result.result
    view = input_view(1, result, upload_result.material, upload_result.report.model, service.detector.card, plan_for(1))
    colour = _WORD_COLOURS.get(result.verdict, _OTHER_COLOUR)
    lines = [*view.statements, *view.meaning]
    return (
        f'<h2><span class="word" style="color: {colour}" data-verdict="{html.escape(result.verdict)}">'
        f"{html.escape(WORDS[result.verdict])}</span></h2><p><b>{html.escape(view.name)}</b></p>"
        + "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    )


def _bars(upload_result: UploadResult) -> str:
    """The probability, and what is answered at which."""
    model, probability = upload_result.report.model, upload_result.result.probability
    if probability is None:
        return ""
    shown = percent(probability, model.uncertain_band)
    rule = answer_rule(model.threshold, model.uncertain_band)
    return (
        f'<p>P(fake) <b>{shown}</b> <meter min="0" max="1" value="{probability:.4f}" aria-label="P(fake) {shown}">'
        f"</meter></p><p>{rule[0].upper()}{rule[1:]}.</p>"
    )


def _times(result: Result) -> pd.DataFrame:
    rows = [
        (frame.time_s, frame.probability, f"person {track.id}") for track in result.tracks for frame in track.frames
    ]
    return pd.DataFrame(rows, columns=["seconds", "probability", "person"])


def _pictures(upload_result: UploadResult) -> Iterator[tuple[str, str]]:
    """Each face as a file beside the report, with the same with its heat where there is one, and what it shows."""
    number = 0
    for person in upload_result.material.people if upload_result.material else ():
        for picture in person.pictures:
            when = f", {picture.time_s:.1f} s" if upload_result.result.kind == "video" else ""
            image = picture.image if picture.heat is None else np.hstack([picture.image, picture.heat])
            number += 1
            path = upload_result.page.with_name(f"face-{number:03}.png")
            Image.fromarray(image).save(path)
            yield str(path), f"Person {person.id}{when}"
