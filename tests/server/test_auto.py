"""`auto` by the prompt: what is chosen, what the answer and the log say, and what never changes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from alphatier_models import RouterFile, load_family, save_family, text_sha256
from alphatier_server.keys.access import build_access
from alphatier_server.logs import LogWriter, RequestLog
from alphatier_server.settings.access import AccessSettings
from alphatier_server.settings.auto import AutoSettings, Goal
from support.fake_engine import completion
from support.gateway import RunningGateway, pair
from support.keys import key_file
from support.routers import with_router

EASY, HARD = "What is 2 + 2?", "What is 1 + 2 + 3 + 4?"
OTHER = "Tell me about the sea."


@pytest.fixture
def folder(toy: Path) -> Path:
    """The folder of the family `toy`, with a router."""
    with_router(toy, load_family(toy))
    return toy


@asynccontextmanager
async def gateway_of(folder: Path, **more: Any) -> AsyncIterator[RunningGateway]:
    family = load_family(folder)
    async with pair({family.name: family}, completion(), folders={family.name: folder}, **more) as (gateway, _):
        yield gateway


def user(text: str, *later: dict[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}, *later]}


async def asked(
    gateway: RunningGateway,
    body: dict[str, Any],
    model: str = "toy:auto",
    path: str = "chat/completions",
    **headers: str,
) -> Any:
    data = json.dumps({"model": model, **body})
    async with gateway.http.post(f"{gateway.url}/v1/{path}", data=data, headers=headers) as response:
        assert response.status == 200, await response.text()
        return response.headers


async def tier(gateway: RunningGateway, body: dict[str, Any], **how: str) -> str:
    told = await asked(gateway, body, **how)
    return str(told["x-alphatier-tier"])


async def test_auto_takes_the_terse_tier_for_an_easy_prompt_and_the_careful_one_for_a_hard_one(folder: Path) -> None:
    async with gateway_of(folder) as gateway:
        easy, hard = await asked(gateway, user(EASY)), await asked(gateway, user(HARD))
    assert (easy["x-alphatier-tier"], easy["x-alphatier-decision"]) == ("terse", "auto")
    assert (hard["x-alphatier-tier"], hard["x-alphatier-decision"]) == ("careful", "auto")
    assert easy["x-alphatier-expected"] == "chance=0.990, tokens=40, p50=40, p90=60"
    # without the router: terse has the fewest tokens, and is not measurably less accurate
    assert easy["x-alphatier-otherwise"] == hard["x-alphatier-otherwise"] == "terse"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("completions", {"prompt": HARD}),
        ("responses", {"input": HARD}),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": HARD}]}]}),
        ("messages", {"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "text", "text": HARD}]}]}),
    ],
)
async def test_auto_reads_the_prompt_in_every_api(folder: Path, path: str, body: dict[str, Any]) -> None:
    family = load_family(folder)
    async with pair({"toy": family}, completion(), folders={"toy": folder}) as (gateway, engine):
        data = json.dumps({"model": "toy:auto", **body})
        async with gateway.http.post(f"{gateway.url}/v1/{path}", data=data):
            pass
    assert json.loads(engine.bodies[0])["model"] == "toy:careful"


async def test_explicit_choices_efforts_and_defaults_are_never_changed(folder: Path) -> None:
    async with gateway_of(folder) as gateway:
        assert await tier(gateway, user(EASY), model="toy:careful") == "careful"
        assert await tier(gateway, user(HARD), model="toy:terse") == "terse"
        assert await tier(gateway, {**user(HARD), "reasoning_effort": "low"}, model="toy") == "terse"
        told = await asked(gateway, user(EASY), model="toy")
    assert told["x-alphatier-tier"] == "careful"
    assert "x-alphatier-otherwise" not in told


async def test_a_conversation_keeps_its_tier(folder: Path) -> None:
    later = {"role": "assistant", "content": "10"}, {"role": "user", "content": "yes, go on with 3"}
    async with gateway_of(folder) as gateway:
        assert await tier(gateway, user(HARD, *later)) == "careful"
        assert await tier(gateway, user(EASY, *later)) == "terse"


@pytest.mark.parametrize(
    ("content", "measure"),
    [
        (OTHER, "numbers"),
        (
            [{"type": "text", "text": EASY}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}],
            "media",
        ),
        (None, "text"),
    ],
)
async def test_a_prompt_that_is_unlike_the_training_data_gets_the_default_tier(
    folder: Path, content: Any, measure: str
) -> None:
    async with gateway_of(folder) as gateway:
        told = await asked(gateway, {"messages": [{"role": "user", "content": content}]})
        assert await gateway.metric("alphatier_auto_unlike_total", family="toy") == 1
    assert (told["x-alphatier-tier"], told["x-alphatier-unlike"]) == ("careful", measure)
    assert "x-alphatier-expected" not in told


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        (("tokens_a_point", 2.0), "careful"),  # 40 tokens more are worth 20 points, and bring 49
        (("tokens_a_point", 0.5), "terse"),  # 40 tokens more are worth 80 points
        (("accuracy_share", 0.7), "terse"),  # the sample says .75 at a price of 10 a token
        (("accuracy_share", 0.98), "careful"),
        (("mean_tokens", 45), "terse"),
        (("mean_tokens", 70), "careful"),
    ],
)
async def test_the_operator_sets_a_price_or_a_target(folder: Path, goal: tuple[Goal, float], expected: str) -> None:
    async with gateway_of(folder, auto=AutoSettings(goal=goal[0], value=goal[1])) as gateway:
        assert await tier(gateway, user(HARD)) == expected


async def test_efficiency_beside_auto_sets_the_price_by_the_tokens_that_it_gave(folder: Path) -> None:
    async with gateway_of(folder) as gateway:
        found = {
            share: [await tier(gateway, {**user(text), "efficiency": share}) for text in (EASY, HARD)]
            for share in (0, 0.5, 1)
        }
        told = await asked(gateway, {**user(HARD), "efficiency": 1})
    # on the sample: 80 tokens at no price, 60 at .1 a token, 40 at 10
    assert found == {0: ["careful", "careful"], 0.5: ["terse", "careful"], 1: ["terse", "terse"]}
    assert told["x-alphatier-decision"] == "auto"


@pytest.mark.parametrize("share", [-0.1, 1.1, "much", True])
async def test_efficiency_beside_auto_is_a_number_from_0_to_1(folder: Path, share: Any) -> None:
    async with gateway_of(folder) as gateway:
        data = json.dumps({"model": "toy:auto", **user(HARD), "efficiency": share})
        async with gateway.http.post(f"{gateway.url}/v1/chat/completions", data=data) as response:
            assert response.status == 400
            assert "efficiency must be" in (await response.json())["error"]["message"]


async def test_auto_takes_no_tier_that_the_key_may_not_use(folder: Path, tmp_path: Path) -> None:
    file = key_file(tmp_path, {"ann": "secret"}, ann={"tiers": ["terse"]})
    access = build_access(AccessSettings(keys_file=file))
    async with gateway_of(folder, access=access) as gateway:
        assert await tier(gateway, user(HARD), Authorization="Bearer secret") == "terse"


async def test_the_log_says_what_was_to_choose_from(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("wb") as stream:
        log = RequestLog(LogWriter(stream.fileno()))
        async with gateway_of(folder, request_log=log) as gateway:
            await asked(gateway, user(HARD))
        log.flush()
    line = orjson.loads(file.read_bytes().splitlines()[0])
    assert line["choice"]["rule"] == "price"
    assert line["choice"]["otherwise"] == "terse"
    assert line["choice"]["candidates"] == [
        {"tier": "careful", "chance": 0.99, "tokens": 80.0, "p50": 80.0, "p90": 120.0},
        {"tier": "terse", "chance": 0.5, "tokens": 40.0, "p50": 40.0, "p90": 60.0},
    ]


async def test_a_router_for_other_weights_is_not_used(folder: Path) -> None:
    family = load_family(folder)
    text = (folder / "router.json").read_text().replace(str(family.tier("careful").identity), "0" * 64)
    (folder / "router.json").write_text(text)
    changed = RouterFile(path="router.json", sha256=text_sha256(text))
    save_family(family.model_copy(update={"router": changed}), folder)
    async with gateway_of(folder) as gateway:
        told = await asked(gateway, user(HARD))
    assert told["x-alphatier-tier"] == "terse"
    assert "x-alphatier-otherwise" not in told
