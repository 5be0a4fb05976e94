"""Every error that a client can see, in OpenAI's shape, and those that stay inside.

GatewayError             a client can see it: each kind has its HTTP status
├── InvalidRequest, Unauthorized, Forbidden, NotFound, ... 4xx: the request's own fault; DeadlineTooShort too
├── RateLimited, Overloaded, Draining, NoEngine, ...       429 and 503: ask again later
├── EngineRefused        the engine's own refusal, passed on
└── EngineFailed, EngineTimeout, DeadlineExceeded, ...     5xx: it went wrong
ClientGone               nobody is listening any more
UpstreamError            an engine did not answer as HTTP demands
├── Unreachable          no connection: the engine has not seen the request
├── NoDescriptors        this process has no file descriptor left for a connection
├── Broken               the connection ended, or what came is not HTTP
└── TimedOut             the engine sent nothing for longer than the limit
EngineError, UnknownEngine, ConfigError, KeyFileError, StoreFailed, ServeError   for the operator

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
    """An error with an HTTP status and a body in OpenAI's shape. `kind` is its name in metrics."""

    status = 500
    kind = "gateway_error"

    def __init_subclass__(cls, status: int | None = None, kind: str | None = None) -> None:
        cls.status = status or cls.status
        cls.kind = kind or cls.kind

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
    def type(self) -> str:
        """The type that OpenAI's API gives errors of such a status."""
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    @property
    def reason(self) -> str:
        """The status' reason phrase (RFC 9110, 15); empty for a status without one."""
        return reason_phrase(self.status)

    def document(self) -> dict[str, Any]:
        """The error as OpenAI's API would word it."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        """The JSON body of an error answer."""
        return orjson.dumps(self.document())


class InvalidRequest(GatewayError, status=400, kind="invalid_request"):
    """The body or a selector cannot be understood or contradicts another."""


class DeadlineTooShort(InvalidRequest, kind="deadline_too_short"):
    """No tier is expected to answer within the deadline; `x-alphatier-shortest-deadline` says which could be met."""

    def __init__(self, seconds: float, shortest: float) -> None:
        text = f"{shortest:.3f}"
        super().__init__(
            f"No tier is expected to answer within {max(seconds, 0.0):.3f} s, as busy as the engines are; {text} s "
            "could be met. Allow more time, or name a tier: it is tried, and cut off at the deadline.",
            code="deadline_too_short",
            headers={"x-alphatier-shortest-deadline": text},
        )
        self.never_again()


class Unauthorized(GatewayError, status=401, kind="unauthorized"):
    """No API key came with the request, or one that is not known."""


class Forbidden(GatewayError, status=403, kind="forbidden"):
    """The API key is good, but not for this tier or path."""


class NotFound(GatewayError, status=404, kind="not_found"):
    """The model, tier or path does not exist."""


class MethodNotAllowed(GatewayError, status=405, kind="invalid_request"):
    """The path exists, but not for this HTTP method."""


class RequestTimeout(GatewayError, status=408, kind="request_timeout"):
    """The client did not send its body in time."""


class Conflict(GatewayError, status=409, kind="conflict"):
    """The admin API cannot do it as things are; nothing was changed."""


class BodyTooLarge(GatewayError, status=413, kind="body_too_large"):
    """The request body is larger than the gateway accepts."""


class UnsupportedMediaType(GatewayError, status=415, kind="unsupported_media_type"):
    """The body is not said to be JSON."""


class HeadTooLarge(GatewayError, status=431, kind="headers_too_large"):
    """The request's headers are larger than the gateway accepts."""


class RateLimited(GatewayError, status=429, kind="rate_limited"):
    """A limit of the API key is used up; Retry-After and x-ratelimit-* say when it is not."""

    limit = "unknown"
    """Which limit: requests_per_minute, tokens_per_minute, concurrent_requests or concurrent_streams."""


ShedReason = Literal["queue_full", "displaced", "waited"]
"""Why a request was shed: no room for it; it made room for another; it waited too long."""


class Overloaded(GatewayError, status=503, kind="overloaded"):
    """More is asked for than the engines can do; 429 where the key itself holds more than its share.

    Retry-After says when the queue may be through.
    """

    def __init__(self, message: str, *, greedy: bool, priority: str, shed: ShedReason, retry_after: int) -> None:
        super().__init__(message, code="overloaded", retry_after=retry_after)
        self.priority = priority
        """The class of the request that was shed."""
        self.shed: ShedReason = shed
        if greedy:
            self.status = 429


class TooManyConnections(GatewayError, status=503, kind="too_many_connections"):
    """The gateway has no place, or no file descriptor, for another connection."""


class LimitsUnavailable(GatewayError, status=503, kind="limits_unavailable"):
    """The store that counts limits does not answer, and the operator chose to refuse requests then."""


class Draining(GatewayError, status=503, kind="draining"):
    """The gateway is about to end and takes no new requests."""


class EngineRefused(GatewayError, status=400, kind="engine_refused"):
    """The engine refused the request; its status, a 4xx, and its words are passed on."""

    def __init__(self, status: int, document: dict[str, Any], *, retry_after: int | None = None) -> None:
        super().__init__(str(document["error"].get("message")), retry_after=retry_after)
        self.status = status
        self._document = document

    def document(self) -> dict[str, Any]:
        """The engine's own error object."""
        return self._document


class EngineFailed(GatewayError, status=502, kind="engine_failed"):
    """The engine broke, or answered something that is no answer."""


class NoEngine(GatewayError, status=503, kind="no_engine"):
    """No engine that serves the tier is up; Retry-After says when to ask again."""


class EngineTimeout(GatewayError, status=504, kind="engine_timeout"):
    """The engine sent nothing for longer than the limit."""


class DeadlineExceeded(GatewayError, status=504, kind="deadline_exceeded"):
    """The deadline that the client gave with its request has passed."""


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
