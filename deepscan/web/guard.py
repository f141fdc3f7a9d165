"""Who may ask, and how much: middleware in front of the page and the API."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
# Around a file in a form.
_FORM_BYTES = 64 * 2**10
_SLOWEST_BYTES_S = 16 * 2**10
_DRAINED_BYTES, _DRAINED_S = 64 * 2**20, 5.0
_BROWSER_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


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
    """Ends a request that is larger or slower than it may be, before it fills the disk or keeps a place for ever.

    Args:
        app: what is guarded.
        most_bytes: of a file.
        stall_s: without a byte, or on average below 16 KiB a second after it.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, stall_s: float = 30.0) -> None:
        self._app, self._stall_s = app, stall_s
        self._most = most_bytes + _FORM_BYTES
        self._too_large = 413, "too_large", f"The file is larger than {most_bytes / 2**20:g} MiB."
        self._too_slow = 408, "too_slow", "The request did not arrive in time."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, self._most, self._stall_s)
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > self._most:
            await self._refuse(body, self._too_large, scope, send)
            return
        answered = False

        async def watched(message: Message) -> None:
            nonlocal answered
            if body.broken is None or answered:
                answered = True
                await _send_after_body(body, message, send)

        try:
            await self._app(scope, body.receive, watched)
        except Exception:
            if body.broken is None:
                raise
        if body.broken is not None and not answered:
            await self._refuse(body, self._too_slow if body.broken == "too_slow" else self._too_large, scope, send)

    @staticmethod
    async def _refuse(body: _Body, refusal: tuple[int, str, str], scope: Scope, send: Send) -> None:
        async def closing(message: Message) -> None:
            await _send_after_body(body, message, send)

        await error_response(*refusal, {"Connection": "close"})(scope, body.receive, closing)


class _Body:
    """The body of a request on its way to the application.

    Attributes:
        broken: why the rest of it is not given to the application, which is told that the sender has gone.
        ended: whether all of it has arrived.
    """

    def __init__(self, receive: Receive, most_bytes: int, stall_s: float) -> None:
        self._receive, self._most_bytes, self._stall_s = receive, most_bytes, stall_s
        self._n_bytes, self._begun_at = 0, time.monotonic()
        self.broken: Literal["too_large", "too_slow"] | None = None
        self.ended = False

    async def receive(self) -> Message:
        if self.ended:
            return await self._receive()
        due_s = self._stall_s + self._n_bytes / _SLOWEST_BYTES_S - (time.monotonic() - self._begun_at)
        try:
            message = await asyncio.wait_for(self._receive(), min(self._stall_s, due_s))
        except TimeoutError:
            self.broken = "too_slow"
            return {"type": "http.disconnect"}
        self._n_bytes += len(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        if self._n_bytes > self._most_bytes:
            self.broken = "too_large"
            return {"type": "http.disconnect"}
        return message

    async def drain(self) -> None:
        """Take some of the rest, so that a sender who is still at it comes to read the answer."""
        most, end = _DRAINED_BYTES, time.monotonic() + _DRAINED_S
        try:
            while not self.ended and most > 0 and self.broken != "too_slow":
                message = await asyncio.wait_for(self._receive(), max(0.0, end - time.monotonic()))
                most -= len(message.get("body", b""))
                self.ended = not message.get("more_body", False)
        except TimeoutError:
            pass


async def _send_after_body(body: _Body, message: Message, send: Send) -> None:
    """The answer at once, its end after what is left of the body: with it the connection is closed."""
    if message["type"] == "http.response.body" and not message.get("more_body") and not body.ended:
        await send({**message, "more_body": True})
        await body.drain()
        message = {"type": "http.response.body"}
    await send(message)


class BrowserGuard:
    """Has browsers load nothing from elsewhere, run nothing but our script, and keep nothing; refuses what pages of
    other sites have them send.

    Args:
        app: what is guarded.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _BROWSER_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        site = Headers(scope=scope).get("sec-fetch-site", "none")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and site not in ("none", "same-origin"):
            refusal = error_response(403, "cross_site", "Another site's page may not send anything to this server.")
            await refusal(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)


def error_response(status: int, reason: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An answer that is no report and no page."""
    return JSONResponse({"error": {"reason": reason, "message": message}}, status, headers)


def _host(headers: Headers) -> str:
    """The name in the Host header, without its port."""
    host = headers.get("host", "").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
