"""The API keys of a soak, and how the gateway refuses who has none, or asks too much.

Which request sends which key is `plan`'s matter. A limited key has exactly one limit, so a refusal tells which.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Key:
    """What a client may send for a key. `listed` keys stand in the key file."""

    weight: float
    """How many of a hundred requests send it, about."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """As `alphatier keys new` names them."""
    tiers: tuple[str, ...] | None = None
    """All when None."""
    listed: bool = True
    revoked: bool = False


KEYS: dict[str, Key] = {
    "free": Key(74.4),
    "requests": Key(4, {"requests_per_minute": 300, "requests_burst": 10}),
    "tokens": Key(4, {"tokens_per_minute": 30_000, "tokens_burst": 800}),
    "streams": Key(6, {"concurrent_streams": 2}),
    "places": Key(4, {"concurrent_requests": 2}),
    "narrow": Key(5, tiers=("careful", "toy:terse")),
    "absent": Key(0.8, listed=False),
    "wrong": Key(0.8, listed=False),
    "revoked": Key(1, revoked=True),
}
"""By name. `absent` is no key at all. The limits are such that some requests of a hundred are refused."""

MARK = "sk-at-soak-"
"""Every secret begins with it; nothing else does."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a refusal looks: to clients (by API), and in the request log (`error`)."""

    status: int
    error: str
    code: str
    """OpenAI's APIs."""
    type: str
    """Anthropic's API."""
    words: str
    """In the message, whatever the API."""


def _limit(words: str) -> Refusal:
    return Refusal(429, "rate_limited", "rate_limit_exceeded", "rate_limit_error", words)


REFUSALS = {
    "missing_api_key": Refusal(401, "unauthorized", "missing_api_key", "authentication_error", "No API key"),
    "invalid_api_key": Refusal(401, "unauthorized", "invalid_api_key", "authentication_error", "Incorrect API key"),
    "revoked_api_key": Refusal(401, "unauthorized", "revoked_api_key", "authentication_error", "been revoked"),
    "tier_not_allowed": Refusal(403, "forbidden", "tier_not_allowed", "permission_error", "may not use"),
    "requests_per_minute": _limit("requests a minute"),
    "tokens_per_minute": _limit("tokens a minute"),
    "concurrent_requests": _limit("requests at once"),
    "concurrent_streams": _limit("streams at once"),
}
"""By reason; limits by their own name."""

REFUSED_ERRORS = frozenset(refusal.error for refusal in REFUSALS.values())


def limit_of(name: str | None) -> str | None:
    """The key's one limit; None where it has none."""
    limits = KEYS[name].limits if name in KEYS else {}
    return next((limit for limit in limits if not limit.endswith("_burst")), None)


def secret(name: str) -> str:
    """The key itself."""
    return MARK + name


def header(name: str, *, anthropic: bool) -> str:
    """The header line that carries the key, as the API's clients send it; empty for no key."""
    if name == "absent":
        return ""
    return f"x-api-key: {secret(name)}\r\n" if anthropic else f"authorization: Bearer {secret(name)}\r\n"
