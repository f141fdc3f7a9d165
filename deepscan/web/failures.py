"""What is answered where there is no answer: one shape, without a trace of how the server is made."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from deepscan.errors import DeepscanError
from deepscan.web.guard import error_response
from deepscan.web.uploads import BusyError

_REASONS = {400: "malformed", 404: "not_found", 405: "method_not_allowed"}


def _refused(request: Request, error: Exception) -> Response:
    del request
    if isinstance(error, BusyError):
        status = 429 if error.reason == "too_many" else 503
        return error_response(status, error.reason, str(error), {"Retry-After": str(error.retry_after_s)})
    return error_response(422, getattr(error, "reason", "error"), str(error))


def _no_such(request: Request, error: Exception) -> Response:
    del request
    if not isinstance(error, HTTPException):
        raise error
    return error_response(error.status_code, _REASONS.get(error.status_code, "refused"), error.detail, error.headers)


def _gone(request: Request, error: Exception) -> Response:
    del request, error
    return Response(status_code=400)  # nobody reads it


def _failed(request: Request, error: Exception) -> Response:
    del request, error
    return error_response(500, "internal", "The server failed at this request.")


HANDLERS: Mapping[type[Exception], ExceptionHandler] = {
    DeepscanError: _refused,
    HTTPException: _no_such,
    ClientDisconnect: _gone,
    Exception: _failed,
}
