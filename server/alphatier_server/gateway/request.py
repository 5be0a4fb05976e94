"""A client's request and the way back to the client, whatever server brought it: ASGI or the accelerator.

Names and values from clients are checked before they go anywhere.
"""

import os
import random
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from alphatier_server.dialects.efforts import LONGEST_ASKED
from alphatier_server.errors import InvalidRequest, UnsupportedMediaType

TIER_HEADER = "x-efficiency-tier"
_TIER = TIER_HEADER.encode()
DEADLINE_HEADER = "X-Request-Timeout"
_DEADLINE = DEADLINE_HEADER.lower().encode()

_random = random.Random(os.urandom(32))
"""Ids must be unique, not secret; the kernel's own randomness would be a system call for each."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TRACE = re.compile(rb"[\x20-\x7e]{1,512}")
_LONGEST_USER_AGENT = 256


class Head:
    """What the gateway reads of a request's head. `headers` are (name in lower case, value) pairs as they came."""

    __slots__ = ("_fields", "_pairs", "request_id")

    def __init__(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._pairs = headers
        self._fields = fields = dict(headers)
        given = fields.get(b"x-request-id")
        self.request_id = request_id(given)
        """The client's `X-Request-Id` if it is a plain token, else a new one."""

    def credentials(self) -> tuple[str | None, str | None]:
        """The values of `Authorization` and of Anthropic's `x-api-key`.

        Raises InvalidRequest for one that is there twice: two readers might take different ones.
        """
        if len(self._fields) < len(self._pairs):
            self._refuse_twice(b"authorization")
            self._refuse_twice(b"x-api-key")
        return _text(self._fields, b"authorization"), _text(self._fields, b"x-api-key")

    def _refuse_twice(self, name: bytes) -> None:
        if sum(name == other for other, _ in self._pairs) > 1:
            raise InvalidRequest(f"The header {name.decode()} is there twice.", code="invalid_header")

    def require_json(self) -> None:
        """Refuse a body that is not said to be JSON: a web page can send any other without asking (CORS).

        Raises UnsupportedMediaType.
        """
        kind = self._fields.get(b"content-type", b"")
        if kind != b"application/json" and kind.partition(b";")[0].strip().lower() != b"application/json":
            raise UnsupportedMediaType(
                "The body must be JSON, and the header must say so: Content-Type: application/json.",
                code="unsupported_media_type",
            )

    def content_length(self) -> int | None:
        """The length of the body as announced; None where it comes in chunks, or the number is none."""
        value = self._fields.get(b"content-length", b"")
        return int(value) if value.isdigit() and len(value) < 19 else None

    def deadline(self) -> float | None:
        """Seconds that the client waits at most (`X-Request-Timeout`). Raises InvalidRequest."""
        value = self._fields.get(_DEADLINE)
        if value is None:
            return None
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < float("inf"):
            raise InvalidRequest(
                f"{DEADLINE_HEADER} must be a number of seconds above 0",
                code="invalid_value",
                param=DEADLINE_HEADER,
            )
        return seconds

    def tiers(self) -> Sequence[str]:
        """Every value of `X-Efficiency-Tier`."""
        if _TIER not in self._fields:
            return ()
        return [value.decode("latin-1") for name, value in self._pairs if name == _TIER]

    def asked(self) -> dict[str, str]:
        """The headers that choose a tier or bound the time, as they came, cut short."""
        if _TIER not in self._fields and _DEADLINE not in self._fields:
            return {}
        return {
            name.decode(): self._fields[name][:LONGEST_ASKED].decode("latin-1")
            for name in (_TIER, _DEADLINE)
            if name in self._fields
        }

    def user_agent(self) -> str | None:
        """What the client calls itself, cut short."""
        agent = self._fields.get(b"user-agent")
        return None if agent is None else agent[:_LONGEST_USER_AGENT].decode("latin-1")

    def trace(self) -> bytes:
        """Its trace (W3C Trace Context) as lines for the engine; nothing else of a client's headers goes there."""
        trace = self._fields.get(b"traceparent")
        if trace is None or not _TRACE.fullmatch(trace):
            return b""
        sent = b"traceparent: %b\r\n" % trace
        state = self._fields.get(b"tracestate")
        return sent + b"tracestate: %b\r\n" % state if state is not None and _TRACE.fullmatch(state) else sent


class Request(Protocol):
    """One request whose head has come."""

    method: str
    query: bytes
    """What stood behind the `?`, where it may matter: for paths that are only passed on."""
    head: Head
    client: str | None
    """The address that the connection comes from."""
    arrived: float
    """When the head came, in `time.perf_counter` seconds."""

    async def body(self) -> bytes:
        """The whole body. Raises BodyTooLarge, RequestTimeout or ClientGone."""
        ...


class ResponseWriter(Protocol):
    """The answer to one request. Nothing here waits: what the client cannot take yet is held for it.

    Either `answer` once, or `start`, any number of `write`, and `finish` or `abort`. Header lines end with CR LF
    each.
    """

    started: bool
    """Whether `answer` or `start` was called."""
    wrote: bool
    """Set by each `write`, for who wants to know whether the stream was silent."""
    disconnected: bool
    """Whether the client has left. Its request is cancelled then."""
    keep_alive: bool
    """Whether the connection may serve another request."""

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        """The whole answer."""
        ...

    def start(self, status: int, head: bytes) -> None:
        """The head of an answer of unknown length; it may wait for the first piece."""
        ...

    def send_head(self) -> None:
        """Send the head now, if no piece has taken it along."""
        ...

    def write(self, data: bytes) -> None:
        """A piece of the body, not empty."""
        ...

    def finish(self, data: bytes = b"") -> None:
        """The last piece of the body; may be empty."""
        ...

    def abort(self) -> None:
        """Break a started answer off, so that the client cannot take it for a whole one."""
        ...

    def follow_pace(self, stream: "Paced | None") -> None:
        """Pause `stream` while the client takes no more; None: no longer."""
        ...


class Paced(Protocol):
    """What can be told to wait."""

    def pause(self) -> None:
        """Bring nothing for the moment."""
        ...

    def resume(self) -> None:
        """Go on."""
        ...


def request_id(given: bytes | None) -> str:
    """The client's `X-Request-Id` if it is a plain token, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{_random.getrandbits(128):032x}"


def lines(headers: Mapping[str, str]) -> bytes:
    """The headers as bytes to send."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")
