"""A kept connection to the gateway: sends a request, leaves or reads as its plan says, has the answer judged."""

import asyncio
import socket
import struct
import time
from typing import cast

import httptools

from benchmarks.soak.client.answers import has_end
from benchmarks.soak.client.seen import Seen
from benchmarks.soak.client.verdict import count_tokens, judge
from benchmarks.soak.keys import header
from benchmarks.soak.plan import Plan

SLOW_READER_SECONDS = 0.3


class ClientConnection(asyncio.Protocol):
    """A kept connection and the request that is on it."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self._plan: Plan
        self._seen: Seen
        self.reusable = False

    async def ask(self, planned: Plan, limit: float, extra: bytes) -> Seen:
        """Send one request and see what comes; `limit` is when the client calls it stuck, in seconds."""
        loop = asyncio.get_running_loop()
        self._plan, self._seen = planned, Seen(planned.number)
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._complete = False
        self.reusable = False
        self._waiter = loop.create_future()
        started = time.perf_counter()
        timers = [loop.call_later(limit, self._stuck)]
        self._send(timers, extra)
        try:
            await self._waiter
        finally:
            for timer in timers:
                timer.cancel()
        self._seen.seconds = round(time.perf_counter() - started, 4)
        if self._seen.result not in ("left", "stuck", "malformed") and self._complete:
            judge(self._plan, self._seen, self._headers, bytes(self._body))
        elif self._seen.result == "left" and self._seen.begun:
            count_tokens(self._plan, self._seen, bytes(self._body))
        return self._seen

    def _send(self, timers: list[asyncio.TimerHandle], extra: bytes) -> None:
        planned, loop = self._plan, asyncio.get_running_loop()
        body = planned.body()
        lines = f"x-request-timeout: {planned.deadline}\r\n" if planned.deadline else ""
        lines += header(planned.key, anthropic=planned.api == "messages")
        request = (
            (
                f"POST {planned.path} HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\n"
                f"x-request-id: {planned.request_id}\r\n{lines}content-length: {len(body)}\r\n"
            ).encode()
            + extra
            + b"\r\n"
        )
        if planned.manner == "leave_upload":
            self.transport.write(request + body[: int(len(body) * planned.moment)])
            timers.append(loop.call_later(planned.moment / 20, self._leave))
            return
        self.transport.write(request + body)
        if planned.manner == "leave_early":
            timers.append(loop.call_later(planned.moment / 20, self._leave))

    def _leave(self) -> None:
        """Go away, with a reset or in order."""
        if self._complete or self._waiter is None or self._waiter.done():
            return
        self._seen.result = "left"
        if self._plan.abrupt:
            # What the gateway has not read yet is lost with a reset.
            self._seen.certain = self._seen.status != 0
            peer = self.transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()
        self._done()

    def _stuck(self) -> None:
        self._seen.result = "stuck"
        self.transport.abort()
        self._done()

    def _done(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            if self._seen.result != "left":
                self._seen.remark = "bytes after the end"
            self.reusable = False
            self.transport.abort()
            return
        # The loop's clock stands still while it handles what has come, so this is before the data was read.
        read_at = asyncio.get_running_loop().time()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._seen.result, self._seen.remark = "malformed", repr(error)
            self.transport.abort()
            self._done()
        if self._seen.begun and not self._complete and not has_end(data):
            self._seen.held = read_at

    def connection_lost(self, error: Exception | None) -> None:
        self.reusable = False
        self._done()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._seen.status = self._parser.get_status_code()
        if 200 <= self._seen.status < 300 and self._plan.stream:
            self._seen.begun = time.monotonic()
        if self._plan.manner == "slow_reader":
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(SLOW_READER_SECONDS, self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def on_body(self, data: bytes) -> None:
        self._body += data
        manner = self._plan.manner
        midway = manner == "leave_midway" and self._body.count(b"\n\n") >= self._plan.moment * self._plan.tokens
        if midway or (manner == "leave_at_end" and has_end(data)):
            self._leave()

    def on_message_complete(self) -> None:
        self._complete = True
        self.reusable = self._parser.should_keep_alive()
        self._done()
