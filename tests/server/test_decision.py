"""Which tier answers: precedence, contradictions, efforts, auto."""

from typing import Any

import pytest

from alphatier_models import EFFORTS, Family, GatedAdapter, Tier
from alphatier_server.dialects.efforts import Effort, TokenBudget, openai_efforts
from alphatier_server.errors import InvalidRequest, NotFound
from alphatier_server.gateway.decide import auto_tier, decide
from alphatier_server.gateway.dial import efficiency_tier, figures_of, offered
from support.families import evaluation


def chosen(families: dict[str, Family], *headers: str, **body: Any) -> tuple[str, str]:
    document = {"model": "toy", **body}
    decision = decide(document, headers, families, openai_efforts(document))
    return decision.tier.name, decision.reason


def test_the_family_alone_gives_its_default_tier(families: dict[str, Family]) -> None:
    assert chosen(families) == ("careful", "default")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ((), {"model": "toy:terse"}),
        (("terse",), {}),
        ((" terse ",), {}),
        ((), {"efficiency_tier": "terse"}),
        (("terse",), {"model": "toy:terse", "efficiency_tier": "terse"}),
    ],
)
def test_a_tier_can_be_named_in_three_places(
    families: dict[str, Family], headers: tuple[str, ...], body: dict[str, Any]
) -> None:
    assert chosen(families, *headers, **body) == ("terse", "explicit")


@pytest.mark.parametrize("effort", EFFORTS)
def test_every_effort_leads_to_the_tier_that_the_family_maps_it_to(families: dict[str, Family], effort: str) -> None:
    expected = families["toy"].efforts[effort]  # type: ignore[index]
    assert chosen(families, reasoning_effort=effort) == (expected, "effort")
    assert chosen(families, reasoning={"effort": effort}) == (expected, "effort")


def test_a_named_tier_wins_over_an_effort(families: dict[str, Family]) -> None:
    assert chosen(families, "base", reasoning_effort="low") == ("base", "explicit")


def test_a_selector_that_is_null_is_not_given(families: dict[str, Family]) -> None:
    assert chosen(families, efficiency_tier=None, reasoning_effort=None, reasoning=None) == ("careful", "default")


@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        (("terse",), {"model": "toy:base"}, ("model says 'base'", "X-Efficiency-Tier says 'terse'")),
        (
            (),
            {"model": "toy:base", "efficiency_tier": "terse"},
            ("model says 'base'", "efficiency_tier says 'terse'"),
        ),
        (("terse", "base"), {}, ("says 'terse'", "says 'base'")),
        (("terse",), {"model": "toy:auto"}, ("model says 'auto'", "says 'terse'")),
        ((), {"reasoning_effort": "low", "reasoning": {"effort": "high"}}, ("reasoning_effort", "reasoning.effort")),
    ],
)
def test_selectors_that_contradict_each_other_are_both_named(
    families: dict[str, Family], headers: tuple[str, ...], body: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chosen(families, *headers, **body)
    assert all(word in caught.value.message for word in words)


@pytest.mark.parametrize(
    "body",
    [
        {"reasoning_effort": "lo"},
        {"reasoning_effort": "LOW"},
        {"reasoning_effort": ""},
        {"reasoning": {"effort": "huge"}},
        {"reasoning_effort": "lo", "efficiency_tier": "base"},
    ],
)
def test_an_unknown_effort_is_refused_with_what_is_accepted(
    families: dict[str, Family], body: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest, match="none, minimal, low, medium, high, xhigh, max"):
        chosen(families, **body)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ((), {"model": "toy:brief"}),
        ((), {"model": "toy:"}),
        (("brief",), {}),
        (("",), {}),
        ((), {"efficiency_tier": "brief"}),
        ((), {"model": "gpt-4"}),
        ((), {"model": ""}),
    ],
)
def test_an_unknown_model_or_tier_is_told_what_exists(
    families: dict[str, Family], headers: tuple[str, ...], body: dict[str, Any]
) -> None:
    with pytest.raises(NotFound, match="terse"):
        chosen(families, *headers, **body)


