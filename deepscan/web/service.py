"""What stands behind the page and the API: one detector, one judgement at a time, and files that are gone afterwards.

Every upload gets a folder of its own in a folder of the server's. Names that come with uploads are shown and nothing
else: no path is made of them.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath, PureWindowsPath

from deepscan.analysis import Analysis
from deepscan.config import MediaLimits, Settings
from deepscan.detector import Detector
from deepscan.errors import DeepscanError, MediaError
from deepscan.extract.file_kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from deepscan.extract.isolation.client import probe
from deepscan.extract.pictures import KeepPictures
from deepscan.report.html import Material, make_material, pictures_to_keep, write_pages
from deepscan.text import printable
from deepscan.types import Report, Result

log = logging.getLogger(__name__)

SUFFIXES = tuple(sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES))
_LONGEST_NAME = 120

OnProgress = Callable[[float, str], None]


class BusyError(DeepscanError):
    """As many wait already as may wait."""

    reason = "busy"


class WebLimits(Settings):
    """What the server takes.

    Attributes:
        upload_bytes: of one file.
        duration_s: of a video.
        waiting: judgements that may wait for the one that is made.
    """

    upload_bytes: int = 500 * 2**20
    duration_s: float = 1800.0
    waiting: int = 16


@dataclass(frozen=True, slots=True)
class UploadResult:
    """One upload, judged.

    Attributes:
        report: of this one; its path is the name that the upload came with.
        material: pictures and facts for the page; None where the file could not be read.
        page: the report page; the JSON lies beside it.
    """

    report: Report
    material: Material | None
    page: Path

    @property
    def result(self) -> Result:
        return self.report.results[0]

    @property
    def json(self) -> Path:
        return self.page.with_suffix(".json")


class JudgeService:
    """Judges uploads, one after the other, whichever door they come through. Close it at the end.

    Args:
        detector: loaded.
        limits: of what is taken.
        with_heat: make heat maps; needs the ``grad-cam`` package.

    Attributes:
        n_inside: uploads that are being judged or wait for it.
    """

    def __init__(self, detector: Detector, limits: WebLimits | None = None, *, with_heat: bool) -> None:
        self.detector, self.limits, self.with_heat = detector, limits or WebLimits(), with_heat
        self._root = tempfile.TemporaryDirectory(prefix="deepscan-web-")
        self._turn, self._counting = threading.Lock(), threading.Lock()
        self.n_inside = 0

    @property
    def _file_limits(self) -> MediaLimits:
        """Those of the detector, and those of uploads where they are lower."""
        limits = self.detector.settings.limits
        most_bytes = min(self.limits.upload_bytes, limits.max_bytes or self.limits.upload_bytes)
        most_s = min(self.limits.duration_s, limits.max_duration_s or self.limits.duration_s)
        return limits.model_copy(update={"max_bytes": most_bytes, "max_duration_s": most_s})

    @property
    def root(self) -> Path:
        """The folder that everything is in; it goes with the service."""
        return Path(self._root.name)

    def close(self) -> None:
        """Remove everything."""
        self._root.cleanup()

    def folder(self) -> Path:
        """A new folder for one upload and all that is made of it; see :meth:`forget`."""
        return Path(tempfile.mkdtemp(dir=self.root))

    def forget(self, folder: Path) -> None:
        """Remove the folder of an upload."""
        if folder.parent == self.root:
            shutil.rmtree(folder, ignore_errors=True)

    def report(self, path: Path, name: str) -> Report:
        """Judge a file; what cannot be read is a result with the verdict ``error``.

        Args:
            path: of the file.
            name: that it came with; see :func:`shown_name`.

        Raises:
            BusyError: too many are waiting.
        """
        with self._one_at_a_time():
            return self._report(self._analysis(path), path, name)

    def judge(
        self, path: Path, name: str, folder: Path, on_progress: OnProgress = lambda share, what: None
    ) -> UploadResult:
        """Judge a file and write its page.

        Args:
            path: of the file.
            name: that it came with; see :func:`shown_name`.
            folder: for the page.
            on_progress: called with the share that is done, in [0, 1], and with what is done next.

        Raises:
            BusyError: too many are waiting.
            DeepscanError: the page cannot be written.
        """
        on_progress(0.0, "Waiting for its turn")
        with self._one_at_a_time():
            on_progress(0.05, "Looking for faces and scoring them")
            heat = self.with_heat and self.detector.card.trained
            analysis = self._analysis(path, pictures_to_keep())
            report = self._report(analysis, path, name)
            on_progress(0.6, "Looking at what the answer rests on")
            material = self._material(analysis, heat=heat)
            on_progress(0.9, "Writing the report")
            page = folder / "report.html"
            write_pages(
                report,
                page,
                made=datetime.now().astimezone(),
                card=self.detector.card,
                material=lambda _: material,
            )
        return UploadResult(report, material, page)

    def _analysis(self, path: Path, keep: KeepPictures | None = None) -> Analysis:
        refused: MediaError | None = None
        try:
            probe(path, self._file_limits)
        except MediaError as error:
            # The limits are the server's: whoever uploads has no --max.
            too_large = error.reason == "too_large"
            refused = (
                MediaError(error.problem, error.cause, "Give a smaller one.", reason=error.reason)
                if too_large
                else error
            )
        return self.detector.analyze(path, refused, keep=keep)

    def _report(self, analysis: Analysis, path: Path, name: str) -> Report:
        message = analysis.result.message and analysis.result.message.replace(path.name, name)
        return self.detector.report([replace(analysis.result, path=name, message=message)])

    def _material(self, analysis: Analysis, *, heat: bool) -> Material | None:
        try:
            return make_material(self.detector, analysis, heat=heat)
        except DeepscanError as error:
            # The answer stands without its pictures.
            log.warning("%s; the report has no pictures", error)
            return None

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        with self._counting:
            if self.n_inside > self.limits.waiting:
                why = f"{self.n_inside} files are being judged or wait for it"
                raise BusyError("The server is busy", why, "Try again in a minute.")
            self.n_inside += 1
        try:
            with self._turn:
                yield
        finally:
            with self._counting:
                self.n_inside -= 1


def stored_name(name: str) -> str:
    """What an upload is called on disk: nothing of its own name but a suffix that is known."""
    suffix = PurePosixPath(name).suffix.lower()
    return f"upload{suffix if suffix in SUFFIXES else ''}"


def shown_name(name: str | None) -> str:
    """The name of an upload as it is shown: without folders, control characters, and not too long."""
    last = PureWindowsPath(PurePosixPath(name or "").name).name
    clean = printable(last).strip()
    if len(clean) > _LONGEST_NAME:
        suffix = PurePosixPath(clean).suffix[:10]
        clean = clean[: _LONGEST_NAME - len(suffix)] + suffix
    return clean or "upload"
