"""A trained router: for a prompt, each tier's chance of being right and its tokens.

    x = (measures - centre) / scale, cut to +-4, then the mean of the known words' vectors
    h = tanh(hidden x + start[numbers in the prompt])
    y = heads h + shift, four for each tier: chance = sigmoid, tokens = exp of the mean's, the median's and the p90's

Chances are calibrated and tokens measured on problems that no part of it was trained on (`figures`). A prompt is
`unlike` the training data where one of its measures lies outside their range, or too few of its words are known: then
nothing is to be expected of it.
"""

import json
from collections.abc import Sequence
from math import exp, expm1, tanh
from operator import mul
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alphatier_models.hashing import text_sha256
from alphatier_models.routing.features import NAMES, features
from alphatier_models.schema import Family

ROUTER_FILE = "router.json"

LARGEST_BYTES = 2 * 1024 * 1024
"""Of the file."""

SAME = 0.1
"""Points of accuracy by which two tiers may differ in worth and be the same."""

FAR = 4.0
"""Standard deviations past which a measure counts no more."""

_LARGEST = 30.0
"""Of logits and logarithms."""

_Rows = tuple[tuple[float, ...], ...]


class RouterError(Exception):
    """A router that cannot be used; the message says why, and what to do."""


class Expectation(NamedTuple):
    """What is to be expected of one tier's answer to one prompt."""

    tier: str
    chance: float
    """Of being right, from 0 to 1."""
    tokens: float
    """Their mean, reasoning and answer together."""
    p50: float
    p90: float
    """Quantiles of the tokens."""
    seconds: float | None = None
    """Until p90 tokens are there, as busy as the engine is; whoever sees the engine fills it in."""

    def document(self) -> dict[str, Any]:
        """For logs and reports, rounded."""
        tokens = {name: round(getattr(self, name), 1) for name in ("tokens", "p50", "p90")}
        seconds = {} if self.seconds is None else {"seconds": round(self.seconds, 4)}
        return {"tier": self.tier, "chance": round(self.chance, 4), **tokens, **seconds}


class Prediction(NamedTuple):
    """What is to be expected of every tier, in the router's order."""

    expectations: tuple[Expectation, ...]
    unlike: str | None
    """The measure in which the prompt is unlike all that was trained on, or `words`; None where it is not."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RoutedTier(_Strict):
    """A tier that was trained for."""

    name: str
    """As it was called then."""
    identity: str
    """Of its weights (`Tier.identity`), the base's for the base: another name does not matter."""


class Operating(_Strict):
    """What choosing at one price gave, on problems that were not trained on."""

    price: float = Field(ge=0)
    """Points of accuracy (hundredths) that a token costs."""
    accuracy: float
    tokens: float


