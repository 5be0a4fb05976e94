"""Describes the generating endpoints in the OpenAPI document: FastAPI does not serve them, so it cannot know them.

The document is OpenAPI 3.1. Bodies and headers are in `openapi_schemas`. The rest of the document is
FastAPI's own; what all its answers have in common (the error shape) is added here.
"""

from fastapi import FastAPI

from alphatier_server.routes.openapi_schemas import (
    HEADERS,
    PARAMETERS,
    RATE_LIMIT_HEADERS,
    SCHEMAS,
    SECURITY_SCHEMES,
    Schema,
)

_JSON, _EVENTS = "application/json", "text/event-stream"


def describe_completions(app: FastAPI) -> None:
    """Make `app.openapi()` include the generating endpoints."""

    own = app.openapi

    def openapi() -> Schema:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(own())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _completed(schema: Schema) -> Schema:
    components = schema.setdefault("components", {})
    components.setdefault("schemas", {}).update(SCHEMAS)
    components |= {"headers": HEADERS, "parameters": PARAMETERS, "securitySchemes": SECURITY_SCHEMES}
    paths = schema["paths"]
    for path, operations in paths.items():
        for operation in operations.values():
            _complete(path, operation)
    for path, (summary, body, streams, shape) in _GENERATING.items():
        paths[path] = {"post": _operation(path, summary, body, streams, shape)}
    return schema


def _complete(path: str, operation: Schema) -> None:
    """What FastAPI does not know of its own operations: keys, errors, and kinds of text."""
    responses, errors = operation["responses"], _errors("Error")
    if "requestBody" not in operation:
        responses.pop("422", None)  # names in paths may be any text: what does not exist is a 404
    wanted = ["4XX", "5XX"]
    if path.startswith("/v1/"):
        operation["security"] = _OPEN_OR_KEYS
        wanted.append("401")
    elif path.startswith("/admin"):
        operation["security"] = _OPEN_OR_KEYS[:2]
        wanted += ["401", "403"]
    for status in wanted:
        if "content" not in responses.get(status, {}):
            responses[status] = errors[status]
    for status, answer in responses.items():
        answer.setdefault("content", _METRICS if path == "/metrics" and status == "200" else _ANY_OBJECT)


def _operation(path: str, summary: str, body: str, streams: bool, shape: str) -> Schema:
    answer: Schema = {_JSON: {"schema": {"type": "object", "additionalProperties": True}}}
    if streams:
        answer[_EVENTS] = {"schema": _EVENT}
    headers = _headers(*(name for name in HEADERS if name != "retry-after"))
    good = {"description": "The engine's answer.", "headers": headers, "content": answer}
    return {
        "tags": ["generation"],
        "operationId": path.removeprefix("/v1/").replace("/", "_"),
        "summary": summary,
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in PARAMETERS],
        "security": _OPEN_OR_KEYS,
        "requestBody": {"required": True, "content": {_JSON: {"schema": _ref(body)}}},
        "responses": {"200": good, **_errors(shape)},
    }


def _errors(shape: str) -> Schema:
    content = {_JSON: {"schema": _ref(shape)}}
    more = {"429": ("retry-after", *RATE_LIMIT_HEADERS), "503": ("retry-after",)}
    headers = {status: _headers("x-request-id", *more.get(status, ())) for status in _STATUSES}
    return {
        status: {"description": text, "headers": headers[status], "content": content}
        for status, text in _STATUSES.items()
    }


def _headers(*names: str) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_STATUSES = {
    "400": "The body, a selector or a header is wrong, or selectors contradict each other.",
    "401": "No API key, or one that is not known (where the gateway has keys).",
    "403": "The API key may not use this tier.",
    "404": "No such model or tier; the message lists what exists.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "429": "A limit of the API key is used up; Retry-After tells when to ask again.",
    "4XX": "The engine's own refusal, as it came, or HTTP that cannot be understood.",
    "500": "A fault of the gateway.",
    "502": "The engine broke, or its answer cannot be read.",
    "503": "No engine that serves the tier is up, or the gateway is about to end; see Retry-After.",
    "504": "The engine sent nothing for too long, or the request's own deadline has passed.",
    "5XX": "Any other failure.",
}
_OPEN_OR_KEYS: list[Schema] = [{"bearer": []}, {"api_key": []}, {}]
_ANY_OBJECT: Schema = {_JSON: {"schema": {"type": "object"}}}
_METRICS: Schema = {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/openmetrics-text")}
_EVENT: Schema = {
    "type": "object",
    "description": "One server-sent event, when `stream` is true.",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
_GENERATING = {
    "/v1/chat/completions": ("Chat completion", "ChatCompletionRequest", True, "Error"),
    "/v1/completions": ("Text completion", "CompletionRequest", True, "Error"),
    "/v1/responses": ("OpenAI's Responses API", "ResponseRequest", True, "Error"),
    "/v1/messages": ("Anthropic's Messages API", "MessageRequest", True, "AnthropicError"),
    "/v1/messages/count_tokens": ("Tokens of a prompt", "CountTokensRequest", False, "AnthropicError"),
}
"""Path: summary, request body, whether it streams, shape of errors."""
