"""Uvicorn's HTTP/1.1 protocol, bounded where uvicorn bounds nothing, for every path.

The number of connections; the size of a request's head and trailers; the time that a client takes to send a request
or to take its answer; versions and upgrades that the gateway does not speak. What is no HTTP is refused in JSON.
The size of bodies that go to ASGI is `middleware.bounds`' matter, under any server. What becomes of a request is
the subclass's (`head_complete`); by itself it goes to the ASGI app.

Relies on `uvicorn.protocols.http.httptools_impl.HttpToolsProtocol`; pyproject.toml bounds its version.
"""

import asyncio
import contextvars
import logging
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from alphatier_server.accelerator.half_closed import INTERIM, HalfClosed
from alphatier_server.errors import GatewayError, HeadTooLarge, InvalidRequest, RequestTimeout, TooManyConnections
from alphatier_server.settings.clients import ClientLimits

log = logging.getLogger("alphatier")

_LINGER_SECONDS = 2.0
_LARGEST_READ = 256 * 1024
"""Bytes that uvloop reads at once: what of them is head and what is body shows when the head is complete."""
_HASH = ord("#")
_UPGRADE_HEADERS = (b"connection", b"upgrade", b"http2-settings")


def bounded_protocol(limits: ClientLimits) -> type["BoundedProtocol"]:
    """The class to give to `uvicorn.Config(http=...)`."""
    return type("BoundedProtocol", (BoundedProtocol,), {"limits": limits})


