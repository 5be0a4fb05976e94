"""Headers that the gateway reads and writes. Names and values from clients are checked before they go anywhere."""

import os
import random
import re
from collections.abc import Mapping

from alphatier_server.errors import InvalidRequest

DEADLINE_HEADER = b"x-request-timeout"

_random = random.Random(os.urandom(32))
"""Ids must be unique, not secret; the kernel's own randomness would be a system call for each."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TRACE = re.compile(rb"[\x20-\x7e]{1,512}")


def request_id(given: bytes | None) -> str:
    """The client's `X-Request-Id` if it is a plain token, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{_random.getrandbits(128):032x}"


def text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    """The header's value; None without one."""
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def lines(headers: Mapping[str, str]) -> bytes:
    """The headers as bytes to send."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


def deadline_of(headers: Mapping[bytes, bytes]) -> float | None:
    """Seconds that the client waits at most (`X-Request-Timeout`). Raises InvalidRequest."""
    value = headers.get(DEADLINE_HEADER)
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise InvalidRequest(
            "X-Request-Timeout must be a number of seconds above 0", code="invalid_value", param="X-Request-Timeout"
        )
    return seconds


def engine_lines(headers: Mapping[bytes, bytes], request_id: str) -> bytes:
    """The request's id and its trace (W3C Trace Context); nothing else of a client's headers goes to an engine."""
    sent = b"x-request-id: %b\r\n" % request_id.encode()
    trace = headers.get(b"traceparent")
    if trace is not None and _TRACE.fullmatch(trace):
        sent += b"traceparent: %b\r\n" % trace
        state = headers.get(b"tracestate")
        if state is not None and _TRACE.fullmatch(state):
            sent += b"tracestate: %b\r\n" % state
    return sent
