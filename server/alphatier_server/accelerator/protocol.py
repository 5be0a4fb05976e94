"""A short cut for the generating paths: their POSTs go to the gateway itself, every other request through ASGI.

What may be received at all is `bounded`'s matter.
"""

from collections.abc import Mapping
from typing import Any

import httptools

from alphatier_server.accelerator.bounded import BoundedProtocol
from alphatier_server.accelerator.cycle import GatewayCycle
from alphatier_server.dialects.dialect import Dialect
from alphatier_server.errors import GatewayError
from alphatier_server.gateway.handle import Gateway
from alphatier_server.gateway.request import Head
from alphatier_server.settings.clients import ClientLimits

_PIPELINED = 16
_PIPELINED_BYTES = 64 * 1024


def accelerated_protocol(
    gateway: Gateway, dialects: Mapping[str, Dialect], limits: ClientLimits
) -> type["AcceleratedProtocol"]:
    """The class to give to `uvicorn.Config(http=...)`; `dialects` by path."""
    by_path = {path.encode(): dialect for path, dialect in dialects.items()}
    return type(
        "AcceleratedProtocol",
        (AcceleratedProtocol,),
        {"limits": limits, "gateway": gateway, "dialects": by_path, "lines": _DefaultLines()},
    )


class _DefaultLines:
    """The lines of uvicorn's default headers, made anew when uvicorn has made those anew (once a second)."""

    def __init__(self) -> None:
        self._headers: Any = None
        self._lines = b""

    def of(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        if headers is not self._headers:
            self._headers = headers
            self._lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._lines


class AcceleratedProtocol(BoundedProtocol):
    """One client's connection."""

    gateway: Gateway
    dialects: Mapping[bytes, Dialect]
    lines: _DefaultLines

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.paused = False
        """Whether the client takes no more for the moment."""
        self._active: GatewayCycle | None = None
        self._receiving: GatewayCycle | None = None

    # -- for the cycle

    def default_lines(self) -> bytes:
        return self.lines.of(self.server_state.default_headers)

    def cycle_complete(self, cycle: GatewayCycle) -> None:
        """The answer of the cycle has been written."""
        if cycle is self._active:
            self._active = None
        self.idle_since = self.loop.time()
        if not cycle.body_complete:
            self.close_gently()
        elif not cycle.keep_alive:
            self.transport.close()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    # -- asyncio.Protocol

    def connection_lost(self, exc: Exception | None) -> None:
        queued: list[Any] = [cycle for cycle, _ in self.pipeline]
        waiting = [cycle for cycle in queued if isinstance(cycle, GatewayCycle)]
        for cycle in {self._active, self._receiving, *waiting}:
            if cycle is not None:
                cycle.left()
                if cycle.task is None:  # it counts as a request all the same
                    self._run(cycle)
        self._active = self._receiving = None
        self.pipeline.clear()
        current: Any = self.cycle
        if isinstance(current, GatewayCycle):
            self.cycle = None  # type: ignore[assignment]
        super().connection_lost(exc)

    def probe(self) -> None:
        cycle = self._active
        if cycle is not None and cycle.started:  # only a stream has begun and is not complete
            if cycle.dialect.keep_alive:
                cycle.write(cycle.dialect.keep_alive)
        else:
            super().probe()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.paused = True
        if self._active is not None:
            self._active.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.paused = False
        if self._active is not None:
            self._active.resume()

    # -- httptools

    def head_complete(self, http11: bool) -> None:
        dialect = self._dialect() if self.parser.get_method() == b"POST" else None
        if dialect is None:
            self.to_asgi()
            return
        self._receiving = cycle = GatewayCycle(
            self,
            dialect,
            Head(self.headers),
            http11=http11,
            keep_alive=http11 and self.parser.should_keep_alive(),
            expects=self.expect_100_continue,
        )
        if dialect.as_it_came:
            cycle.query = self.url.partition(b"?")[2]
        if (cycle.head.content_length() or 0) > self.limits.body_bytes:
            cycle.refuse(self.limits.body_too_large())
        self._begin(cycle)

    def on_body(self, body: bytes) -> None:
        cycle = self._receiving
        if cycle is None:
            super().on_body(body)
            return
        size = cycle.add(body)
        if size > self.limits.body_bytes:
            cycle.refuse(self.limits.body_too_large())
        elif cycle is not self._active and size > _PIPELINED_BYTES:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        cycle, self._receiving = self._receiving, None
        if cycle is None:
            super().on_message_complete()
        else:
            self.request_since = 0.0
            cycle.received()

    def refuse_receiving(self, error: GatewayError) -> bool:
        cycle = self._receiving
        if cycle is None:
            return False
        cycle.refuse(error)
        return True

    # -- inside

    def _dialect(self) -> Dialect | None:
        dialect = self.dialects.get(self.url)
        if dialect is None and b"#" not in self.url:  # a query, or the absolute form (RFC 9112, 3.2.2)
            dialect = self.dialects.get(httptools.parse_url(self.url).path)
        return dialect

    def _begin(self, cycle: GatewayCycle) -> None:
        """A request's head has come: it is the next to be answered, or waits for the one before it."""
        busy = self.cycle is not None and not self.cycle.response_complete
        self.cycle = cycle  # type: ignore[assignment]
        if not busy:
            self._run(cycle)
            return
        self.pipeline.appendleft((cycle, self.app))  # type: ignore[arg-type]
        if len(self.pipeline) >= _PIPELINED:  # while nothing is read, nobody notices that the client leaves
            self.flow.pause_reading()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, GatewayCycle):
            self.flow.resume_reading()
            self._run(cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def _run(self, cycle: GatewayCycle) -> None:
        self._active = cycle
        cycle.task = task = self.loop.create_task(self._serve(cycle), context=self._context.copy())
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)  # uvicorn waits for them at its end, and cancels them

    async def _serve(self, cycle: GatewayCycle) -> None:
        cycle.begun = True
        await self.gateway.handle(cycle.dialect, cycle, cycle)
