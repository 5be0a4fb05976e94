"""Uvicorn's HTTP/1.1 protocol, with a short cut for the generating endpoints.

A POST to one of the paths in the lifespan state's `exchanges` becomes an `Exchange` and is given to that
path's endpoint; every other request goes the usual way through ASGI. Besides, it bounds what uvicorn
leaves unbounded: the size of a request's head, the time a client takes to send a request or to take its
answer. And it refuses in JSON what is not HTTP.

Relies on `uvicorn.protocols.http.httptools_impl.HttpToolsProtocol`; pyproject.toml bounds its version.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from alphatier_server.errors import (
    BodyTooLarge,
    ClientGone,
    GatewayError,
    HeadTooLarge,
    InvalidRequest,
    RequestTimeout,
)
from alphatier_server.http.exchange import Exchange
from alphatier_server.http.headers import RequestHead
from alphatier_server.http.known_heads import KnownHeads
from alphatier_server.work import Work, WorkQueue

Endpoint = Callable[[Exchange], Coroutine[None, None, None]]

STATE_KEY = "exchanges"
_LINGER_SECONDS = 2.0
_LARGEST_READ = 256 * 1024
"""Bytes that uvloop reads at once: what of them is head and what is body shows when the head is complete."""
_PIPELINED = 16
_PIPELINED_BYTES = 64 * 1024
_UPGRADE_HEADERS = (b"connection", b"upgrade", b"http2-settings")


@dataclass(frozen=True)
class ClientLimits:
    """How much and how long the gateway waits for its clients. Bytes and seconds."""

    body_bytes: int = 32 * 1024 * 1024
    head_bytes: int = 64 * 1024
    timeout: float = 60.0
    """Longest wait for a client to send a request whole, or to take more of its answer."""
    keep_alive: float = 75.0
    """How long a connection without a request is kept; longer than load balancers keep theirs (nginx: 60)."""


@dataclass(frozen=True)
class Exchanges:
    """What the lifespan hands to the protocol: which paths are short-cut, and the clients' limits."""

    endpoints: Mapping[bytes, Endpoint]
    limits: ClientLimits
    heads: KnownHeads[tuple[Endpoint, RequestHead]] = field(default_factory=KnownHeads)
    queue: WorkQueue = field(default_factory=WorkQueue)


