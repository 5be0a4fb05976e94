"""What an operator puts around the gateway: middleware, CORS, context variables."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from alphatier_models import Family
from alphatier_server.app import AppSettings, Parts, assemble
from alphatier_server.keys.access import Access
from alphatier_server.keys.ring import Caller
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Pool
from alphatier_server.settings.gateway import CorsSettings, GatewayConfig
from support.fake_engine import DONE, chunk, either, events, stay_silent
from support.fuzzing import request
from support.gateway import pair, running_gateway
from support.raw_client import converse
from support.waiting import eventually

CHAT = "/v1/chat/completions"
PATHS = (CHAT, "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/v1/models")
PAGE = "https://chat.example.org"
mark: ContextVar[str] = ContextVar("mark", default="none")


class Marks(Access):
    """Notes what `mark` is for each request, then changes it, as a tracer or a logger would."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def caller(self, authorization: str | None, api_key: str | None) -> Caller:
        self.seen.append(mark.get())
        mark.set(authorization or "somebody")
        return super().caller(authorization, api_key)


@pytest.fixture
def marks() -> Marks:
    return Marks()


def application(families: dict[str, Family], access: Access | None = None, origins: tuple[str, ...] = ()) -> Any:
    metrics = Metrics()
    parts = Parts(families, Pool(metrics), metrics, access or Access())
    return assemble(AppSettings(GatewayConfig(cors=CorsSettings(origins=origins))), parts).app


@asynccontextmanager
async def client_of(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        yield client


async def ask(client: httpx.AsyncClient, path: str, **headers: str) -> httpx.Response:
    if path == "/v1/models":
        return await client.get(path, headers=headers)
    return await client.post(path, json={"model": "toy"}, headers=headers)


# -- middleware


class Noting:
    """Plain ASGI around everything."""

    def __init__(self, app: ASGIApp, seen: list[str]) -> None:
        self._app = app
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._seen.append(scope["path"])
            mark.set("middleware's")
        await self._app(scope, receive, send)


@pytest.mark.parametrize("added", [False, True], ids=["wrapped", "added"])
async def test_a_users_middleware_sees_every_request_and_the_request_sees_its_variables(
    families: dict[str, Family], marks: Marks, added: bool
) -> None:
    seen: list[str] = []
    app = application(families, marks)
    if added:
        app.add_middleware(Noting, seen=seen)
    async with client_of(app if added else Noting(app, seen)) as client:
        for path in PATHS:
            await ask(client, path)
    assert seen == list(PATHS)
    assert marks.seen == ["middleware's"] * len(PATHS)


async def test_starlettes_own_kind_of_middleware_passes_answers_and_streams(families: dict[str, Family]) -> None:
    app = application(families)

    async def stamp(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-stamp"] = "yes"
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=stamp)
    async with client_of(app) as client:
        for path in PATHS:
            answer = await ask(client, path)
            assert answer.headers["x-stamp"] == "yes"
            assert answer.status_code == (200 if path == "/v1/models" else 503)


async def test_starlettes_own_kind_of_middleware_bears_clients_that_leave(
    families: dict[str, Family], caplog: pytest.LogCaptureFixture
) -> None:
    """Before the answer has begun, and after."""
    begun = asyncio.Event()
    statuses: list[int] = []

    async def note(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        statuses.append(response.status_code)
        return response

    async def work(http: Any) -> Any:
        begun.set()
        await stay_silent(http)

    handler = either(events(chunk({"content": "4"}), then=work), work)
    async with pair(families, handler, protocol=lambda _own: HttpToolsProtocol, around=(note,)) as (gateway, engine):
        for body in (b'{"model":"toy"}', b'{"model":"toy","stream":true}'):
            begun.clear()
            engine.aborted.clear()
            asking = asyncio.create_task(gateway.http.post(gateway.url + CHAT, data=body).__aenter__())
            await asyncio.wait_for(begun.wait(), 5)
            asking.cancel()
            if asking.done():
                (await asking).close()
            await asyncio.wait_for(engine.aborted.wait(), 5)
        await eventually(lambda: len(statuses) == 2, 5)
    assert statuses == [499, 200]
    assert not [record for record in caplog.records if record.exc_info]


# -- CORS

ASKING = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}


async def test_no_page_of_another_origin_may_ask_unless_it_is_configured(families: dict[str, Family]) -> None:
    async with client_of(application(families)) as client:
        preflight = await client.options(CHAT, headers=ASKING)
        assert preflight.status_code == 405
        for answer in (preflight, await ask(client, CHAT, origin=PAGE), await ask(client, "/v1/models", origin=PAGE)):
            assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origins", [(PAGE,), ("*",)])
async def test_a_page_of_an_origin_that_is_configured_may_ask_and_read_the_gateways_headers(
    families: dict[str, Family], origins: tuple[str, ...]
) -> None:
    async with client_of(application(families, origins=origins)) as client:
        for path in PATHS:
            preflight = await client.options(path, headers=ASKING)
            assert preflight.status_code == 200
            assert preflight.headers["access-control-allow-origin"] in (PAGE, "*")
            assert "POST" in preflight.headers["access-control-allow-methods"]
            answer = await ask(client, path, origin=PAGE)
            assert answer.headers["access-control-allow-origin"] in (PAGE, "*")
            exposed = answer.headers["access-control-expose-headers"].split(", ")
            assert {"x-alphatier-tier", "x-request-id", "x-ratelimit-remaining-tokens"} <= set(exposed)


async def test_a_page_of_another_origin_than_those_configured_may_not(families: dict[str, Family]) -> None:
    async with client_of(application(families, origins=(PAGE,))) as client:
        headers = ASKING | {"origin": "https://evil.example"}
        assert (await client.options(CHAT, headers=headers)).status_code == 400
        answer = await ask(client, CHAT, origin="https://evil.example")
        assert "access-control-allow-origin" not in answer.headers


# -- context variables


async def test_pipelined_requests_do_not_see_each_others_variables(families: dict[str, Family], marks: Marks) -> None:
    page = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
    async with running_gateway(families, access=marks) as gateway:
        pipeline = request() + page + request() + request() + page + page + request()
        heard = await converse(gateway.url, [pipeline], limit=10)
    assert heard.statuses == [503, 200, 503, 503, 200, 200, 503]
    assert marks.seen == ["none"] * 7


async def test_concurrent_and_later_requests_do_not_see_each_others_variables(
    families: dict[str, Family], marks: Marks
) -> None:
    handler = events(chunk({"content": "4"}, "stop"), DONE)
    async with pair(families, handler, access=marks) as (gateway, _):
        body = b'{"model":"toy","stream":true}'

        async def once() -> None:
            async with gateway.http.post(gateway.url + CHAT, data=body) as answer:
                assert (await answer.read()).endswith(DONE)

        await asyncio.gather(*(once() for _ in range(10)))
        await asyncio.gather(*(once() for _ in range(10)))
    assert marks.seen == ["none"] * 20


async def test_the_engines_connection_is_nobodys_context(families: dict[str, Family], marks: Marks) -> None:
    begun = asyncio.Event()

    async def wait(request: Any) -> None:
        begun.set()
        await stay_silent(request)

    async with pair(families, events(chunk({"content": "4"}), then=wait), access=marks) as (gateway, _):
        async with gateway.http.post(gateway.url + CHAT, data=b'{"model":"toy","stream":true}') as answer:
            await asyncio.wait_for(begun.wait(), 5)
            await answer.content.readany()
        async with gateway.http.get(gateway.url + "/v1/models") as page:
            assert page.status == 200
    assert marks.seen == ["none", "none"]
