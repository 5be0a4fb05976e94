"""One request of a client and the answer to it, on uvicorn's connection but without an ASGI cycle.

ASGI costs two awaits and three dictionaries for each piece of an answer (tests/benchmarks). An exchange
writes to the transport itself. It stands where uvicorn's protocol expects a `RequestResponseCycle`, so
keep-alive, pipelining and shutdown stay uvicorn's.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alphatier_server.http.protocol import GatewayProtocol

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


class Exchange:
    """A request whose head has come. The protocol fills in the body; the endpoint writes the answer.

    `headers` are (name in lower case, value) pairs as they came. `arrived` is in `time.perf_counter` seconds.
    """

    __slots__ = (
        "_chunked",
        "_http11",
        "_protocol",
        "arrived",
        "body",
        "body_complete",
        "disconnected",
        "endpoint",
        "headers",
        "keep_alive",
        "on_pause",
        "on_resume",
        "refusal",
        "response_complete",
        "size",
        "started",
        "status",
        "task",
        "wrote",
    )

    def __init__(
        self,
        protocol: "GatewayProtocol",
        endpoint: Callable[["Exchange"], Coroutine[None, None, None]],
        headers: list[tuple[bytes, bytes]],
        *,
        http11: bool,
        keep_alive: bool,
    ) -> None:
        self._protocol = protocol
        self._http11 = http11
        self._chunked = False
        self.endpoint = endpoint
        self.headers = headers
        self.arrived = time.perf_counter()
        self.body: bytes | bytearray = b""
        self.size = 0
        self.body_complete = False
        self.refusal: Exception | None = None
        """Why the body was not read to its end."""
        self.task: asyncio.Task[None] | None = None
        self.started = False
        self.status = 0
        self.wrote = False
        """Set by each `write`, for who wants to know whether the stream was silent."""
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        # What uvicorn's protocol reads and sets.
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False

    def add(self, piece: bytes) -> None:
        """A piece of the body has come."""
        if not self.body:
            self.body = piece
            return
        if not isinstance(self.body, bytearray):
            self.body = bytearray(self.body)  # a list of many tiny pieces would be many times their size
        self.body += piece

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        """The whole answer. `head` is header lines, each with its CR LF, without `content-length`."""
        self.started = True
        self.status = status
        self._protocol.write(
            b"".join(
                (
                    _STATUS_LINES[status],
                    head,
                    b"content-length: %d\r\n\r\n" % len(body)
                    if self.keep_alive
                    else b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body),
                    body,
                )
            )
        )
        self._complete()

    def start(self, status: int, head: bytes) -> None:
        """The head of an answer of unknown length; `write` and `finish` follow."""
        self.started = True
        self.status = status
        self._chunked = self._http11
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        if not self._chunked:
            self.keep_alive = False
        closing = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self._protocol.write(b"".join((_STATUS_LINES[status], head, framing, closing)))

    def write(self, data: bytes) -> None:
        """A piece of the body, not empty."""
        transport = self._protocol.transport
        if not transport.is_closing():
            self.wrote = True
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def finish(self, data: bytes = b"") -> None:
        """The last piece of the body; may be empty."""
        if data:
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if self._chunked else data
        else:
            last = b"0\r\n\r\n" if self._chunked else b""
        if last:
            self._protocol.write(last)
        self._complete()

    def ended(self) -> None:
        """The endpoint has done its work."""
        if self.task is not None:
            self._protocol.tasks.discard(self.task)

    def left(self) -> None:
        """The client has closed the connection: stop the work."""
        self.disconnected = True
        if self.task is not None:
            # Not at once: a task that is cancelled before its first step would never run, and never be recorded.
            self._protocol.loop.call_soon(self.task.cancel)

    def _complete(self) -> None:
        self.response_complete = True
        self._protocol.exchange_complete(self)
