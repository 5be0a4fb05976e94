"""Brownout: what slides and what never does, when the level rises and comes back, and what gateways do together."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from alphatier_models import load_family
from alphatier_models.routing import Expectation
from alphatier_server.errors import ConfigError
from alphatier_server.gateway.brownout import Brownout, Limits, between, way_down
from alphatier_server.keys.access import build_access
from alphatier_server.logs import LogWriter, RequestLog
from alphatier_server.settings.access import AccessSettings
from alphatier_server.settings.brownout import BrownoutSettings
from alphatier_server.settings.file import Source
from benchmarks.brownout.simulate import House, Seen, Tiers, simulate
from benchmarks.paced_engine import Speed
from support.fake_engine import completion, fake_engine
from support.families import gated_family, small_family
from support.gateway import RunningGateway, pair, running_gateway
from support.keys import key_file
from support.routers import with_router
from support.waiting import eventually

HALF = BrownoutSettings(freeze=0.5)
FULL = BrownoutSettings(freeze=1)


async def asked(
    gateway: RunningGateway, model: str = "toy", text: str = "2 + 2?", /, **more: Any
) -> Mapping[str, str]:
    headers = more.pop("headers", {})
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    async with gateway.http.post(
        f"{gateway.url}/v1/chat/completions", data=json.dumps(body), headers=headers
    ) as response:
        assert response.status == 200, await response.text()
        return response.headers


# --- which requests slide -------------------------------------------------------------------------


async def test_open_choices_slide_and_the_answer_and_the_log_say_so(toy: Path, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as stream:
        log = RequestLog(LogWriter(stream.fileno()))
        async with pair({"toy": load_family(toy)}, completion(), brownout=FULL, request_log=log) as (gateway, _):
            told = await asked(gateway)
            assert await gateway.metric("alphatier_decisions_total", tier="terse", decision="brownout") == 1
            assert await gateway.metric("alphatier_brownout_level", family="toy") == 1
        log.flush()
    assert (told["x-alphatier-tier"], told["x-alphatier-decision"]) == ("terse", "brownout")
    assert told["x-alphatier-otherwise"] == "careful"
    choice = json.loads((tmp_path / "log").read_bytes().splitlines()[0])["choice"]
    assert (choice["rule"], choice["otherwise"], choice["level"]) == ("brownout", "careful", 1)


async def test_what_names_a_tier_or_an_effort_and_what_a_key_keeps_out_never_slide(toy: Path, tmp_path: Path) -> None:
    file = key_file(tmp_path, {"ann": "open", "bob": "firm"}, bob={"brownout": False})
    access = build_access(AccessSettings(keys_file=file))
    ann, bob = ({"authorization": f"Bearer {secret}"} for secret in ("open", "firm"))
    async with pair({"toy": load_family(toy)}, completion(), brownout=FULL, access=access) as (gateway, _):
        assert (await asked(gateway, headers=ann))["x-alphatier-tier"] == "terse"
        for model, more in (
            ("toy:careful", {}),
            ("toy", {"efficiency_tier": "careful"}),
            ("toy", {"reasoning_effort": "high"}),
            ("toy", {"efficiency": 0}),
        ):
            assert (await asked(gateway, model, headers=ann, **more))["x-alphatier-tier"] == "careful"
        assert (await asked(gateway, headers=bob))["x-alphatier-tier"] == "careful"


async def test_an_alpha_between_the_tiers_slides_too(tmp_path: Path) -> None:
    families = {"toy": gated_family(tmp_path / "toy")}
    settings = BrownoutSettings(seconds=10, freeze=1)
    async with pair(families, completion(), brownout=settings) as (gateway, _):
        told = await asked(gateway, efficiency=0.5)
        assert await gateway.metric("alphatier_brownout_level") == 1
    assert (told["x-alphatier-tier"], told["x-alphatier-otherwise"]) == ("terse", "alpha-0.2")


async def test_at_half_the_level_half_of_the_requests_slide_and_the_same_ones_everywhere(toy: Path) -> None:
    families = {"toy": load_family(toy)}
    async with (
        fake_engine(completion()) as engine,
        running_gateway(families, engine.url, brownout=HALF) as one,
        running_gateway(families, engine.url, brownout=HALF) as other,
    ):
        tiers = [
            [(await asked(gateway, headers={"x-request-id": f"r-{n}"}))["x-alphatier-tier"] for n in range(100)]
            for gateway in (one, other)
        ]
    assert tiers[0] == tiers[1]
    assert 35 < tiers[0].count("terse") < 65


async def test_with_a_router_the_level_is_a_price_so_easy_prompts_slide_first(toy: Path) -> None:
    family = with_router(toy, load_family(toy))
    tiers: dict[tuple[str, float], list[str]] = {}
    for settings in (HALF, FULL):
        async with pair({"toy": family}, completion(), folders={"toy": toy}, brownout=settings) as (gateway, _):
            for text in ("What is 2 + 2?", "What is 1 + 2 + 3 + 4?"):
                heads = [
                    await asked(gateway, "toy:auto", text, headers={"x-request-id": f"r-{n}"}) for n in range(40)
                ]
                tiers[text, settings.freeze or 0.0] = [head["x-alphatier-tier"] for head in heads]
    easy, hard = (tiers[text, 0.5].count("terse") for text in ("What is 2 + 2?", "What is 1 + 2 + 3 + 4?"))
    assert easy == 40
    assert 10 <= hard <= 30  # the price is between the sample's two that give 60 and 40 tokens
    assert tiers["What is 1 + 2 + 3 + 4?", 1].count("terse") == 40


def test_a_level_saves_its_share_of_the_tokens_along_the_best_mixes() -> None:
    def tier(name: str, chance: float, tokens: float) -> Expectation:
        return Expectation(name, chance, tokens, tokens, tokens)

    tiers = [tier("own", 0.99, 40), tier("mid", 0.98, 20), tier("poor", 0.9, 15), tier("least", 0.88, 10)]
    way = way_down(tiers[0], [*tiers, tier("long", 0.999, 80)])
    assert [one.tier for one in way] == ["own", "mid", "least"]  # a mix of mid and least beats poor
    tokens = [one.tokens for one in way]
    coins = np.arange(1000) / 1000
    for level in (0, 0.1, 0.5, 2 / 3, 0.9, 1):
        places = [between(tokens, level, coin) for coin in coins]
        assert np.mean([tokens[place] for place in places]) == pytest.approx(40 - 30 * level, abs=0.05)
    for coin in coins[::50]:
        places = [between(tokens, level, coin) for level in np.linspace(0, 1, 50)]
        assert places == sorted(places)


# --- when -----------------------------------------------------------------------------------------


async def test_the_level_rises_while_engines_are_slow_and_comes_back(toy: Path) -> None:
    may_answer = asyncio.Event()
    answer = completion()

    async def held(request: web.Request) -> web.StreamResponse:
        await may_answer.wait()
        return await answer(request)

    settings = BrownoutSettings(seconds=0.4, back_seconds=0.2, dwell_seconds=0.1)
    async with pair({"toy": load_family(toy)}, held, brownout=settings) as (gateway, _):

        async def level_is(full: bool) -> bool:
            return await gateway.metric("alphatier_brownout_level") == full

        may_answer.set()
        await asyncio.gather(*(asked(gateway) for _ in range(10)))  # what the engine can do is known
        may_answer.clear()
        waiting = [asyncio.create_task(asked(gateway)) for _ in range(10)]
        await eventually(lambda: level_is(True), 10)
        late = asyncio.create_task(asked(gateway))
        explicit = asyncio.create_task(asked(gateway, "toy:careful"))
        await eventually(lambda: gateway.pool.replicas[0].in_flight == 12)
        may_answer.set()
        assert (await late)["x-alphatier-decision"] == "brownout"
        assert (await explicit)["x-alphatier-tier"] == "careful"
        await asyncio.gather(*waiting)
        await eventually(lambda: level_is(False), 10)
        assert (await asked(gateway))["x-alphatier-tier"] == "careful"


SPEED, SLOTS = Speed(base=0.008, each=0.0006, prefill=0.0), 16
OBJECTIVE = 4.0
ByTime = Callable[[float], float]


def tiers_of(chances: Sequence[float], tokens: Sequence[float]) -> Tiers:
    """Whose answers take as many tokens as their mean, or half, or one and a half times as many."""
    draw = np.random.default_rng(0)
    right = [draw.random((200, 4)) < chance for chance in chances]
    spread = draw.choice([0.5, 1.0, 1.5], (200, 4))
    return Tiers(("thorough", "middle", "terse"), np.array(right), np.array([own * spread for own in tokens]))


TIERS = tiers_of((0.99, 0.97, 0.9), (40, 20, 8))


def ran(
    load: Callable[[float], float],
    gateways: int = 1,
    faster: Callable[[float], float] = lambda _now: 1.0,
    **more: Any,
) -> tuple[Seen, list[Brownout]]:
    """120 s of a load, in saturating rates of the thorough tier, before four engines."""
    limits = Limits(0.35 * OBJECTIVE, 0.75 * OBJECTIVE, back=40, dwell=10)
    controllers = [Brownout(limits) for _ in range(gateways)]
    house = House(SPEED, SLOTS, 4, faster=faster)
    rate = 4 * SLOTS / SPEED.step(SLOTS) / TIERS.means[0]
    return simulate(TIERS, house, lambda now: load(now) * rate, 120, controllers, **more), controllers


def test_a_load_that_engines_can_do_changes_nothing_even_where_it_jumps() -> None:
    seen, _ = ran(lambda now: 0.2 if now < 60 else 0.85)
    assert not seen.tier.any()


@pytest.mark.parametrize("gateways", [1, 3])
def test_an_overload_is_answered_in_time_without_a_swing_by_gateways_that_agree(gateways: int) -> None:
    seen, controllers = ran(lambda _now: 2, gateways)
    assert np.mean(seen.took > OBJECTIVE) < 0.01
    levels = np.array(seen.levels)[300:1200, 1:]
    assert (abs(levels - levels.mean(axis=1, keepdims=True)) < 0.2).all()
    assert all(one.reversals <= 4 for one in controllers)  # two a minute


def test_the_level_is_back_within_a_minute_after_a_step() -> None:
    seen, _ = ran(lambda now: 2 if 20 <= now < 50 else 0.5)
    assert np.mean(seen.took > OBJECTIVE) == 0
    levels = np.array(seen.levels)
    assert levels[300:500, 1].min() > 0.3
    assert not levels[levels[:, 0] > 110, 1].any()


@pytest.mark.parametrize("expected", [(80, 40, 16), (40, 10, 2), (40, 30, 25)])
def test_wrong_expectations_are_made_up_for(expected: Sequence[float]) -> None:
    seen, _ = ran(lambda _now: 2, expected=expected)
    assert np.mean(seen.took > OBJECTIVE) < 0.02


def test_engines_that_lose_half_of_their_speed_are_noticed() -> None:
    seen, _ = ran(lambda _now: 0.8, faster=lambda now: 1.0 if now < 40 else 0.5)
    assert np.mean(seen.took[seen.arrived > 50] > OBJECTIVE) < 0.02


# --- settings -------------------------------------------------------------------------------------


def test_thresholds_in_the_wrong_order_are_refused_with_the_remedy(tmp_path: Path) -> None:
    small_family(tmp_path / "toy")
    (tmp_path / "gateway.toml").write_text("[brownout]\nseconds = 5\nbegin = 0.5\nfull = 0.4\n")
    with pytest.raises(ConfigError, match=r"brownout\.full.*must be above begin"):
        Source(tmp_path / "gateway.toml", {}).load()
