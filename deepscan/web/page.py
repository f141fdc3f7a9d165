"""The page: drop files, see each verdict with its evidence, play the video along its timeline, take reports along."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from deepscan.web.render import VIDEO_TYPES, start_html, static_file
from deepscan.web.sessions import Session, SessionFile, Sessions, is_token, new_token

COOKIE = "deepscan_session"
_SWEEP_EVERY_S = 1.0


def sweeping(sessions: Sessions) -> AbstractAsyncContextManager[None]:
    """Ends sessions in time, while it is entered."""

    async def sweep() -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY_S)
            await asyncio.to_thread(sessions.sweep, time.monotonic())

    @asynccontextmanager
    async def while_served() -> AsyncIterator[None]:
        sweeper = asyncio.create_task(sweep())
        yield
        sweeper.cancel()

    return while_served()


def page_routes(sessions: Sessions) -> list[Route]:
    """What the page asks for. It is its own, not a part of the API."""
    service = sessions.service

    def start(request: Request) -> Response:
        response = HTMLResponse(start_html(service))
        if not is_token(request.cookies.get(COOKIE)):
            secure = request.url.scheme == "https"
            response.set_cookie(COOKIE, new_token(), httponly=True, samesite="strict", secure=secure)
        return response

    def static(request: Request) -> Response:
        try:
            media_type, text = static_file(request.path_params["name"])
        except KeyError:
            raise HTTPException(404) from None
        return Response(text, media_type=media_type)

    async def send(request: Request) -> Response:
        token = _token(request)
        sessions.check_room(token)
        upload = await service.store.save_body(request, request.query_params.get("name"), service.limits.upload_bytes)
        try:
            return JSONResponse(sessions.state(sessions.add(token, upload)), 201)
        except BaseException:
            service.store.remove(upload)
            raise

    def state(request: Request) -> Response:
        session = sessions.find(_token(request))
        return JSONResponse([sessions.state(file) for file in list(session.files.values())] if session else [])

    def end(request: Request) -> Response:
        sessions.end(_token(request))
        return Response(status_code=204)

    def leave(request: Request) -> Response:
        sessions.leave(_token(request))
        return Response(status_code=204)

    def remove(request: Request) -> Response:
        sessions.remove(*_file(sessions, request))
        return Response(status_code=204)

    def part(request: Request) -> Response:
        return _part(_file(sessions, request)[1], request.path_params["part"])

    return [
        Route("/", start),
        Route("/static/{name}", static),
        Route("/session", state),
        Route("/session", end, methods=["DELETE"]),
        Route("/session/leave", leave, methods=["POST"]),
        Route("/session/files", send, methods=["POST"]),
        Route("/session/files/{id}", remove, methods=["DELETE"]),
        Route("/session/files/{id}/{part}", part),
    ]


def _token(request: Request) -> str:
    token = request.cookies.get(COOKIE)
    if token is None or not is_token(token):
        raise HTTPException(403, "Open the page first: a session begins with it.")
    return token


def _file(sessions: Sessions, request: Request) -> tuple[Session, SessionFile]:
    """The file that is asked for: of the session that asks, or none."""
    session = sessions.find(_token(request))
    file = session.files.get(request.path_params["id"]) if session else None
    if session is None or file is None:
        raise HTTPException(404, "There is no such file in this session.")
    return session, file


def _part(file: SessionFile, part: str) -> Response:
    folder, suffix = file.upload.folder, file.upload.path.suffix
    if part == "media" and suffix in VIDEO_TYPES:
        # Never as a page, whatever else the file may be at the same time.
        headers = {"Content-Security-Policy": "default-src 'none'; sandbox"}
        return FileResponse(file.upload.path, media_type=VIDEO_TYPES[suffix], headers=headers)
    if file.result is not None and part == "report.html":
        # It has a policy of its own in its head, which allows its own style.
        return FileResponse(folder / part, headers={"Content-Security-Policy": "frame-ancestors 'none'"})
    if file.result is not None and part in ("section.html", "report.json"):
        return FileResponse(folder / part)
    raise HTTPException(404, "There is no such part of an answer.")
