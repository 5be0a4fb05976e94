"""One request on the accelerator's connection and the answer to it, without an ASGI cycle.

ASGI costs two awaits and three dictionaries for each piece of an answer, and a task that waits for the client to
leave. This writes to the transport itself. It stands where uvicorn's protocol expects a `RequestResponseCycle`, so
keep-alive, pipelining and shutdown stay uvicorn's.
"""

import asyncio
import time
from typing import TYPE_CHECKING

from alphatier_server.errors import ClientGone, reason_phrase
from alphatier_server.gateway.request import Head, Paced

if TYPE_CHECKING:
    from alphatier_server.accelerator.protocol import AcceleratedProtocol
    from alphatier_server.dialects.dialect import Dialect


class GatewayCycle:
    """A `gateway.request.Request` and its `ResponseWriter`. The protocol fills in the body."""

    # What most requests never change stands on the class.
    method = "POST"
    query = b""
    refusal: Exception | None = None
    """Why the body is not read to its end."""
    body_complete = False
    begun = False
    """Whether the task has taken its first step: one that has not must not be cancelled, or nobody records it."""
    started = False
    wrote = False
    task: asyncio.Task[None] | None = None
    # What uvicorn's protocol reads and sets.
    response_complete = False
    disconnected = False
    _chunked = False
    _head = b""
    """The head of a stream that waits for the first piece: one system call for both."""
    _body: bytes | bytearray = b""
    _size = 0
    _waiter: asyncio.Future[None] | None = None
    _stream: Paced | None = None

    def __init__(
        self,
        protocol: "AcceleratedProtocol",
        dialect: "Dialect",
        head: Head,
        *,
        http11: bool,
        keep_alive: bool,
        expects: bool,
    ) -> None:
        self._protocol = protocol
        self._http11 = http11
        self._expects = expects
        self.dialect = dialect
        self.head = head
        self.client = protocol.client[0] if protocol.client else None
        self.arrived = time.perf_counter()
        self.keep_alive = keep_alive

    @property
    def response_started(self) -> bool:
        """As uvicorn calls it."""
        return self.started

    # -- the request

    async def body(self) -> bytes:
        """See Request."""
        if not self.body_complete and self.refusal is None and not self.disconnected:
            if self._expects and not self._size:
                self._protocol.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._waiter = self._protocol.loop.create_future()
            await self._waiter
        if self.disconnected:
            raise ClientGone
        if self.refusal is not None:
            raise self.refusal
        return bytes(self._body)

    def add(self, piece: bytes) -> int:
        """A piece of the body has come. Returns the size so far."""
        self._size += len(piece)
        if self.refusal is not None:
            return self._size
        if not self._body:
            self._body = piece
            return self._size
        if not isinstance(self._body, bytearray):
            self._body = bytearray(self._body)  # a list of many tiny pieces would be many times their size
        self._body += piece
        return self._size

    def received(self) -> None:
        """The body is whole."""
        self.body_complete = True
        self._wake()

    def refuse(self, error: Exception) -> None:
        """The body will not be read to its end."""
        if self.refusal is None and not self.body_complete:
            self.refusal = error
            self.keep_alive = False
            self._body = b""
            self._wake()

    def left(self) -> None:
        """The client has closed the connection: stop the work."""
        self.disconnected = True
        if self.task is not None and self.begun:
            self.task.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- the answer

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        """See ResponseWriter."""
        self.started = True
        framing = b"content-length: %d\r\n" % len(body)
        self._protocol.write(b"".join((self._status_line(status), head, framing, self._closing(), body)))
        self._complete()

    def start(self, status: int, head: bytes) -> None:
        """See ResponseWriter."""
        self.started = True
        self._chunked = self._http11
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        if not self._chunked:
            self.keep_alive = False
        self._head = b"".join((self._status_line(status), head, framing, self._closing()))

    def send_head(self) -> None:
        """See ResponseWriter."""
        head, self._head = self._head, b""
        if head:
            self._protocol.write(head)

    def write(self, data: bytes) -> None:
        """See ResponseWriter."""
        transport = self._protocol.transport
        if not transport.is_closing():
            self.wrote = True
            piece = b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
            if self._head:
                piece, self._head = self._head + piece, b""
            transport.write(piece)

    def finish(self, data: bytes = b"") -> None:
        """See ResponseWriter."""
        if data:
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if self._chunked else data
        else:
            last = b"0\r\n\r\n" if self._chunked else b""
        if self._head or last:
            self._protocol.write(self._head + last)
            self._head = b""
        self._complete()

    def abort(self) -> None:
        """See ResponseWriter."""
        self.keep_alive = False
        if self.started and not self._chunked:  # only a reset tells it from the end
            self._protocol.transport.abort()
        self._complete()

    def follow_pace(self, stream: Paced | None) -> None:
        """See ResponseWriter."""
        self._stream = stream
        if stream is not None and self._protocol.paused:
            stream.pause()

    def pause(self) -> None:
        """The client takes no more for the moment."""
        if self._stream is not None:
            self._stream.pause()

    def resume(self) -> None:
        """It does again."""
        if self._stream is not None:
            self._stream.resume()

    def _status_line(self, status: int) -> bytes:
        return b"HTTP/1.1 %d %b\r\n%b" % (status, reason_phrase(status).encode(), self._protocol.default_lines())

    def _closing(self) -> bytes:
        return b"\r\n" if self.keep_alive and self.body_complete else b"connection: close\r\n\r\n"

    def _complete(self) -> None:
        self.response_complete = True
        self._protocol.cycle_complete(self)
