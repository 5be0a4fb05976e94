"""Which tier answers a request, and why. Pure: no I/O, no clock, no randomness.

Precedence, first match wins: the model's suffix (`family:tier`), the header `X-Efficiency-Tier`, the
field `efficiency_tier`, the field `efficiency`, the API's own effort (`reasoning_effort`, `reasoning.effort`,
`output_config.effort`), a budget of thinking tokens, the family's default. The first four name a tier
outright; two of them that name different tiers are an error, as is a pair of different efforts. A named
tier wins over an effort, and the answer's headers say so.

A family with a gated adapter has a tier for every alpha up to its largest, in steps (`dial`): `alpha-0.37` is the
nearest.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from alphatier_models import EFFORTS, Family, Tier
from alphatier_server.dialects.efforts import (
    SHARE_FIELD,
    TIER_FIELD,
    Effort,
    Selector,
    TokenBudget,
    effort_field,
    share_field,
    string_field,
)
from alphatier_server.errors import InvalidRequest, NotFound
from alphatier_server.gateway.auto import Explanation, Routing, route
from alphatier_server.gateway.dial import at_alpha, efficiency_tier
from alphatier_server.settings.alphas import STEP

AUTO = "auto"
_ALPHA = re.compile(r"alpha-(0|0?\.[0-9]{1,9}|0\.)")

Reason = Literal["explicit", "effort", "default", "auto", "deadline", "budget", "brownout", "fallback"]


class Decision(NamedTuple):
    """The tier that answers a request, and the rule that chose it."""

    family: Family
    tier: Tier
    reason: Reason
    why: Explanation | None = None
    """Of `auto` by the prompt."""

    @property
    def model(self) -> str:
        """The public model name, `<family>:<tier>`."""
        return f"{self.family.name}:{self.tier.name}"

    @property
    def lines(self) -> bytes:
        """Header lines that tell the client what ran, each with its CR LF."""
        told = _lines(self.tier.name, self.tier.alpha, self.reason)
        return told if self.why is None else told + self.why.lines


class Ways(NamedTuple):
    """What `auto` may choose from, and by what."""

    routing: Callable[[Family], Routing | None] = lambda _family: None
    """The family's router, where it has one."""
    allowed: Callable[[str, str], bool] = lambda _family, _tier: True
    """Whether the caller may use a family's tier."""


MEASURED = Ways()
"""By the measured figures alone."""


@lru_cache
def _lines(tier: str, alpha: float | None, reason: Reason) -> bytes:
    told = "" if alpha is None else f"x-alphatier-alpha: {alpha:g}\r\n"
    return f"x-alphatier-tier: {tier}\r\nx-alphatier-decision: {reason}\r\n{told}".encode("latin-1")


def decide(
    body: Mapping[str, Any],
    tier_headers: Sequence[str],
    families: Mapping[str, Family],
    efforts: Sequence[Effort] = (),
    default_tier: str | None = None,
    step: float = STEP,
    ways: Ways = MEASURED,
) -> Decision:
    """The decision for a request with this parsed body and these `X-Efficiency-Tier` header values.

    `efforts` are the places where the body says how much to think (each API has its own), `default_tier`
    the caller's own default, where the family has such a tier; alphas that no tier has are rounded to multiples of
    `step`; `auto` goes by `ways`. Raises InvalidRequest (contradiction, wrong type or value, unknown effort) or
    NotFound (unknown model or tier).
    """
    family, suffix = _family(body.get("model"), families)
    named = list(_named_tiers(suffix, tier_headers, body.get(TIER_FIELD)))
    if (share := body.get(SHARE_FIELD)) is not None:
        named.append(Selector(SHARE_FIELD, efficiency_tier(family, share_field(share, SHARE_FIELD), step).name))
    _refuse_contradiction(named)
    efforts_named = [effort for effort in efforts if isinstance(effort, Selector)]
    _refuse_contradiction(efforts_named)
    for selector in efforts_named:
        effort_field(selector.value, selector.place)
    if named and named[0].value == AUTO:
        return _auto_decision(family, body, default_tier_of(family, default_tier), ways)
    if named:
        return _named_decision(family, named[0], step)
    chosen = _effort_tier(family, efforts) if efforts else None
    if chosen is not None:
        return Decision(family, chosen, "effort")
    return Decision(family, family.tier(default_tier_of(family, default_tier)), "default")


def default_tier_of(family: Family, own: str | None) -> str:
    """The tier for requests that choose none: the caller's own, where the family has such a tier."""
    return own if own is not None and any(tier.name == own for tier in family.tiers) else family.default_tier


