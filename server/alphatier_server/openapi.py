"""Describes the generating endpoints in the OpenAPI document: they are plain ASGI, which FastAPI cannot read."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from alphatier_models import EFFORTS

_FIELDS: dict[str, dict[str, Any]] = {
    "model": {"type": "string", "description": "`<family>`, `<family>:<tier>` or `<family>:auto`."},
    "stream": {"type": "boolean", "default": False},
    "efficiency_tier": {"type": "string", "description": "A tier's name, or `auto`."},
    "reasoning_effort": {"type": "string", "enum": list(EFFORTS), "description": "Mapped to a tier by the family."},
}
_STATUSES = {
    "400": "The body or a selector is wrong, or selectors contradict each other",
    "404": "No such model or tier; the message lists what exists",
    "408": "The body did not arrive in time",
    "413": "The body is too large",
    "502": "The engine broke",
    "503": "No engine that serves the tier is up; see Retry-After",
    "504": "The engine sent nothing for too long",
}


def describe_completions(app: FastAPI) -> None:
    """Make `app.openapi()` include the generating endpoints."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            schema["paths"]["/v1/chat/completions"] = _path("Chat completion", "messages", {"type": "array"})
            schema["paths"]["/v1/completions"] = _path("Text completion", "prompt", {"type": "string"})
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _path(summary: str, content: str, kind: dict[str, Any]) -> dict[str, Any]:
    body = {
        "type": "object",
        "required": ["model", content],
        "properties": {**_FIELDS, content: kind},
        "additionalProperties": True,
        "description": "OpenAI's request; fields not listed here go to the engine unchanged.",
    }
    header = {
        "name": "X-Efficiency-Tier",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "A tier's name, or `auto`.",
    }
    answer = {"description": "The engine's answer; headers x-alphatier-* say which tier ran and why"}
    refused = {status: {"description": text, **_content(_ERROR)} for status, text in _STATUSES.items()}
    return {
        "post": {
            "tags": ["completions"],
            "summary": summary,
            "parameters": [header],
            "requestBody": {"required": True, **_content(body)},
            "responses": {"200": {**answer, **_content({"type": "object"})}, **refused},
        }
    }


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
