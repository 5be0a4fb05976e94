"""The gateway's side of a client's connection: a short cut for the generating endpoints.

A POST to one of the paths in the lifespan state's `exchanges` becomes an `Exchange` and is given to that
path's endpoint; every other request goes the usual way through ASGI. A head that was seen before is not
parsed again (`known_heads`). What may be received at all is `bounded`'s matter.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import httptools

from alphatier_server.accelerator.bounded import BoundedProtocol, ClientLimits
from alphatier_server.accelerator.exchange import Exchange
from alphatier_server.accelerator.known_heads import KnownHeads
from alphatier_server.errors import ClientGone, GatewayError
from alphatier_server.gateway.request import RequestHead
from alphatier_server.gateway.work import Work, WorkQueue

Endpoint = Callable[[Exchange], Coroutine[None, None, None]]

STATE_KEY = "exchanges"
_PIPELINED = 16
_PIPELINED_BYTES = 64 * 1024


@dataclass(frozen=True)
class Exchanges:
    """What the lifespan hands to the protocol: which paths are short-cut, and the clients' limits."""

    endpoints: Mapping[bytes, Endpoint]
    limits: ClientLimits
    heads: KnownHeads[tuple[Endpoint, RequestHead]] = field(default_factory=KnownHeads)
    queue: WorkQueue = field(default_factory=WorkQueue)


class GatewayProtocol(BoundedProtocol):
    """One client's connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        exchanges: Exchanges = self.app_state[STATE_KEY]
        self.limits = exchanges.limits
        self.queue = exchanges.queue
        self._endpoints = exchanges.endpoints
        self._heads = exchanges.heads
        self._active: Exchange | None = None
        self._receiving: Exchange | None = None
        self._between = True
        """Whether the parser has read no part of a request; then one with a known head goes past it."""
        self._unparsed = b""
        """What was read when a request began that the parser is at; until its head is complete."""
        self._missing = 0
        """Bytes still to come of a body that goes past the parser."""
        self._announced = True
        """Whether the body that is being received may be as large as its head says, and was asked for."""

    # -- for the exchange

    def exchange_complete(self, exchange: Exchange) -> None:
        """The answer of the exchange has been written."""
        if exchange is self._active:
            self._active = None
        self.idle_since = self.loop.time()
        if not exchange.body_complete:
            self.close_gently()
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

    def data_received(self, data: bytes) -> None:
        if self.refused:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self._missing:
            data = self._take_body(data)
        while self._between and data and not self.refused:
            rest = self._take_known(data)
            if rest is None:
                break
            data = rest
        if data and not self.refused:
            self._unparsed = data if self._between else b""
            self.parse(data)
            if self._receiving is not None and not self._announced:
                self._expect_body(self._receiving)

    def connection_lost(self, exc: Exception | None) -> None:
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
        if self._active is not None and self._active.on_pause is not None:
            self._active.on_pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._active is not None and self._active.on_resume is not None:
            self._active.on_resume()

    # -- httptools

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._between = False

    def head_complete(self, http11: bool) -> None:
        unparsed, self._unparsed = self._unparsed, b""  # one read may hold several heads; only the first begins it
        endpoint = self._endpoint() if self.parser.get_method() == b"POST" else None
        if endpoint is None:
            self.to_asgi()
            return
        keep_alive = http11 and self.parser.should_keep_alive()
        head = RequestHead(self.headers)
        if unparsed and keep_alive:
            self._heads.learn(unparsed, self.headers, (endpoint, head))
        self._receiving = exchange = Exchange(self, endpoint, head, http11, keep_alive)
        self._begin(exchange)
        self._announced = False

    def on_body(self, body: bytes) -> None:
        if self._receiving is None:
            super().on_body(body)
        else:
            self._add(self._receiving, body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self.upgrading:
            return
        self._between = self.parser.should_keep_alive()
        exchange, self._receiving = self._receiving, None
        if exchange is not None:
            self._received_whole(exchange)

    def refuse_receiving(self, error: GatewayError) -> bool:
        exchange = self._receiving
        if exchange is None or exchange.refusal is not None:
            return False
        self._refuse_exchange(exchange, error)
        return True

    # -- inside

    def _take_known(self, data: bytes) -> bytes | None:
        """Begin a request with a known head: what `data` holds behind it; None where `data` begins otherwise."""
        known = self._heads.find(data)
        if known is None:
            return None
        (endpoint, head), length, start = known
        if length > self.limits.body_bytes:
            return None
        exchange = Exchange(self, endpoint, head)
        self._begin(exchange)
        if start + length == len(data):  # the usual case
            exchange.body = data[start:]
            exchange.size = length
            self._received_whole(exchange)
            return b""
        self._receiving = exchange
        self.request_since = self.loop.time()
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
                self.request_since = 0.0
                self._received_whole(exchange)
        return rest

    def _endpoint(self) -> Endpoint | None:
        endpoint = self._endpoints.get(self.url)
        if endpoint is None and b"#" not in self.url:  # a query, or the absolute form (RFC 9112, 3.2.2)
            endpoint = self._endpoints.get(httptools.parse_url(self.url).path)
        return endpoint

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

    def _expect_body(self, exchange: Exchange) -> None:
        """The head has come without the whole body: refuse one that will be too large, or ask for it."""
        self._announced = True
        for name, value in self.headers:
            if name == b"content-length" and int(value) > self.limits.body_bytes:
                self._refuse_exchange(exchange, self.limits.body_too_large())
                return
        if self.expect_100_continue:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _add(self, exchange: Exchange, body: bytes) -> None:
        exchange.size += len(body)
        if exchange.refusal is not None:
            return
        if exchange.size > self.limits.body_bytes:
            self._refuse_exchange(exchange, self.limits.body_too_large())
            return
        exchange.add(body)
        if exchange is not self._active and exchange.size > _PIPELINED_BYTES:
            self.flow.pause_reading()

    def _received_whole(self, exchange: Exchange) -> None:
        exchange.body_complete = True
        if exchange is self._active and exchange.work is None:
            self._run(exchange)

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

    def _refuse_exchange(self, exchange: Exchange, error: GatewayError) -> None:
        exchange.refusal = error
        exchange.keep_alive = False
        exchange.body = b""
        if exchange is self._active and exchange.work is None:
            self._run(exchange)

    def _tell_left(self, exchange: Exchange) -> None:
        if exchange.work is None:  # it counts as a request all the same
            exchange.refusal = ClientGone()
            self._run(exchange)
        exchange.left()
