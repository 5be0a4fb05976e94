"""Every error that a client can see, in OpenAI's shape.

GatewayError                  base: status, type, code, message
├── InvalidRequest       400  the body or a selector is wrong
├── Unauthorized         401  no API key, or one that is not known
├── Forbidden            403  the key may not use this tier or path
├── NotFound             404  no such model, tier or path
├── RequestTimeout       408  the client did not send its body in time
├── Conflict             409  the admin API cannot do it as things are
├── BodyTooLarge         413
├── UnsupportedMediaType 415  the body is not said to be JSON
├── HeadTooLarge         431
├── RateLimited          429  a limit of the key is used up; Retry-After and x-ratelimit-* say when it is not
├── Overloaded           503  too much is waiting already; 429 where the key itself holds more than its share
├── TooManyConnections   503  no place, or no file descriptor, is left for another connection
├── EngineRefused        4xx  the engine's own refusal, passed on
├── EngineFailed         502  the engine broke, or answered something that is no answer
├── NoEngine             503  no engine that serves the tier is up; Retry-After says when to ask again
├── LimitsUnavailable    503  limits cannot be checked, and the operator chose to refuse then
├── Draining             503  the gateway is about to end and takes no new requests
├── EngineTimeout        504  the engine sent nothing for too long
└── DeadlineExceeded     504  the client's own deadline has passed

ClientGone is not for clients: it says that nobody is listening any more. Nor are these:

UpstreamError            an engine did not answer as HTTP demands
├── Unreachable          no connection: the engine has not seen the request
├── NoDescriptors        this process has no file descriptor left for a connection
├── Broken               the connection ended, or what came is not HTTP
└── TimedOut             the engine sent nothing for longer than the limit
EngineError              an engine cannot be planned, does not start, or does not do what it is told
UnknownEngine            there is no engine, or family, of that name
ConfigError              settings that cannot be used, with every fault found and its remedy
KeyFileError             the keys cannot be used
StoreFailed              the store that counts limits cannot be asked now
ServeError               the gateway cannot start or had to stop

The shape is that of OpenAI's API reference ("Error codes"), so the official SDK raises its own exceptions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

import orjson

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def reason_phrase(status: int) -> str:
    """The phrase that goes with a status; an engine may choose one that nobody has registered."""
    return _PHRASES.get(status, "")


class ClientGone(Exception):
    """The client closed its connection before the answer was complete."""


class GatewayError(Exception):
    """An error with an HTTP status and a body in OpenAI's shape."""

    status = 500
    kind = "gateway_error"
    type = "server_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        """Headers of the error answer, names in lower case."""
        if retry_after is not None:
            self.headers["retry-after"] = str(retry_after)

    def never_again(self) -> "GatewayError":
        """The same error; OpenAI's SDK does not repeat the request by itself (it reads `x-should-retry`)."""
        self.headers["x-should-retry"] = "false"
        return self

    @property
    def reason(self) -> str:
        """The status' reason phrase (RFC 9110, 15); empty for a status without one."""
        return reason_phrase(self.status)

    def document(self) -> dict[str, Any]:
        """The error as OpenAI's API would word it."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}

    def body(self) -> bytes:
        """The JSON body of an error answer."""
        return orjson.dumps(self.document())

    def event(self) -> bytes:
        """The last event of a stream that broke; no `[DONE]` follows it."""
        return b"data: " + self.body() + b"\n\n"


class InvalidRequest(GatewayError):
    """The request cannot be understood or contradicts itself."""

    status = 400
    kind = "invalid_request"
    type = "invalid_request_error"


class Unauthorized(GatewayError):
    """No API key came with the request, or one that is not known."""

    status = 401
    kind = "unauthorized"
    type = "invalid_request_error"


class Forbidden(GatewayError):
    """The API key is good, but not for this."""

    status = 403
    kind = "forbidden"
    type = "invalid_request_error"


class NotFound(GatewayError):
    """The model, tier or path does not exist."""

    status = 404
    kind = "not_found"
    type = "invalid_request_error"


class MethodNotAllowed(GatewayError):
    """The path exists, but not for this HTTP method."""

    status = 405
    kind = "invalid_request"
    type = "invalid_request_error"


class RequestTimeout(GatewayError):
    """The client did not send its body in time."""

    status = 408
    kind = "request_timeout"
    type = "invalid_request_error"


class Conflict(GatewayError):
    """The admin API cannot do it as things are; nothing was changed."""

    status = 409
    kind = "conflict"
    type = "invalid_request_error"


class BodyTooLarge(GatewayError):
    """The request body is larger than the gateway accepts."""

    status = 413
    kind = "body_too_large"
    type = "invalid_request_error"


class UnsupportedMediaType(GatewayError):
    """The body is not said to be JSON."""

    status = 415
    kind = "unsupported_media_type"
    type = "invalid_request_error"


class TooManyConnections(GatewayError):
    """The gateway has no place, or no file descriptor, for another connection."""

    status = 503
    kind = "too_many_connections"


class RateLimited(GatewayError):
    """A limit of the API key is used up."""

    status = 429
    kind = "rate_limited"
    type = "rate_limit_error"
    limit = "unknown"
    """Which limit: requests_per_minute, tokens_per_minute, concurrent_requests or concurrent_streams."""


ShedReason = Literal["queue_full", "displaced", "waited"]
"""Why a request was shed: no room for it; it made room for another; it waited too long."""


class Overloaded(GatewayError):
    """More is asked for than the engines can do; Retry-After says when the queue may be through."""

    status = 503
    kind = "overloaded"

    def __init__(self, message: str, *, greedy: bool, priority: str, shed: ShedReason, retry_after: int) -> None:
        super().__init__(message, code="overloaded", retry_after=retry_after)
        self.priority = priority
        """The class of the request that was shed."""
        self.shed: ShedReason = shed
        if greedy:
            self.status = 429
            self.type = "rate_limit_error"


class HeadTooLarge(GatewayError):
    """The request's headers are larger than the gateway accepts."""

    status = 431
    kind = "headers_too_large"
    type = "invalid_request_error"


