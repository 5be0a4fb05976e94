"""A deadline chooses the tier through the gateway: by the pace of the engine, as its own requests have shown it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from alphatier_models import Family, load_family
from alphatier_server.replicas.pace import Pace
from support.fake_engine import completion, events, stay_silent
from support.gateway import RunningGateway, pair
from support.routers import with_router

ASK: Any = [{"role": "user", "content": "2 + 2?"}]
TERSE, CAREFUL = 40, 80
"""Tokens of nine in ten of their answers; base: 100."""


def paced(per_token: float, start: float = 0.0) -> Pace:
    """A pace of so many seconds a token, and to the first one. Its clock then stands still, so that it stays."""
    now = 0.0
    pace = Pace(clock=lambda: now)
    now = start + 10 * per_token
    pace.note(0.0, 1, start, 11)
    return pace


@asynccontextmanager
async def gateway_at(per_token: float, families: dict[str, Family], **more: Any) -> AsyncIterator[RunningGateway]:
    """In front of an engine that has shown this pace."""
    async with pair(families, completion(), **more) as (gateway, _):
        gateway.pool.replicas[0].pace = paced(per_token)
        yield gateway


async def asked(gateway: RunningGateway, **body: Any) -> Any:
    headers = body.pop("headers", {})
    raw = await gateway.sdk().chat.completions.with_raw_response.create(
        model=body.pop("model", "toy"), messages=ASK, extra_body=body, extra_headers=headers
    )
    return raw.headers


async def test_a_deadline_takes_the_tier_that_is_expected_to_be_in_time(families: dict[str, Family]) -> None:
    async with gateway_at(0.1, families) as gateway:  # careful needs 7.9 s, terse 3.9 s
        enough, short = [await asked(gateway, headers={"X-Request-Timeout": each}) for each in ("9", "5")]
        own = await asked(gateway, deadline_ms=5000)
        named = await asked(gateway, model="toy:careful", headers={"X-Request-Timeout": "5"})
        assert await gateway.metric("alphatier_deadline_duration_ratio_count", family="toy") == 3
    assert (enough["x-alphatier-tier"], enough["x-alphatier-decision"]) == ("careful", "default")
    assert (short["x-alphatier-tier"], short["x-alphatier-decision"]) == ("terse", "deadline")
    assert short["x-alphatier-otherwise"] == "careful"
    assert short["x-alphatier-expected"].endswith("p90=40, seconds=3.900")
    assert (own["x-alphatier-tier"], own["x-alphatier-decision"]) == ("terse", "deadline")
    assert (named["x-alphatier-tier"], named["x-alphatier-decision"]) == ("careful", "explicit")


async def test_a_deadline_that_no_tier_can_meet_is_refused_at_once(families: dict[str, Family]) -> None:
    async with gateway_at(10, families) as gateway, gateway.sdk().with_options(max_retries=2) as sdk:
        with pytest.raises(openai.BadRequestError) as refused:
            await sdk.chat.completions.create(model="toy", messages=ASK, extra_headers={"X-Request-Timeout": "5"})
        told = refused.value.response.headers
        assert (refused.value.code, told["x-alphatier-shortest-deadline"]) == ("deadline_too_short", "390.000")
        assert await gateway.metric("alphatier_errors_total", kind="deadline_too_short") == 1  # and not asked again
        # with room for one token only it is in time
        assert (await asked(gateway, max_tokens=1, deadline_ms=5000))["x-alphatier-tier"] == "careful"


async def test_what_a_replica_told_long_ago_refuses_nothing(families: dict[str, Family]) -> None:
    now = 0.0
    pace = Pace(clock=lambda: now)
    now = 100.0
    pace.note(0.0, 1, None, 10)
    async with gateway_at(1, families) as gateway:
        gateway.pool.replicas[0].pace = pace
        with pytest.raises(openai.BadRequestError):
            await asked(gateway, deadline_ms=5000)
        now += 60
        assert (await asked(gateway, deadline_ms=5000))["x-alphatier-tier"] == "terse"


async def test_a_deadline_in_the_body_ends_an_answer_too_and_does_not_reach_the_engine(
    families: dict[str, Family],
) -> None:
    async with pair(families, events(then=stay_silent)) as (gateway, engine):
        body = json.dumps({"model": "toy:terse", "messages": ASK, "deadline_ms": 300, "stream": True})
        async with gateway.http.post(f"{gateway.url}/v1/chat/completions", data=body) as response:
            assert '"code":"deadline_exceeded"' in await response.text()
    assert b"deadline_ms" not in engine.bodies[0]


@pytest.mark.parametrize("value", [0, -1, True, "5", [], 1e12])
async def test_a_deadline_that_is_none_is_refused(families: dict[str, Family], value: Any) -> None:
    async with gateway_at(1, families) as gateway:
        with pytest.raises(openai.BadRequestError, match="deadline_ms must be"):
            await asked(gateway, deadline_ms=value)


async def test_the_most_tokens_of_an_answer_choose_the_tier_whose_answers_fit(families: dict[str, Family]) -> None:
    async with gateway_at(1, families) as gateway:
        short, long = await asked(gateway, max_tokens=TERSE), await asked(gateway, max_completion_tokens=CAREFUL)
    assert (short["x-alphatier-tier"], short["x-alphatier-decision"]) == ("terse", "budget")
    assert (long["x-alphatier-tier"], long["x-alphatier-decision"]) == ("careful", "default")
    assert "x-alphatier-expected" not in long  # 99 of 100 measured answers fit: nothing was to be weighed


async def test_the_router_says_what_the_prompt_needs(toy: Any) -> None:
    with_router(toy, load_family(toy))
    async with gateway_at(0.1, {"toy": load_family(toy)}, folders={"toy": toy}) as gateway:
        # for this prompt the router expects 120 tokens of careful in nine of ten answers, where 80 were measured
        told = await asked(gateway, headers={"X-Request-Timeout": "9"})
    assert (told["x-alphatier-tier"], told["x-alphatier-decision"]) == ("terse", "deadline")


async def test_a_replica_learns_its_pace_from_its_requests(families: dict[str, Family]) -> None:
    async with pair(families, completion()) as (gateway, _):
        pace = gateway.pool.replicas[0].pace
        assert pace.seconds(1, 10) is None
        await asked(gateway)
        assert (pace.seconds(1, 10) or 0) > 0
