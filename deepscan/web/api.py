"""The JSON API: files in, the report that ``deepscan predict --json`` writes out."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from deepscan.report.table import schema as report_schema
from deepscan.report.table import to_json
from deepscan.types import Report, VerdictLabel
from deepscan.version import __version__
from deepscan.web.openapi import description
from deepscan.web.render import docs_html
from deepscan.web.service import JudgeService

PREDICT = "/api/predict"
_ASK_EVERY_S = 1.0


def api_routes(service: JudgeService) -> list[Route]:
    """The API, as :func:`~deepscan.web.openapi.description` describes it, and its description."""

    async def predict(request: Request) -> Response:
        service.check_room()
        async with service.store.received(request, service.limits.upload_bytes) as uploads:
            answer = await _while_asked(request, service.submit(lambda: service.report(uploads)))
        failed = all(result.verdict is VerdictLabel.ERROR for result in answer.results)
        return Response(to_json(answer), 422 if failed else 200, media_type="application/json")

    def health(request: Request) -> Response:
        del request
        model = json.loads(to_json(service.detector.report([])))["model"]
        return JSONResponse({"deepscan": __version__, "model": model, "waiting": service.n_inside})

    def schema(request: Request) -> Response:
        del request
        return JSONResponse(report_schema())

    def openapi(request: Request) -> Response:
        del request
        return JSONResponse(description())

    def docs(request: Request) -> Response:
        return HTMLResponse(docs_html(description(), str(request.base_url).rstrip("/")))

    return [
        Route(PREDICT, predict, methods=["POST"]),
        Route("/api/health", health),
        Route("/api/schema", schema),
        Route("/openapi.json", openapi),
        Route("/api/openapi.json", openapi),
        Route("/docs", docs),
    ]


async def _while_asked(request: Request, future: Future[Report]) -> Report:
    """The report, unless who asked for it goes while it waits for its turn."""
    while not future.done():
        await asyncio.wait([asyncio.wrap_future(future)], timeout=_ASK_EVERY_S)
        if not future.done() and await request.is_disconnected() and future.cancel():
            raise ClientDisconnect
    return future.result()
