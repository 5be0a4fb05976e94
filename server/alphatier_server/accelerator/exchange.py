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

from alphatier_server.gateway.request import RequestHead
from alphatier_server.gateway.work import Work

if TYPE_CHECKING:
    from alphatier_server.accelerator.protocol import GatewayProtocol

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


class Exchange:
    """A request whose head has come. The protocol fills in the body; the endpoint writes the answer.

    `arrived` is in `time.perf_counter` seconds.
    """

    __slots__ = (
        "_chunked",
        "_head",
        "_http11",
        "_protocol",
        "arrived",
        "body",
        "body_complete",
        "disconnected",
        "endpoint",
        "head",
        "keep_alive",
        "on_pause",
        "on_resume",
        "refusal",
        "response_complete",
        "size",
        "started",
        "status",
        "work",
        "wrote",
    )

    def __init__(
        self,
        protocol: "GatewayProtocol",
        endpoint: Callable[["Exchange"], Coroutine[None, None, None]],
        head: RequestHead,
        http11: bool = True,
        keep_alive: bool = True,
    ) -> None:
        self._protocol = protocol
        self._http11 = http11
        self._chunked = False
        self._head = b""
        """The head of a stream that waits for the first piece: one system call for both."""
        self.endpoint = endpoint
        self.head = head
        self.arrived = time.perf_counter()
        self.body: bytes | bytearray = b""
        self.size = 0
        self.body_complete = False
        self.refusal: Exception | None = None
        """Why the body was not read to its end."""
        self.work: Work | None = None
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
        """The head of an answer of unknown length; `write` and `finish` follow, and `ended` in any case."""
        self.started = True
        self._protocol.queue.streams += 1
        self.status = status
        self._chunked = self._http11
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        if not self._chunked:
            self.keep_alive = False
        closing = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self._head = b"".join((_STATUS_LINES[status], head, framing, closing))

    def send_head(self) -> None:
        """Send the head now, if no piece has taken it along."""
        head, self._head = self._head, b""
        if head:
            self._protocol.write(head)

    def write(self, data: bytes) -> None:
        """A piece of the body, not empty."""
        transport = self._protocol.transport
        if not transport.is_closing():
            self.wrote = True
            piece = b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
            if self._head:
                piece, self._head = self._head + piece, b""
            transport.write(piece)

    def finish(self, data: bytes = b"") -> None:
        """The last piece of the body; may be empty."""
        if data:
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if self._chunked else data
        else:
            last = b"0\r\n\r\n" if self._chunked else b""
        if self._head or last:
            self._protocol.write(self._head + last)
            self._head = b""
        self._complete()

    def ended(self) -> None:
        """What `start` began is over."""
        self._protocol.queue.streams -= 1

    def left(self) -> None:
        """The client has closed the connection: stop the work."""
        self.disconnected = True
        if self.work is not None:
            self.work.interrupt(asyncio.CancelledError())

    def _complete(self) -> None:
        self.response_complete = True
        self._protocol.exchange_complete(self)