class GatewayProtocol(HttpToolsProtocol):
    """One client's connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        exchanges: Exchanges = self.app_state[STATE_KEY]
        self._endpoints = exchanges.endpoints
        self._limits = exchanges.limits
        self._heads = exchanges.heads
        self.queue = exchanges.queue
        self._active: Exchange | None = None
        self._receiving: Exchange | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._received = 0
        self._limit = 0
        """So many bytes may have been received before somebody must look at what they are."""
        self._between = True
        """Whether the parser has read no part of a request; then one with a known head goes past it."""
        self._unparsed = b""
        """What was read when a request began that the parser is at; until its head is complete."""
        self._missing = 0
        """Bytes still to come of a body that goes past the parser."""
        self._upgrading = False
        self._trailers = 0
        self._announced = True
        self._in_head = False
        self._refused = False
        self._idle_since = self._paused_since = self._request_since = 0.0

    def write(self, data: bytes) -> None:
        """Send bytes, unless the connection is gone."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def exchange_complete(self, exchange: Exchange) -> None:
        """The answer of the exchange has been written."""
        if exchange is self._active:
            self._active = None
        self._idle_since = self.loop.time()
        if not exchange.body_complete:
            self._close_gently()
        elif not exchange.keep_alive:
            self.transport.close()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle_since = self._request_since = self.loop.time()
        self._watch_again()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self._missing:
            data = self._take_body(data)
        while self._between and data and not self._refused:
            rest = self._take_known(data)
            if rest is None:
                break
            data = rest
        if data and not self._refused:
            self._parse(data)

    def _take_known(self, data: bytes) -> bytes | None:
        """Begin a request with a known head: what `data` holds behind it; None where `data` begins otherwise."""
        known = self._heads.find(data)
        if known is None:
            return None
        (endpoint, head), length, start = known
        if length > self._limits.body_bytes:
            return None
        exchange = Exchange(self, endpoint, head)
        self._begin(exchange)
        if start + length == len(data):  # the usual case
            exchange.body = data[start:]
            exchange.size = length
            self._received_whole(exchange)
            return b""
        self._receiving = exchange
        self._request_since = self.loop.time()
        self._announced = True
        self._missing = length
        return self._take_body(data[start:])

    def _take_body(self, data: bytes) -> bytes:
        """Take what `data` has of the body that goes past the parser: the rest of `data`."""
        piece, rest = data[: self._missing], data[self._missing :]
        self._missing -= len(piece)
        if self._receiving is not None:
            if piece:
                self._add(self._receiving, piece)
            if not self._missing:
                exchange, self._receiving = self._receiving, None
                self._request_since = 0.0
                self._received_whole(exchange)
        return rest

    def _parse(self, data: bytes) -> None:
        self._received += len(data)
        if self._between:
            self._unparsed = data
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._refused:
                self._refuse(InvalidRequest(f"This is not HTTP/1.1: {error}.", code="invalid_http"))
        except httptools.HttpParserUpgrade as stopped:
            self._upgrading = False
            if not self._refused:
                self._answer_without_upgrade(data[stopped.args[0] :])
            return
        if self._received > self._limit:
            self._check_size()
        if self._receiving is not None and not self._announced:
            self._expect_body(self._receiving)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        queued: list[Any] = [cycle for cycle, _ in self.pipeline]
        waiting = [cycle for cycle in queued if isinstance(cycle, Exchange)]
        for exchange in {self._active, self._receiving, *waiting}:
            if exchange is not None:
                self._tell_left(exchange)
        self._active = self._receiving = None
        self.pipeline.clear()
        current: Any = self.cycle
        if isinstance(current, Exchange):
            self.cycle = None  # type: ignore[assignment]
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._paused_since = self.loop.time()
        if self._active is not None and self._active.on_pause is not None:
            self._active.on_pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._paused_since = 0.0
        if self._active is not None and self._active.on_resume is not None:
            self._active.on_resume()

    # -- httptools

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._limit = self._received + self._limits.head_bytes
        self._in_head = True
        self._between = False
        self._trailers = 0
        self._request_since = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))
            return
        # Behind a chunked body: trailers are no headers (RFC 9110, 6.5.1). Their number is bounded all the same.
        self._trailers += len(name) + len(value)
        if self._trailers > self._limits.head_bytes and not self._refused:
            self._refuse(HeadTooLarge("The trailers are too large.", code="headers_too_large"))

    def on_headers_complete(self) -> None:
        if self._received > self._limit:
            self._check_size()
        self._in_head = False
        unparsed, self._unparsed = self._unparsed, b""
        version = self.parser.get_http_version()
        if version != "1.1" and not self._refused:
            self._check_version(version)
        if self._refused:
            return
        if self.parser.should_upgrade():
            self._upgrading = True  # llhttp stops here; it goes on in `_answer_without_upgrade`
            return
        # The framing of chunked bodies takes some room, too.
        self._limit = self._received + self._limits.head_bytes + 2 * self._limits.body_bytes
        endpoint = self._endpoint() if self.parser.get_method() == b"POST" else None
        if endpoint is None:
            self._to_asgi()
            return
        http11 = version == "1.1"
        keep_alive = http11 and self.parser.should_keep_alive()
        head = RequestHead(self.headers)
        if unparsed and keep_alive:
            self._heads.learn(unparsed, self.headers, (endpoint, head))
        self._receiving = exchange = Exchange(self, endpoint, head, http11, keep_alive)
        self._begin(exchange)
        self._announced = False

    def on_body(self, body: bytes) -> None:
        if self._upgrading:
            return
        exchange = self._receiving
        if exchange is None:
            if not self._refused and isinstance(self.cycle, RequestResponseCycle):
                super().on_body(body)
            return
        self._add(exchange, body)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._between = self.parser.should_keep_alive()
        self._request_since = 0.0
        exchange, self._receiving = self._receiving, None
        if exchange is None:
            if not self._refused and isinstance(self.cycle, RequestResponseCycle):
                super().on_message_complete()
            return
        self._received_whole(exchange)

    # -- inside

    def _begin(self, exchange: Exchange) -> None:
        """A request's head has come: it is the next to be answered, or waits for the one before it."""
        busy = self.cycle is not None and not self.cycle.response_complete
        self.cycle = exchange  # type: ignore[assignment]
        if busy:
            self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]
            # While nothing is read, nobody notices that the client leaves.
            if len(self.pipeline) >= _PIPELINED:
                self.flow.pause_reading()
        else:
            self._active = exchange

    def _add(self, exchange: Exchange, body: bytes) -> None:
        exchange.size += len(body)
        if exchange.refusal is not None:
            return
        if exchange.size > self._limits.body_bytes:
            self._refuse_body(exchange)
            return
        exchange.add(body)
        if exchange is not self._active and exchange.size > _PIPELINED_BYTES:
            self.flow.pause_reading()

    def _received_whole(self, exchange: Exchange) -> None:
        exchange.body_complete = True
        if exchange is self._active and exchange.work is None:
            self._run(exchange)

    def _endpoint(self) -> Endpoint | None:
        endpoint = self._endpoints.get(self.url)
        if endpoint is None and b"#" not in self.url:  # a query, or the absolute form (RFC 9112, 3.2.2)
            endpoint = self._endpoints.get(httptools.parse_url(self.url).path)
        return endpoint

    def _to_asgi(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if not isinstance(cycle, Exchange):
            super()._start_asgi_task(cycle, app)
            return
        self._active = cycle
        if cycle.body_complete or cycle.refusal is not None:
            self._run(cycle)

    def _run(self, exchange: Exchange) -> None:
        exchange.work = work = Work(exchange.endpoint(exchange), self.tasks.discard)
        self.tasks.add(work)  # type: ignore[arg-type]  # uvicorn waits for them at its end, and cancels them
        self.queue.start(work)

    def _tell_left(self, exchange: Exchange) -> None:
        if exchange.work is None:  # it counts as a request all the same
            exchange.refusal = ClientGone()
            self._run(exchange)
        exchange.left()

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def _close_gently(self) -> None:
        """Close while the client may still be sending: a reset would take the answer from it (RFC 9112, 9.6)."""
        self._refused = True
        if self.transport.is_closing() or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
            self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _expect_body(self, exchange: Exchange) -> None:
        """The head has come without the whole body: refuse one that will be too large, or ask for it."""
        self._announced = True
        for name, value in self.headers:
            if name == b"content-length" and int(value) > self._limits.body_bytes:
                self._refuse_body(exchange)
                return
        if self.expect_100_continue:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse_body(self, exchange: Exchange) -> None:
        limit = self._limits.body_bytes
        self._refuse_exchange(
            exchange, BodyTooLarge(f"The body is larger than {limit} bytes.", code="body_too_large")
        )

    def _refuse_exchange(self, exchange: Exchange, error: GatewayError) -> None:
        exchange.refusal = error
        exchange.keep_alive = False
        exchange.body = b""
        if exchange is self._active and exchange.work is None:
            self._run(exchange)

    def _check_size(self) -> None:
        """More has come than a request needs: refuse what is too large. A read may hold several requests."""
        if self._in_head:
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            rest = self._received - self._limit
            if size > self._limits.head_bytes or rest > _LARGEST_READ:
                words = f"The headers are larger than {self._limits.head_bytes} bytes."
                self._refuse(HeadTooLarge(words, code="headers_too_large"))
        elif self._receiving is not None and self._receiving.refusal is None:
            self._refuse_body(self._receiving)
            self._refused = True

    def _check_version(self, version: str) -> None:
        chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        if version != "1.0" or chunked:  # RFC 9112, 6.1: HTTP/1.0 has no Transfer-Encoding
            self._refuse(InvalidRequest("This is neither HTTP/1.1 nor HTTP/1.0.", code="invalid_http"))

    def _answer_without_upgrade(self, rest: bytes) -> None:
        """Take a request that asks for another protocol as one that does not (RFC 9110, 7.8)."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(InvalidRequest("This gateway is no proxy.", code="invalid_http"))
            return
        connection = b",".join(value for name, value in self.headers if name == b"connection").lower()
        kept = [(name, value) for name, value in self.headers if name not in _UPGRADE_HEADERS]
        if b"close" in connection:
            kept.append((b"connection", b"close"))
        head = b"".join(b"%b: %b\r\n" % header for header in kept)
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, self.url, head, rest))

    def _refuse(self, error: GatewayError) -> None:
        """Answer what is no request, and close. An answer that is being written is not disturbed."""
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            if self._receiving is not None:
                self._refuse_exchange(self._receiving, error)
            elif isinstance(self.cycle, RequestResponseCycle) and self.cycle.more_body:
                self.transport.close()
            return
        body = error.body()
        head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.write(head % (error.status, error.reason.encode(), len(body)) + body)
        self.transport.close()

    def _watch_again(self) -> None:
        pause = min(self._limits.timeout, self._limits.keep_alive) / 4
        self._watch = self.loop.call_later(pause, self._look)

    def _look(self) -> None:
        """Runs now and then for each connection, instead of a timer for each request."""
        now, limit = self.loop.time(), self._limits.timeout
        if self.transport.is_closing():
            return
        if self._paused_since and now - self._paused_since > limit:
            self.transport.abort()  # it holds the connection open but takes nothing
            return
        if self._request_since and now - self._request_since > limit and (self._in_head or self._receiving):
            late = RequestTimeout("The request did not arrive in time.", code="request_timeout")
            if self._in_head:
                self._refuse(late)
            elif self._receiving is not None and self._receiving.refusal is None:
                self._refuse_exchange(self._receiving, late)
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not self._in_head and now - self._idle_since > self._limits.keep_alive:
            self.transport.close()
            return
        self._watch_again()
