"""After a soak: is anything still held against a key? Asked of the gateway as a client would.

Every limited key must have all of its places free and full buckets, and must still be limited.
"""

import http.client
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks.soak.keys import KEYS, header

PATIENCE_SECONDS = 15.0
"""So long buckets may take to fill, and engines to be in use again after what they went through."""
ANSWER_SECONDS = 10.0
PAUSE_SECONDS = 0.3
PREFIX = "probe-"
"""Begins the ids of the requests that are asked here."""


def leftovers(url: str) -> Iterator[str]:
    """What is still held, in words."""
    for name, key in KEYS.items():
        if "concurrent_streams" in key.limits:
            yield from _held_places(url, name, key.limits["concurrent_streams"], stream=True)
        if "concurrent_requests" in key.limits:
            yield from _held_places(url, name, key.limits["concurrent_requests"], stream=False)
        for unit in ("requests", "tokens"):
            if f"{unit}_burst" in key.limits:
                yield from _held_units(url, name, unit, key.limits[f"{unit}_burst"])


def _held_places(url: str, name: str, places: int, *, stream: bool) -> Iterator[str]:
    """Take all places at once and one more; what else than they is refused?"""
    deadline = time.monotonic() + PATIENCE_SECONDS
    expected = [200] * places + [429]
    while True:
        statuses = _statuses(url, name, places, stream=stream)
        if statuses == expected:
            return
        if time.monotonic() > deadline:
            yield f"the key {name!r} has {places} places; {places + 1} requests at once were answered {statuses}"
            return
        time.sleep(PAUSE_SECONDS)


def _statuses(url: str, name: str, places: int, *, stream: bool) -> Sequence[int]:
    with ExitStack() as stack:
        asked = []
        for number in range(places + 1):
            # Streams tell that they were let in by their head, other answers only in the end.
            fault = "slow" if stream else "late_head"
            body = _body(fault if number < places else "none", 24, stream=stream)
            asked.append(_ask(stack, url, name, body))
            if number == places - 1:
                time.sleep(PAUSE_SECONDS / 6)
        answers = [connection.getresponse() for connection in asked]
        for answer in answers:
            answer.read()
        return [answer.status for answer in answers]


def _held_units(url: str, name: str, unit: str, burst: int) -> Iterator[str]:
    body = _body("none", 1, stream=False)
    # One request, or the tokens that the gateway holds back for it: a token for four bytes, and the one it may use.
    own = 1 if unit == "requests" else len(body) // 4 + 1
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with ExitStack() as stack:
            answer = _ask(stack, url, name, body).getresponse()
            answer.read()
            left = answer.headers.get(f"x-ratelimit-remaining-{unit}")
        if left == str(burst - own):
            return
        if time.monotonic() > deadline:
            yield f"the key {name!r} has {left} {unit} left after a pause, {burst - own} of {burst} should be"
            return
        time.sleep(PAUSE_SECONDS)


def _body(fault: str, tokens: int, *, stream: bool) -> bytes:
    orders = {"id": f"{PREFIX}{fault}", "fault": fault, "tokens": tokens}
    messages = [{"role": "user", "content": "?"}]
    document: dict[str, Any] = {"model": "toy", "stream": stream, "messages": messages, "max_tokens": 1}
    return orjson.dumps({**document, "soak": orders})


def _ask(stack: ExitStack, url: str, name: str, body: bytes) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_SECONDS)
    stack.callback(connection.close)
    field, _, value = header(name, anthropic=False).strip().partition(": ")
    orders = orjson.loads(body)["soak"]
    headers = {field: value, "x-request-id": orders["id"], "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    return connection