class Router(_Strict):
    """The content of one router.json."""

    schema_version: Literal[1] = 1
    base: str
    """The identity of the family's base."""
    tiers: tuple[RoutedTier, ...] = Field(min_length=2)
    """The most accurate first."""
    measures: tuple[str, ...]
    """Names of the measures (`features.NAMES`), so that a file for others is refused."""
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    """The range of each measure that was trained on, with some room."""
    words: dict[str, tuple[float, ...]]
    least_known: float = Field(ge=0, le=1)
    """Of a prompt's words: with a smaller share of known ones it is unlike what was trained on."""
    hidden: _Rows
    start: _Rows
    """What `hidden` begins with, by how many numbers the prompt has; the last row is for all that have more."""
    heads: _Rows
    """Four rows a tier: chance, mean, median, p90."""
    shift: tuple[float, ...]
    operating: tuple[Operating, ...] = Field(min_length=1)
    """By price, from none to where tokens are all that counts."""
    thorough: Operating
    """The most accurate tier by itself, on the same problems."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    figures: dict[str, Any] = Field(default_factory=dict)

    def fits(self, family: Family) -> dict[str, str]:
        """The family's tier for each that was trained for, by its name then; without those that are there no more."""
        if family.base.identity != self.base:
            return {}
        there = {tier.identity or family.base.identity: tier.name for tier in reversed(family.listed)}
        return {tier.name: there[tier.identity] for tier in self.tiers if tier.identity in there}

    def predict(self, prompt: str) -> Prediction:
        """What to expect of each tier for this prompt. Pure; tests/benchmarks/router.py says how long it takes."""
        measures, words = features(prompt)
        x = [
            max(-FAR, min(FAR, (value - centre) / scale))
            for value, centre, scale in zip(measures, self.centre, self.scale, strict=True)
        ]
        vectors = [self.words[word] for word in words if word in self.words]
        unlike = self._unlike(measures, len(vectors) / max(1, len(words)))
        width = len(self.hidden[0]) - len(x)
        x += [sum(column) / len(vectors) for column in zip(*vectors, strict=True)] if vectors else [0.0] * width
        start = self.start[min(round(expm1(measures[0])), len(self.start) - 1)]
        h = [tanh(sum(map(mul, row, x)) + first) for row, first in zip(self.hidden, start, strict=True)]
        y = [sum(map(mul, row, h)) + shift for row, shift in zip(self.heads, self.shift, strict=True)]
        found = [
            Expectation(tier.name, _chance(y[at]), *map(_positive, (y[at + 1], y[at + 2], max(y[at + 2 : at + 4]))))
            for tier, at in zip(self.tiers, range(0, len(y), 4), strict=True)
        ]
        return Prediction(tuple(found), unlike)

    def _unlike(self, measures: Sequence[float], known: float) -> str | None:
        ranges = zip(NAMES, self.low, measures, self.high, strict=True)
        outside = next((name for name, low, value, high in ranges if not low <= value <= high), None)
        return outside or ("words" if known < self.least_known else None)

    def price_at(self, share: float) -> float:
        """The price whose tokens on the sample were nearest to `share` of the way from the most to the fewest.

        With 38 tokens at no price and 6 at the highest, half of the way are 22 tokens.
        """
        most, fewest = self.operating[0].tokens, self.operating[-1].tokens
        wanted = most + share * (fewest - most)
        return min(self.operating, key=lambda one: abs(one.tokens - wanted)).price

    def price_for(self, *, accuracy_share: float | None = None, tokens: float | None = None) -> float:
        """The price (points of accuracy a token) that reached a target on the sample.

        Either the fewest tokens at `accuracy_share` of the most accurate tier's accuracy or more, or the most
        accuracy at `tokens` on average or fewer. Where none reached it, that which came nearest.
        """
        if accuracy_share is not None:
            wanted = accuracy_share * self.thorough.accuracy
            reached = [one for one in self.operating if one.accuracy >= wanted]
            best = min(reached, key=_tokens) if reached else max(self.operating, key=_accuracy)
        else:
            assert tokens is not None
            reached = [one for one in self.operating if one.tokens <= tokens]
            best = max(reached, key=_accuracy) if reached else min(self.operating, key=_tokens)
        return best.price


def best(expectations: Sequence[Expectation], price: float) -> Expectation:
    """The first with the most points of accuracy less `price` for each token, or so little less that it is the same.

    The first, and not the very best, so that a word more in the prompt does not change the tier for nothing.
    """
    worth = [100 * one.chance - price * one.tokens for one in expectations]
    return expectations[next(at for at, value in enumerate(worth) if value >= max(worth) - SAME)]


def load_router(file: Path, sha256: str | None = None) -> Router:
    """Read router.json, and hold it against its checksum. Raises RouterError."""
    again = "Train it again: alphatier router train"
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RouterError(f"{file} cannot be read ({error}). {again}") from error
    if sha256 is not None and text_sha256(text) != sha256:
        raise RouterError(f"{file} has another checksum than family.json says. {again}")
    try:
        router = Router.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RouterError(f"{file} is no router: {where}: {first['msg']}. {again}") from error
    _require(router, file, again)
    return router


def router_text(router: Router) -> str:
    """The file's content. Raises RouterError where it would be too large."""
    text = json.dumps(router.model_dump(mode="json"), separators=(",", ":"), ensure_ascii=False) + "\n"
    if len(text.encode()) > LARGEST_BYTES:
        raise RouterError(f"The router takes {len(text.encode()):,} bytes, more than {LARGEST_BYTES:,}.")
    return text


def _require(router: Router, file: Path, again: str) -> None:
    """Refuse what `predict` could not compute."""
    measured, width = len(router.measures), len(next(iter(router.words.values()), ()))
    sound = (
        router.measures == NAMES
        and all(len(row) == measured for row in (router.centre, router.scale, router.low, router.high))
        and all(scale > 0 for scale in router.scale)
        and all(len(vector) == width for vector in router.words.values())
        and bool(router.hidden)
        and all(len(row) == measured + width for row in router.hidden)
        and bool(router.start)
        and all(len(row) == len(router.hidden) for row in (*router.start, *router.heads))
        and len(router.heads) == len(router.shift) == 4 * len(router.tiers)
    )
    if not sound:
        raise RouterError(f"{file} was made for other measures of a prompt, or was cut short. {again}")


def _chance(logit: float) -> float:
    return 1 / (1 + exp(-max(-_LARGEST, min(_LARGEST, logit))))


def _positive(logarithm: float) -> float:
    return exp(max(-_LARGEST, min(_LARGEST, logarithm)))


def _tokens(one: Operating) -> float:
    return one.tokens


def _accuracy(one: Operating) -> float:
    return one.accuracy
