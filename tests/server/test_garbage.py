"""What a request leaves behind: nothing that only the garbage collector, which looks seldom, would find."""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from alphatier_server.accelerator.protocol import AcceleratedProtocol
from support.fake_engine import DONE, USAGE, Handler, break_connection, chunk, completion, error, events
from support.families import small_family
from support.gateway import RunningGateway, pair

STREAM = (chunk({"content": "4"}), chunk({"content": "2"}, "stop"), chunk(usage=USAGE), DONE)
ENGINES: dict[str, Handler] = {
    "whole": completion(),
    "stream": events(*STREAM),
    "engine's error": error(400, b'{"error": {"message": "too long"}}'),
    "engine's failure": error(500, b"<html>"),
    "broken stream": events(STREAM[0], then=break_connection),
    "broken before the head": events(then=break_connection),
    "error event": events(STREAM[0], {"error": {"message": "out of memory"}}),
}
REQUESTS = 5
OURS = "alphatier_server."


@pytest.fixture
def collector() -> Iterator[None]:
    """The collector does nothing by itself, and keeps what it finds."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("served_by", [AcceleratedProtocol, HttpToolsProtocol], ids=["accelerator", "asgi"])
@pytest.mark.parametrize("stream", ["true", "false"])
@pytest.mark.parametrize("name", ENGINES)
async def test_a_request_is_forgotten_without_the_collector(
    name: str, stream: str, served_by: type, tmp_path: Path, collector: None
) -> None:
    families = {"toy": small_family(tmp_path / "toy")}

    def protocol(accelerated: type[AcceleratedProtocol]) -> type:
        return accelerated if served_by is AcceleratedProtocol else served_by

    async with pair(families, ENGINES[name], protocol=protocol) as (gateway, _):
        await _ask(gateway, stream)
        gc.collect()
        gc.garbage.clear()
        for _ in range(REQUESTS):
            await _ask(gateway, stream)
        await asyncio.sleep(0)
        gc.collect()
        kinds = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage)
    # Fewer than a request each are what an earlier test has left.
    assert {kind: count for kind, count in kinds.items() if kind.startswith(OURS) and count >= REQUESTS} == {}


async def _ask(gateway: RunningGateway, stream: str) -> None:
    body = b'{"model": "toy", "stream": %b}' % stream.encode()
    async with aiohttp.ClientSession() as client:
        headers = {"content-type": "application/json"}
        async with client.post(f"{gateway.url}/v1/chat/completions", data=body, headers=headers) as answer:
            await answer.read()
