"""An engine that does what it is told to, for faults that a real engine cannot be made to show."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


@dataclass
class FakeEngine:
    """Answers every POST with `handler`; remembers what it was sent."""

    handler: Handler
    models: tuple[str, ...] = ("toy:base", "toy:careful", "toy:terse")
    listing: Handler | None = None
    """Answers /v1/models in place of the list, where it is set."""
    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    aborted: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> str:
        """Host and port, which are its name where it has no other."""
        return self.url.partition("://")[2]

    @property
    def replica(self) -> str:
        """The name of its replica of `toy`."""
        return f"toy@{self.address}"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        try:
            return await self.handler(request)
        except (asyncio.CancelledError, ConnectionResetError):
            self.aborted.set()
            raise

    async def cards(self, request: web.Request) -> web.StreamResponse:
        if self.listing is not None:
            return await self.listing(request)
        data = [{"id": name, "owned_by": "vllm"} for name in self.models]
        return web.json_response({"object": "list", "data": data})


@asynccontextmanager
async def fake_engine(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(handler)
    app = web.Application(client_max_size=2**30)
    app.router.add_post("/v1/{path:.*}", engine.serve)
    app.router.add_get("/v1/models", engine.cards)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    assert site._server is not None
    engine.url = f"http{'s' if tls else ''}://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    try:
        yield engine
    finally:
        await runner.cleanup()


def completion(**changes: Any) -> Handler:
    """A whole chat completion."""
    message = {"role": "assistant", "content": "\\boxed{4}", "reasoning": "2 + 2 = 4"}
    usage = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 2}}
    document: dict[str, Any] = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "toy:careful",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    } | changes

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(document)

    return answer


def error(status: int, body: bytes, content_type: str = "application/json") -> Handler:
    """An error answer."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, content_type=content_type)

    return answer


def events(*documents: Any, then: Callable[[web.Request], Awaitable[None]] | None = None) -> Handler:
    """A stream of these events (bytes are sent as they are), then perhaps a fault."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for document in documents:
            data = document if isinstance(document, bytes) else b"data: " + orjson.dumps(document) + b"\n\n"
            await response.write(data)
        if then is not None:
            await then(request)
        return response

    return answer


def either(stream: Handler, answer: Handler) -> Handler:
    """`stream` for whoever asks for one, else `answer`."""

    async def chosen(request: web.Request) -> web.StreamResponse:
        streams = orjson.loads(await request.read()).get("stream")
        return await (stream if streams else answer)(request)

    return chosen


def until_set(event: asyncio.Event) -> Callable[[web.Request], Awaitable[None]]:
    """What a stream does `then`: wait."""

    async def wait(_request: web.Request) -> None:
        await event.wait()

    return wait


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **changes: Any) -> dict[str, Any]:
    """One chat completion chunk."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    base = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "toy:careful"}
    return {**base, "choices": choices} | changes


DONE = b"data: [DONE]\n\n"


async def break_connection(request: web.Request) -> None:
    """Close the socket in the middle of an answer, as a killed engine does."""
    assert request.transport is not None
    request.transport.abort()
    await asyncio.sleep(0)


async def stay_silent(_request: web.Request) -> None:
    """Send nothing more until the client goes away."""
    await asyncio.Event().wait()
