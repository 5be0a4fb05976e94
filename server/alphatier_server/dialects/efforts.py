"""What a request says of how much to think: efforts and budgets, each with the place where it was said."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from alphatier_models import EFFORTS
from alphatier_server.dialects.json_object import object_or_empty, without
from alphatier_server.errors import InvalidRequest

TIER_FIELD = "efficiency_tier"
SHARE_FIELD = "efficiency"
DEADLINE_FIELD = "deadline_ms"
LONGEST_DEADLINE_MS = 86_400_000
"""A day."""
SELECTOR_FIELDS = (TIER_FIELD, SHARE_FIELD, DEADLINE_FIELD)
"""The gateway's own fields, which no engine is sent."""
READ_FIELDS = (
    "model",
    *SELECTOR_FIELDS,
    "reasoning_effort",
    "reasoning",
    "stream",
    "stream_options",
    "thinking",
    "output_config",
)
"""The fields of a body that the gateway reads; none may be there twice."""

_LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "thinking_token_budget")
_ASKED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("model", *SELECTOR_FIELDS, "reasoning_effort", *_LENGTHS), ()),
    "reasoning": ("effort",),
    "output_config": ("effort",),
    "thinking": ("type", "budget_tokens"),
}
"""What the log says of a body, with the members of those that are objects."""
LONGEST_ASKED = 80
"""Characters of a text in it."""
_NUMBERS = frozenset((int, float, bool))


class Selector(NamedTuple):
    """One place where a client named a tier or an effort: `place` is for error messages that name both."""

    place: str
    value: str

    def __str__(self) -> str:
        return f"{self.place} says {self.value[:80]!r}"


class TokenBudget(NamedTuple):
    """How many tokens a client lets the model think; `place` is where it said so."""

    place: str
    tokens: int


Effort = Selector | TokenBudget
"""What an API's body says of how much to think: the name of an effort, or a budget."""


def openai_efforts(body: Mapping[str, Any]) -> list[Selector]:
    """`reasoning_effort` (chat completions) and `reasoning.effort` (responses). Raises InvalidRequest."""
    found: list[Selector] = []
    if (effort := body.get("reasoning_effort")) is not None:
        found.append(Selector("reasoning_effort", string_field(effort, "reasoning_effort")))
    if (effort := object_or_empty(body.get("reasoning")).get("effort")) is not None:
        found.append(Selector("reasoning.effort", string_field(effort, "reasoning.effort")))
    return found


def asked(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the body says of model, tier, effort and lengths, by place, for the log: no content, strings cut short."""
    found: dict[str, Any] = {}
    for name, value in body.items():
        if name in _ASKED:
            if isinstance(value, dict):
                for inner in _ASKED[name]:
                    _note(found, f"{name}.{inner}", value.get(inner))
            else:
                _note(found, name, value)
    return found


def _note(found: dict[str, Any], place: str, value: Any) -> None:
    """A string cut short, or a number; nothing that may be large."""
    kind = type(value)
    if kind is str:
        found[place] = value[:LONGEST_ASKED]
    elif kind in _NUMBERS:
        found[place] = value


def effort_field(value: str, place: str, accepted: Sequence[str] = EFFORTS) -> str:
    """The effort, which must be one of `accepted`. Raises InvalidRequest that lists them."""
    if value not in accepted:
        raise InvalidRequest(
            f"{place} {value[:60]!r} is not supported; use one of {', '.join(accepted)}.",
            code="unsupported_value",
            param=place,
        )
    return value


def string_field(value: Any, place: str) -> str:
    """The value, which must be a string. Raises InvalidRequest that names the place."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{place} must be a string, not {_kind(value)}", code="invalid_type", param=place)
    return value


def refuse_thinking_token_budget(body: Mapping[str, Any], remedy: str) -> None:
    """Refuse a hard cap that the engine would ignore without a word. Raises InvalidRequest."""
    place = "thinking_token_budget"
    if body.get(place) is not None:
        raise InvalidRequest(f"{place} is not supported here. {remedy}", code="unsupported_parameter", param=place)


def take_effort_out(body: Mapping[str, Any], outer: str, replace: dict[str, Any], remove: set[str]) -> None:
    """Note the changes that take `effort` out of a body's object `outer`, and all of `outer` if it is empty then."""
    values = object_or_empty(body.get(outer))
    if "effort" in values:
        if rest := without(values, "effort"):
            replace[outer] = rest
        else:
            remove.add(outer)


def share_field(value: Any, place: str) -> float:
    """The value, which must be a number from 0 to 1. Raises InvalidRequest that names the place."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"{place} must be a number, not {_kind(value)}", code="invalid_type", param=place)
    if not 0 <= value <= 1:
        raise InvalidRequest(f"{place} must be from 0 to 1", code="invalid_value", param=place)
    return value


def deadline_field(body: Mapping[str, Any]) -> float | None:
    """The seconds that `deadline_ms` allows for the whole answer. Raises InvalidRequest."""
    value = body.get(DEADLINE_FIELD)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = _kind(value)
        raise InvalidRequest(
            f"{DEADLINE_FIELD} must be a number, not {kind}", code="invalid_type", param=DEADLINE_FIELD
        )
    if not 0 < value <= LONGEST_DEADLINE_MS:
        raise InvalidRequest(
            f"{DEADLINE_FIELD} must be above 0 and at most {LONGEST_DEADLINE_MS}, in milliseconds",
            code="invalid_value",
            param=DEADLINE_FIELD,
        )
    return value / 1000


def _kind(value: Any) -> str:
    """What a value is; lists and objects are not written out, as they may be large."""
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else repr(value)
