"""The JSON API: a file in, the report that ``deepscan predict --json`` writes out."""

from __future__ import annotations

import json
import shutil
from typing import Annotated, Any

from fastapi import FastAPI, File, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError

from deepscan.report.table import schema as report_schema
from deepscan.report.table import to_json
from deepscan.types import VerdictLabel
from deepscan.version import __version__
from deepscan.web.guard import error_response
from deepscan.web.service import BusyError, JudgeService, shown_name, stored_name

PREDICT = "/api/predict"


def make_api(service: JudgeService) -> FastAPI:
    """The application with the API; the page is mounted into it.

    ``POST /api/predict`` takes one file (``multipart/form-data``, field ``file``) and answers with the report: 200
    where there is an answer, ``not_applicable`` included; 422 where the file could not be judged (verdict ``error``).
    Other errors are ``{"error": {"reason", "message"}}``: 413 too large, 422 no file, 503 busy.
    ``GET /api/schema`` is the report's JSON schema, ``GET /api/openapi.json`` this description.
    """
    # No pages of documentation: theirs load scripts from elsewhere.
    app = FastAPI(title="deepscan", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")

    @app.post(PREDICT, responses={200: {"content": {"application/json": {"schema": report_schema()}}}})
    def predict(file: Annotated[UploadFile, File(description="A video or an image.")]) -> Response:
        """Judge one file. It is removed before the answer is sent."""
        name = shown_name(file.filename)
        folder = service.folder()
        try:
            path = folder / stored_name(name)
            with path.open("wb") as stored:
                shutil.copyfileobj(file.file, stored, 2**20)
            report = service.report(path, name)
        except BusyError as error:
            answer = error_response(503, error.reason, str(error))
            answer.headers["Retry-After"] = "60"
            return answer
        finally:
            file.file.close()
            service.forget(folder)
        failed = report.results[0].verdict is VerdictLabel.ERROR
        return Response(to_json(report), 422 if failed else 200, media_type="application/json")

    @app.get("/api/schema")
    def schema() -> dict[str, Any]:
        """The JSON schema of a report."""
        return report_schema()

    @app.get("/api/health")
    def health() -> dict[str, Any]:
        """Whether the server answers, and which detector it has."""
        return {"deepscan": __version__, "model": json.loads(to_json(service.detector.report([])))["model"]}

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        del request, error
        return error_response(422, "no_file", "Send one file as multipart/form-data in the field 'file'.")

    return app
