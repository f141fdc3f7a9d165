"""The server: page and API on one port, behind the guards."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

from deepscan.errors import ConfigError, OutputError
from deepscan.web.guard import AuthGuard, BrowserGuard, HostGuard, UploadGuard, is_loopback
from deepscan.web.require import require_web

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from deepscan.web.service import JudgeService

_MOST_CONNECTIONS = 256


def make_app(
    service: JudgeService,
    *,
    host: str = "127.0.0.1",
    auth: tuple[str, str] | None = None,
    access_log: Callable[[str], object] | None = None,
) -> ASGIApp:
    """Page and API as one application.

    Args:
        service: judges the uploads; its folder holds everything that is kept.
        host: where it will listen. Beyond this machine any name is answered to, and only with ``auth``.
        auth: name and password.
        access_log: takes a line of JSON for each request.

    Raises:
        ConfigError: ``host`` is beyond this machine and there is no ``auth``, or the optional part is missing.
    """
    check_host(host, auth)
    require_web()
    from starlette.applications import Starlette

    from deepscan.web.api import api_routes
    from deepscan.web.failures import HANDLERS
    from deepscan.web.page import page_routes, sweeping
    from deepscan.web.request_log import Metrics, RequestLog, line_writer, metrics_route
    from deepscan.web.sessions import Sessions

    metrics = Metrics(service) if find_spec("prometheus_client") is not None else None
    sessions = Sessions(service)
    app = Starlette(
        routes=[*page_routes(sessions), *api_routes(service), metrics_route(metrics)],
        exception_handlers=HANDLERS,
        lifespan=lambda _: sweeping(sessions),
    )
    guarded: ASGIApp = UploadGuard(app, service.limits.upload_bytes, service.limits.stall_s)
    if auth is not None:
        guarded = AuthGuard(guarded, *auth)
    if is_loopback(host):
        guarded = HostGuard(guarded, [host])
    listeners: list[Callable[[dict[str, Any]], object]] = [metrics.count_request] if metrics is not None else []
    if access_log is not None:
        listeners.append(line_writer(access_log))
    return RequestLog(BrowserGuard(guarded), listeners)


def check_host(host: str, auth: tuple[str, str] | None) -> None:
    """Whether a server may listen there.

    Raises:
        ConfigError: others could reach it, and need no password.
    """
    if auth is None and not is_loopback(host):
        why = "others could reach it without a password"
        raise ConfigError(f"The server cannot listen on {host}", why, "Add --auth NAME:PASSWORD.")


def serve(app: ASGIApp, host: str, port: int, *, on_start: Callable[[str], None] = lambda address: None) -> None:
    """Listen until Ctrl-C or SIGTERM, which then reaches the caller as KeyboardInterrupt or SystemExit.

    Args:
        app: see :func:`make_app`.
        host: to listen on.
        port: to listen on; 0 for any that is free.
        on_start: called with the page's address once it can be reached.

    Raises:
        OutputError: it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise OutputError(f"{host}:{port} cannot be listened on", why, "Give another --port or --host.") from error
        listener.listen(128)
        shown = f"[{host}]" if ":" in host else host
        on_start(f"http://{shown}:{listener.getsockname()[1]}/")
        if threading.current_thread() is threading.main_thread():
            # The server ends in order and then passes the signal on, which would end us before we have cleaned up.
            signal.signal(signal.SIGTERM, _exit)
        make_server(app).run(sockets=[listener])


def make_server(app: ASGIApp) -> uvicorn.Server:
    """What speaks HTTP, with its limits."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            limit_concurrency=_MOST_CONNECTIONS,
        )
    )


def _exit(number: int, frame: object) -> NoReturn:
    del frame
    sys.exit(128 + number)