def budget_tier(family: Family, tokens: int) -> Tier | None:
    """The tier for a budget of thinking tokens: that of the highest effort which fits into it.

    An effort fits when nine in ten measured answers of its tier were no longer than the budget (the 90th
    percentile, thinking and answer together), so that a hard cap of the same size rarely cuts one short.
    Where none fits, it is the tier with the fewest measured tokens. None for a family without figures.
    """
    measured = [(tier, evaluation) for tier in family.tiers if (evaluation := tier.evaluation()) is not None]
    if not measured:
        return None
    p90 = {tier.name: evaluation.token_percentiles.p90 for tier, evaluation in measured}
    for effort in reversed(EFFORTS):
        if p90.get(family.efforts[effort], math.inf) <= tokens:
            return family.tier(family.efforts[effort])
    return min(measured, key=lambda pair: pair[1].tokens.mean)[0]


def auto_tier(family: Family) -> Tier:
    """The tier for `auto` without a router: of those not measurably less accurate, the one with the fewest tokens.

    A tier counts as not measurably less accurate when its 95 % interval reaches the lower end of
    the most accurate tier's. A family that was never measured falls back to its default tier.
    """
    measured = [(tier, evaluation) for tier in family.tiers if (evaluation := tier.evaluation()) is not None]
    if not measured:
        return family.tier(family.default_tier)
    best = max((evaluation for _, evaluation in measured), key=lambda e: e.accuracy.mean)
    sound = [(tier, e) for tier, e in measured if e.accuracy.high >= best.accuracy.low]
    return min(sound, key=lambda pair: pair[1].tokens.mean)[0]


def _family(model: Any, families: Mapping[str, Family]) -> tuple[Family, str | None]:
    if model is None:
        raise InvalidRequest("you must provide a model parameter", code="missing_required_parameter", param="model")
    if not isinstance(model, str):
        raise InvalidRequest("model must be a string", code="invalid_type", param="model")
    name, colon, suffix = model.partition(":")
    if name not in families:
        raise NotFound(
            f"The model {model[:80]!r} does not exist; there are {_listed(_model_names(families))}.",
            code="model_not_found",
            param="model",
        )
    return families[name], suffix if colon else None


def _named_tiers(suffix: str | None, headers: Sequence[str], field: Any) -> Iterable[Selector]:
    if suffix is not None:
        yield Selector("model", suffix)
    for value in headers:
        yield Selector("the header X-Efficiency-Tier", value.strip())
    if field is not None:
        yield Selector(TIER_FIELD, string_field(field, TIER_FIELD))


def _refuse_contradiction(selectors: Sequence[Selector]) -> None:
    for other in selectors[1:]:
        if other.value != selectors[0].value:
            raise InvalidRequest(
                f"Contradiction: {selectors[0]}, but {other}. Send one of them.",
                code="contradictory_tier",
                param=selectors[0].place,
            )


def _effort_tier(family: Family, efforts: Sequence[Effort]) -> Tier | None:
    """The tier of the effort, or of the budget where no effort is named."""
    for effort in efforts:
        if isinstance(effort, Selector):
            return family.tier(family.efforts[effort.value])  # type: ignore[index]
    return next((budget_tier(family, budget.tokens) for budget in efforts if isinstance(budget, TokenBudget)), None)


def _auto_decision(family: Family, body: Mapping[str, Any], default: str, ways: Ways) -> Decision:
    measured, routing = auto_tier(family), ways.routing(family)
    if routing is not None:
        found = route(routing, body, lambda tier: ways.allowed(family.name, tier), default, measured.name)
        if found is not None:
            return Decision(family, family.tier(found[0]), "auto", found[1])
    return Decision(family, measured, "auto")


def _named_decision(family: Family, selector: Selector, step: float) -> Decision:
    try:
        return Decision(family, _tier(family, selector.value, step), "explicit")
    except KeyError:
        names = [*(tier.name for tier in family.listed), AUTO]
        between = "" if family.gated is None else f", and alpha-X for any X from 0 to {family.gated.largest:g}"
        raise NotFound(
            f"The family {family.name!r} has no tier {selector.value[:80]!r} ({selector.place}); "
            f"there are {_listed(names)}{between}.",
            code="model_not_found" if selector.place == "model" else "tier_not_found",
            param=selector.place,
        ) from None


def _tier(family: Family, name: str, step: float) -> Tier:
    """The tier of that name, or at the alpha that it says. KeyError when there is none."""
    try:
        return family.tier(name)
    except KeyError:
        alpha = _ALPHA.fullmatch(name)
        if family.gated is None or alpha is None or float(alpha[1]) > family.gated.largest:
            raise
        return at_alpha(family, float(alpha[1]), step)


def _model_names(families: Mapping[str, Family]) -> list[str]:
    return [name for family in families.values() for name in public_models(family)]


def public_models(family: Family) -> list[str]:
    """Every model name under which the family answers."""
    tiers = [f"{family.name}:{tier.name}" for tier in family.listed]
    return [family.name, f"{family.name}:{AUTO}", *tiers]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
