"""Who may ask, and how much: middleware in front of the page and the API."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
# Around a file in a form.
_FORM_BYTES = 64 * 2**10


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class HostGuard:
    """Refuses requests for other names than the server's, so that no page from elsewhere, whose name was made to lead
    to this machine, reads answers (DNS rebinding).

    Args:
        app: what is guarded.
        names: that are answered to, besides those of this machine.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app, self._names = app, _LOOPBACK_NAMES | {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and _host(Headers(scope=scope)) not in self._names:
            await PlainTextResponse("This server does not answer to that name.", 421)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class AuthGuard:
    """Asks for a name and a password (HTTP Basic) before anything is answered.

    Args:
        app: what is guarded.
        user: name.
        password: of the user.
    """

    def __init__(self, app: ASGIApp, user: str, password: str) -> None:
        self._app, self._wanted = app, f"{user}:{password}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and not self._may(Headers(scope=scope)):
            headers = {"WWW-Authenticate": 'Basic realm="deepscan", charset="UTF-8"'}
            await PlainTextResponse("A name and a password are needed.", 401, headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _may(self, headers: Headers) -> bool:
        kind, _, code = headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(code, validate=True)
        except (binascii.Error, ValueError):
            return False
        return kind.lower() == "basic" and hmac.compare_digest(given, self._wanted)


class UploadGuard:
    """Ends a request to the API whose body is larger than a file may be, before it fills the disk.

    Args:
        app: what is guarded.
        path: of the requests that are looked at.
        most_bytes: of the file in it.
    """

    def __init__(self, app: ASGIApp, path: str, most_bytes: int) -> None:
        self._app, self._path, self._file_bytes = app, path, most_bytes
        self._most = most_bytes + _FORM_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > self._most:
            await self._refusal()(scope, receive, send)
            return
        n_bytes, answered = 0, False

        async def counted() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            # The application is told that the sender has gone; what it makes of that is not sent.
            return message if n_bytes <= self._most else {"type": "http.disconnect"}

        async def watched(message: Message) -> None:
            nonlocal answered
            if n_bytes <= self._most:
                answered = True
                await send(message)

        try:
            await self._app(scope, counted, watched)
        except Exception:
            if n_bytes <= self._most:
                raise
        if n_bytes > self._most and not answered:
            await self._refusal()(scope, receive, send)

    def _refusal(self) -> JSONResponse:
        return error_response(413, "too_large", f"The file is larger than {self._file_bytes / 2**20:g} MiB.")


def error_response(status: int, reason: str, message: str) -> JSONResponse:
    """An answer of the API that is no report."""
    return JSONResponse({"error": {"reason": reason, "message": message}}, status)


def _host(headers: Headers) -> str:
    """The name in the Host header, without its port."""
    host = headers.get("host", "").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
