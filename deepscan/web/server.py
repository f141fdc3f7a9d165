"""The server: page and API on one port, behind the guards."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from deepscan.errors import ConfigError, OutputError
from deepscan.web.guard import AuthGuard, HostGuard, UploadGuard, is_loopback
from deepscan.web.require import require_web

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from deepscan.web.service import JudgeService

log = logging.getLogger(__name__)


def make_app(service: JudgeService, *, host: str = "127.0.0.1", auth: tuple[str, str] | None = None) -> ASGIApp:
    """Page and API as one application.

    Args:
        service: judges the uploads; its folder holds everything that Gradio keeps, too.
        host: where it will listen. Beyond this machine any name is answered to, and only with ``auth``.
        auth: name and password.

    Raises:
        ConfigError: ``host`` is beyond this machine and there is no ``auth``, or the optional part is missing.
    """
    check_host(host, auth)
    require_web()
    os.environ["GRADIO_TEMP_DIR"] = str(service.root)
    import gradio as gr

    from deepscan.web.api import PREDICT, make_api
    from deepscan.web.page import make_page, style, theme

    page = make_page(service)
    app = gr.mount_gradio_app(
        make_api(service),
        page,
        path="/",
        footer_links=[],
        show_error=True,
        max_file_size=service.limits.upload_bytes,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=theme(),
        css=style(),
        allowed_paths=[],
    )
    guarded: ASGIApp = UploadGuard(app, PREDICT, service.limits.upload_bytes)
    if auth is not None:
        guarded = AuthGuard(guarded, *auth)
    return HostGuard(guarded, [host]) if is_loopback(host) else guarded


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
    import uvicorn

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
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
        uvicorn.Server(config).run(sockets=[listener])


def _exit(number: int, frame: object) -> NoReturn:
    del frame
    sys.exit(128 + number)
