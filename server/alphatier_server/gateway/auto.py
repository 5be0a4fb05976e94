"""`auto` where the family has a router: what is expected of each tier for the prompt, the best at the price. Pure.

A conversation is chosen for by its beginning, up to and including the first user message, which is what `affinity`
knows it by: so its later turns, a bare "yes, go on" too, get the tier of its first one, in every process.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from alphatier_models import Family
from alphatier_models.routing import Expectation, Router
from alphatier_models.routing.router import best
from alphatier_server.settings.auto import AutoSettings


class Routing(NamedTuple):
    """A family's router, and what the operator wants of it."""

    router: Router
    tiers: Mapping[str, str]
    """The family's tier for each of the router's."""
    price: float
    """Points of accuracy a token."""


class Explanation(NamedTuple):
    """Why `auto` chose a tier."""

    candidates: tuple[Expectation, ...]
    """What was expected of the tiers that were to choose from."""
    price: float
    """Points of accuracy a token."""
    unlike: str | None
    """In what the prompt is unlike all that the router was trained on, so that the default tier answers."""
    otherwise: str
    """The tier without the router."""
    expected: Expectation | None
    """Of the tier that was chosen; None where nothing is to be expected."""

    @property
    def lines(self) -> bytes:
        """Header lines, each with its CR LF."""
        told = f"x-alphatier-otherwise: {self.otherwise}\r\n"
        if self.unlike is not None:
            told += f"x-alphatier-unlike: {self.unlike}\r\n"
        elif (one := self.expected) is not None:
            values = f"chance={one.chance:.3f}, tokens={one.tokens:.0f}, p50={one.p50:.0f}, p90={one.p90:.0f}"
            told += f"x-alphatier-expected: {values}\r\n"
        return told.encode("latin-1")

    def document(self) -> dict[str, Any]:
        """For the log."""
        return {
            "rule": "default" if self.unlike is not None else "price",
            "price": self.price,
            "unlike": self.unlike,
            "otherwise": self.otherwise,
            "candidates": [one.document() for one in self.candidates],
        }


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


def route(
    routing: Routing, body: Mapping[str, Any], allowed: Callable[[str], bool], default: str, otherwise: str
) -> tuple[str, Explanation] | None:
    """The tier for this body, and why; None where the caller may use none of the router's tiers."""
    text, unlike = first_text(body)
    found = routing.router.predict(text)
    unlike = unlike or found.unlike
    named = [one._replace(tier=routing.tiers[one.tier]) for one in found.expectations if one.tier in routing.tiers]
    candidates = tuple(one for one in named if allowed(one.tier))
    if unlike is not None:
        return default, Explanation(candidates, routing.price, unlike, otherwise, None)
    if not candidates:
        return None
    chosen = best(candidates, routing.price)
    return chosen.tier, Explanation(candidates, routing.price, None, otherwise, chosen)


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
