"""The gateway on a real socket, asked by the official SDK, in front of an engine that can misbehave."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import orjson
import pytest

from alphatier_models import Family
from alphatier_server.logs import LogWriter, RequestLog
from alphatier_server.settings.replicas import PoolSettings
from support.fake_engine import (
    DONE,
    USAGE,
    Handler,
    break_connection,
    chunk,
    completion,
    either,
    error,
    events,
    fake_engine,
    stay_silent,
)
from support.fuzzing import request
from support.gateway import RunningGateway, pair, running_gateway

MESSAGES: Any = [{"role": "user", "content": "What is 2 + 2?"}]
STREAM = (
    chunk({"role": "assistant", "content": ""}, usage={**USAGE, "completion_tokens": 0}),
    chunk({"reasoning": "2 + 2"}, usage={**USAGE, "completion_tokens": 1}),
    chunk({"content": "4"}, "stop", usage=USAGE),
    chunk(usage=USAGE),
    DONE,
)


async def post(gateway: RunningGateway, data: bytes, path: str = "/v1/chat/completions") -> tuple[int, Any, Any]:
    async with gateway.http.post(gateway.url + path, data=data) as response:
        return response.status, await response.json(), response.headers


async def outcomes(gateway: RunningGateway) -> dict[str, float]:
    names = ("ok", "client_error", "engine_error", "unavailable", "timeout", "disconnected", "gateway_error")
    counts = {name: await gateway.metric("alphatier_requests_total", outcome=name) for name in names}
    return {name: count for name, count in counts.items() if count}


async def test_the_answer_says_which_tier_ran_and_why(families: dict[str, Family]) -> None:
    async with pair(families, completion()) as (gateway, _):
        raw = await gateway.sdk().chat.completions.with_raw_response.create(
            model="toy", messages=MESSAGES, reasoning_effort="low"
        )
        answer = raw.parse()
        assert answer.model == "toy:terse"
        assert raw.headers["x-alphatier-tier"] == "terse"
        assert raw.headers["x-alphatier-alpha"] == "0.4"
        assert raw.headers["x-alphatier-decision"] == "effort"
        assert answer.usage is not None
        assert answer.usage.completion_tokens_details is not None
        assert answer.usage.completion_tokens_details.reasoning_tokens == 2


async def test_the_engine_gets_its_own_model_name_and_no_selector(families: dict[str, Family]) -> None:
    async with pair(families, completion()) as (gateway, engine):
        body = b'{"model":"toy:terse","efficiency_tier":"terse","reasoning_effort":"low", "top_p":0.50,"odd":[1e3]}'
        await post(gateway, body)
        assert engine.bodies == [b'{"model":"toy:terse", "top_p":0.50,"odd":[1e3]}']


async def test_the_rest_of_a_reasoning_object_reaches_the_engine(families: dict[str, Family]) -> None:
    async with pair(families, completion()) as (gateway, engine):
        await post(gateway, b'{"model":"toy","reasoning":{"effort":"low","summary":"auto"}}')
        await post(gateway, b'{"model":"toy","reasoning":{"effort":"low"}}')
        assert json.loads(engine.bodies[0]) == {"model": "toy:terse", "reasoning": {"summary": "auto"}}
        assert json.loads(engine.bodies[1]) == {"model": "toy:terse"}


async def test_client_credentials_do_not_reach_the_engine(families: dict[str, Family]) -> None:
    async with pair(families, completion()) as (gateway, engine):
        headers = {
            "authorization": "Bearer secret",
            "cookie": "a=b",
            "x-request-id": "my-id-1",
            "traceparent": "00-1",
        }
        async with gateway.http.post(
            gateway.url + "/v1/chat/completions", data=b'{"model":"toy"}', headers=headers
        ) as answer:
            assert answer.headers["x-request-id"] == "my-id-1"
        assert "authorization" not in engine.headers[0]
        assert "cookie" not in engine.headers[0]
        assert engine.headers[0]["x-request-id"] == "my-id-1"
        assert engine.headers[0]["traceparent"] == "00-1"


async def test_a_request_id_that_is_no_plain_token_is_replaced(families: dict[str, Family]) -> None:
    async with (
        pair(families, completion()) as (gateway, _),
        gateway.http.post(
            gateway.url + "/v1/chat/completions", data=b"{}", headers={"x-request-id": "a b{}"}
        ) as answer,
    ):
        assert len(answer.headers["x-request-id"]) == 32


async def test_a_stream_reaches_the_sdk_with_reasoning_apart(families: dict[str, Family]) -> None:
    async with pair(families, events(*STREAM)) as (gateway, engine):
        stream = await gateway.sdk().chat.completions.create(
            model="toy:careful", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [part async for part in stream]
        deltas = [part.choices[0].delta for part in chunks if part.choices]
        assert "".join(getattr(delta, "reasoning", None) or "" for delta in deltas) == "2 + 2"
        assert "".join(delta.content or "" for delta in deltas) == "4"
        assert [part.usage.completion_tokens for part in chunks if part.usage] == [3]
        assert json.loads(engine.bodies[0])["stream_options"] == {
            "include_usage": True,
            "continuous_usage_stats": True,
        }


async def test_tokens_counted_are_tokens_seen_streamed_or_not(families: dict[str, Family]) -> None:
    async with pair(families, either(events(*STREAM), completion())) as (gateway, _):
        for stream in (True, False):
            async with gateway.http.post(
                gateway.url + "/v1/chat/completions", data=orjson.dumps({"model": "toy:terse", "stream": stream})
            ) as answer:
                await answer.read()
        assert await gateway.metric("alphatier_completion_tokens_total", tier="terse") == 6
        assert await gateway.metric("alphatier_prompt_tokens_total", tier="terse") == 10
        assert await gateway.metric("alphatier_reasoning_tokens_total", tier="terse") == 2  # the stream did not tell
        # terse takes 40 tokens where the reference takes 100, so 6 tokens stand for 15: 9 saved
        assert await gateway.metric("alphatier_estimated_saved_tokens_total", tier="terse") == pytest.approx(9)
        assert await outcomes(gateway) == {"ok": 2}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not valid JSON"),
        (b"{", 400, "not valid JSON"),
        (b"[]", 400, "not a JSON object"),
        (b'{"model":"toy","model":"toy:terse"}', 400, "is there twice"),
        (b"{}", 400, "you must provide a model"),
        (b'{"model":"gpt-4"}', 404, "toy:terse"),
        (b'{"model":"toy:brief"}', 404, "terse"),
        (b'{"model":"toy","reasoning_effort":"lo"}', 400, "xhigh"),
        (b'{"model":"toy","stream":"yes"}', 400, "stream"),
        (b'{"model":"toy:base","efficiency_tier":"terse"}', 400, "Contradiction"),
    ],
)
async def test_a_bad_request_is_an_error_in_openais_shape(
    families: dict[str, Family], body: bytes, status: int, words: str
) -> None:
    async with running_gateway(families) as gateway:
        got, document, headers = await post(gateway, body)
        assert got == status
        assert set(document["error"]) == {"message", "type", "param", "code"}
        assert words in document["error"]["message"]
        assert headers["x-request-id"]
        assert await outcomes(gateway) == {"client_error": 1}


async def test_the_sdk_raises_its_own_exceptions(families: dict[str, Family]) -> None:
    async with running_gateway(families) as gateway:
        sdk = gateway.sdk()
        with pytest.raises(openai.NotFoundError):
            await sdk.chat.completions.create(model="gpt-4", messages=MESSAGES)
        with pytest.raises(openai.BadRequestError):
            await sdk.chat.completions.create(model="toy", messages=MESSAGES, extra_body={"efficiency_tier": 3})
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model="toy", messages=MESSAGES)
        assert caught.value.status_code == 503
        assert int(caught.value.response.headers["retry-after"]) > 0
        with pytest.raises(openai.NotFoundError):
            await sdk.models.retrieve("gpt-4")


async def test_a_client_that_takes_nothing_is_given_up(families: dict[str, Family]) -> None:
    flood = [chunk({"content": "x" * 100_000}) for _ in range(200)]
    async with pair(families, events(*flood, then=stay_silent), client=0.2) as (gateway, engine):
        _, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]), limit=1)
        writer.write(request(b'{"model":"toy","stream":true}'))
        await asyncio.wait_for(engine.aborted.wait(), 10)
        await gateway.falls_to_zero()
        assert await outcomes(gateway) == {"disconnected": 1}
        writer.transport.abort()


@pytest.mark.parametrize(
    ("handler", "status", "message"),
    [
        (error(400, b'{"error":{"message":"too long","type":"BadRequestError","code":400}}'), 400, "too long"),
        (error(422, b'{"detail":"no such field"}'), 422, "no such field"),
        (error(404, b'{"error":"who?"}'), 404, "who?"),
        (error(429, b"slow down", "text/plain"), 429, "slow down"),
        (error(500, b'{"error":{"message":"CUDA"}}'), 502, "The engine failed with status 500."),
        (error(200, b"<html>", "text/html"), 502, "cannot be read"),
    ],
)
async def test_what_the_engine_refuses_is_passed_on_in_openais_shape(
    families: dict[str, Family], handler: Handler, status: int, message: str
) -> None:
    async with pair(families, handler) as (gateway, _):
        got, document, headers = await post(gateway, b'{"model":"toy"}')
        assert got == status
        assert message in document["error"]["message"]
        assert "CUDA" not in str(document)  # what an engine says of its own failure is not for clients
        assert headers["x-alphatier-tier"] == "careful"


async def test_an_engine_that_dies_in_a_stream_ends_it_with_an_error_event(families: dict[str, Family]) -> None:
    async with pair(families, events(*STREAM[:2], then=break_connection)) as (gateway, _):
        stream = await gateway.sdk().chat.completions.create(model="toy", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            async for _ in stream:
                pass
        async with gateway.http.post(
            gateway.url + "/v1/chat/completions", data=b'{"model":"toy","stream":true}'
        ) as a:
            assert not (await a.read()).endswith(DONE)
        # the engine told of one token before it died, twice
        assert await gateway.metric("alphatier_completion_tokens_total") == 2
        assert await outcomes(gateway) == {"engine_error": 2}
        assert await gateway.metric("alphatier_requests_in_flight") == 0


async def test_an_engine_that_falls_silent_is_given_up_after_the_limit(families: dict[str, Family]) -> None:
    async with pair(families, events(*STREAM[:2], then=stay_silent), idle=0.3) as (gateway, engine):
        stream = await gateway.sdk().chat.completions.create(model="toy", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match=r"sent nothing for 0\.3 seconds"):
            async for _ in stream:
                pass
        await asyncio.wait_for(engine.aborted.wait(), 5)
        assert await outcomes(gateway) == {"timeout": 1}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_aborts_the_engines_request(families: dict[str, Family], stream: bool) -> None:
    working = asyncio.Event()

    async def work(http: Any) -> Any:
        working.set()
        await stay_silent(http)

    async with pair(families, events(*STREAM[:2], then=work) if stream else work) as (gateway, engine):
        body = orjson.dumps({"model": "toy", "stream": stream})
        asking = asyncio.create_task(post(gateway, body))
        await asyncio.wait_for(working.wait(), 5)
        asking.cancel()
        await asyncio.wait_for(engine.aborted.wait(), 5)
        await gateway.falls_to_zero()
        assert await outcomes(gateway) == {"disconnected": 1}
        assert await gateway.metric("alphatier_client_disconnects_total", tier="careful") == 1
        assert await gateway.metric("alphatier_completion_tokens_total") == (1 if stream else 0)


async def test_an_engine_that_is_gone_is_503_with_retry_after(families: dict[str, Family]) -> None:
    async with running_gateway(families, *[]) as gateway:
        status, document, headers = await post(gateway, b'{"model":"toy"}')
        assert (status, document["error"]["code"], headers["retry-after"]) == (503, "no_engine", "5")
        async with gateway.http.get(gateway.url + "/health/ready") as answer:
            assert answer.status == 503
        async with gateway.http.get(gateway.url + "/health/live") as answer:
            assert answer.status == 200


async def test_an_engine_that_went_away_is_told_without_its_address(families: dict[str, Family]) -> None:
    async with AsyncExitStack() as stack:
        async with fake_engine(completion()) as engine:
            replicas = PoolSettings(health_interval=60)  # the first to notice is a request
            gateway = await stack.enter_async_context(running_gateway(families, engine.url, replicas=replicas))
        status, document, _ = await post(gateway, b'{"model":"toy"}')
        assert (status, document["error"]["code"]) == (503, "no_engine")
        address = urlsplit(engine.url)
        assert str(address.hostname) not in str(document)
        assert str(address.port) not in str(document)


async def test_models_lists_family_auto_and_every_tier_with_figures(families: dict[str, Family]) -> None:
    async with running_gateway(families) as gateway:
        cards = {card.id: card async for card in gateway.sdk().models.list()}
        assert list(cards) == ["toy", "toy:auto", "toy:base", "toy:careful", "toy:terse"]
        terse: Any = cards["toy:terse"]
        assert terse.alphatier["alpha"] == 0.4
        assert terse.alphatier["tokens"]["mean"] == 40
        assert terse.alphatier["accuracy"]["mean"] == 0.96
        one: Any = await gateway.sdk().models.retrieve("toy:base")
        assert one.alphatier["alpha"] is None


async def test_models_says_what_was_not_measured(families: dict[str, Family]) -> None:
    toy = families["toy"]
    tiers = tuple(tier.model_copy(update={"evaluations": ()}) if tier.name == "terse" else tier for tier in toy.tiers)
    async with running_gateway({"toy": toy.model_copy(update={"tiers": tiers})}) as gateway:
        cards: dict[str, Any] = {card.id: card async for card in gateway.sdk().models.list()}
        assert cards["toy:terse"].alphatier["figures"] == "not measured"
        assert "accuracy" not in cards["toy:terse"].alphatier
        assert "figures" not in cards["toy:careful"].alphatier


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v1/chat/completions", 405), ("POST", "/metrics", 405), ("POST", "//", 404)],
)
async def test_every_error_has_openais_shape(
    families: dict[str, Family], method: str, path: str, status: int
) -> None:
    async with running_gateway(families) as gateway, gateway.http.request(method, gateway.url + path) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["message"]


async def test_each_request_is_logged_once_without_its_content(
    tmp_path: Path,
    families: dict[str, Family],
) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = RequestLog(LogWriter(file.fileno()))
        async with pair(families, completion(), request_log=log) as (gateway, _):
            await post(gateway, b'{"model":"toy:terse","messages":"my secret"}')
            await post(gateway, b"{}")
        log.flush()
    text = (tmp_path / "log").read_bytes()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["tier"], line["outcome"], line["status"]) for line in lines] == [
        ("terse", "ok", 200),
        ("unknown", "client_error", 400),
    ]
    assert lines[0]["completion_tokens"] == 3
    assert b"my secret" not in text


async def test_openmetrics_carries_the_request_id_as_exemplar(families: dict[str, Family]) -> None:
    async with pair(families, completion()) as (gateway, _):
        await post(gateway, b'{"model":"toy"}')
        headers = {"accept": "application/openmetrics-text; version=1.0.0"}
        async with gateway.http.get(gateway.url + "/metrics", headers=headers) as answer:
            assert '# {request_id="' in await answer.text()
