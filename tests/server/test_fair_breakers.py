"""What one client does never takes an engine from another."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
import pytest

from alphatier_models import Family
from support.fake_engine import chunk, completion, either, error, events, fake_engine, stay_silent
from support.fuzzing import ANSWER
from support.gateway import RunningGateway, pair, running_gateway
from support.raw_engine import whole

CHAT = "/v1/chat/completions"


async def ask(gateway: RunningGateway, body: dict[str, Any] | None = None, **headers: str) -> int:
    data = orjson.dumps({"model": "toy"} | (body or {}))
    async with gateway.http.post(gateway.url + CHAT, data=data, headers=headers) as answer:
        await answer.read()
        return answer.status


SLOW_FOR_SOME = either(events(chunk({"content": "4"}), then=stay_silent), completion())
"""A stream that has no end for whoever asks for one, else an answer."""


async def test_deadlines_of_one_client_take_no_engine_from_another(families: dict[str, Family]) -> None:
    async with (
        fake_engine(SLOW_FOR_SOME) as one,
        fake_engine(SLOW_FOR_SOME) as two,
        running_gateway(families, one.url, two.url) as gateway,
    ):
        hasty = {"stream": True}
        asked = [ask(gateway, hasty, **{"x-request-timeout": "0.2"}) for _ in range(24)]
        assert set(await asyncio.gather(*asked)) <= {200, 504}  # begun or not
        assert await gateway.metric("alphatier_requests_total", outcome="timeout") == 24
        assert await gateway.metric("alphatier_replica_ejections_total") == 0
        assert {await ask(gateway) for _ in range(10)} == {200}


async def test_failures_that_one_client_provokes_leave_the_last_engine_to_the_others(
    families: dict[str, Family],
) -> None:
    async def provoked(request: Any) -> Any:
        failing = orjson.loads(await request.read()).get("user") == "bad"
        return await (error(500, b"{}") if failing else completion())(request)

    async with pair(families, provoked) as (gateway, _):
        for _ in range(30):
            assert await ask(gateway, {"user": "bad"}) == 502
            assert await ask(gateway) == 200


class MortalEngine:
    """An engine that a certain request kills: its process is gone, and its port with it."""

    def __init__(self) -> None:
        self.got = 0
        """How often the deadly request came."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def alive(cls) -> AsyncIterator["MortalEngine"]:
        engine = cls()
        engine._server = await asyncio.start_server(engine._serve, "127.0.0.1", 0)
        engine.url = f"http://127.0.0.1:{engine._server.sockets[0].getsockname()[1]}"
        try:
            yield engine
        finally:
            engine._die()

    def _die(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
                body = await reader.readexactly(length)
                if b"deadly" in body:
                    self.got += 1
                    self._die()
                    return
                cards = [{"id": f"toy:{tier}", "owned_by": "vllm"} for tier in ("base", "careful", "terse")]
                writer.write(whole(orjson.dumps({"data": cards}) if head.startswith(b"GET") else ANSWER))


@pytest.mark.parametrize("warm", [False, True], ids=["new connections", "kept connections"])
async def test_a_request_that_kills_engines_kills_two_at_most(families: dict[str, Family], warm: bool) -> None:
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(MortalEngine.alive()) for _ in range(4)]
        gateway = await stack.enter_async_context(running_gateway(families, *(engine.url for engine in engines)))
        if warm:
            assert set(await asyncio.gather(*(ask(gateway) for _ in range(40)))) == {200}
        assert await ask(gateway, {"user": "deadly"}) in (502, 503)
        assert sum(engine.got for engine in engines) <= 2
        assert {await ask(gateway) for _ in range(10)} == {200}
