"""The step after `decide`: a choice that the request left open falls on the best tier that fits. Pure.

A tier fits when nine of ten of its answers do: what is expected of its 90th percentile for this prompt is within the
deadline, as busy as its engine is, and within the most tokens that the answer may have. Of those that fit it is

    price     (`auto`) the best at the operator's price
    budget    a budget of thinking tokens: the most thorough one
    deadline  `deadline_ms`, a budget of time: the most thorough one
    tier      (the default, `efficiency`) the decided one; where that does not fit, the most thorough one

and under brownout a terser one. The most thorough tier is the one that is likeliest to be right. What nothing fits
differs: a deadline is refused, a budget gets the tier with the fewest tokens, a mere limit of tokens changes nothing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from alphatier_models.routing import Expectation
from alphatier_models.routing.router import best
from alphatier_server.dialects.efforts import Effort, TokenBudget
from alphatier_server.errors import DeadlineTooShort
from alphatier_server.gateway.brownout import between, way_down
from alphatier_server.gateway.brownouts import Brownouts
from alphatier_server.gateway.decide import Decision, Explanation, Rule
from alphatier_server.gateway.dial import as_measured
from alphatier_server.gateway.expect import Expected, dearer, expect
from alphatier_server.gateway.forecast import Forecast
from alphatier_server.gateway.routers import Routers
from alphatier_server.keys.ring import Caller
from alphatier_server.limits.estimate import most_tokens
from alphatier_server.replicas.affinity import hash64


class Situation(NamedTuple):
    """What limits an open choice, beside what is expected of the tiers."""

    seconds: float | None = None
    """What is left of the deadline; None: there is none."""
    tokens: int | None = None
    """What the answer may have at most."""
    level: float = 0.0
    """Of the brownout: from 0, none, to 1, all get the tersest tier."""
    coin: float = 0.0
    """The request's own, in [0, 1): the same wherever it is sent."""
    price: float = 0.0
    """Of a token at this level, in points of accuracy, where a router weighs them."""
    sure: bool = True
    """Whether the expected seconds are sure enough to refuse a deadline by; else the soonest tier is tried."""


NOTHING = Situation()


def choose(decision: Decision, expected: Expected, situation: Situation) -> Decision:
    """The decision as the situation wants it. Raises DeadlineTooShort where no tier is expected to be in time."""
    if decision.open is None or not expected.candidates:
        return decision
    wish, price, tier = decision.open.wish, expected.price, decision.tier.name
    if wish in ("budget", "deadline"):
        price = 0.0
    elif wish == "tier" or expected.unlike is not None:
        price = None
    if wish == "price" and expected.unlike is not None:
        tier = decision.open.default
    candidates = expected.candidates
    named = next((one for one in candidates if one.tier == tier), None)
    wanted = named if price is None else best(candidates, price)
    if wanted is None:  # a tier of which nothing is known
        return _told(
            decision, tier, Explanation("default", decision.tier.name, candidates, None, unlike=expected.unlike)
        )
    within = _within(candidates, situation)
    fit = _fitting(within, situation.tokens, budget=wish == "budget")
    found = wanted if wanted in fit else best(fit, price or 0.0)
    slid = _slid(fit, found, situation, weighed=wish == "price" and price is not None)
    rule: Rule = "default" if price is None else "price"
    otherwise = decision.tier.name
    if slid is not found:
        rule, otherwise = "brownout", found.tier
    elif wish in ("budget", "deadline"):
        rule = wish
    elif found is not wanted:
        rule, otherwise = "budget" if wanted in within else "deadline", wanted.tier
    known = None if expected.unlike is not None else slid
    why = Explanation(rule, otherwise, candidates, known, expected.price, expected.unlike, *situation[:3])
    return _told(decision, slid.tier, why)


def _told(decision: Decision, tier: str, why: Explanation) -> Decision:
    reason = decision.reason if why.rule == "price" or why.rule == "default" else why.rule
    taken = decision.tier if tier == decision.tier.name else decision.family.tier(tier)
    return decision._replace(tier=taken, reason=reason, why=why)


