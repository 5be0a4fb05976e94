"""What happens to a request whose engine fails: asked of another one, or told to the client; and its time limits."""

import asyncio
from typing import Any

import orjson
import pytest

from alphatier_models import Family
from alphatier_server.settings.replicas import PoolSettings
from support.fake_engine import DONE, break_connection, chunk, completion, error, events, fake_engine, stay_silent
from support.gateway import RunningGateway, pair, running_gateway

BODY = orjson.dumps({"model": "toy:terse", "messages": [{"role": "user", "content": "2 + 2?"}]})
STREAM = orjson.dumps({**orjson.loads(BODY), "stream": True})
PATIENT = PoolSettings(breaker_failures=1000, breaker_window=1000, retry_minimum=1000)


async def post(gateway: RunningGateway, body: bytes = BODY, **headers: str) -> tuple[int, str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with gateway.http.post(f"{gateway.url}/v1/chat/completions", data=body, headers=named) as response:
        return response.status, await response.text(), response.headers


@pytest.mark.parametrize("fault", [error(503, b'{"error":{"message":"busy"}}'), error(502, b"bad gateway"), "cut"])
async def test_a_request_that_fails_before_its_answer_goes_to_another_engine(
    families: dict[str, Family], fault: Any
) -> None:
    broken = events(then=break_connection) if fault == "cut" else fault
    async with (
        fake_engine(broken) as bad,
        fake_engine(completion()) as good,
        running_gateway(families, bad.url, good.url, replicas=PATIENT) as gateway,
    ):
        if fault == "cut":
            # The head of a stream has been sent to nobody yet when the engine breaks off a whole answer.
            bad.handler = whole_answer_that_breaks
        answers = [await post(gateway) for _ in range(20)]
        assert {status for status, _, _ in answers} == {200}
        assert bad.bodies
        assert await gateway.metric("alphatier_retries_total", tier="terse") == len(bad.bodies)
        assert await gateway.metric("alphatier_requests_total", outcome="ok") == 20


async def whole_answer_that_breaks(request: Any) -> Any:
    from aiohttp import web

    response = web.StreamResponse(headers={"content-length": "1000", "content-type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"id":')
    await break_connection(request)
    return response


async def test_a_stream_that_has_begun_is_not_repeated_but_ends_with_an_error(families: dict[str, Family]) -> None:
    begun = events(chunk({"content": "4"}), then=break_connection)
    async with (
        fake_engine(begun) as one,
        fake_engine(begun) as two,
        running_gateway(families, one.url, two.url, replicas=PATIENT) as gateway,
    ):
        status, text, _ = await post(gateway, STREAM)
        assert status == 200
        assert text.count('"content":"4"') == 1
        assert '"error"' in text.split("\n\n")[-2]
        assert "[DONE]" not in text
        assert len(one.bodies) + len(two.bodies) == 1


async def test_retries_have_a_budget(families: dict[str, Family]) -> None:
    poor = PoolSettings(breaker_failures=1000, breaker_window=1000, retry_share=0.0, retry_minimum=0.0)
    async with (
        fake_engine(error(503, b"{}")) as one,
        fake_engine(error(503, b"{}")) as two,
        running_gateway(families, one.url, two.url, replicas=poor) as gateway,
    ):
        for _ in range(10):
            status, _, headers = await post(gateway)
            assert status == 503
            assert int(headers["retry-after"]) >= 1
        assert len(one.bodies) + len(two.bodies) == 10


async def test_an_engines_own_refusal_is_not_repeated(families: dict[str, Family]) -> None:
    refusal = error(422, b'{"error":{"message":"no such sampling"}}')
    async with (
        fake_engine(refusal) as one,
        fake_engine(refusal) as two,
        running_gateway(families, one.url, two.url, replicas=PATIENT) as gateway,
    ):
        status, text, _ = await post(gateway)
        assert (status, len(one.bodies) + len(two.bodies)) == (422, 1)
        assert "no such sampling" in text


async def test_a_deadline_ends_a_request_that_takes_too_long(families: dict[str, Family]) -> None:
    async with pair(families, events(chunk({"content": "4"}), then=stay_silent)) as (gateway, engine):
        status, text, _ = await post(gateway, STREAM, x_request_timeout="0.2")
        assert status == 200
        assert "deadline_exceeded" in text.split("\n\n")[-2]
        assert "[DONE]" not in text
        await asyncio.wait_for(engine.aborted.wait(), 5)
        assert await gateway.metric("alphatier_requests_total", outcome="timeout") == 1


async def test_a_deadline_before_the_answer_is_a_504(families: dict[str, Family]) -> None:
    async def never(request: Any) -> Any:
        await asyncio.Event().wait()

    async with pair(families, never) as (gateway, _):
        status, text, _ = await post(gateway, x_request_timeout="0.1")
        assert (status, orjson.loads(text)["error"]["code"]) == (504, "deadline_exceeded")
        for wrong in ("soon", "-1", "0", "inf", "nan"):
            status, text, _ = await post(gateway, x_request_timeout=wrong)
            assert (status, orjson.loads(text)["error"]["param"]) == (400, "X-Request-Timeout")


async def test_a_silent_stream_is_kept_alive_by_comments(families: dict[str, Family]) -> None:
    go_on = asyncio.Event()

    async def pause(_request: Any) -> None:
        await go_on.wait()

    async with (
        fake_engine(events(chunk({"content": "4"}, "stop"), then=pause)) as engine,
        running_gateway(families, engine.url, keep_alive=0.1) as gateway,
        gateway.http.post(f"{gateway.url}/v1/chat/completions", data=STREAM) as response,
    ):
        comments = 0
        async with asyncio.timeout(10):
            async for line in response.content:
                comments += line == b": keep-alive\n"
                if comments == 3:
                    go_on.set()
            assert comments >= 3


async def test_a_client_that_reads_slowly_slows_the_engine_and_gets_everything(families: dict[str, Family]) -> None:
    piece = chunk({"content": "x" * 10_000})
    async with pair(families, events(*[piece] * 2000, chunk({"content": "."}, "stop"), DONE)) as (gateway, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]), limit=2**16)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
            f"content-type: application/json\r\ncontent-length: {len(STREAM)}\r\n\r\n"
        )
        writer.write(head.encode() + STREAM)
        got = await reader.readuntil(b"\r\n\r\n")
        assert b"200" in got.split(b"\r\n")[0]
        size = 0
        async with asyncio.timeout(60):
            while b"[DONE]" not in got:
                got = await reader.read(65536)
                size += len(got)
        assert size > 2000 * 10_000
        writer.close()


async def test_an_error_that_the_engine_sends_as_a_stream_is_an_error(families: dict[str, Family]) -> None:
    failing = error(500, b"data: {}\n\n", "text/event-stream")
    async with pair(families, failing) as (gateway, _):
        status, text, _ = await post(gateway, STREAM)
        assert (status, orjson.loads(text)["error"]["code"]) == (502, "engine_failed")


async def test_an_answer_nested_too_deeply_to_be_rewritten_is_the_engines_failure(
    families: dict[str, Family],
) -> None:
    deep = b'{"model":"other","model\\u0020":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    async with pair(families, error(200, deep)) as (gateway, _):
        status, text, _ = await post(gateway)
        assert (status, orjson.loads(text)["error"]["code"]) == (502, "engine_failed")
