"""``deepscan serve``: the web page and the JSON API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from deepscan.commands.options import JudgeOptions, seconds
from deepscan.commands.terminal import fail_with


def _name_and_password(text: str) -> tuple[str, str]:
    name, colon, password = text.partition(":")
    if not (name and colon and password):
        raise typer.BadParameter("it is NAME:PASSWORD.")
    return name, password


Host = Annotated[str, typer.Option(help="Where to listen. Beyond this machine only with --auth.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")]
Auth = Annotated[
    str | None,
    typer.Option(
        envvar="DEEPSCAN_AUTH",
        metavar="NAME:PASSWORD",
        help="Ask for them. Others on this machine can read a command line: better in the environment.",
        show_default="none",
    ),
]
MaxUpload = Annotated[int | None, typer.Option(min=1, help="Size of a file at most, in MiB.", show_default="500")]
MaxDuration = Annotated[
    float | None,
    typer.Option(
        parser=seconds, metavar="SECONDS", help="Length of a video at most, such as 5min.", show_default="30min"
    ),
]
AccessLog = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="Add a line of JSON for each request to this file.", show_default="none"),
]


def serve(
    options: JudgeOptions,
    host: Host = "127.0.0.1",
    port: Port = 7860,
    auth: Auth = None,
    max_upload_mb: MaxUpload = None,
    max_duration: MaxDuration = None,
    access_log: AccessLog = None,
) -> None:
    """Serve a web page on this machine: drop a file, see the verdict.

    Example: deepscan serve

    The same port has a JSON API: curl -F file=@clip.mp4 http://127.0.0.1:7860/api/predict
    """
    from deepscan.errors import DeepscanError

    credentials = None if auth is None else _name_and_password(auth)
    try:
        from deepscan.web.require import require_web

        require_web()
        from deepscan.web.server import check_host, make_app
        from deepscan.web.server import serve as listen

        check_host(host, credentials)
        from deepscan.detector import load_detector
        from deepscan.web.service import JudgeService, WebLimits

        web_limits = {"upload_bytes": max_upload_mb and max_upload_mb * 2**20, "duration_s": max_duration}
        service = JudgeService(
            load_detector(options.model, options.settings),
            WebLimits.model_validate({name: value for name, value in web_limits.items() if value is not None}),
            with_heat=find_spec("pytorch_grad_cam") is not None,
        )
        try:
            with _appended(access_log) as write:
                listen(make_app(service, host=host, auth=credentials, access_log=write), host, port, on_start=_announce)
        finally:
            service.close()
    except DeepscanError as error:
        fail_with(error)


@contextmanager
def _appended(path: Path | None) -> Iterator[Callable[[str], object] | None]:
    """Writes lines to the end of a file; raises OutputError where that cannot be done."""
    if path is None:
        yield None
        return
    try:
        file = path.open("a", encoding="utf-8", buffering=1)
    except OSError as error:
        from deepscan.errors import OutputError

        raise OutputError(f"{path} cannot be written", error.strerror or str(error)) from error
    with file:
        yield file.write


def _announce(address: str) -> None:
    typer.echo(f"deepscan: {address} is the page; Ctrl-C ends it.", err=True)
