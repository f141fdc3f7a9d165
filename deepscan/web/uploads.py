"""Files that were sent: each in a folder of its own, all together within a limit.

Names that come with uploads are shown and nothing else: no path is made of them.
"""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import anyio
from starlette.datastructures import UploadFile
from starlette.requests import Request

from deepscan.errors import DeepscanError, MediaError
from deepscan.extract.file_kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from deepscan.text import printable

SUFFIXES = tuple(sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES))
HOW_TO_SEND = (
    "Send files as multipart/form-data in the field 'file' (curl -F file=@clip.mp4), or one file as the body "
    "(curl --data-binary @clip.mp4 -H 'Content-Type: application/octet-stream')."
)
MOST_FILES = 100  # in one request
_LONGEST_NAME = 120
_PIECE_BYTES = 2**20
# What curl --data-binary says of its body, if nothing else is asked for.
_URLENCODED = "application/x-www-form-urlencoded"
_FORM_TEXT = re.compile(rb"[\w.%+-]{1,64}=")


class BusyError(DeepscanError):
    """No more is taken at the moment. ``retry_after_s`` says when to come back."""

    reason = "busy"
    retry_after_s = 10


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was sent.

    Attributes:
        id: that nobody can guess.
        name: to show; see :func:`shown_name`.
        folder: of the file and of all that is made of it.
        reserved_bytes: of the store's limit.
    """

    id: str
    name: str
    folder: Path
    reserved_bytes: int

    @property
    def path(self) -> Path:
        """Of the file."""
        return self.folder / stored_name(self.name)


class UploadStore:
    """A temporary folder with a folder for each upload.

    Args:
        most_bytes: of all uploads together, by what their senders announce.
    """

    def __init__(self, most_bytes: int) -> None:
        self._root = tempfile.TemporaryDirectory(prefix="deepscan-web-")
        self._most_bytes, self._lock = most_bytes, threading.Lock()
        self.reserved_bytes = 0

    @property
    def root(self) -> Path:
        """The folder that everything is in."""
        return Path(self._root.name)

    def close(self) -> None:
        """Remove everything."""
        self._root.cleanup()

    def new(self, name: str | None, n_bytes: int) -> Upload:
        """Room for a file, until :meth:`remove`.

        Args:
            name: that it came with.
            n_bytes: that it may have.

        Raises:
            BusyError: there is no room at the moment.
        """
        with self._lock:
            if self.reserved_bytes + n_bytes > self._most_bytes:
                raise BusyError("The server is busy", "its room for uploads is taken", "Try again in a minute.")
            self.reserved_bytes += n_bytes
        folder = Path(tempfile.mkdtemp(dir=self.root))
        return Upload(secrets.token_urlsafe(16), shown_name(name), folder, n_bytes)

    def remove(self, upload: Upload) -> None:
        """The file and all that was made of it; once."""
        shutil.rmtree(upload.folder, ignore_errors=True)
        with self._lock:
            self.reserved_bytes -= upload.reserved_bytes

    async def save_body(self, request: Request, name: str | None, most_bytes: int) -> Upload:
        """The body of a request as a file.

        Raises:
            BusyError: there is no room.
            MediaError: there is no body.
        """
        upload = self.new(name, _announced(request, most_bytes))
        try:
            async with await anyio.open_file(upload.path, "wb") as file:
                async for piece in request.stream():
                    await file.write(piece)
        except BaseException:
            self.remove(upload)
            raise
        if upload.path.stat().st_size == 0:
            self.remove(upload)
            raise no_file()
        return upload

    @asynccontextmanager
    async def received(self, request: Request, most_bytes: int) -> AsyncIterator[list[Upload]]:
        """The files of a request, which go when it has been answered.

        Args:
            request: with a form of files in the field ``file``, or with one file as its body; ``?name=`` names that.
            most_bytes: of the body, if it does not say.

        Raises:
            BusyError: there is no room.
            MediaError: there is no file in it.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        uploads: list[Upload] = []
        try:
            if kind == "multipart/form-data":
                await self._save_form(request, most_bytes, uploads)
            elif kind in ("", "application/octet-stream", _URLENCODED) or kind.startswith(("video/", "image/")):
                uploads.append(await self.save_body(request, request.query_params.get("name"), most_bytes))
                if kind == _URLENCODED and _is_form_text(uploads[0].path):
                    raise no_file()
            if not uploads:
                raise no_file()
            yield uploads
        finally:
            for upload in uploads:
                self.remove(upload)

    async def _save_form(self, request: Request, most_bytes: int, uploads: list[Upload]) -> None:
        # The form parser has temporary files of its own, of which these are copies: each byte may be there twice.
        spooled = self.new("form", _announced(request, most_bytes))
        try:
            async with request.form(max_files=MOST_FILES, max_fields=MOST_FILES) as form:
                for sent in form.getlist("file"):
                    if isinstance(sent, UploadFile):
                        uploads.append(self.new(sent.filename, sent.size or 0))
                        async with await anyio.open_file(uploads[-1].path, "wb") as file:
                            while piece := await sent.read(_PIECE_BYTES):
                                await file.write(piece)
        finally:
            self.remove(spooled)


def no_file() -> MediaError:
    """The error of a request without a file."""
    return MediaError("There is no file in the request", hint=HOW_TO_SEND, reason="no_file")


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


def _announced(request: Request, most_bytes: int) -> int:
    """What a body may have: more is cut off before it gets here."""
    declared = request.headers.get("content-length", "")
    return min(int(declared), most_bytes) if declared.isdecimal() else most_bytes


def _is_form_text(path: Path) -> bool:
    """Whether fields of a form were sent where a file was expected: no video or picture begins like one."""
    with path.open("rb") as file:
        return _FORM_TEXT.match(file.read(80)) is not None
