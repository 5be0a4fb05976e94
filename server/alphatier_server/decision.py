"""Which tier answers a request, and why. Pure: no I/O, no clock, no randomness.

Precedence, first match wins: the model's suffix (`family:tier`), the header `X-Efficiency-Tier`, the
field `efficiency_tier`, `reasoning_effort` (or `reasoning.effort`), the family's default. The first
three name a tier outright; two of them that name different tiers are an error, as is a pair of
different efforts. A named tier wins over an effort, and the answer's headers say so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alphatier_models import EFFORTS, Family, Tier
from alphatier_server.errors import InvalidRequest, NotFound

TIER_HEADER = "x-efficiency-tier"
TIER_FIELD = "efficiency_tier"
AUTO = "auto"

Reason = Literal["explicit", "effort", "default", "auto", "deadline", "budget", "brownout", "fallback"]


@dataclass(frozen=True)
class Decision:
    """The tier that answers a request, and the rule that chose it."""

    family: Family
    tier: Tier
    reason: Reason

    @property
    def model(self) -> str:
        """The public model name, `<family>:<tier>`."""
        return f"{self.family.name}:{self.tier.name}"

    def headers(self) -> dict[str, str]:
        """The headers that tell the client what ran."""
        headers = {
            "x-alphatier-tier": self.tier.name,
            "x-alphatier-decision": self.reason,
        }
        if self.tier.alpha is not None:
            headers["x-alphatier-alpha"] = f"{self.tier.alpha:g}"
        return headers


@dataclass(frozen=True)
class _Selector:
    """One place where a client named a tier or an effort: for error messages that name both."""

    place: str
    value: str

    def __str__(self) -> str:
        return f"{self.place} says {self.value!r}"


def decide(body: Mapping[str, Any], tier_headers: Sequence[str], families: Mapping[str, Family]) -> Decision:
    """The decision for a request with this parsed body and these `X-Efficiency-Tier` header values.

    Raises InvalidRequest (contradiction, wrong type, unknown effort) or NotFound (unknown model or tier).
    """
    family, suffix = _family(body.get("model"), families)
    named = list(_named_tiers(suffix, tier_headers, body.get(TIER_FIELD)))
    efforts = list(_efforts(body))
    _refuse_contradiction(named)
    _refuse_contradiction(efforts)
    for effort in efforts:
        if effort.value not in EFFORTS:
            raise InvalidRequest(
                f"{effort.place} {effort.value!r} is not supported; use one of {', '.join(EFFORTS)}.",
                code="unsupported_value",
                param=effort.place,
            )
    if named:
        return _named_decision(family, named[0])
    if efforts:
        return Decision(family, family.tier(family.efforts[efforts[0].value]), "effort")  # type: ignore[index]
    return Decision(family, family.tier(family.default_tier), "default")


def auto_tier(family: Family) -> Tier:
    """The tier for `auto`: the one with the fewest measured tokens that is not measurably less accurate.

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
            f"The model {model!r} does not exist; there are {_listed(_model_names(families))}.",
            code="model_not_found",
            param="model",
        )
    return families[name], suffix if colon else None


def _named_tiers(suffix: str | None, headers: Sequence[str], field: Any) -> Iterable[_Selector]:
    if suffix is not None:
        yield _Selector("model", suffix)
    for value in headers:
        yield _Selector("the header X-Efficiency-Tier", value.strip())
    if field is not None:
        yield _Selector(TIER_FIELD, _string(field, TIER_FIELD))


def _efforts(body: Mapping[str, Any]) -> Iterable[_Selector]:
    effort = body.get("reasoning_effort")
    if effort is not None:
        yield _Selector("reasoning_effort", _string(effort, "reasoning_effort"))
    reasoning = body.get("reasoning")
    if isinstance(reasoning, dict) and reasoning.get("effort") is not None:
        yield _Selector("reasoning.effort", _string(reasoning["effort"], "reasoning.effort"))


def _string(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{place} must be a string, not {value!r:.40}", code="invalid_type", param=place)
    return value


def _refuse_contradiction(selectors: Sequence[_Selector]) -> None:
    for other in selectors[1:]:
        if other.value != selectors[0].value:
            raise InvalidRequest(
                f"Contradiction: {selectors[0]}, but {other}. Send one of them.",
                code="contradictory_tier",
                param=selectors[0].place,
            )


def _named_decision(family: Family, selector: _Selector) -> Decision:
    if selector.value == AUTO:
        return Decision(family, auto_tier(family), "auto")
    try:
        return Decision(family, family.tier(selector.value), "explicit")
    except KeyError:
        names = [*(tier.name for tier in family.tiers), AUTO]
        raise NotFound(
            f"The family {family.name!r} has no tier {selector.value!r} ({selector.place}); "
            f"there are {_listed(names)}.",
            code="model_not_found" if selector.place == "model" else "tier_not_found",
            param=selector.place,
        ) from None


def _model_names(families: Mapping[str, Family]) -> list[str]:
    return [name for family in families.values() for name in public_models(family)]


def public_models(family: Family) -> list[str]:
    """Every model name under which the family answers."""
    tiers = [f"{family.name}:{tier.name}" for tier in family.tiers]
    return [family.name, f"{family.name}:{AUTO}", *tiers]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
