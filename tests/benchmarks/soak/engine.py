"""An engine that breaks as each request tells it to (`plan.FAULTS`): the process behind the gateway in a soak.

    python -m benchmarks.soak.engine --port 9001 --name engine-1

It looks like vLLM where the gateway looks: `/v1/models`, `/health`, running usage in every chunk where asked for.
`GET /soak` tells how many requests it got, how many are open, and how many were closed before their end.
"""

import argparse
import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, cast

import httptools
import orjson
import uvloop

from benchmarks.soak.plan import TIERS

STALL_SECONDS = 600.0
SLOW_SECONDS = 0.01
PACES = (0.0, 0.001, 0.004)
"""Seconds between the events of a sound stream, drawn by its number of tokens."""
HUGE = 1024 * 1024
CONTENT = " t{} "


class Job:
    """One request as the engine understood it."""

    def __init__(self, body: dict[str, Any], chat: bool) -> None:
        orders = body.get("soak", {})
        self.id = str(orders.get("id", "none"))
        self.fault = str(orders.get("fault", "none"))
        self.tokens = int(orders.get("tokens", 4))
        self.prompt = int(orders.get("prompt", 5))
        self.model = str(body.get("model"))
        self.stream = body.get("stream") is True
        self.chat = chat
        options = body.get("stream_options") or {}
        self.usage_at_end = options.get("include_usage") is True
        self.usage_always = options.get("continuous_usage_stats") is True

    def usage(self, completion: int) -> Any:
        """Usage after so many tokens, or what this engine says instead."""
        true: dict[str, Any] = {
            "prompt_tokens": self.prompt,
            "completion_tokens": completion,
            "total_tokens": self.prompt + completion,
        }
        if self.chat:
            true["completion_tokens_details"] = {"reasoning_tokens": min(completion, self.tokens // 2)}
        lies: dict[str, Any] = {
            "usage_absent": None,
            "usage_negative": {**true, "completion_tokens": -completion},
            "usage_strings": {**true, "completion_tokens": str(completion)},
            "usage_huge": {**true, "completion_tokens": 2**63},
            "usage_float": {**true, "completion_tokens": completion + 0.5},
            "usage_list": [true],
            "usage_reasoning": {**true, "completion_tokens_details": {"reasoning_tokens": completion + 1000}},
        }
        return lies.get(self.fault, true)

    def whole(self) -> bytes:
        """The answer that is not streamed."""
        thought, text = self._texts()
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": text, "reasoning": thought}
        else:
            choice["text"] = thought + text
        document = {**self._base(), "choices": [choice], "usage": self.usage(self.tokens)}
        if self.fault == "usage_absent":
            del document["usage"]
        if self.fault == "odd_answer":
            document |= {"choices": [5, None, {"message": 7}], "usage": {"completion_tokens_details": 3}}
        if self.fault == "huge":
            document["padding"] = "p" * HUGE
        return orjson.dumps(document)

    def events(self) -> Iterator[bytes]:
        """The events of the streamed answer, without `[DONE]`."""
        for number in range(self.tokens):
            yield self._event(self._delta(number), number + 1)
        yield self._event(self._choice("", finish="stop"), self.tokens)
        if self.usage_at_end and self.fault != "usage_absent":
            for _ in range(2 if self.fault == "usage_twice" else 1):
                yield self._data({**self._base(), "choices": [], "usage": self.usage(self.tokens)})

    def _texts(self) -> tuple[str, str]:
        pieces = [CONTENT.format(number) for number in range(self.tokens)]
        return "".join(pieces[: self.tokens // 2]), "".join(pieces[self.tokens // 2 :])

    def _delta(self, number: int) -> dict[str, Any]:
        text = CONTENT.format(number)
        if self.fault == "huge" and number == self.tokens // 2:
            return {**self._choice(text), "padding": "p" * HUGE}
        return self._choice(text, thought=number < self.tokens // 2)

    def _choice(self, text: str, *, thought: bool = False, finish: str | None = None) -> dict[str, Any]:
        if not self.chat:
            return {"index": 0, "text": text, "finish_reason": finish}
        delta = {("reasoning" if thought else "content"): text} if text else {}
        return {"index": 0, "delta": delta, "finish_reason": finish}

    def _event(self, choice: Any, completion: int) -> bytes:
        document = {**self._base(), "choices": [choice]}
        if self.usage_always and self.fault != "usage_absent":
            document["usage"] = self.usage(completion)
        if self.fault == "odd_answer" and completion % 3 == 1:
            document |= {"choices": completion, "usage": [1]}
        return self._data(document)

    def _base(self) -> dict[str, Any]:
        kind = "chat.completion" if self.chat else "text_completion"
        return {"id": self.id, "object": kind + (".chunk" if self.stream and self.chat else ""), "model": self.model}

    def _data(self, document: dict[str, Any]) -> bytes:
        return b"data: " + orjson.dumps(document) + b"\n\n"


DONE = b"data: [DONE]\n\n"


class Engine:
    """What the connections share."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.received = 0
        self.jobs: set[str] = set()
        """The requests that are being worked on: id and fault."""
        self.aborted = 0
        self.wrong = 0
        """Requests whose id in the header is not the id in the body: two requests were mixed up."""

    def document(self) -> dict[str, Any]:
        return {**vars(self), "jobs": sorted(self.jobs), "open": len(self.jobs)}


class Connection(asyncio.Protocol):
    """One connection from the gateway."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body = bytearray()
        self._close_next = False
        self._work: asyncio.TimerHandle | None = None
        self._job = ""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._engine.wrong += 1
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self._job:
            self._engine.aborted += 1
            self._finished()
        if self._work is not None:
            self._work.cancel()

    # httptools

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", {}, bytearray()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if self._url.startswith(b"/v1/models"):
            cards = [{"id": f"toy:{tier}", "object": "model", "owned_by": "vllm"} for tier in TIERS]
            self._write(head() + chunked(orjson.dumps({"object": "list", "data": cards})) + LAST)
        elif self._url.startswith(b"/soak"):
            self._write(head() + chunked(orjson.dumps(self._engine.document())) + LAST)
        elif self._parser.get_method() == b"POST":
            self._generate()
        else:
            self._write(head() + chunked(b"{}") + LAST)

    def _generate(self) -> None:
        self._engine.received += 1
        if self._work is not None:  # the answer before was whole for the gateway, if not for its fault
            self._work.cancel()
        self._finished()
        job = Job(orjson.loads(bytes(self._body)), b"chat" in self._url)
        self._job = f"{job.id} {job.fault} on {id(self)}"
        self._engine.jobs.add(self._job)
        if self._headers.get(b"x-request-id", b"").decode("latin-1") != job.id:
            self._engine.wrong += 1
        if self._close_next:
            self._finished()
            self.transport.close()
            return
        steps = FAULTS.get(job.fault, answer)
        self._run(steps(self, job))

    def _run(self, steps: "Steps") -> None:
        """Do the next steps, until one says to wait."""
        self._work = None
        for pause in steps:
            if self.transport.is_closing():
                return
            if pause:
                self._work = asyncio.get_running_loop().call_later(pause, self._run, steps)
                return
        self._finished()

    def _finished(self) -> None:
        self._engine.jobs.discard(self._job)
        self._job = ""

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    # what faults are made of

    write = _write

    def reset(self) -> None:
        """Cut the connection with a reset, as a killed process's kernel does."""
        self._finished()
        peer = self.transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def close(self) -> None:
        """End the connection in order."""
        self._finished()
        self.transport.close()

    def close_next(self) -> None:
        """Close when the next request comes on this connection."""
        self._close_next = True


Steps = Iterator[float]
"""Yields how many seconds to wait before the next step; 0 not to wait."""

LAST = b"0\r\n\r\n"


def head(
    status: str = "200 OK", kind: str = "application/json", framing: str = "transfer-encoding: chunked"
) -> bytes:
    """The head of an answer."""
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{framing}\r\n\r\n".encode()


def chunked(data: bytes) -> bytes:
    """One chunk of HTTP's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def sized(body: bytes, length: int | None = None) -> bytes:
    """A whole answer with Content-Length, which may be a lie."""
    return head(framing=f"content-length: {len(body) if length is None else length}") + body


def stream_head() -> bytes:
    return head(kind="text/event-stream; charset=utf-8")


def answer(connection: Connection, job: Job) -> Steps:
    """What an engine should do."""
    if not job.stream:
        connection.write(sized(job.whole()))
        return
    connection.write(stream_head())
    for event in job.events():
        connection.write(chunked(event))
        yield PACES[job.tokens % 3]
    connection.write(chunked(DONE) + LAST)


def _instead(*data: bytes, end: Callable[[Connection], None] | None = None) -> Callable[[Connection, Job], Steps]:
    """Send these bytes instead of an answer, then end like this."""

    def fault(connection: Connection, job: Job) -> Steps:
        for piece in data:
            connection.write(piece)
            yield 0.002
        if end is not None:
            end(connection)

    return fault


def _error(status: str, body: bytes, kind: str = "application/json") -> Callable[[Connection, Job], Steps]:
    return _instead(head(status, kind) + chunked(body) + LAST)


def _stall_head(connection: Connection, job: Job) -> Steps:
    yield STALL_SECONDS


def _late_head(connection: Connection, job: Job) -> Steps:
    yield 0.2
    yield from answer(connection, job)


def _endless_head(connection: Connection, job: Job) -> Steps:
    connection.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(2000):
        connection.write(b"x-more: " + b"y" * 8000 + b"\r\n")
        yield 0.001


def _and_then(end: Callable[[Connection], None], pause: float = 0.0) -> Callable[[Connection, Job], Steps]:
    def fault(connection: Connection, job: Job) -> Steps:
        yield from answer(connection, job)
        yield pause
        end(connection)

    return fault


def _interim(connection: Connection, job: Job) -> Steps:
    connection.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
    yield 0.005
    yield from answer(connection, job)


def _whole(spoil: Callable[[bytes], bytes], *, close: bool) -> Callable[[Connection, Job], Steps]:
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
        connection.write(stream_head() + b"".join(map(chunked, (*job.events(), DONE))) + LAST + stolen)
    else:
        connection.write(sized(job.whole()) + stolen)
    yield 0


def _until_close(connection: Connection, job: Job) -> Steps:
    kind = "text/event-stream" if job.stream else "application/json"
    connection.write(head(kind=kind, framing="connection: close"))
    for part in [*job.events(), DONE] if job.stream else [job.whole()]:
        connection.write(part)
        yield 0
    connection.close()


def _bad_chunk(connection: Connection, job: Job) -> Steps:
    connection.write(stream_head() if job.stream else head())
    connection.write(chunked(b": a comment\n\n") + b"zz\r\nnot a chunk\r\n")
    yield 0


def _cut(end: Callable[[Connection], None] | None, *, stop: bool = False) -> Callable[[Connection, Job], Steps]:
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


def _stream(change: Callable[[bytes], list[bytes]], last: bytes, pause: float) -> Callable[[Connection, Job], Steps]:
    """A whole stream, each event changed."""

    def fault(connection: Connection, job: Job) -> Steps:
        if not job.stream:
            yield from answer(connection, job)
            return
        connection.write(stream_head())
        for event in job.events():
            for piece in change(event):
                connection.write(chunked(piece))
                yield pause
        connection.write((chunked(last) if last else b"") + LAST)

    return fault


def _thirds(event: bytes) -> list[bytes]:
    third = len(event) // 3 or 1
    return [event[:third], event[third : 2 * third], event[2 * third :]]


def _error_event(connection: Connection, job: Job) -> Steps:
    connection.write(stream_head() + chunked(b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'))
    connection.write(chunked(DONE) + LAST)
    yield 0


FAULTS: dict[str, Callable[[Connection, Job], Steps]] = {
    "stall_head": _stall_head,
    "late_head": _late_head,
    "reset_head": _instead(end=Connection.reset),
    "close_head": _instead(end=Connection.close),
    "garbage_head": _instead(b"\x00\xff\x16garbage\r\n\r\n"),
    "half_head": _instead(b"HTTP/1.1 200 OK\r\ncontent-ty", end=Connection.close),
    "endless_head": _endless_head,
    "close_next": _and_then(Connection.close_next),
    "close_after": _and_then(Connection.close),
    "interim": _interim,
    "status_400": _error(
        "400 Bad Request", b'{"error": {"message": "too long", "type": "BadRequestError", "code": 400}}'
    ),
    "status_429": _error("429 Too Many Requests", b"slow down", "text/plain"),
    "status_500": _error("500 Internal Server Error", b'{"error": {"message": "CUDA error", "code": 500}}'),
    "status_503": _error("503 Service Unavailable", b'{"error": "overloaded"}'),
    "status_html": _error("500 Internal Server Error", b"<html>\xff no JSON</html>", "text/html"),
    "redirect": _instead(head("302 Found", framing="location: http://127.0.0.1:1/\r\ncontent-length: 0")),
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
    "no_done": _stream(lambda event: [event], b"", 0),
    "error_event": _error_event,
    "after_done": _stream(lambda event: [event], DONE + b'data: {"id": "after the end"}\n\n' + DONE, 0),
    "split": _stream(_thirds, DONE, 0.0005),
    "crlf": _stream(lambda event: [event.replace(b"\n", b"\r\n")], DONE.replace(b"\n", b"\r\n"), 0),
    "comments": _stream(lambda event: [b": still here\n\n", event], b": the end\n\n" + DONE, 0),
    "slow": _stream(lambda event: [event], DONE, SLOW_SECONDS),
    "bad_utf8": _stream(lambda event: [event, b'data: {"id": "\xff\xfe", "choices": []}\n\n'], DONE, 0),
}
"""Faults not listed here change only what `Job` says."""


async def serve(port: int, name: str) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    engine = Engine(name)
    server = await loop.create_server(lambda: Connection(engine), "127.0.0.1", port, reuse_port=True, backlog=1024)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", default="engine")
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.name))


if __name__ == "__main__":
    main()
