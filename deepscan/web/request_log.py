"""What was asked of the server and what it answered: a line of JSON each, and figures for Prometheus.

Neither holds the name of a file, an address beyond the path, or anything of a session.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deepscan.text import printable
from deepscan.types import Result
from deepscan.version import install_command
from deepscan.web.guard import error_response
from deepscan.web.service import JudgeService

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LONGEST_PATH = 200


class RequestLog:
    """Says of each request what became of it, once it has been answered.

    Args:
        app: what answers.
        listeners: called with each request as a dictionary of JSON values; ``status`` is None where nobody waited for
            the answer.
    """

    def __init__(self, app: ASGIApp, listeners: Sequence[Callable[[dict[str, Any]], object]]) -> None:
        self._app, self._listeners = app, listeners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_at, received, sent, status = time.perf_counter(), 0, 0, None

        async def count_in() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def count_out(message: Message) -> None:
            nonlocal sent, status
            status = message.get("status", status)
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, count_in, count_out)
        finally:
            entry = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "client": (scope.get("client") or ("",))[0],
                "method": scope["method"],
                "path": printable(scope["path"][:_LONGEST_PATH]),
                "status": status,
                "received_bytes": received,
                "sent_bytes": sent,
                "seconds": round(time.perf_counter() - began_at, 3),
            }
            for listener in self._listeners:
                listener(entry)


def line_writer(write: Callable[[str], object]) -> Callable[[dict[str, Any]], object]:
    """A listener of :class:`RequestLog` that writes a line of JSON for each."""
    return lambda entry: write(json.dumps(entry) + "\n")


class Metrics:
    """Figures of a server in the format of Prometheus. Needs the package prometheus-client.

    Args:
        service: whose queue, files and answers are counted.
    """

    def __init__(self, service: JudgeService) -> None:
        import prometheus_client as prometheus

        self._registry = registry = prometheus.CollectorRegistry()
        self.media_type = prometheus.CONTENT_TYPE_LATEST
        waiting = prometheus.Gauge("deepscan_waiting", "Requests judged or waiting for it", registry=registry)
        waiting.set_function(lambda: service.n_inside)
        stored = prometheus.Gauge("deepscan_stored_bytes", "Room taken by uploads", registry=registry)
        stored.set_function(lambda: service.store.reserved_bytes)
        self._requests = prometheus.Counter("deepscan_requests", "Requests", ["status"], registry=registry)
        self._verdicts = prometheus.Counter("deepscan_verdicts", "Files", ["verdict", "reason"], registry=registry)
        self._seconds = prometheus.Histogram(
            "deepscan_judge_seconds",
            "Time a judgement takes",
            registry=registry,
            buckets=(0.5, 1, 2, 5, 10, 30, 60, 300),
        )
        service.on_judged = self._count_file

    def count_request(self, entry: dict[str, Any]) -> None:
        """As a listener of :class:`RequestLog`."""
        self._requests.labels(str(entry["status"])).inc()

    def _count_file(self, result: Result, seconds: float) -> None:
        self._verdicts.labels(str(result.verdict), result.reason or "").inc()
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """All of them."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)


def metrics_route(metrics: Metrics | None) -> Route:
    """``/metrics``, or why there is none."""

    def answer(request: Request) -> Response:
        del request
        if metrics is None:
            hint = f"prometheus-client is not installed. Install it: {install_command('metrics')}."
            return error_response(404, "not_found", hint)
        return Response(metrics.text(), media_type=metrics.media_type)

    return Route("/metrics", answer)
