"""What an engine's error, or its silence, means for the client, and whether another engine may be asked."""

from collections.abc import Mapping

import orjson

from alphatier_server.errors import EngineFailed, EngineRefused, EngineTimeout, GatewayError, NoEngine
from alphatier_server.replicas.pool import RETRY_AFTER_SECONDS
from alphatier_server.upstream import TimedOut, Unreachable, UpstreamError

_LONGEST_RETRY_AFTER = 3600
_NO_SUCH_API = (
    "The engine does not have this API. vLLM has all of the gateway's; `transformers serve` has chat completions, "
    "completions and Responses."
)


def engine_error(status: int, headers: Mapping[bytes, bytes], body: bytes) -> GatewayError:
    """The engine's error answer: its own 4xx as it came, 503 as one of the gateway's, else the engine's failure."""
    error = _error_object(body)
    if status == 503:
        return NoEngine(
            f"The engine is not available: {error.get('message')}",
            code="no_engine",
            retry_after=_retry_after(headers) or RETRY_AFTER_SECONDS,
        )
    if status == 404 and error.get("message") == "Not Found":  # the path, not the model
        return EngineRefused(status, {"error": {**error, "message": _NO_SUCH_API, "code": "api_not_available"}})
    if status < 500:
        return EngineRefused(status, {"error": error}, retry_after=_retry_after(headers))
    return EngineFailed(f"The engine failed: {error.get('message')}", code="engine_failed")


def failure(error: UpstreamError, replica: str) -> GatewayError:
    """The gateway's words for an engine that did not answer."""
    if isinstance(error, Unreachable):
        return NoEngine(f"The engine {replica} cannot be reached.", code="no_engine", retry_after=RETRY_AFTER_SECONDS)
    if isinstance(error, TimedOut):
        return EngineTimeout(
            f"The engine {replica} sent nothing for {error.seconds:g} seconds.", code="engine_timeout"
        )
    return EngineFailed(f"The engine {replica} broke off while it answered.", code="engine_failed")


def repeatable(error: UpstreamError) -> bool:
    """Whether to ask another engine, nothing having been sent to the client.

    Generating has no side effect, so what failed can be done again. Not after a time limit: the work may
    still go on, and another engine would be as slow.
    """
    return not isinstance(error, TimedOut)


def _error_object(body: bytes) -> dict[str, object]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = {"error": body[:500].decode("utf-8", "replace")}
    error = document.get("error", document.get("detail")) if isinstance(document, dict) else document
    if isinstance(error, dict):
        return error
    message = error if isinstance(error, str) else orjson.dumps(error).decode()
    return {"message": message, "type": "invalid_request_error", "param": None, "code": None}


def _retry_after(headers: Mapping[bytes, bytes]) -> int | None:
    value = headers.get(b"retry-after", b"")
    return min(int(value), _LONGEST_RETRY_AFTER) if value.isdigit() and len(value) < 9 else None
