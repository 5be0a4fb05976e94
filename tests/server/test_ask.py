"""`alphatier ask --compare`: one question to every tier and every chooser."""

import asyncio
import json
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from alphatier_models import load_family
from alphatier_server.cli import ask
from support.gateway import RunningGateway, pair
from support.routers import with_router

HARD = "What is 1 + 2 + 3 + 4?"
SPENT = {"toy:base": 90, "toy:careful": 30, "toy:terse": 6}


async def answer(request: web.Request) -> web.Response:
    """Right at any tier but the terse one, in as many tokens as SPENT says."""
    model = orjson.loads(await request.read())["model"]
    message = {"role": "assistant", "content": "\\boxed{9}" if model == "toy:terse" else "It is 10."}
    usage = {"prompt_tokens": 5, "completion_tokens": SPENT[model], "total_tokens": 5 + SPENT[model]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    document = {"id": "x", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
    return web.json_response({**document, "usage": usage})


async def run(gateway: RunningGateway, *words: str) -> Result:
    def asked() -> Result:
        options = "--url", gateway.url, *words
        return CliRunner(env={"COLUMNS": "80"}).invoke(ask, [*options, HARD], catch_exceptions=False)

    return await asyncio.to_thread(asked)


async def test_every_tier_auto_and_the_default_are_side_by_side(toy: Path) -> None:
    family = with_router(toy, load_family(toy))
    async with pair({"toy": family}, answer, folders={"toy": toy}) as (gateway, _):
        shown = (await run(gateway, "--compare", "--right", "10")).stdout
        told = (await run(gateway, "--compare", "--right", "10", "--json")).stdout
    assert max(map(len, shown.splitlines())) <= 80
    rows = [" ".join(line.split()[:-2]) for line in shown.splitlines()]
    assert [row.partition(" → ")[0].partition(" ")[0] for row in rows if "✓" in row or "✗" in row] == [
        *("base", "careful", "terse", "auto", "default")
    ]
    lines = {document["choice"]: document for document in map(json.loads, told.splitlines())}
    assert {name: one["right"] for name, one in lines.items()} == {
        "base": True,
        "careful": True,
        "terse": False,
        "auto": True,
        "default": True,
    }
    assert (lines["auto"]["tier"], lines["auto"]["completion_tokens"]) == ("careful", 30)
    assert lines["auto"]["expected"] == {"chance": 0.99, "tokens": 80, "p50": 80, "p90": 120}  # by the router
    measured = family.tier("terse").evaluations[0]
    assert lines["terse"]["expected"] == {"chance": measured.accuracy.mean, "tokens": measured.tokens.mean}


@pytest.mark.parametrize("words", [("--compare", "--tier", "base"), ("--right", "10")])
def test_what_does_not_go_together_is_said(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(ask, [*words, HARD])
    assert done.exit_code == 2
    assert "--compare" in done.stderr
