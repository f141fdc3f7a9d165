"""What stands behind the page and the API: one detector, one judgement at a time, and a queue before it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from deepscan.analysis import Analysis
from deepscan.config import MediaLimits, Settings
from deepscan.detector import Detector
from deepscan.errors import DeepscanError, MediaError
from deepscan.extract.isolation.client import probe
from deepscan.extract.pictures import KeepPictures
from deepscan.report.html import Material, make_material, pictures_to_keep, write_pages
from deepscan.types import Report, Result
from deepscan.web.uploads import BusyError, Upload, UploadStore

log = logging.getLogger(__name__)

OnProgress = Callable[[float, str], None]
T = TypeVar("T")


class WebLimits(Settings):
    """What the server takes.

    Attributes:
        upload_bytes: of one file, and of all files of one request.
        duration_s: of a video.
        waiting: judgements that may wait for the one that is made.
        stored_bytes: of all uploads that are kept at a time.
        session_files: of one browser session.
        session_waiting: of them, those that are not judged yet.
        idle_s: without a sign of life from its pages, a session ends.
        grace_s: after its page was closed, a session ends; a page that is loaded anew goes on with it.
        stall_s: without a byte of it, or on average below 16 KiB a second, a request is given up.
    """

    upload_bytes: int = 500 * 2**20
    duration_s: float = 1800.0
    waiting: int = 16
    stored_bytes: int = 4 * 2**30
    session_files: int = 100
    session_waiting: int = 8
    idle_s: float = 900.0
    grace_s: float = 120.0
    stall_s: float = 30.0


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
        """Of the one file."""
        return self.report.results[0]


class JudgeService:
    """Judges uploads one after the other, in the order in which they came.

    Args:
        detector: that judges.
        limits: of uploads.
        with_heat: whether pages get heat maps; they need the package grad-cam.

    Attributes:
        on_judged: called with each result and the seconds that it took.
    """

    def __init__(self, detector: Detector, limits: WebLimits | None = None, *, with_heat: bool = True) -> None:
        self.detector, self.limits, self.with_heat = detector, limits or WebLimits(), with_heat
        self.store = UploadStore(self.limits.stored_bytes)
        self._judge = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self._line: list[Future[object]] = []
        self._lock = threading.Lock()
        self.on_judged: Callable[[Result, float], None] = lambda result, seconds: None

    def close(self) -> None:
        """Have the judgement that is made ended, drop the others, remove all files."""
        self._judge.shutdown(cancel_futures=True)
        self.store.close()

    @property
    def n_inside(self) -> int:
        """How many are judged or wait for it."""
        return len(self._line)

    def check_room(self) -> None:
        """Raises BusyError: as many wait as may wait."""
        if self.n_inside > self.limits.waiting:
            why = f"{self.n_inside} files are being judged or wait for it"
            raise BusyError("The server is busy", why, "Try again in a minute.")

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Put work at the end of the queue. Cancelling the future takes it out again.

        Raises:
            BusyError: as many wait as may wait.
        """
        with self._lock:
            self.check_room()
            future = self._judge.submit(work)
            self._line.append(future)  # type: ignore[arg-type]
        future.add_done_callback(self._leave)
        return future

    def ahead(self, future: Future[T]) -> int:
        """How many are judged before this one, the one that is being judged included."""
        with self._lock:
            return self._line.index(future) if future in self._line else 0  # type: ignore[arg-type]

    def _leave(self, future: Future[T]) -> None:
        with self._lock:
            self._line.remove(future)  # type: ignore[arg-type]

    def report(self, uploads: Sequence[Upload]) -> Report:
        """Judge files; what cannot be read is a result with the verdict ``error``. For :meth:`submit`."""
        results = [self._named(self._analysis(upload.path).result, upload.path, upload.name) for upload in uploads]
        return self.detector.report(results)

    def judge(
        self, path: Path, name: str, folder: Path, on_progress: OnProgress = lambda share, step: None
    ) -> UploadResult:
        """Judge a file and write its page. For :meth:`submit`.

        Args:
            path: of the file.
            name: that it came with; see :func:`~deepscan.web.uploads.shown_name`.
            folder: for the page.
            on_progress: called with the share that is done, in [0, 1], and with what is done next.

        Raises:
            DeepscanError: the page cannot be written.
        """
        on_progress(0.05, "Looking for faces and scoring them")
        heat = self.with_heat and self.detector.card.trained
        analysis = self._analysis(path, pictures_to_keep())
        report = self.detector.report([self._named(analysis.result, path, name)])
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

    @property
    def _file_limits(self) -> MediaLimits:
        """Those of the detector, and those of uploads where they are lower."""
        limits = self.detector.settings.limits
        most_bytes = min(self.limits.upload_bytes, limits.max_bytes or self.limits.upload_bytes)
        most_s = min(self.limits.duration_s, limits.max_duration_s or self.limits.duration_s)
        return limits.model_copy(update={"max_bytes": most_bytes, "max_duration_s": most_s})

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
        began_at = time.perf_counter()
        analysis = self.detector.analyze(path, refused, keep=keep)
        self.on_judged(analysis.result, time.perf_counter() - began_at)
        return analysis

    @staticmethod
    def _named(result: Result, path: Path, name: str) -> Result:
        return replace(result, path=name, message=result.message and result.message.replace(path.name, name))

    def _material(self, analysis: Analysis, *, heat: bool) -> Material | None:
        try:
            return make_material(self.detector, analysis, heat=heat)
        except DeepscanError as error:
            # The answer stands without its pictures.
            log.warning("%s; the report has no pictures", error)
            return None
