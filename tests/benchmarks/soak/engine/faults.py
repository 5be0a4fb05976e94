"""What engines do wrong, fault by fault (`plan.FAULTS`): each spoils how an answer's bytes are sent."""

from collections.abc import Callable

import orjson

from benchmarks.soak.engine.connection import Connection, Steps
from benchmarks.soak.engine.job import Job
from benchmarks.soak.engine.wire import LAST, chunked, head, sized, stream_head

Fault = Callable[[Connection, Job], Steps]

STALL_SECONDS = 600.0
SLOW_SECONDS = 0.01
QUIET_SECONDS = 1.1
"""Longer than the soak's `--keepalive-seconds`, shorter than its `--engine-timeout`."""
PAGE = b"<!doctype html><html><head><title>a load balancer</title></head><body>\xff no JSON</body></html>"
PACES = (0.0, 0.001, 0.004)
"""Seconds between the events of a sound stream, drawn by its number of tokens."""


def steps_of(connection: Connection, job: Job) -> Steps:
    """What the engine does for this request: its fault, or a sound answer."""
    return FAULTS.get(job.fault, answer)(connection, job)


def answer(connection: Connection, job: Job) -> Steps:
    """What an engine should do."""
    if not job.stream:
        connection.write(sized(job.whole()))
        return
    connection.write(stream_head())
    for event in job.events():
        connection.write(chunked(event))
        yield PACES[job.tokens % 3]
    connection.write((chunked(job.done) if job.done else b"") + LAST)


def _stream_parts(job: Job) -> list[bytes]:
    return [*job.events(), *([job.done] if job.done else [])]


def _instead(*data: bytes, end: Callable[[Connection], None] | None = None) -> Fault:
    """Send these bytes instead of an answer, then end like this."""

    def fault(connection: Connection, job: Job) -> Steps:
        for piece in data:
            connection.write(piece)
            yield 0.002
        if end is not None:
            end(connection)

    return fault


def _error(status: str, body: bytes, kind: str = "application/json") -> Fault:
    return _instead(head(status, kind) + chunked(body) + LAST)


def _stall_head(connection: Connection, job: Job) -> Steps:
    yield STALL_SECONDS


def _late_head(connection: Connection, job: Job) -> Steps:
    yield 0.2
    yield from answer(connection, job)


def _quiet(then: Fault) -> Fault:
    """Silent for so long that the gateway begins a stream's answer by itself."""

    def fault(connection: Connection, job: Job) -> Steps:
        yield QUIET_SECONDS
        yield from then(connection, job)

    return fault


def _interim_flood(connection: Connection, job: Job) -> Steps:
    for _ in range(300):
        connection.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        yield 0.0005
    yield from answer(connection, job)


def _with_status(status: str) -> Fault:
    """A sound answer under another status."""

    def fault(connection: Connection, job: Job) -> Steps:
        kind = "text/event-stream" if job.stream else "application/json"
        body = b"".join(_stream_parts(job)) if job.stream else job.whole()
        connection.write(head(status, kind, framing=f"content-length: {len(body)}") + body)
        yield 0

    return fault


def _sized_events(connection: Connection, job: Job) -> Steps:
    """A stream whose length the head tells."""
    parts = _stream_parts(job)
    connection.write(head(kind="text/event-stream", framing=f"content-length: {sum(map(len, parts))}"))
    for part in parts:
        connection.write(part)
        yield 0.001


def _endless_head(connection: Connection, job: Job) -> Steps:
    connection.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(2000):
        connection.write(b"x-more: " + b"y" * 8000 + b"\r\n")
        yield 0.001


def _and_then(end: Callable[[Connection], None], pause: float = 0.0) -> Fault:
    def fault(connection: Connection, job: Job) -> Steps:
        yield from answer(connection, job)
        yield pause
        end(connection)

    return fault


def _interim(connection: Connection, job: Job) -> Steps:
    connection.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
    yield 0.005
    yield from answer(connection, job)


def _whole(spoil: Callable[[bytes], bytes], *, close: bool) -> Fault:
    def fault(connection: Connection, job: Job) -> Steps:
        connection.write(spoil(job.whole()))
        if close:
            yield 0.005
            connection.close()

    return fault


def _extra_response(connection: Connection, job: Job) -> Steps:
    # In one piece with the answer: what comes later cannot be told from the answer to the next request.
    stolen = sized(orjson.dumps({"id": "stolen", "choices": [], "usage": {}}))
    if job.stream:
        connection.write(stream_head() + b"".join(map(chunked, _stream_parts(job))) + LAST + stolen)
    else:
        connection.write(sized(job.whole()) + stolen)
    yield 0


def _until_close(connection: Connection, job: Job) -> Steps:
    kind = "text/event-stream" if job.stream else "application/json"
    connection.write(head(kind=kind, framing="connection: close"))
    for part in _stream_parts(job) if job.stream else [job.whole()]:
        connection.write(part)
        yield 0
    connection.close()


def _bad_chunk(connection: Connection, job: Job) -> Steps:
    connection.write(stream_head() if job.stream else head())
    connection.write(chunked(b": a comment\n\n") + b"zz\r\nnot a chunk\r\n")
    yield 0


