"""The API's description for programs (OpenAPI 3.1); ``/docs`` is made of it."""

from __future__ import annotations

from typing import Any

from deepscan.report.table import schema as report_schema
from deepscan.version import __version__

_FILE = {"type": "string", "format": "binary", "description": "A video or an image."}


def description() -> dict[str, Any]:
    """All of it."""
    report = report_schema()
    definitions = report.pop("$defs")
    schemas = {
        "Report": _moved(report),
        **_moved(definitions),
        "Error": {
            "type": "object",
            "description": "An answer that is no report.",
            "required": ["error"],
            "properties": {
                "error": {
                    "type": "object",
                    "required": ["reason", "message"],
                    "properties": {
                        "reason": {"type": "string", "description": "A code that stays the same across versions."},
                        "message": {"type": "string", "description": "One line for a person."},
                    },
                }
            },
        },
        "Health": {
            "type": "object",
            "required": ["deepscan", "model", "waiting"],
            "properties": {
                "deepscan": {"type": "string", "description": "Version of the program."},
                "model": {"$ref": "#/components/schemas/Report/properties/model"},
                "waiting": {"type": "integer", "description": "Requests that are judged or wait for it."},
            },
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "deepscan",
            "version": __version__,
            "description": "Is a face in this video or picture manipulated?",
        },
        "paths": {
            "/api/predict": {"post": _predict()},
            "/api/schema": {
                "get": {
                    "summary": "JSON schema of a report",
                    "description": "The same schema as is described here, for validators.",
                    "responses": {"200": _json("The schema.", {"type": "object"})},
                }
            },
            "/api/health": {
                "get": {
                    "summary": "Whether the server answers",
                    "description": "And which detector it has.",
                    "responses": {"200": _json("It does.", _schema("Health"))},
                }
            },
        },
        "components": {"schemas": schemas},
    }


def _predict() -> dict[str, Any]:
    files = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "array", "minItems": 1, "items": _FILE}},
    }
    error = _schema("Error")
    busy = _json("The server is busy; the header says when to come back.", error)
    return {
        "summary": "Judge files",
        "description": "One or several. They are removed before the answer is sent.",
        "parameters": [
            {
                "name": "name",
                "in": "query",
                "schema": {"type": "string"},
                "description": "Of the file, where the file is the body.",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": files}, "application/octet-stream": {"schema": _FILE}},
        },
        "responses": {
            "200": _json("The report: a result for each file, in the order in which they came.", _schema("Report")),
            "408": _json("The request did not arrive in time.", error),
            "413": _json("Larger than the server takes.", error),
            "422": _json(
                "No file could be judged: a report whose verdicts are “error”; or there was no file.",
                {"anyOf": [_schema("Report"), error]},
            ),
            "503": busy | {"headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}},
        },
    }


def _json(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _moved(schema: Any) -> Any:
    """The schema with its references to where its definitions are here."""
    if isinstance(schema, dict):
        return {name: _moved(value) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_moved(value) for value in schema]
    return schema.replace("#/$defs/", "#/components/schemas/") if isinstance(schema, str) else schema
