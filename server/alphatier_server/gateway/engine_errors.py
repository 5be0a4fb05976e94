"""What an engine's error, or its silence, means for the client.

Messages name no engine: clients may be anybody. The request's line in the log names the replica.
"""

import logging
from collections.abc import Mapping

from alphatier_server.dialects.engine_errors import engine_message
from alphatier_server.errors import (
    EngineFailed,
    EngineRefused,
    EngineTimeout,
    GatewayError,
    NoDescriptors,
    NoEngine,
    TimedOut,
    TooManyConnections,
    Unreachable,
    UpstreamError,
    reason_phrase,
)
from alphatier_server.replicas.pool import RETRY_AFTER_SECONDS

log = logging.getLogger("alphatier")

_LONGEST_RETRY_AFTER = 3600
_NO_SUCH_API = (
    "The engine does not have this API. vLLM has all of the gateway's; `transformers serve` has chat completions, "
    "completions and Responses."
)
_OWN_TROUBLE = (401, 403, 407)
"""An engine that refuses the gateway's own key: nothing that a client could mend."""


def engine_error(status: int, headers: Mapping[bytes, bytes], body: bytes) -> GatewayError:
    """The engine's answer that is none (status 300 and above), or that of a load balancer before it.

    Its own 4xx as it came, 503 as one of the gateway's, else the engine's failure. What it says of a failure may name
    files and hosts: that goes to the log, not to the client.
    """
    error = engine_message(body)
    message = error.get("message")
    if status in _OWN_TROUBLE:
        log.error("an engine refuses the gateway's own key with status %d: %s", status, message)
        return EngineFailed("The engine does not accept the gateway's own key.", code="engine_refuses_gateway")
    if status < 400 or status >= 500 or not reason_phrase(status):
        log.warning("an engine failed with status %d: %s", status, message)
        if status == 503:
            wait = _retry_after(headers) or RETRY_AFTER_SECONDS
            return NoEngine("The engine is not available.", code="no_engine", retry_after=wait)
        if status == 504:
            return EngineTimeout("The engine did not answer in time.", code="engine_timeout")
        return EngineFailed(f"The engine failed with status {status}.", code="engine_failed")
    if status == 404 and message == "Not Found":  # the path, not the model
        return EngineRefused(status, {"error": {**error, "message": _NO_SUCH_API, "code": "api_not_available"}})
    return EngineRefused(status, {"error": error}, retry_after=_retry_after(headers))


def failure(error: UpstreamError) -> GatewayError:
    """The gateway's words for an engine that did not answer."""
    if isinstance(error, NoDescriptors):
        log.error("no file descriptor is left for a connection to an engine: raise `ulimit -n`")
        return TooManyConnections(
            "The gateway has too many connections open.", code="too_many_connections", retry_after=1
        )
    if isinstance(error, Unreachable):
        return NoEngine("The engine cannot be reached.", code="no_engine", retry_after=RETRY_AFTER_SECONDS)
    if isinstance(error, TimedOut):
        return EngineTimeout(f"The engine sent nothing for {error.seconds:g} seconds.", code="engine_timeout")
    return EngineFailed("The engine broke off while it answered.", code="engine_failed")


def _retry_after(headers: Mapping[bytes, bytes]) -> int | None:
    value = headers.get(b"retry-after", b"")
    return min(int(value), _LONGEST_RETRY_AFTER) if value.isdigit() and len(value) < 9 else None
