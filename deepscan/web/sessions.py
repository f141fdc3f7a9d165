"""Browser sessions: the files that each has sent, their answers, and when they go."""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from deepscan.errors import DeepscanError
from deepscan.report.html.figures import WORDS, percent
from deepscan.types import Result
from deepscan.web.render import file_html
from deepscan.web.service import JudgeService
from deepscan.web.uploads import BusyError, Upload

log = logging.getLogger(__name__)

_TOKEN = re.compile(r"[\w-]{43}", re.ASCII)  # of new_token()


@dataclass(slots=True)
class SessionFile:
    """A file of a session, on its way from upload to answer.

    Attributes:
        number: in its session, from 1.
        upload: the file; ``section.html``, ``report.html`` and ``report.json`` lie beside it once it is judged.
        share, step: of the judgement: what is done, in [0, 1], and what is being done.
        result: the answer, once it is there.
        probability: of "fake", in words; None where there is none.
        failure: why there is none.
        future: of the judgement.
    """

    number: int
    upload: Upload
    share: float = 0.0
    step: str = ""
    result: Result | None = None
    probability: str | None = None
    failure: str = ""
    future: Future[None] = field(default_factory=Future)

    @property
    def pending(self) -> bool:
        """Whether it is still to be judged."""
        return self.result is None and not self.failure


@dataclass(slots=True)
class Session:
    """What one browser has sent.

    Attributes:
        files: by their id, in the order in which they came.
        ends_at: on the clock of ``time.monotonic``, unless a page asks for something before.
    """

    ends_at: float
    files: dict[str, SessionFile] = field(default_factory=dict)
    n_files: int = 0


class Sessions:
    """All sessions of a server.

    Args:
        service: judges the files.
    """

    def __init__(self, service: JudgeService) -> None:
        self.service = service
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def find(self, token: str | None) -> Session | None:
        """The session of a token; it lives on."""
        with self._lock:
            session = self._sessions.get(token or "")
            if session is not None:
                session.ends_at = time.monotonic() + self.service.limits.idle_s
            return session

    def check_room(self, token: str) -> None:
        """Whether a session may send one more file.

        Raises:
            BusyError: not now.
        """
        self.service.check_room()
        files = session.files.values() if (session := self.find(token)) else ()
        limits = self.service.limits
        if sum(file.pending for file in files) >= limits.session_waiting:
            raise SessionFullError("Too many files at a time", "yours are still being judged", "Try again in a moment.")
        if len(files) >= limits.session_files:
            raise SessionFullError("Too many files", f"{len(files)} are kept for you", "Remove some first.")

    def add(self, token: str, upload: Upload) -> SessionFile:
        """Have a file judged and kept in a session, a new one if need be. The upload is the session's from now on.

        Raises:
            BusyError: not now.
        """
        self.check_room(token)
        with self._lock:
            session = self._sessions.setdefault(token, Session(time.monotonic() + self.service.limits.idle_s))
            session.n_files += 1
            file = SessionFile(session.n_files, upload)
            file.future = self.service.submit(lambda: self._judge(file))
            session.files[upload.id] = file
        return file

    def remove(self, session: Session, file: SessionFile) -> None:
        """Take a file out of its session, and out of the queue."""
        with self._lock:
            if session.files.pop(file.upload.id, None) is None:
                return
        file.future.cancel()
        # One that is being judged goes when that has ended.
        file.future.add_done_callback(lambda _: self.service.store.remove(file.upload))

    def end(self, token: str) -> None:
        """Remove all of a session."""
        with self._lock:
            session = self._sessions.pop(token, None)
        if session is not None:
            for file in list(session.files.values()):
                self.remove(session, file)

    def leave(self, token: str) -> None:
        """A page of the session was closed: unless one of it shows a sign of life, it ends soon."""
        if session := self.find(token):
            session.ends_at = time.monotonic() + self.service.limits.grace_s

    def sweep(self, now: float) -> None:
        """End the sessions whose time has come on the clock of ``time.monotonic``."""
        for token in [token for token, session in list(self._sessions.items()) if session.ends_at <= now]:
            self.end(token)

    def state(self, file: SessionFile) -> dict[str, Any]:
        """Of a file, as JSON for its page."""
        result = file.result
        return {
            "id": file.upload.id,
            "name": file.upload.name,
            "pending": file.pending,
            "ahead": self.service.ahead(file.future) if file.pending else 0,
            "share": file.share,
            "step": file.step,
            "verdict": str(result.verdict) if result else None,
            "word": WORDS[result.verdict] if result else None,
            "probability": file.probability,
            "failure": file.failure,
        }

    def _judge(self, file: SessionFile) -> None:
        def on_progress(share: float, step: str) -> None:
            file.share, file.step = share, step

        upload = file.upload
        try:
            upload_result = self.service.judge(upload.path, upload.name, upload.folder, on_progress)
            section = file_html(file.number, upload, upload_result, self.service.detector.card)
            (upload.folder / "section.html").write_text(section, encoding="utf-8")
            result, model = upload_result.result, upload_result.report.model
            if result.probability is not None and model.trained:
                file.probability = percent(result.probability, model.uncertain_band)
            file.result = result
        except (DeepscanError, OSError) as error:
            log.warning("An upload could not be judged: %s", error)
            file.failure = str(error)
        except Exception:
            log.exception("An upload could not be judged")
            file.failure = "The server failed at this file."


class SessionFullError(BusyError):
    """A session has sent as much as it may."""

    reason = "too_many"
    retry_after_s = 5


def new_token() -> str:
    """For a session; nobody can guess it."""
    return secrets.token_urlsafe(32)


def is_token(text: str | None) -> bool:
    """Whether a text may be one of :func:`new_token`."""
    return _TOKEN.fullmatch(text or "") is not None
