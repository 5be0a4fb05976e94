"""Open choices: what is never changed, and what a deadline, a budget and a brownout make of the others."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from alphatier_models import EFFORTS, Family
from alphatier_models.routing import Expectation
from alphatier_server.dialects.efforts import Effort, TokenBudget, openai_efforts
from alphatier_server.errors import DeadlineTooShort
from alphatier_server.gateway.choose import Situation, choose
from alphatier_server.gateway.decide import Decision, decide
from alphatier_server.gateway.expect import Expected, expect, measured

BUDGET = (TokenBudget("thinking.budget_tokens", 1),)
PRICE = 0.5


def expectation(tier: str, chance: float, tokens: float, seconds: float | None = None) -> Expectation:
    return Expectation(tier, chance, tokens, tokens, 1.5 * tokens, seconds)


CANDIDATES = (
    expectation("careful", 0.97, 80, 1.2),
    expectation("base", 0.95, 100, 1.5),
    expectation("terse", 0.9, 20, 0.3),
)


def decided(families: dict[str, Family], efforts: Sequence[Effort] = (), /, **body: Any) -> Decision:
    return decide({"model": "toy", **body}, (), families, [*openai_efforts(body), *efforts])


def chosen(decision: Decision, situation: Situation, price: float | None = None) -> tuple[str, str, str]:
    """Tier, rule and the tier otherwise."""
    found = choose(decision, Expected(CANDIDATES, price), situation)
    assert found.why is not None
    assert found.reason == (found.why.rule if found.why.rule not in ("price", "default") else decision.reason)
    return found.tier.name, found.why.rule, found.why.otherwise


def test_what_names_a_tier_or_an_effort_is_never_changed(families: dict[str, Family]) -> None:
    draw = random.Random(14)
    tiers, changed, closed = ("base", "careful", "terse"), 0, 0
    for _ in range(1_000_000):
        how = draw.choice(("model", "header", "field", "effort", "share", "two"))
        body: dict[str, Any] = {"model": "toy", "max_tokens": draw.randrange(1, 200)}
        headers: tuple[str, ...] = ()
        tier = draw.choice(tiers)
        if how in ("model", "two"):
            body["model"] = f"toy:{tier}"
        if how in ("field", "two"):
            body["efficiency_tier"] = tier
        if how == "header":
            headers = (tier,)
        if how == "share":
            body["efficiency"] = draw.choice((0, 1, 0.0, 1.0))
        if how == "effort":
            body["reasoning_effort"] = draw.choice(EFFORTS)
        if draw.random() < 0.3:
            body["deadline_ms"] = draw.randrange(1, 2000)
        efforts = [*openai_efforts(body), *(BUDGET if draw.random() < 0.3 else ())]
        decision = decide(body, headers, families, efforts)
        seconds, tokens = draw.choice((None, draw.random())), draw.choice((None, draw.randrange(1, 200)))
        situation = Situation(seconds, tokens, draw.random(), draw.random(), sure=draw.random() < 0.5)
        price = draw.choice((None, draw.random()))
        changed += (
            choose(decision, Expected(CANDIDATES, price, draw.choice((None, "words"))), situation) is not decision
        )
        closed += decision.open is None
    assert (changed, closed) == (0, 1_000_000)


@pytest.mark.parametrize(
    ("body", "wish"),
    [
        ({}, "tier"),
        ({"model": "toy:auto"}, "price"),
        ({"efficiency_tier": "auto", "deadline_ms": 100}, "price"),
        ({"efficiency": 0.4}, "tier"),
        ({"deadline_ms": 100}, "deadline"),
    ],
)
def test_what_names_nothing_is_left_open(families: dict[str, Family], body: dict[str, Any], wish: str) -> None:
    decision = decided(families, **body)
    assert decision.open is not None
    assert decision.open.wish == wish


@pytest.mark.parametrize(
    ("body", "price", "situation", "expected"),
    [
        # the default and what `efficiency` names stay where they fit
        ({}, None, Situation(seconds=1.3), ("careful", "default", "careful")),
        ({}, None, Situation(seconds=1.3, tokens=120), ("careful", "default", "careful")),
        ({}, None, Situation(seconds=0.4), ("terse", "deadline", "careful")),
        ({}, None, Situation(tokens=119), ("terse", "budget", "careful")),
        ({"efficiency": 0.9}, None, Situation(seconds=9), ("terse", "default", "terse")),
        # what no answer fits is no reason to change: a client may want one token
        ({}, None, Situation(tokens=1), ("careful", "default", "careful")),
        # auto: 80 tokens more cost 40 points, and bring 7
        ({"model": "toy:auto"}, PRICE, Situation(seconds=2), ("terse", "price", "terse")),
        ({"model": "toy:auto"}, 0.01, Situation(seconds=2), ("careful", "price", "terse")),
        ({"model": "toy:auto"}, 0.01, Situation(seconds=0.5), ("terse", "deadline", "careful")),
        ({"model": "toy:auto"}, 0.01, Situation(tokens=100), ("terse", "budget", "careful")),
        # a budget of time or tokens: the likeliest to be right
        ({"deadline_ms": 1}, None, Situation(seconds=2), ("careful", "deadline", "careful")),
        ({"deadline_ms": 1}, 0.01, Situation(seconds=0.5), ("terse", "deadline", "careful")),
        # brownout: half of the way from careful is terse, as base is no terser
        ({}, None, Situation(level=0.5, coin=0.4), ("terse", "brownout", "careful")),
        ({}, None, Situation(level=0.5, coin=0.6), ("careful", "default", "careful")),
        ({}, None, Situation(level=1.0, coin=0.99), ("terse", "brownout", "careful")),
    ],
)
def test_an_open_choice_falls_on_the_best_that_fits(
    families: dict[str, Family],
    body: dict[str, Any],
    price: float | None,
    situation: Situation,
    expected: tuple[str, str, str],
) -> None:
    assert chosen(decided(families, **body), situation, price) == expected


@pytest.mark.parametrize(("tokens", "tier"), [(10, "terse"), (30, "terse"), (119, "terse"), (120, "careful")])
def test_a_budget_gets_the_most_thorough_tier_that_fits_else_the_shortest(
    families: dict[str, Family], tokens: int, tier: str
) -> None:
    assert chosen(decided(families, BUDGET), Situation(tokens=tokens))[:2] == (tier, "budget")


def test_a_deadline_that_no_tier_meets_is_refused_with_the_shortest_that_one_does(
    families: dict[str, Family],
) -> None:
    with pytest.raises(DeadlineTooShort) as refused:
        choose(decided(families), Expected(CANDIDATES), Situation(seconds=0.2))
    error = refused.value
    assert (error.status, error.code) == (400, "deadline_too_short")
    assert error.headers == {"x-alphatier-shortest-deadline": "0.300", "x-should-retry": "false"}
    assert "0.300 s could be met" in error.message


def test_where_the_time_is_not_sure_the_soonest_tier_is_tried(families: dict[str, Family]) -> None:
    assert chosen(decided(families), Situation(0.2, sure=False)) == ("terse", "deadline", "careful")


def test_a_tier_whose_time_is_not_known_is_not_ruled_out(families: dict[str, Family]) -> None:
    unknown = tuple(one._replace(seconds=None) for one in CANDIDATES)
    assert choose(decided(families), Expected(unknown), Situation(seconds=0.001)).tier.name == "careful"


def test_a_prompt_that_is_unlike_goes_by_the_measured_figures(families: dict[str, Family]) -> None:
    expected = Expected(CANDIDATES, PRICE, "words")  # by the price it would be terse
    late = choose(decided(families, model="toy:auto"), expected, Situation(seconds=0.5))
    assert (late.tier.name, late.reason) == ("terse", "deadline")
    assert choose(decided(families, model="toy:auto"), expected, Situation(seconds=9)).tier.name == "careful"


def test_without_a_router_the_measured_figures_are_expected(families: dict[str, Family]) -> None:
    toy = families["toy"]
    assert [one.tier for one in measured(toy)] == ["careful", "terse", "base"]
    found = expect(decided(families), None, {}, lambda _family, tier: tier != "terse")
    assert found == Expected((Expectation("careful", 0.97, 80, 80, 80), Expectation("base", 0.95, 100, 100, 100)))


def test_a_tier_of_which_nothing_is_known_stays(families: dict[str, Family]) -> None:
    toy = families["toy"]
    unmeasured = tuple(
        tier.model_copy(update={"evaluations": ()} if tier.name == "careful" else {}) for tier in toy.tiers
    )
    decision = decided({"toy": toy.model_copy(update={"tiers": unmeasured})})
    found = choose(decision, expect(decision, None, {}, lambda *_: True), Situation(seconds=0.1, tokens=1))
    assert (found.tier.name, found.reason) == ("careful", "default")


def test_the_headers_and_the_log_say_what_was_expected_and_what_would_have_been_otherwise(
    families: dict[str, Family],
) -> None:
    found = choose(decided(families), Expected(CANDIDATES), Situation(seconds=0.4))
    assert found.lines == (
        b"x-alphatier-tier: terse\r\nx-alphatier-decision: deadline\r\nx-alphatier-alpha: 0.4\r\n"
        b"x-alphatier-otherwise: careful\r\n"
        b"x-alphatier-expected: chance=0.900, tokens=20, p50=20, p90=30, seconds=0.300\r\n"
    )
    assert found.why is not None
    told = found.why.document()
    assert {name: told[name] for name in told if name != "candidates"} == {
        "rule": "deadline",
        "otherwise": "careful",
        "seconds": 0.4,
    }
    assert told["candidates"][0]["seconds"] == 1.2
