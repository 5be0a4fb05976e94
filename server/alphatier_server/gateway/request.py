"""Headers that the gateway reads and writes. Names and values from clients are checked before they go anywhere."""

import os
import random
import re
from collections.abc import Mapping, Sequence

from alphatier_server.errors import InvalidRequest
from alphatier_server.gateway.decide import TIER_HEADER

DEADLINE_HEADER = b"x-request-timeout"
_TIER = TIER_HEADER.encode()

_random = random.Random(os.urandom(32))
"""Ids must be unique, not secret; the kernel's own randomness would be a system call for each."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TRACE = re.compile(rb"[\x20-\x7e]{1,512}")


def request_id(given: bytes | None) -> str:
    """The client's `X-Request-Id` if it is a plain token, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{_random.getrandbits(128):032x}"


class RequestHead:
    """What the gateway reads of a request's head. One object serves all requests with such a head; never changed.

    `headers` are (name in lower case, value) pairs as they came.
    """

    __slots__ = ("api_key", "authorization", "deadline", "request_id", "tiers", "trace")

    def __init__(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        fields = dict(headers)
        self.authorization = _text(fields, b"authorization")
        self.api_key = _text(fields, b"x-api-key")
        self.request_id = fields.get(b"x-request-id")
        self.deadline = fields.get(DEADLINE_HEADER)
        self.tiers = tuple(value.decode("latin-1") for name, value in headers if name == _TIER)
        """Every value of `X-Efficiency-Tier`."""
        self.trace = _trace_lines(fields)
        """Its trace (W3C Trace Context) as lines for the engine; nothing else of a client's headers goes there."""


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def lines(headers: Mapping[str, str]) -> bytes:
    """The headers as bytes to send."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


def deadline_of(value: bytes) -> float:
    """Seconds that the client waits at most (`X-Request-Timeout`). Raises InvalidRequest."""
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise InvalidRequest(
            "X-Request-Timeout must be a number of seconds above 0", code="invalid_value", param="X-Request-Timeout"
        )
    return seconds


def _trace_lines(headers: Mapping[bytes, bytes]) -> bytes:
    sent = b""
    trace = headers.get(b"traceparent")
    if trace is not None and _TRACE.fullmatch(trace):
        sent += b"traceparent: %b\r\n" % trace
        state = headers.get(b"tracestate")
        if state is not None and _TRACE.fullmatch(state):
            sent += b"tracestate: %b\r\n" % state
    return sent