def _cut(end: Callable[[Connection], None] | None, *, stop: bool = False) -> Fault:
    """A stream that ends after half of its events, in the way of `end`; without one it falls silent."""

    def fault(connection: Connection, job: Job) -> Steps:
        connection.write(stream_head())
        for number, event in enumerate(job.events()):
            if number >= job.tokens // 2:
                break
            connection.write(chunked(event))
            yield 0.002
        if stop:
            connection.write(LAST)
        elif end is None:
            yield STALL_SECONDS
        else:
            end(connection)

    return fault


def _stream(change: Callable[[Job, bytes], list[bytes]], end: Callable[[Job], bytes], pause: float) -> Fault:
    """A whole stream, each event changed, then `end`."""

    def fault(connection: Connection, job: Job) -> Steps:
        if not job.stream:
            yield from answer(connection, job)
            return
        connection.write(stream_head())
        for event in job.events():
            for piece in change(job, event):
                connection.write(chunked(piece))
                yield pause
        last = end(job)
        connection.write((chunked(last) if last else b"") + LAST)

    return fault


def _same(job: Job, event: bytes) -> list[bytes]:
    return [event]


def _done(job: Job) -> bytes:
    return job.done


def _crlf(event: bytes) -> bytes:
    return event.replace(b"\n", b"\r\n")


def _thirds(event: bytes) -> list[bytes]:
    third = len(event) // 3 or 1
    return [event[:third], event[third : 2 * third], event[2 * third :]]


def _error_event(connection: Connection, job: Job) -> Steps:
    connection.write(stream_head() + chunked(job.error_event()) + LAST)
    yield 0


FAULTS: dict[str, Fault] = {
    "stall_head": _stall_head,
    "late_head": _late_head,
    "quiet_head": _quiet(answer),
    "quiet_error": _quiet(_error("500 Internal Server Error", b'{"error": {"message": "CUDA error"}}')),
    "reset_head": _instead(end=Connection.reset),
    "close_head": _instead(end=Connection.close),
    "garbage_head": _instead(b"\x00\xff\x16garbage\r\n\r\n"),
    "half_head": _instead(b"HTTP/1.1 200 OK\r\ncontent-ty", end=Connection.close),
    "endless_head": _endless_head,
    "close_next": _and_then(Connection.close_next),
    "close_after": _and_then(Connection.close),
    "interim": _interim,
    "interim_only": _instead(b"HTTP/1.1 103 Early Hints\r\n\r\n", end=Connection.close),
    "interim_flood": _interim_flood,
    "switching": _instead(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"),
    "status_299": _with_status("299 Odd"),
    "status_401": _error("401 Unauthorized", b'{"error": "Unauthorized"}'),
    "status_403": _error("403 Forbidden", PAGE, "text/html"),
    "status_407": _error("407 Proxy Authentication Required", PAGE, "text/html"),
    "status_460": _error("460 Client Closed", b"", "text/plain"),
    "status_499": _error("499 Client Closed Request", b'{"detail": "gone"}'),
    "status_502": _error("502 Bad Gateway", PAGE, "text/html"),
    "status_599": _error("599 Network Connect Timeout", PAGE, "text/html"),
    "status_400": _error(
        "400 Bad Request", b'{"error": {"message": "too long", "type": "BadRequestError", "code": 400}}'
    ),
    "status_429": _error("429 Too Many Requests", b"slow down", "text/plain"),
    "status_500": _error("500 Internal Server Error", b'{"error": {"message": "CUDA error", "code": 500}}'),
    "status_503": _error("503 Service Unavailable", b'{"error": "overloaded"}'),
    "status_html": _error("500 Internal Server Error", b"<html>\xff no JSON</html>", "text/html"),
    "redirect": _instead(head("302 Found", framing="location: http://127.0.0.1:1/\r\ncontent-length: 0")),
    "redirect_html": _error("302 Found\r\nlocation: /login", PAGE, "text/html"),
    "no_content": _instead(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "short_length": _whole(lambda body: sized(body, len(body) + 10), close=True),
    "long_length": _whole(lambda body: sized(body, len(body) - 10), close=False),
    "extra_response": _extra_response,
    "two_lengths": _whole(
        lambda body: (
            head(framing=f"content-length: {len(body)}\r\ntransfer-encoding: chunked") + chunked(body) + LAST
        ),
        close=False,
    ),
    "until_close": _until_close,
    "bad_chunk": _bad_chunk,
    "not_json": _whole(lambda body: sized(body[:-3]), close=False),
    "json_array": _whole(lambda body: sized(b"[" + body + b"]"), close=False),
    "deep_json": _whole(
        lambda body: sized(body[:-1] + b',"deep":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), close=False
    ),
    "stall_mid": _cut(None),
    "reset_mid": _cut(Connection.reset),
    "close_mid": _cut(Connection.close),
    "end_mid": _cut(None, stop=True),
    "no_done": _stream(_same, lambda job: b"", 0),
    "error_event": _error_event,
    "after_done": _stream(_same, lambda job: job.done + job.junk + job.done, 0),
    "split": _stream(lambda job, event: _thirds(event), _done, 0.0005),
    "crlf": _stream(lambda job, event: [_crlf(event)], lambda job: _crlf(job.done), 0),
    "comments": _stream(lambda job, event: [b": still here\n\n", event], lambda job: b": the end\n\n" + job.done, 0),
    "sized_events": _sized_events,
    "slow": _stream(_same, _done, SLOW_SECONDS),
    "bad_utf8": _stream(lambda job, event: [event, job.bad_event()], _done, 0),
}
"""Faults not listed here change only what `Job` says."""
