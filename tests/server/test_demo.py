"""The demo in front of an engine that answers as a test says, and what it draws."""

import asyncio
import os
import re
import sys
from collections import defaultdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from alphatier_models import load_family, save_family
from alphatier_server.ask import Answer
from alphatier_server.demo.gateway import COMPLETION, DemoError, check_counters
from alphatier_server.demo.questions import MIXED, SCHOOL, SUMS, Tally
from alphatier_server.demo.show import HEIGHT, auto_in_words, picture, saved
from support.fake_engine import fake_engine
from support.routers import with_router

RIGHT = {question.text: question.right for question in (*SUMS, *SCHOOL, *MIXED)}
SPENT = {"toy:base": 90, "toy:careful": 30, "toy:terse": 6}


async def answer(request: web.Request) -> web.Response:
    """The right answer at any tier but the terse one, in as many tokens as SPENT says."""
    asked = orjson.loads(await request.read())
    model = asked["model"]
    said = "\\boxed{1000}" if model == "toy:terse" else RIGHT[asked["messages"][-1]["content"]]
    message = {"role": "assistant", "content": said, "reasoning": f"thought of {model}"}
    usage = {"prompt_tokens": 5, "completion_tokens": SPENT[model], "total_tokens": 5 + SPENT[model]}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    document = {"id": "x", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
    return web.json_response({**document, "usage": usage})


async def demo(family: Path, columns: int) -> tuple[int | None, list[str]]:
    """Exit status and lines of the demo in a pipe, in front of such an engine."""
    async with fake_engine(answer) as engine:
        options = f"--family={family}", f"--engine={engine.url}"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "alphatier_server.demo", *options),
            env={**os.environ, "COLUMNS": str(columns), "TMPDIR": str(family.parent)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    return process.returncode, output.decode().splitlines()


def measured_on(dataset: str, folder: Path) -> Path:
    """The family `toy` in the folder, as if it had been measured on another data set."""
    family = load_family(folder)
    tiers = [
        tier.model_copy(update={"evaluations": (tier.evaluations[0].model_copy(update={"dataset": dataset}),)})
        for tier in family.tiers
    ]
    save_family(family.model_copy(update={"tiers": tuple(tiers)}), folder)
    return folder


@pytest.mark.parametrize("columns", [80, 100])
async def test_every_tier_is_shown_with_marks_tokens_and_what_the_dial_saved(toy: Path, columns: int) -> None:
    status, lines = await demo(measured_on("arithmetic-heldout", toy), columns)
    text = "\n".join(lines)
    assert status == 0, text
    shown, go_on = text.split("Go on yourself")
    assert max(map(len, shown.splitlines())) <= columns
    rows = [" ".join(line.split()) for line in lines]
    assert f"base {'✓ 90 ' * 8}8/8 720" in rows
    assert f"terse {'✗ 6 ' * 8}0/8 48" in rows
    assert "The dial saved 67%: careful got 8 of 8 right with 240 tokens, base 8 with 720." in rows
    # 240 x (100 / 80 - 1) and 48 x (100 / 40 - 1): toy's measured means
    assert "The gateway's own estimate, for all tiers: 132 tokens saved." in rows
    assert "thought of toy:base" in text
    assert "thought of toy:terse" in text
    assert "these counters equal the sum of the `usage`" in text
    assert SUMS[1].text in go_on


async def test_auto_is_shown_beside_the_tiers_on_mixed_problems(toy: Path) -> None:
    with_router(toy, load_family(measured_on("arithmetic-heldout", toy)))
    status, lines = await demo(toy, 80)
    rows = [" ".join(line.split()) for line in lines]
    assert status == 0, "\n".join(lines)
    # of one and two operations the terse tier is expected to be as good, and it never is: 8 of 20, in 6 tokens each
    assert any(row.startswith("careful 97.0% 20/20 600 ") for row in rows), rows
    assert any(row.startswith("auto 99.0% 12/20 408 ") for row in rows)
    assert "auto chose careful 12 times, terse 8 times." in rows


async def test_a_family_of_another_kind_is_asked_other_questions(toy: Path) -> None:
    status, lines = await demo(toy, 100)
    text = "\n".join(lines)
    assert status == 0, text
    assert SCHOOL[-1].text in text
    assert SUMS[-1].text not in text


async def test_a_gateway_that_does_not_start_is_explained_by_its_last_lines(tmp_path: Path) -> None:
    status, lines = await demo(tmp_path / "none", 100)
    text = "\n".join(lines)
    assert status == 1
    assert "The demo failed: `alphatier serve` ended with status" in text
    assert str(tmp_path / "none") in text.partition("serve.log:")[2]


def test_counters_that_disagree_with_the_usage_end_the_demo() -> None:
    with pytest.raises(DemoError, match="adds up to 7 tokens, /metrics says 8"):
        check_counters(defaultdict(float, {(COMPLETION, "base"): 8.0}), [Tally("base", [], 7, 0)])


def test_the_right_answers_are_what_the_sums_come_to_within_the_range() -> None:
    for _, text, right in (*SUMS[:-1], *MIXED):
        steps = re.findall(r"(\bminus|-|gives away|loses|sells)? ?\b(\d+)", text)
        totals = list(accumulate(-int(number) if sign else int(number) for sign, number in steps))
        assert str(totals[-1]) == right, text
        assert all(0 <= total <= 99 for total in totals), text
    assert {len(re.findall(r"\d+", question.text)) - 1 for question in SUMS[:-1]} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("width", [40, 48, 60])
@pytest.mark.parametrize("apart", [0, 0.001, 0.01])
def test_every_tier_is_named_in_the_picture_however_near_they_are(width: int, apart: float) -> None:
    names = ["base", *(f"alpha-{alpha / 10}" for alpha in (0, 1, 2, 3, 4, 8))]
    lines = picture([card(name, 1 - apart * place, 50 - place) for place, name in enumerate(names)], width).plain
    assert [name for name in names if not re.search(rf"(?<!\S){name}(?!\S)", lines)] == []
    assert "●" in lines
    assert max(map(len, lines.splitlines())) <= width
    assert len(lines.splitlines()) == HEIGHT + 3


def test_a_point_stands_where_its_accuracy_and_tokens_are() -> None:
    lines = picture([card("thorough", 1.0, 50), card("terse", 0.88, 25)], 59).plain.splitlines()
    assert lines[1].startswith("100 % │ ")
    assert lines[1].index("●") == 58
    assert lines[HEIGHT].startswith(" 88 % │ ")
    assert lines[HEIGHT].index("●") == 8 + 25


def test_a_family_that_was_not_measured_is_told_how() -> None:
    assert "alphatier evaluate" in picture([{"tier": "base", "figures": "not measured"}], 60).plain


def test_auto_is_held_against_the_cheapest_tier_from_which_as_much_is_expected() -> None:
    def tally(name: str, tier: str, tokens: int, chance: float | None = None) -> Tally:
        expected = None if chance is None else {"chance": chance}
        known: dict[str, Any] = dict.fromkeys(Answer.__dataclass_fields__)
        return Tally(name, [Answer(**{**known, "tier": tier, "expected": expected})] * 2, tokens, 2)

    cards = [card("base", 0.99, 90), card("thorough", 0.98, 40), card("terse", 0.9, 6)]
    tiers = [tally(name, name, tokens) for name, tokens in (("base", 180), ("thorough", 80), ("terse", 12))]
    words = auto_in_words([*tiers, tally("auto", "thorough", 70, 0.975)], cards)
    assert words == (
        "auto chose thorough 2 times.\nthorough, the cheapest tier of which as much is expected, took 80; auto 70."
    )


def test_no_saving_is_claimed_where_cheaper_tiers_got_fewer_right() -> None:
    nothing: list[Answer] = []
    tallies = [Tally("base", nothing, 400, 8), Tally("terse", nothing, 40, 7)]
    assert saved(tallies) == "The dial saved nothing here: no cheaper tier got as many right as base (8)."


def card(tier: str, accuracy: float, tokens: float) -> dict[str, Any]:
    """What /v1/models tells of a tier."""
    return {"tier": tier, "dataset": "chains", "accuracy": {"mean": accuracy}, "tokens": {"mean": tokens}}
