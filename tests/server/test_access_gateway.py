"""Keys, tiers and limits as clients meet them: through a gateway, with the official clients."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from alphatier_server.cli import ask as ask_command
from alphatier_server.keys.access import Access, build_access
from alphatier_server.keys.ring import digest_of
from alphatier_server.settings.access import AccessSettings
from support.fake_engine import DONE, USAGE, FakeEngine, Handler, chunk, completion, events
from support.families import small_family
from support.gateway import RunningGateway, pair
from support.keys import key_file
from support.redis_server import RedisServer

ALICE, BOB = "sk-at-alice-0123456789", "sk-at-bob-0123456789"
QUESTION: dict[str, Any] = {"model": "toy", "messages": [{"role": "user", "content": "2 + 2?"}]}


@dataclass
class Open:
    """Handlers that wait until the test says so, to have requests that run."""

    released: asyncio.Event

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = await events(chunk({"content": "4"}), chunk(usage=USAGE))(request)
        await self.released.wait()
        await response.write(DONE)
        return response


@asynccontextmanager
async def served(
    folder: Path, access: Access, handler: Handler | None = None
) -> AsyncIterator[tuple[RunningGateway, FakeEngine]]:
    families = {"toy": small_family(folder / "toy")}
    async with pair(families, handler or completion(), access=access) as both:
        yield both
    await access.close()


def keyed(folder: Path, *, environment: dict[str, str] | None = None, **alice: Any) -> Access:
    """Alice with these settings, Bob without any."""
    file = key_file(folder, {"alice": ALICE, "bob": BOB}, alice=alice, bob={"admin": True})
    return build_access(AccessSettings(keys_file=file), environment=environment or {})


def sdk(gateway: RunningGateway, key: str, **options: Any) -> openai.AsyncOpenAI:
    client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0, **options)
    gateway.closing.push_async_callback(client.close)
    return client


def claude(gateway: RunningGateway, key: str) -> anthropic.AsyncAnthropic:
    client = anthropic.AsyncAnthropic(base_url=gateway.url, api_key=key, max_retries=0)
    gateway.closing.push_async_callback(client.close)
    return client


async def ask(client: openai.AsyncOpenAI, **more: Any) -> Any:
    return await client.chat.completions.with_raw_response.create(**QUESTION | more)


async def test_the_openai_client_raises_its_own_exceptions(tmp_path: Path) -> None:
    access = keyed(tmp_path, tiers=["toy:terse"], requests_per_minute=1)
    async with served(tmp_path, access) as (gateway, engine):
        with pytest.raises(openai.AuthenticationError) as unknown:
            await ask(sdk(gateway, "sk-at-somebody-else"))
        assert unknown.value.response.headers["www-authenticate"] == "Bearer"
        assert (unknown.value.code, unknown.value.type) == ("invalid_api_key", "invalid_request_error")
        with pytest.raises(openai.PermissionDeniedError, match="may not use toy:base; it may use toy:terse"):
            await ask(sdk(gateway, ALICE), model="toy:base")
        with pytest.raises(openai.PermissionDeniedError, match="may not use toy:careful"):
            await ask(sdk(gateway, ALICE), reasoning_effort="high")
        assert engine.bodies == []
        good = await ask(sdk(gateway, ALICE), reasoning_effort="low")
        assert good.headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(openai.RateLimitError, match="1 requests a minute") as limited:
            await ask(sdk(gateway, ALICE), reasoning_effort="low")
        headers = limited.value.response.headers
        assert 55 < int(headers["retry-after"]) <= 60
        assert headers["x-ratelimit-reset-requests"].startswith(("59.", "1m0s"))
        assert len(engine.bodies) == 1
        limit = await gateway.metric("alphatier_limits_hit_total", limit="requests_per_minute")
        errors = [await gateway.metric("alphatier_errors_total", kind=k) for k in ("unauthorized", "forbidden")]
        assert (limit, errors) == (1, [1, 2])


async def test_the_openai_client_waits_as_told_and_tries_again(tmp_path: Path) -> None:
    async with served(tmp_path, keyed(tmp_path, requests_per_minute=300, requests_burst=1)) as (gateway, engine):
        client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=ALICE, max_retries=5)
        gateway.closing.push_async_callback(client.close)
        for _ in range(3):  # one every 0.2 s
            await ask(client)
        assert len(engine.bodies) == 3
        assert await gateway.metric("alphatier_limits_hit_total", limit="requests_per_minute") >= 1


async def test_the_anthropic_client_raises_its_own_exceptions(tmp_path: Path) -> None:
    access = keyed(tmp_path, tiers=["terse"], requests_per_minute=1, requests_burst=1)
    message: dict[str, Any] = {"max_tokens": 10, "messages": [{"role": "user", "content": "2 + 2?"}]}
    answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "toy:terse",
        "content": [{"type": "text", "text": "4"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 3},
    }

    async def handler(_request: web.Request) -> web.Response:
        return web.json_response(answer)

    async with served(tmp_path, access, handler) as (gateway, _):
        with pytest.raises(anthropic.AuthenticationError):
            await claude(gateway, "sk-at-somebody-else").messages.create(model="toy", **message)
        with pytest.raises(anthropic.PermissionDeniedError):
            await claude(gateway, ALICE).messages.create(model="toy:base", **message)
        said = await claude(gateway, ALICE).messages.create(model="toy", **message)
        assert said.model == "toy:terse"
        with pytest.raises(anthropic.RateLimitError) as limited:
            await claude(gateway, ALICE).messages.create(model="toy", **message)
        assert int(limited.value.response.headers["retry-after"]) > 50


async def test_the_default_tier_is_the_keys_and_a_choice_wins_over_it(tmp_path: Path) -> None:
    async with served(tmp_path, keyed(tmp_path, default_tier="terse")) as (gateway, _):
        for key, more, tier, reason in (
            (ALICE, {}, "terse", "default"),
            (BOB, {}, "careful", "default"),
            (ALICE, {"model": "toy:base"}, "base", "explicit"),
            (ALICE, {"reasoning_effort": "max"}, "base", "effort"),
        ):
            headers = (await ask(sdk(gateway, key), **more)).headers
            assert (headers["x-alphatier-tier"], headers["x-alphatier-decision"]) == (tier, reason)


@pytest.mark.parametrize("tier", ["base", "careful", "terse"])
async def test_a_key_is_shown_the_models_that_it_may_use_and_no_other(tmp_path: Path, tier: str) -> None:
    async with served(tmp_path, keyed(tmp_path, tiers=[f"toy:{tier}"])) as (gateway, _):
        alice = sdk(gateway, ALICE)
        shown = {card.id async for card in alice.models.list()}
        everything = {card.id async for card in sdk(gateway, BOB).models.list()}
        assert f"toy:{tier}" in shown < everything
        for model in shown:
            assert (await alice.models.retrieve(model)).id == model
            await ask(alice, model=model)
        for model in everything - shown:
            with pytest.raises(openai.PermissionDeniedError):
                await ask(alice, model=model)
            with pytest.raises(openai.NotFoundError) as hidden:
                await alice.models.retrieve(model)
            assert set(re.findall(r"toy[:\w]*", hidden.value.message)) == shown | {model}
        for ask_for in (sdk(gateway, "sk-at-wrong").models.list, lambda: sdk(gateway, "x").models.retrieve("toy")):
            with pytest.raises(openai.AuthenticationError):
                await ask_for()


async def test_the_ask_command_sends_its_key_or_says_what_is_missing(tmp_path: Path) -> None:
    async with served(tmp_path, keyed(tmp_path)) as (gateway, _):

        def run(*options: str) -> Result:
            return CliRunner(env={"ALPHATIER_API_KEY": None}).invoke(
                ask_command, ["2 + 2?", "--url", gateway.url, *options]
            )

        without = await asyncio.to_thread(run)
        assert (without.exit_code, "Set ALPHATIER_API_KEY" in without.stderr) == (1, True)
        answered = await asyncio.to_thread(run, "--api-key", ALICE, "--json")
        assert json.loads(answered.stdout)["content"] == "\\boxed{4}"


async def test_tokens_are_booked_as_the_engine_counted_them(tmp_path: Path) -> None:
    # The tier's nine of ten answers stay below 80 tokens, so each request reserves 100 or so, and uses 5 + 3.
    async with served(tmp_path, keyed(tmp_path, tokens_per_minute=240)) as (gateway, _):
        left = [int((await ask(sdk(gateway, ALICE))).headers["x-ratelimit-remaining-tokens"]) for _ in range(3)]
        assert left[0] - left[1] == pytest.approx(8, abs=4)  # tokens come back at 4 a second meanwhile
        assert left[1] - left[2] == pytest.approx(8, abs=4)
        first = await ask(sdk(gateway, ALICE))
        assert first.headers["x-ratelimit-limit-tokens"] == "240"


async def test_a_refusal_of_the_engine_costs_no_tokens(tmp_path: Path) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "no", "type": "x", "param": None, "code": None}}, status=400)

    async with served(tmp_path, keyed(tmp_path, tokens_per_minute=150), refuse) as (gateway, _):
        for _ in range(5):
            with pytest.raises(openai.BadRequestError):
                await ask(sdk(gateway, ALICE))


async def test_streams_at_once_are_limited_until_one_ends_or_its_client_leaves(tmp_path: Path) -> None:
    running = Open(asyncio.Event())
    access = keyed(tmp_path, concurrent_streams=1, concurrent_requests=2)
    async with served(tmp_path, access, running.stream) as (gateway, engine):
        first = await sdk(gateway, ALICE).chat.completions.create(**QUESTION, stream=True)
        await anext(aiter(first))
        with pytest.raises(openai.RateLimitError, match="1 streams at once") as limited:
            await sdk(gateway, ALICE).chat.completions.create(**QUESTION, stream=True)
        assert limited.value.response.headers["retry-after"] == "1"
        await first.close()  # the client leaves
        await asyncio.wait_for(engine.aborted.wait(), 10)
        async with asyncio.timeout(10):
            while True:
                try:
                    second = await sdk(gateway, ALICE).chat.completions.create(**QUESTION, stream=True)
                    break
                except openai.RateLimitError:
                    await asyncio.sleep(0.01)
        running.released.set()
        async for _ in second:
            pass
        third = await sdk(gateway, ALICE).chat.completions.create(**QUESTION, stream=True)
        await third.close()


async def test_without_keys_everybody_may_ask_and_a_sent_key_does_no_harm(tmp_path: Path) -> None:
    access = build_access(AccessSettings(), environment={})
    async with served(tmp_path, access) as (gateway, _):
        headers = (await ask(sdk(gateway, "anything"))).headers
        assert not [name for name in headers if name.startswith("x-ratelimit")]


async def test_media_by_url_is_refused_before_any_engine_sees_it(tmp_path: Path) -> None:
    part = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data/"}}
    async with served(tmp_path, keyed(tmp_path)) as (gateway, engine):
        with pytest.raises(openai.BadRequestError, match="only data: URLs"):
            await ask(sdk(gateway, ALICE), messages=[{"role": "user", "content": [part]}])
        assert engine.bodies == []


async def test_neither_keys_nor_prompts_nor_the_authorization_header_are_logged_or_passed_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with served(tmp_path, keyed(tmp_path)) as (gateway, engine):
            await ask(sdk(gateway, ALICE))
            with pytest.raises(openai.AuthenticationError):
                await ask(sdk(gateway, "sk-at-wrong-0123456789"))
            assert "authorization" not in engine.headers[0]
            assert "x-api-key" not in engine.headers[0]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("alphatier")]
    written = "\n".join(ours) + "".join(capfd.readouterr())
    for secret in (ALICE, "sk-at-wrong", "2 + 2?", digest_of(ALICE)):
        assert secret not in written


async def test_two_gateways_share_a_limit_in_redis_and_go_on_without_it(
    tmp_path: Path, redis: RedisServer, stack: AsyncExitStack
) -> None:
    environment = {"ALPHATIER_REDIS_URL": redis.url}
    gateways = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        access = keyed(tmp_path / name, environment=environment, requests_per_minute=3)
        gateways.append((await stack.enter_async_context(served(tmp_path / name, access)))[0])
    one, two = (sdk(gateway, ALICE) for gateway in gateways)
    left = [(await ask(client)).headers["x-ratelimit-remaining-requests"] for client in (one, two, one)]
    assert left == ["2", "1", "0"]
    for client in (one, two):
        with pytest.raises(openai.RateLimitError):
            await ask(client)
    redis.kill()
    # Each counts by itself, from a full bucket.
    for client in (one, two):
        assert [(await ask(client)).headers["x-ratelimit-remaining-requests"] for _ in "123"] == [
            "2",
            "1",
            "0",
        ]
        with pytest.raises(openai.RateLimitError):
            await ask(client)
    redis.start()
    assert [await admitted(client) for client in (one, two)] == ["2", "1"]


async def admitted(client: openai.AsyncOpenAI) -> str:
    """What is left after the first request that is let in, which is when Redis is asked again."""
    async with asyncio.timeout(10):
        while True:
            try:
                return str((await ask(client)).headers["x-ratelimit-remaining-requests"])
            except openai.RateLimitError:
                await asyncio.sleep(0.02)