@pytest.mark.parametrize(
    "body", [{"model": None}, {"model": 3}, {"efficiency_tier": 1}, {"reasoning_effort": ["low"]}, {"model": {}}]
)
def test_a_selector_of_the_wrong_type_is_refused(families: dict[str, Family], body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        chosen(families, **body)


def test_an_effort_wins_over_a_budget_and_a_named_tier_over_both(families: dict[str, Family]) -> None:
    efforts: list[Effort] = [TokenBudget("thinking.budget_tokens", 10), *openai_efforts({"reasoning_effort": "high"})]
    assert decide({"model": "toy"}, (), families, efforts).tier.name == "careful"
    assert decide({"model": "toy:base"}, (), families, efforts).tier.name == "base"


def test_a_callers_own_default_stands_in_for_the_familys_where_the_family_has_it(families: dict[str, Family]) -> None:
    assert decide({"model": "toy"}, (), families, default_tier="terse").tier.name == "terse"
    assert decide({"model": "toy"}, (), families, default_tier="elsewhere").tier.name == "careful"
    assert decide({"model": "toy:base"}, (), families, default_tier="terse").tier.name == "base"


def test_auto_is_the_tier_with_fewest_tokens_that_is_not_measurably_worse(families: dict[str, Family]) -> None:
    # careful 97 % (96-98), terse 96 % (95-97) at half the tokens: the intervals touch, so terse is good enough
    assert chosen(families, "auto") == ("terse", "auto")
    family = families["toy"]
    worse = family.tiers[2].model_copy(update={"evaluations": (_with_accuracy(family, 0.90),)})
    assert auto_tier(family.model_copy(update={"tiers": (*family.tiers[:2], worse)})).name == "careful"


def test_auto_in_a_family_without_figures_is_the_default_tier(families: dict[str, Family]) -> None:
    family = families["toy"]
    unmeasured = tuple(tier.model_copy(update={"evaluations": ()}) for tier in family.tiers)
    assert auto_tier(family.model_copy(update={"tiers": unmeasured})).name == "careful"


def test_the_headers_say_what_ran(families: dict[str, Family]) -> None:
    lines = decide({"model": "toy:terse"}, (), families).lines
    assert lines == b"x-alphatier-tier: terse\r\nx-alphatier-decision: explicit\r\nx-alphatier-alpha: 0.4\r\n"
    assert b"x-alphatier-alpha" not in decide({"model": "toy:base"}, (), families).lines


def _with_accuracy(family: Family, accuracy: float) -> Any:
    evaluation = family.tiers[2].evaluations[0]
    interval = evaluation.accuracy.model_copy(
        update={"mean": accuracy, "low": accuracy - 0.01, "high": accuracy + 0.01}
    )
    return evaluation.model_copy(update={"accuracy": interval})


def measured(family: Family, tokens: dict[float, float], largest: float | None = 0.8) -> Family:
    """The family with a tier at each alpha, of so many tokens."""
    tiers = [
        Tier(
            name=f"t-{alpha:g}",
            layout="adapter",
            path="p",
            sha256="0" * 64,
            alpha=alpha,
            evaluations=(evaluation(0.9, n),),
        )
        for alpha, n in tokens.items()
    ]
    gated = None if largest is None else GatedAdapter(path="gated", sha256="1" * 64, largest=largest)
    return family.model_copy(update={"tiers": (*family.tiers[:1], *tiers), "gated": gated})


def test_efficiency_goes_evenly_through_the_tokens_not_through_the_alphas(family: Family) -> None:
    steep = measured(family, {0.0: 100, 0.2: 40, 0.8: 20})
    # 80 = 100 - 0.25 * 80 tokens lie a third of the way to 40; 60 two thirds; 30 half of the way from 40 to 20
    alphas = [efficiency_tier(steep, share).alpha for share in (0, 0.25, 0.5, 0.75, 0.875, 1)]
    assert alphas == [0.0, 0.05, 0.15, 0.2, 0.5, 0.8]
    assert efficiency_tier(steep, 0.25, step=0.01).name == "alpha-0.07"


DIALS: dict[str, dict[float, float]] = {
    "flat": {0.0: 38.5, 0.05: 38.4, 0.1: 37.4, 0.15: 33.5, 0.2: 28.2, 0.3: 16.2, 0.4: 6.0, 0.5: 6.0, 0.8: 6.0},
    "bumpy": {0.0: 100, 0.2: 60, 0.4: 70, 0.8: 20},
    "back at the end": {0.0: 100, 0.4: 20, 0.8: 25},
    "back at the start": {0.0: 50, 0.2: 60, 0.8: 20},
    "beside the steps": {0.0: 100, 0.37: 50, 0.62: 30, 0.8: 20},
}


@pytest.mark.parametrize("dial", DIALS.values(), ids=DIALS)
def test_efficiency_goes_from_the_most_thorough_to_the_tersest_and_never_back(
    family: Family, dial: dict[float, float]
) -> None:
    gated = measured(family, dial)
    found = [efficiency_tier(gated, share / 1000) for share in range(1001)]
    alphas = [tier.alpha or 0.0 for tier in found]
    assert alphas == sorted(alphas)
    fewest = min(dial.values())
    assert (alphas[0], alphas[-1]) == (0.0, min(alpha for alpha, tokens in dial.items() if tokens == fewest))


@pytest.mark.parametrize("dial", ["flat", "beside the steps"])
def test_no_offered_alpha_has_tokens_nearer_to_where_efficiency_points(family: Family, dial: str) -> None:
    gated = measured(family, tokens := DIALS[dial])
    known = {tier.name: figures.tokens.mean for tier in offered(gated) if (figures := figures_of(gated, tier))}
    for share in range(101):
        wanted = tokens[0.0] + share / 100 * (min(tokens.values()) - tokens[0.0])
        distances = {name: abs(own - wanted) for name, own in known.items()}
        assert distances[efficiency_tier(gated, share / 100).name] == pytest.approx(min(distances.values()))


def test_alphas_that_cost_the_same_take_no_part_of_the_way(family: Family) -> None:
    found = [efficiency_tier(measured(family, DIALS["flat"]), share / 100).alpha for share in range(101)]
    assert max(found.count(alpha) for alpha in found if alpha is not None) < 20
    assert efficiency_tier(measured(family, {0.0: 50, 0.4: 50}), 1).alpha == 0.0


def test_efficiency_takes_the_nearest_tier_of_a_family_without_a_gated_adapter(family: Family) -> None:
    single = measured(family, {0.0: 100, 0.2: 40, 0.8: 20}, largest=None)
    assert [efficiency_tier(single, share).name for share in (0, 0.3, 0.4, 1)] == ["t-0", "t-0", "t-0.2", "t-0.8"]


def test_efficiency_needs_two_measured_alphas(family: Family) -> None:
    with pytest.raises(InvalidRequest, match="name a tier"):
        efficiency_tier(measured(family, {0.0: 100}), 0.5)


@pytest.mark.parametrize(
    ("asked", "largest", "step", "name"),
    [
        ("alpha-0.83", 0.83, 0.05, "alpha-0.8"),  # never past the largest
        ("alpha-.3", 0.8, 0.05, "alpha-0.3"),
        ("alpha-0.33", 0.8, 0.1, "alpha-0.3"),
        ("alpha-0.025", 0.8, 0.05, "t-0"),
        ("alpha-0.41", 0.8, 0.02, "t-0.4"),
        ("alpha-0.39", 0.8, 0.3, "t-0.4"),  # a tier's own alpha is offered too
    ],
)
def test_an_alpha_is_rounded_to_a_step(family: Family, asked: str, largest: float, step: float, name: str) -> None:
    gated = measured(family, {0.0: 100, 0.4: 40}, largest)
    decision = decide({"model": f"toy:{asked}"}, (), {"toy": gated}, step=step)
    assert (decision.tier.name, decision.reason) == (name, "explicit")
