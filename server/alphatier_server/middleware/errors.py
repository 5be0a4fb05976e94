"""Errors as ASGI answers, in OpenAI's shape."""

from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Scope

from alphatier_server.errors import GatewayError
from alphatier_server.gateway.request import request_id


def error_response(scope: Scope, error: GatewayError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that tells of `error`."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
    own = {"x-request-id": request_id(given), **(headers or {}), **error.headers}
    if not scope.get("http_version", "1.1").startswith("1"):
        own.pop("connection", None)  # HTTP/2 has no such header (RFC 9113, 8.2.2)
    return Response(error.body(), error.status, own, media_type="application/json")
