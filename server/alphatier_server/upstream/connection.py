"""One kept-alive HTTP/1.1 connection to an engine, one request at a time (RFC 9112).

An answer that is not an event stream is collected and given whole; a stream is handed on piece by
piece in the very callback in which it arrives, with no task to wake.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import httptools

from alphatier_server.errors import Broken, TimedOut, UpstreamError
from alphatier_server.settings.upstream import UpstreamLimits

Sink = Callable[[bytes], bool]
"""Takes a piece of a stream; true when it needs no more."""

_EVENT_STREAM: Final = b"text/event-stream"
_LARGEST_HEAD: Final = 256 * 1024
_LINGER_SECONDS: Final = 1.0


class Answer:
    """An engine's answer. `body` is None for an event stream, which `Connection.relay` hands on."""

    __slots__ = ("body", "connection", "headers", "status")

    def __init__(self, connection: "Connection", body: bytes | None) -> None:
        self.connection = connection
        self.status = connection.status
        self.headers = connection.headers
        self.body = body


class Connection(asyncio.Protocol):
    """A connection. `ask`, then for a stream `relay`, then `release` (or `abort` at any time)."""

    __slots__ = (
        "_answered",
        "_complete",
        "_ended",
        "_head_complete",
        "_idle",
        "_kept",
        "_last_part",
        "_limits",
        "_lingering",
        "_loop",
        "_lost",
        "_parser",
        "_parts",
        "_poisoned",
        "_raw_headers",
        "_sink",
        "_size",
        "_streams",
        "_timer",
        "_transport",
        "_waiter",
        "give_back",
        "headers",
        "last_byte",
        "on_body",
        "on_header",
        "status",
        "used",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: UpstreamLimits,
        give_back: Callable[["Connection", bool], None],
    ) -> None:
        self._loop = loop
        self._limits = limits
        self.give_back = give_back
        """Called with whether the connection can be used again, once it is free or lost."""
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._raw_headers: dict[bytes, bytes] = {}
        # httptools' callbacks, without a Python frame for each piece and header:
        self.on_body = self._parts.append
        self.on_header = self._raw_headers.__setitem__
        self._parser = httptools.HttpResponseParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._lost = False
        self._idle = True
        self._poisoned = False
        self._lingering = False
        self._waiter: asyncio.Future[Answer] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self.used = 0
        self.last_byte = 0.0
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._answered = self._head_complete = self._complete = self._streams = self._kept = False
        self._size = self._last_part = 0

    # -- what the gateway does with it

    @property
    def closed(self) -> bool:
        """Whether the connection can be used no more."""
        return self._lost or self._transport is None or self._transport.is_closing()

    @property
    def fresh(self) -> bool:
        """Whether it can be used, and not so old that the engine may be about to close it."""
        if self._lost or self._transport is None or self._transport.is_closing():
            return False
        return self._loop.time() - self.last_byte < self._limits.keep_alive

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a whole request; the future is its answer, or raises Broken or TimedOut."""
        assert self._transport is not None
        self._begin()
        self._idle = False
        self.used += 1
        self.last_byte = self._loop.time()
        waiter: asyncio.Future[Answer] = self._loop.create_future()
        self._waiter = waiter
        if self._lost:
            self._fail(Broken("the engine closed the connection", answered=False, reused=self.used > 1))
        else:
            self._transport.write(request)
            limit = min(self._limits.first_byte, self._limits.idle)
            if self._timer is None or self._timer.when() > self.last_byte + limit:
                self._rearm(limit)
        return waiter

    def relay(self, sink: Sink) -> asyncio.Future[None]:
        """Hand the stream to `sink` as it comes. The future is done when the stream ends, or the sink has enough.

        It raises Broken, TimedOut, or what `sink` raised: nothing that happens on the way to a client is raised in
        this connection's own callbacks.
        """
        self._sink = sink
        ended: asyncio.Future[None] = self._loop.create_future()
        self._ended = ended
        self._hand_on()
        return ended

    def pause(self) -> None:
        """Read no more for the moment: the client cannot take it."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self.last_byte = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def release(self) -> None:
        """The answer was used: keep the connection if it is sound, once the answer's last bytes are in."""
        self._sink = self._ended = self._waiter = None
        if self._lost:
            return
        if self._is_paused():  # by a client that took the last piece slowly
            self.resume()
        if self._complete:
            self._free()
        else:
            self._lingering = True
            self.last_byte = self._loop.time()
            self._rearm(_LINGER_SECONDS)

    def abort(self) -> None:
        """Close the connection, which makes the engine abort its request."""
        self._sink = self._ended = self._waiter = None
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._idle:  # nobody asked: what follows could be taken for the answer to the next request
            self._close()
            return
        self.last_byte = self._loop.time()
        self._answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(Broken(f"the engine's answer is not HTTP: {error}", answered=True))
            return
        except httptools.HttpParserUpgrade:
            self._fail(Broken("the engine wants to change the protocol", answered=True))
            return
        if self._sink is not None:
            self._hand_on()
        elif self._head_complete:
            self._size += len(data)
            self._advance()
        else:
            self._size += len(data)
            if self._size > _LARGEST_HEAD:
                self._fail(Broken("the head of the engine's answer is too large", answered=True))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._head_complete and not self._complete and self._ends_with_connection():
            self._complete = True
            self._last_part = len(self._parts)
            self._hand_on() if self._streams else self._advance()
        elif not self._complete:
            self._fail(Broken("the engine closed the connection", answered=self._answered, reused=self.used > 1))
        self.give_back(self, False)
        del self._parser  # it calls back: a circle that only the collector would end

    # -- httptools

    def on_message_begin(self) -> None:
        if self._complete:  # a second answer to one request
            self._poisoned = True

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        self._size = 0
        self.status = self._parser.get_status_code()
        if self.status < 200:  # interim responses (RFC 9110, 15.2)
            self._raw_headers.clear()
            return
        self.headers = {name.lower(): value for name, value in self._raw_headers.items()}
        self._streams = self.headers.get(b"content-type", b"")[:17].lower() == _EVENT_STREAM
        self._head_complete = True

    def on_message_complete(self) -> None:
        if self._head_complete and not self._complete:
            self._complete = True
            self._last_part = len(self._parts)
            self._kept = self._parser.should_keep_alive()  # known in this callback only

    # -- inside

    def _begin(self) -> None:
        self._answered = self._head_complete = self._complete = self._streams = self._kept = False
        self._raw_headers.clear()
        self._parts.clear()
        self._size = self._last_part = 0

    def _advance(self) -> None:
        if self._lingering:
            self._parts.clear()
            if self._complete:
                self._free()
        elif self._streams:
            if self._waiter is not None:
                self._answer(None)
            elif self._ended is not None:
                self._hand_on()
        elif self._size > self._limits.response_bytes:
            self._fail(Broken("the engine's answer is too large", answered=True))
        elif self._complete and self._waiter is not None:
            self._answer(b"".join(self._parts[: self._last_part]))

    def _answer(self, body: bytes | None) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(Answer(self, body))

    def _hand_on(self) -> None:
        ended, sink, parts = self._ended, self._sink, self._parts
        if ended is None or sink is None or ended.done():
            return
        enough = False
        if self._complete:
            del parts[self._last_part :]  # what follows the answer is nobody's
        if parts:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            self._last_part = 0
            try:
                enough = sink(data)
            except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the stream
                if not ended.done():
                    ended.set_exception(error)
                return
        if ended.done():  # what the sink did has ended the request
            return
        if enough or self._complete:
            ended.set_result(None)
        elif self._lost:
            ended.set_exception(Broken("the engine closed the connection", answered=True))

    def _fail(self, error: UpstreamError) -> None:
        for future in (self._waiter, self._ended):
            if future is not None and not future.done():
                if future is self._ended:
                    self._hand_on()
                if not future.done():
                    future.set_exception(error)
        self._waiter = None  # the traceback of its error comes to know this connection
        self._close()

    def _close(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def _free(self) -> None:
        self._lingering = False
        self._idle = True
        self._parts.clear()
        reusable = self._kept and not self._poisoned and not self._ends_with_connection()
        if not reusable:
            self._close()
        self.give_back(self, reusable)

    def _ends_with_connection(self) -> bool:
        """Whether the answer has no length of its own (RFC 9112, 6.3, rule 8)."""
        return b"content-length" not in self.headers and b"transfer-encoding" not in self.headers

    def _check(self) -> None:
        """Runs now and then, not for each request: how long is it since the last byte?"""
        self._timer = None
        if self._lost:
            return
        silent = self._loop.time() - self.last_byte
        if self._lingering:
            self._close()
        elif self._waiter is None and self._ended is None:
            if silent >= self._limits.keep_alive:
                self._close()
            else:
                self._rearm(self._limits.keep_alive - silent)
        else:
            limit = self._limits.idle if self._answered else self._limits.first_byte
            if self._is_paused():  # by the client's pace: the engine is not to blame, and `resume` begins anew
                self._rearm(limit)
            elif silent >= limit:
                self._fail(TimedOut(limit, answered=self._answered))
            else:
                self._rearm(limit - silent)

    def _is_paused(self) -> bool:
        return self._transport is not None and not self._transport.is_reading()

    def _rearm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._check)