def _within(candidates: Sequence[Expectation], situation: Situation) -> Sequence[Expectation]:
    """Those that are in time; what is not known of a tier does not speak against it."""
    if (left := situation.seconds) is None:
        return candidates
    within = [one for one in candidates if one.seconds is None or one.seconds <= left]
    if not within:
        shortest = min(one.seconds for one in candidates if one.seconds is not None)
        if situation.sure:
            raise DeadlineTooShort(left, shortest)
        within = [one for one in candidates if one.seconds == shortest]
    return within


def _fitting(within: Sequence[Expectation], tokens: int | None, *, budget: bool) -> Sequence[Expectation]:
    if tokens is None:
        return within
    fit = [one for one in within if one.p90 <= tokens]
    if fit:
        return fit
    return [min(within, key=_tokens)] if budget else within


def _slid(fit: Sequence[Expectation], found: Expectation, situation: Situation, *, weighed: bool) -> Expectation:
    """The tier after the brownout: the best at the level's price (easy prompts slide first), else by the coin."""
    if situation.level <= 0:
        return found
    if weighed:
        return best(fit, situation.price)
    way = way_down(found, fit)
    return way[between([one.tokens for one in way], situation.level, situation.coin)]


def _tokens(one: Expectation) -> float:
    return one.tokens


def token_budget(efforts: Sequence[Effort], most: int | None) -> int | None:
    """What an answer may have at most: by its budget of thinking tokens, and by the `most` that the body says."""
    budgets = [effort.tokens for effort in efforts if isinstance(effort, TokenBudget)]
    return min(budgets if most is None else [*budgets, most], default=None)


def _roomy(decision: Decision, most: int | None) -> bool:
    """Whether 99 of 100 measured answers of the tier had fewer tokens: no prompt needs to be looked at then."""
    evaluation = as_measured(decision.family, decision.tier).evaluation()
    return most is not None and evaluation is not None and evaluation.token_percentiles.p99 <= most


class Chooser:
    """Sees what an open choice depends on, and chooses. For one process.

    Whoever leaves nothing open, or asks for nothing that needs to be looked at, costs nothing.
    """

    def __init__(self, routers: Routers, forecast: Forecast, brownouts: Brownouts) -> None:
        self._routers = routers
        self._forecast = forecast
        self._brownouts = brownouts

    def choose(
        self,
        decision: Decision,
        body: Mapping[str, Any],
        efforts: Sequence[Effort],
        caller: Caller,
        left: float | None,
        request_id: str,
    ) -> Decision:
        """The decision, of which `left` are the seconds until the deadline. Raises DeadlineTooShort."""
        if decision.open is None:
            return decision
        wish, most = decision.open.wish, most_tokens(body)
        situation = Situation(left, token_budget(efforts, most))
        routing = self._routers.of(decision.family)
        if routing is not None and decision.open.share is not None:
            routing = routing._replace(price=routing.router.price_at(decision.open.share))
        if wish != "price" and left is None and (situation == NOTHING or (wish == "tier" and _roomy(decision, most))):
            routing, situation = None, NOTHING
        if caller.brownout and (level := self._brownouts.level(decision.family.name)) > 0:
            coin = hash64(request_id.encode()) / 2**64
            price = 0.0 if routing is None else dearer(routing, level, coin)
            situation = situation._replace(level=level, coin=coin, price=price)
        if situation == NOTHING and routing is None:
            return decision
        expected = expect(decision, routing, body, caller.may_use)
        if left is not None:
            family = decision.family.name
            expected = self._timed(family, expected, most, caller)
            situation = situation._replace(sure=self._forecast.is_sure(family, decision.tier.name))
        return choose(decision, expected, situation)

    def _timed(self, family: str, expected: Expected, most: int | None, caller: Caller) -> Expected:
        """What is expected, with the seconds that each tier takes."""
        longest = math.inf if most is None else most
        seconds, priority = self._forecast.seconds, caller.priority
        timed = (
            one._replace(seconds=seconds(family, one.tier, min(one.p90, longest), priority))
            for one in expected.candidates
        )
        return expected._replace(candidates=tuple(timed))
