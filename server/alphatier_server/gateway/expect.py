"""What is expected of each tier's answer: for the prompt where the family has a router, else as measured. Pure.

A conversation is judged by its beginning, up to and including the first user message, which is what `affinity` knows
it by: so its later turns, a bare "yes, go on" too, get the tier of its first one, in every process.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from alphatier_models import Family, Tier
from alphatier_models.routing import Expectation, Operating, Router
from alphatier_server.gateway.brownout import between
from alphatier_server.gateway.decide import Decision
from alphatier_server.gateway.dial import as_measured
from alphatier_server.settings.auto import AutoSettings


class Routing(NamedTuple):
    """A family's router, and what the operator wants of it."""

    router: Router
    tiers: Mapping[str, str]
    """The family's tier for each of the router's."""
    price: float
    """Points of accuracy a token."""


class Expected(NamedTuple):
    """What an open choice has to choose from."""

    candidates: tuple[Expectation, ...]
    """The most accurate first."""
    price: float | None = None
    """Points of accuracy a token; None where the family has no router."""
    unlike: str | None = None
    """In what the prompt is unlike all that the router was trained on: then the candidates are as measured."""


def routing_of(router: Router, family: Family, settings: AutoSettings) -> Routing | None:
    """The router as the operator wants it; None where the family has fewer than two of its tiers."""
    tiers = router.fits(family)
    if len(tiers) < 2:
        return None
    if settings.goal == "tokens_a_point":
        return Routing(router, tiers, 1 / settings.value)
    if settings.goal == "mean_tokens":
        return Routing(router, tiers, router.price_for(tokens=settings.value))
    return Routing(router, tiers, router.price_for(accuracy_share=settings.value))


def dearer(routing: Routing, level: float, coin: float) -> float:
    """The price of a token under a brownout of this level: the tokens of what it gave on the sample are `between`."""
    way: list[Operating] = []
    for one in routing.router.operating:
        if one.price >= routing.price and (not way or one.tokens < way[-1].tokens):
            way.append(one)
    return way[between([one.tokens for one in way], level, coin)].price if way else routing.price


def expect(
    decision: Decision, routing: Routing | None, body: Mapping[str, Any], allowed: Callable[[str, str], bool]
) -> Expected:
    """What is expected of the decided tier, and of those that the caller may use (`allowed`: family and tier)."""
    family, price, unlike = decision.family, None, None
    found: Iterable[Expectation] = measured(family)
    if routing is not None:
        price = routing.price
        text, unlike = first_text(body)
        predicted = routing.router.predict(text)
        unlike = unlike or predicted.unlike
        if unlike is None:
            named = (one for one in predicted.expectations if one.tier in routing.tiers)
            found = [one._replace(tier=routing.tiers[one.tier]) for one in named]
    candidates = tuple(one for one in found if allowed(family.name, one.tier))
    if decision.reason != "auto" and not any(one.tier == decision.tier.name for one in candidates):
        own = of_tier(family, decision.tier)
        candidates = candidates if own is None else (*candidates, own)
    return Expected(candidates, price, unlike)


_measured: dict[str, tuple[Family, tuple[Expectation, ...]]] = {}


def measured(family: Family) -> tuple[Expectation, ...]:
    """The measured figures of the family's tiers, the most accurate first; remembered while it stays as it is."""
    known = _measured.get(family.name)
    if known is None or known[0] is not family:
        found = [one for tier in family.tiers if (one := of_tier(family, tier)) is not None]
        known = family, tuple(sorted(found, key=lambda one: (-one.chance, one.tokens)))
        _measured[family.name] = known
    return known[1]


def of_tier(family: Family, tier: Tier) -> Expectation | None:
    """Its measured figures; those of an alpha between two measured ones are the more thorough one's."""
    evaluation = as_measured(family, tier).evaluation()
    if evaluation is None:
        return None
    percentiles = evaluation.token_percentiles
    return Expectation(tier.name, evaluation.accuracy.mean, evaluation.tokens.mean, percentiles.p50, percentiles.p90)


def first_text(body: Mapping[str, Any]) -> tuple[str, str | None]:
    """The text that a conversation begins with: its first user message; and what else is in it that is no text."""
    turns = body.get("messages", body.get("input", body.get("prompt")))
    if isinstance(turns, list):
        users = (turn for turn in turns if isinstance(turn, dict) and turn.get("role") == "user")
        turns = next((turn.get("content") for turn in users), None)
    if isinstance(turns, str):
        return turns, None
    if not isinstance(turns, list):
        return "", "text"
    texts = [part["text"] for part in turns if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "\n".join(texts), None if len(texts) == len(turns) else "media"