class BoundedProtocol(HttpToolsProtocol):
    """One client's connection."""

    limits = ClientLimits()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.refused = False
        """Whether nothing more is read from this connection."""
        self.in_head = False
        self.idle_since = 0.0
        """When the answer before was complete, in the loop's seconds."""
        self.request_since = 0.0
        """When the request that is being received began; 0 while none is."""
        self.upgrading = False
        """Whether the parser stands at the end of a head that asks for another protocol."""
        self._received = 0
        self._limit = self.limits.head_bytes
        """So many bytes may have been received before somebody must look at what they are."""
        self._trailers = 0
        self._paused_since = 0.0
        self._closing_since = 0.0
        self.timeout_keep_alive = self.limits.keep_alive  # type: ignore[assignment] # any number of seconds
        self._watch: asyncio.TimerHandle | None = None
        self._half_closed: HalfClosed | None = None
        self._context = contextvars.copy_context()
        """The server's own: a request that waited behind another must not see the other's variables."""

    # -- for subclasses

    def head_complete(self, http11: bool) -> None:
        """A head that may be answered has come; the parser's `url`, `headers` and method tell what it asks."""
        self.to_asgi()

    def refuse_receiving(self, error: GatewayError) -> bool:
        """Refuse the request whose body is still coming; False where no request of the subclass is."""
        return False

    def to_asgi(self) -> None:
        """Give the request whose head has come to the ASGI app."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def write(self, data: bytes) -> None:
        """Send bytes, unless the connection is gone."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def parse(self, data: bytes) -> None:
        """Feed the parser."""
        self._received += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.refused:
                self.refuse(_fault(error))
        except httptools.HttpParserUpgrade as stopped:
            self.upgrading = False
            if not self.refused:
                self._answer_without_upgrade(data[stopped.args[0] :])
            return
        if self._received > self._limit and not self.refused:
            self._check_size()

    def refuse(self, error: GatewayError) -> None:
        """Answer what is no request, and close. An answer that is being written is not disturbed."""
        self.refused = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False
            if self.refuse_receiving(error):
                return
            if not getattr(cycle, "more_body", False):  # an earlier request, which is whole: let it have its answer
                return
            if cycle.response_started:
                self.transport.close()
                return
        self.write(b"".join((_error_head(error), self.default_lines(), b"\r\n", error.body())))
        self.transport.close()

    def default_lines(self) -> bytes:
        """Header lines of every answer: its date (RFC 9110, 6.6.1)."""
        return b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)

    def close_gently(self) -> None:
        """Close while the client may still be sending: a reset would take the answer from it (RFC 9112, 9.6)."""
        self.refused = True
        if self.transport.is_closing() or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()
            self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.idle_since = self.request_since = self.loop.time()
        self._watch_again()
        if len(self.connections) > self.limits.connections:
            words = "The gateway has too many connections open."
            self.refuse(TooManyConnections(words, code="too_many_connections", retry_after=1))

    def data_received(self, data: bytes) -> None:
        if not self.refused:
            self._unset_keepalive_if_required()
            self.parse(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. It may still listen (a half-closed connection), or be gone."""
        cycle = self.cycle
        waits = cycle is not None and not cycle.response_complete and self.request_since == 0.0
        if not waits or self.scheme == "https":
            return False
        cycle.keep_alive = False
        self.refused = True
        self._half_closed = HalfClosed(self.transport, self.loop)
        return self._half_closed.watch(self.probe)

    def probe(self) -> None:
        """Send what a client that still listens ignores, so that one that is gone resets the connection."""
        if not self.cycle.response_started and self.parser.get_http_version() == "1.1":
            self.transport.write(INTERIM)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._half_closed is not None:
            self._half_closed.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._paused_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._paused_since = 0.0

    # -- httptools

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._limit = self._received + self.limits.head_bytes
        self.in_head = True
        self._trailers = 0
        self.request_since = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))
            return
        # Behind a chunked body: trailers are no headers (RFC 9110, 6.5.1). Their number is bounded all the same.
        self._trailers += len(name) + len(value)
        if self._trailers > self.limits.head_bytes and not self.refused:
            self.refuse(HeadTooLarge("The trailers are too large.", code="headers_too_large"))

    def on_headers_complete(self) -> None:
        if self._received > self._limit:
            self._check_size()
        self.in_head = False
        version = self.parser.get_http_version()
        if not self.refused:
            self._check_head(version)
        if self.refused:
            return
        if self.parser.should_upgrade():
            self.upgrading = True  # llhttp stops here; it goes on in `_answer_without_upgrade`
            return
        # The framing of chunked bodies takes some room, too.
        self._limit = self._received + self.limits.head_bytes + 2 * self.limits.body_bytes
        self.head_complete(version == "1.1")

    def on_body(self, body: bytes) -> None:
        if not self.upgrading and not self.refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.upgrading:
            return
        self.request_since = 0.0
        if not self.refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self.idle_since = self.loop.time()
        super().on_response_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._context.copy().run(super()._start_asgi_task, cycle, app)

    # -- inside

    def _check_size(self) -> None:
        """More has come than a request needs: refuse what is too large. A read may hold several requests."""
        if self.in_head:
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            rest = self._received - self._limit
            if size > self.limits.head_bytes or rest > _LARGEST_READ:
                words = f"The headers are larger than {self.limits.head_bytes} bytes."
                self.refuse(HeadTooLarge(words, code="headers_too_large"))
        else:
            self.refuse(self.limits.body_too_large())

    def _check_head(self, version: str) -> None:
        fields = dict(self.headers)
        hosts = 1 if len(fields) == len(self.headers) else sum(name == b"host" for name, _ in self.headers)
        if version not in ("1.1", "1.0") or (version == "1.0" and b"transfer-encoding" in fields):
            self.refuse(InvalidRequest("This is neither HTTP/1.1 nor HTTP/1.0.", code="invalid_http"))
        elif _HASH in self.url:  # RFC 9112, 3.2: a target has no fragment
            self.refuse(InvalidRequest("A request target has no fragment.", code="invalid_http"))
        elif version == "1.1" and (b"host" not in fields or hosts != 1):  # RFC 9112, 3.2
            self.refuse(InvalidRequest("HTTP/1.1 needs one Host header.", code="invalid_http"))
        elif (fault := self.limits.wrong_host(self.headers)) is not None:
            self.refuse(fault)

    def _answer_without_upgrade(self, rest: bytes) -> None:
        """Take a request that asks for another protocol as one that does not (RFC 9110, 7.8)."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.refuse(InvalidRequest("This gateway is no proxy.", code="invalid_http"))
            return
        connection = b",".join(value for name, value in self.headers if name == b"connection").lower()
        kept = [(name, value) for name, value in self.headers if name not in _UPGRADE_HEADERS]
        if b"close" in connection:
            kept.append((b"connection", b"close"))
        head = b"".join(b"%b: %b\r\n" % header for header in kept)
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, self.url, head, rest))

    def _watch_again(self) -> None:
        pause = min(self.limits.timeout, self.limits.keep_alive) / 4
        self._watch = self.loop.call_later(pause, self._look)

    def _look(self) -> None:
        """Runs now and then for each connection, instead of a timer for each request."""
        now, limit = self.loop.time(), self.limits.timeout
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
        held = min(filter(None, (self._paused_since, self._closing_since)), default=now)
        if now - held > limit:
            self.transport.abort()  # the client holds the connection open but takes nothing
            return
        if self.transport.is_closing():
            self._watch_again()
            return
        if self.flow.read_paused:  # by the answer before, not by the client
            self.request_since = now if self.request_since else 0.0
        if self.request_since and now - self.request_since > limit and not self.refused:
            self.refuse(RequestTimeout("The request did not arrive in time.", code="request_timeout"))
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not self.in_head and now - self.idle_since > self.limits.keep_alive:
            self.transport.close()
            return
        self._watch_again()


def _fault(error: httptools.HttpParserError) -> GatewayError:
    """Whose fault it is that parsing failed: httptools wraps what its callbacks raise."""
    cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
    if isinstance(cause, httptools.HttpParserError):
        return InvalidRequest(f"This is not HTTP/1.1: {cause}.", code="invalid_http")
    log.error("a connection failed in the gateway", exc_info=cause)
    return GatewayError("The gateway failed.", code="gateway_error")


def _error_head(error: GatewayError) -> bytes:
    head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n"
    retry = b"" if error.retry_after is None else b"retry-after: %d\r\n" % error.retry_after
    return head % (error.status, error.reason.encode(), len(error.body())) + retry
