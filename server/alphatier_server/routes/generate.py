"""The generating paths under ASGI: `gateway.handle` in a task of its own, its answer sent by the server's task.

A task a request waits for the client to leave, as ASGI has no other way to tell; the accelerator needs none.
"""

import asyncio
import time
from collections import deque

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from alphatier_server.dialects.dialect import Dialect
from alphatier_server.errors import ClientGone
from alphatier_server.gateway.handle import Gateway
from alphatier_server.gateway.request import Head, Paced
from alphatier_server.middleware.bounds import read_body
from alphatier_server.settings.clients import ClientLimits

_MOST_HELD_BYTES = 256 * 1024
"""What is held of an answer for a client that takes it slowly, before the engine is paused."""

_CLIENT_GONE = 499
"""What nginx calls it."""


class GeneratingPath:
    """One API's path, as an ASGI application."""

    def __init__(self, gateway: Gateway, dialect: Dialect, limits: ClientLimits) -> None:
        self._gateway = gateway
        self._dialect = dialect
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in self._dialect.methods:
            raise HTTPException(405, headers={"allow": ", ".join(self._dialect.methods)})
        cycle = AsgiCycle(scope, receive, self._limits)
        await cycle.run(self._gateway, self._dialect, send)


class AsgiCycle:
    """A `gateway.request.Request` and its `ResponseWriter`."""

    def __init__(self, scope: Scope, receive: Receive, limits: ClientLimits) -> None:
        self._scope = scope
        self._receive = receive
        self._limits = limits
        self._messages: deque[Message] = deque()
        self._held = 0
        self._wake = asyncio.Event()
        self._stream: Paced | None = None
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._sending_since = 0.0
        """Since when a message is being sent, in the loop's seconds; 0 while none is."""
        self._begun = self._read = False
        self.method: str = scope["method"]
        self.query: bytes = scope["query_string"]
        self.head = Head(scope["headers"])
        self.client = scope["client"][0] if scope.get("client") else None
        self.arrived = time.perf_counter()
        self.started = self.wrote = self.disconnected = False
        self.keep_alive = True

    async def run(self, gateway: Gateway, dialect: Dialect, send: Send) -> None:
        """Answer the request."""
        self._task = task = asyncio.create_task(self._handle(gateway, dialect))
        try:
            await self._send_all(send)
        except asyncio.CancelledError:  # the server ends: the gateway has a last word for the client
            self._stop(gone=False)
            await task
            await self._send_all(send)
            raise
        except BaseException:
            self._stop(gone=True)
            await task
            raise
        finally:
            if self._watch is not None:
                self._watch.cancel()
                self._watch = None  # its error knows this object: a circle that only the collector would end
        await task
        if self.disconnected and not self.started:  # nobody listens, but middleware wants an answer to look at
            await self._send_one({"type": "http.response.start", "status": _CLIENT_GONE, "headers": []}, send)
            await self._send_one({"type": "http.response.body", "body": b"", "more_body": False}, send)

    # -- the request

    async def body(self) -> bytes:
        """See Request."""
        if self.disconnected:
            raise ClientGone
        body = b"" if self.method == "GET" else await read_body(self._scope, self._receive, self._limits)
        self._read = True
        self._watch = asyncio.create_task(self._wait_for_end())
        return body

    async def _handle(self, gateway: Gateway, dialect: Dialect) -> None:
        self._begun = True
        try:
            await gateway.handle(dialect, self, self)
        finally:
            self._wake.set()

    async def _wait_for_end(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._stop(gone=True)

    def _stop(self, *, gone: bool) -> None:
        self.disconnected = self.disconnected or gone
        if self._task is not None and self._begun and not self._task.done():
            self._task.cancel()
        self._wake.set()

    # -- the answer

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        """See ResponseWriter."""
        self.start(status, head + b"content-length: %d\r\n" % len(body))
        self.finish(body)

    def start(self, status: int, head: bytes) -> None:
        """See ResponseWriter."""
        self.started = True
        headers = [
            (name, value) for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n")) if name
        ]
        if not (self._read and self.keep_alive) and self._scope.get("http_version", "1.1").startswith("1"):
            headers.append((b"connection", b"close"))
        self._put({"type": "http.response.start", "status": status, "headers": headers})

    def send_head(self) -> None:
        """See ResponseWriter."""

    def write(self, data: bytes) -> None:
        """See ResponseWriter."""
        self.wrote = True
        self._put({"type": "http.response.body", "body": data, "more_body": True})

    def finish(self, data: bytes = b"") -> None:
        """See ResponseWriter."""
        self._put({"type": "http.response.body", "body": data, "more_body": False})

    def abort(self) -> None:
        """See ResponseWriter. A server breaks off what its application left incomplete."""

    def follow_pace(self, stream: Paced | None) -> None:
        """See ResponseWriter."""
        self._stream = stream
        if stream is not None and self._held > _MOST_HELD_BYTES:
            stream.pause()

    def _put(self, message: Message) -> None:
        self._messages.append(message)
        self._held += len(message.get("body", b""))
        if self._held > _MOST_HELD_BYTES and self._stream is not None:
            self._stream.pause()
        self._wake.set()

    async def _send_all(self, send: Send) -> None:
        """Send what the gateway writes, until that is all, or the client takes nothing for too long."""
        try:
            async with asyncio.timeout(None) as limit:
                self._look(limit)
                await self._send_until_complete(send)
        except TimeoutError:
            self._stop(gone=True)
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    async def _send_until_complete(self, send: Send) -> None:
        while True:
            if self.disconnected:
                self._messages.clear()
            while self._messages:
                message = self._messages.popleft()
                await self._send_one(message, send)
                if message["type"] == "http.response.body" and not message["more_body"]:
                    return
            if self._task is None or self._task.done():
                return
            self._wake.clear()
            await self._wake.wait()

    async def _send_one(self, message: Message, send: Send) -> None:
        self._sending_since = self._loop.time()
        try:
            await send(message)
        except OSError:  # the server says that it is gone
            self._stop(gone=True)
            return
        finally:
            self._sending_since = 0.0
        before = self._held
        self._held -= len(message.get("body", b""))
        if before > _MOST_HELD_BYTES >= self._held and self._stream is not None:
            self._stream.resume()

    def _look(self, limit: asyncio.Timeout) -> None:
        """Runs now and then, instead of a time limit for each message: since when is one being sent?"""
        if self._sending_since and self._loop.time() - self._sending_since > self._limits.timeout:
            limit.reschedule(self._loop.time())
        else:
            self._timer = self._loop.call_later(self._limits.timeout / 4, self._look, limit)