class LimitsUnavailable(GatewayError):
    """The store that counts limits does not answer, and the operator chose to refuse requests then."""

    status = 503
    kind = "limits_unavailable"


class EngineRefused(GatewayError):
    """The engine refused the request; its status and words are passed on."""

    kind = "engine_refused"
    type = "invalid_request_error"

    def __init__(self, status: int, document: dict[str, Any], *, retry_after: int | None = None) -> None:
        super().__init__(str(document["error"].get("message")), retry_after=retry_after)
        self.status = status
        self._document = document

    def document(self) -> dict[str, Any]:
        """The engine's own error object."""
        return self._document


class EngineFailed(GatewayError):
    """The engine broke while it worked on the request."""

    status = 502
    kind = "engine_failed"


class NoEngine(GatewayError):
    """No engine that serves the tier is up."""

    status = 503
    kind = "no_engine"


class EngineTimeout(GatewayError):
    """The engine sent nothing for longer than the limit."""

    status = 504
    kind = "engine_timeout"


class Draining(GatewayError):
    """The gateway is about to end and takes no new requests."""

    status = 503
    kind = "draining"


class DeadlineExceeded(GatewayError):
    """The deadline that the client gave with its request has passed."""

    status = 504
    kind = "deadline_exceeded"


class UpstreamError(Exception):
    """An engine did not answer as HTTP demands. `answered`: whether any byte of an answer had come."""

    answered = False


class Unreachable(UpstreamError):
    """No connection could be made."""


class NoDescriptors(UpstreamError):
    """This process has no file descriptor left for a connection: its own trouble, not the engine's."""


class Broken(UpstreamError):
    """The connection ended before the answer did, or the bytes are not HTTP.

    `reused`: the connection had carried requests before, so the engine may have closed it before it saw this one.
    """

    def __init__(self, message: str, *, answered: bool, reused: bool = False) -> None:
        super().__init__(message)
        self.answered = answered
        self.reused = reused


class TimedOut(UpstreamError):
    """Nothing came for `seconds`."""

    def __init__(self, seconds: float, *, answered: bool) -> None:
        super().__init__(f"nothing came for {seconds:g} seconds")
        self.seconds = seconds
        self.answered = answered


class EngineError(Exception):
    """An engine cannot be planned, does not start, or does not do what it is told; the message names the remedy."""


@dataclass(frozen=True)
class ConfigProblem:
    """One fault: the key or option it is about (empty: the file as a whole), what is wrong, what to do."""

    where: str
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: " if self.where else ""
        tail = f" {self.remedy}." if self.remedy else ""
        return f"{head}{self.problem}.{tail}"


class ConfigError(ValueError):
    """`source` names the file, or the command line."""

    def __init__(self, source: str, problems: list[ConfigProblem]) -> None:
        self.problems = problems
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{source} cannot be used:\n{lines}")


class StoreFailed(Exception):
    """The store cannot be asked now."""


class ServeError(Exception):
    """The gateway cannot start or had to stop; the message names the remedy."""


class KeyFileError(Exception):
    """The keys cannot be used; the message names the place and the remedy."""


class UnknownEngine(KeyError):
    """There is no engine, or family, of that name."""
