"""Which tier answers a request, and why. Pure: no I/O, no clock, no randomness.

Precedence, first match wins: the model's suffix (`family:tier`), the header `X-Efficiency-Tier`, the
field `efficiency_tier`, the field `efficiency`, the API's own effort (`reasoning_effort`, `reasoning.effort`,
`output_config.effort`), a budget (of thinking tokens, of time), the family's default. The first four name a tier
outright; two of them that name different tiers are an error, as is a pair of different efforts. A named
tier wins over an effort, and the answer's headers say so. Beside `auto`, where a router weighs the prompt,
`efficiency` names no tier: it sets the price.

Some requests leave the choice open: then the decision says so, and `choose` may take another tier.

A family with a gated adapter has a tier for every alpha up to its largest, in steps (`dial`): `alpha-0.37` is the
nearest.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from alphatier_models import Family, Tier
from alphatier_models.routing import Expectation
from alphatier_server.dialects.efforts import (
    DEADLINE_FIELD,
    SHARE_FIELD,
    TIER_FIELD,
    Effort,
    Selector,
    effort_field,
    share_field,
    string_field,
)
from alphatier_server.errors import InvalidRequest, NotFound
from alphatier_server.gateway.dial import at_alpha, efficiency_tier
from alphatier_server.metrics.canary import Arm
from alphatier_server.settings.alphas import STEP

AUTO = "auto"
_ALPHA = re.compile(r"alpha-(0|0?\.[0-9]{1,9}|0\.)")

Reason = Literal["explicit", "effort", "default", "auto", "deadline", "budget", "brownout", "fallback"]


Wish = Literal["price", "budget", "deadline", "tier"]
"""What a request wants that leaves the choice open: the best at the operator's price (`auto`), the most thorough tier
that its budget of tokens or time has room for, or the decided tier, where no limit of its own speaks against it."""

Rule = Literal["price", "default", "deadline", "budget", "brownout"]
"""What settled an open choice; `default`: the decided tier stays."""


class Open(NamedTuple):
    """A choice that the request left to the gateway."""

    wish: Wish
    default: str
    """The caller's default tier, for prompts of which nothing is known."""
    share: float | None = None
    """`efficiency` beside `auto`: how far from the most tokens to the fewest the price shall lead, from 0 to 1."""


class Explanation(NamedTuple):
    """Why an open choice fell as it did."""

    rule: Rule
    otherwise: str
    """The tier without the rule."""
    candidates: tuple[Expectation, ...]
    """What was expected of the tiers that were to choose from."""
    expected: Expectation | None
    """Of the tier that was chosen; None where nothing is to be expected."""
    price: float | None = None
    """Points of accuracy a token, where a router weighs them."""
    unlike: str | None = None
    """In what the prompt is unlike all that the router was trained on."""
    seconds: float | None = None
    """What was left of the deadline."""
    tokens: int | None = None
    """What the answer may have at most."""
    level: float = 0.0
    """Of the brownout."""

    @property
    def lines(self) -> bytes:
        """Header lines, each with its CR LF."""
        told = f"x-alphatier-otherwise: {self.otherwise}\r\n"
        if self.unlike is not None:
            told += f"x-alphatier-unlike: {self.unlike}\r\n"
        if (one := self.expected) is not None:
            values = f"chance={one.chance:.3f}, tokens={one.tokens:.0f}, p50={one.p50:.0f}, p90={one.p90:.0f}"
            seconds = "" if one.seconds is None else f", seconds={one.seconds:.3f}"
            told += f"x-alphatier-expected: {values}{seconds}\r\n"
        return told.encode("latin-1")

    def document(self) -> dict[str, Any]:
        """For the log."""
        plain = ("rule", "otherwise", "price", "unlike", "seconds", "tokens", "level")
        known = {name: value for name in plain if (value := getattr(self, name)) not in (None, 0.0)}
        return known | {"candidates": [one.document() for one in self.candidates]}


class Decision(NamedTuple):
    """The tier that answers a request, and the rule that chose it."""

    family: Family
    tier: Tier
    reason: Reason
    open: Open | None = None
    """Where the request left the choice open; None: nothing may change it."""
    why: Explanation | None = None
    """Of an open choice that was weighed."""
    arm: Arm | None = None
    """Where a new version of the tier is tried: which one answers. `tier` is the one that does."""

    @property
    def chosen(self) -> str:
        """The name of the tier that was chosen, whichever version of it answers."""
        return self.tier.name if self.arm is None else self.arm.tier

    @property
    def model(self) -> str:
        """The public model name, `<family>:<tier>`."""
        return f"{self.family.name}:{self.chosen}"

    @property
    def lines(self) -> bytes:
        """Header lines that tell the client what ran, each with its CR LF."""
        told = _lines(self.chosen, self.tier.alpha, self.reason)
        if self.arm is not None:
            told += self.arm.lines
        return told if self.why is None else told + self.why.lines


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
) -> Decision:
    """The decision for a request with this parsed body and these `X-Efficiency-Tier` header values.

    `efforts` are the places where the body says how much to think (each API has its own), `default_tier`
    the caller's own default, where the family has such a tier; alphas that no tier has are rounded to multiples of
    `step`. Raises InvalidRequest (contradiction, wrong type or value, unknown effort) or
    NotFound (unknown model or tier).
    """
    family, suffix = _family(body.get("model"), families)
    named = list(_named_tiers(suffix, tier_headers, body.get(TIER_FIELD)))
    share = None if body.get(SHARE_FIELD) is None else share_field(body[SHARE_FIELD], SHARE_FIELD)
    priced = family.router is not None and bool(named) and named[0].value == AUTO
    if share is not None and not priced:
        named.append(Selector(SHARE_FIELD, efficiency_tier(family, share, step).name))
    _refuse_contradiction(named)
    efforts_named = [effort for effort in efforts if isinstance(effort, Selector)]
    _refuse_contradiction(efforts_named)
    for selector in efforts_named:
        effort_field(selector.value, selector.place)
    default = default_tier_of(family, default_tier)
    if named and named[0].value == AUTO:
        return Decision(family, auto_tier(family), "auto", Open("price", default, share))
    if named:
        between = share is not None and 0 < share < 1 and len(named) == 1
        return _named_decision(family, named[0], step, Open("tier", default) if between else None)
    if efforts_named:
        return Decision(family, family.tier(family.efforts[efforts_named[0].value]), "effort")  # type: ignore[index]
    return Decision(family, family.tier(default), "default", Open(_wish(body, efforts), default))


def default_tier_of(family: Family, own: str | None) -> str:
    """The tier for requests that choose none: the caller's own, where the family has such a tier."""
    return own if own is not None and any(tier.name == own for tier in family.tiers) else family.default_tier


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


def _wish(body: Mapping[str, Any], budgets: Sequence[Effort]) -> Wish:
    if budgets:
        return "budget"
    return "deadline" if body.get(DEADLINE_FIELD) is not None else "tier"


def _named_decision(family: Family, selector: Selector, step: float, left: Open | None) -> Decision:
    try:
        return Decision(family, _tier(family, selector.value, step), "explicit", left)
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
