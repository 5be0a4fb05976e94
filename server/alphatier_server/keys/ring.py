"""API keys: what the key file says, and who sent a request.

Keys are 256 random bits, stored as their SHA-256. A slow hash (bcrypt, argon2) guards passwords, whose few bits can
be guessed; nobody guesses 256 random bits at any speed, and a slow hash on every request would be an easy way
to keep the gateway busy (NIST SP 800-63B, 5.1.2.2 wants salted, slow hashing only below 112 bits).
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, model_validator

from alphatier_server.errors import KeyFileError, Unauthorized
from alphatier_server.limits.arithmetic import UNLIMITED, Limits, Rate
from alphatier_server.settings.access import KeyLimits
from alphatier_server.settings.overload import PriorityClass

MAX_KEYS = 10_000
KEY_PREFIX = "sk-at-"
NO_LIMITS = KeyLimits()

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Tier = Annotated[str, StringConstraints(pattern=r"^[^\s:*\"\\]+$")]
Pattern = Annotated[str, StringConstraints(pattern=r"^(\*|[^\s:*\"\\]+(:(\*|[^\s:*\"\\]+))?)$")]
_PLAIN = re.compile(r"[\x21-\x7e]+")


class ApiKey(KeyLimits):
    """One entry of the key file. Limits that it leaves open are the operator's defaults."""

    name: Name
    """For logs and `alphatier keys`; no secret."""
    hash: Digest
    """`sha256:` and the hexadecimal SHA-256 of the key."""
    tiers: tuple[Pattern, ...] | None = Field(None, min_length=1)
    """Allowed tiers: `family:tier`, `tier` of any family, `family:*` or `*`; all when left out."""
    default_tier: Tier | None = None
    """The tier for requests that choose none; left out: the first tier that `tiers` names, else the family's."""
    priority: PriorityClass = "normal"
    """Who goes first when the gateway is overloaded."""
    brownout: bool = True
    """Whether its open choices slide to terser tiers while answers take too long."""
    expires: AwareDatetime | None = None
    disabled: bool = False
    admin: bool = False
    """Whether the key may use the admin API."""

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Self:
        if self.default_tier is not None and self.tiers is not None:
            tier = self.default_tier
            if not any(p == tier or p.endswith((f":{tier}", "*")) for p in self.tiers):
                raise ValueError(f"default_tier {tier!r} is none of its tiers ({', '.join(self.tiers)})")
        return self

    def chosen_default(self) -> str | None:
        """The tier for this key's requests that choose none; None for the family's default."""
        if self.default_tier is not None or self.tiers is None:
            return self.default_tier
        named = [pattern.rpartition(":")[2] for pattern in self.tiers]
        return None if "*" in named else named[0]


@dataclass(frozen=True)
class Caller:
    """Who sent a request; one object a key, made when the keys are read. By itself anybody, as without keys."""

    name: str | None = None
    """The key's name in the key file, never the key; None for an open gateway."""
    default_tier: str | None = None
    """The tier for this caller's requests that choose none, instead of the family's default."""
    priority: PriorityClass = "normal"
    """Who goes first when the gateway is overloaded."""
    brownout: bool = True
    """Whether a brownout may change what this caller leaves open."""
    tiers: frozenset[str] | None = None
    limits: Limits = UNLIMITED
    """That very object where there are none."""
    expires: float = float("inf")
    """Seconds since 1970."""
    disabled: bool = False
    admin: bool = False

    def may_use(self, family: str, tier: str) -> bool:
        """Whether the key's `tiers` allow this tier."""
        allowed = self.tiers
        return allowed is None or any(name in allowed for name in (f"{family}:{tier}", tier, f"{family}:*", "*"))


class KeyRing:
    """The keys in force, found by what a request sends."""

    def __init__(self, keys: Sequence[ApiKey], defaults: KeyLimits = NO_LIMITS) -> None:
        self.names = frozenset(key.name for key in keys)
        self._callers = {key.hash: _caller(key, defaults) for key in keys}

    def find(self, authorization: str | None, api_key: str | None, now: float) -> Caller:
        """Whose key these headers carry. `now` is seconds since 1970. Raises Unauthorized."""
        key = _sent_key(authorization, api_key)
        if key is None:
            raise _unauthorized("No API key: send the header Authorization: Bearer YOUR_KEY.", "missing_api_key")
        # What the look-up's timing may tell are bits of the SHA-256 of a guess, which the guesser cannot steer.
        caller = self._callers.get(digest_of(key))
        if caller is None:
            raise _unauthorized("Incorrect API key provided.", "invalid_api_key")
        if caller.disabled:
            raise _unauthorized("This API key has been revoked; ask the operator for another.", "revoked_api_key")
        if now >= caller.expires:
            raise _unauthorized("This API key has expired; ask the operator for another.", "expired_api_key")
        return caller


def digest_of(key: str) -> str:
    """The key as the file holds it.

    >>> digest_of("at-example")[:19]
    'sha256:15b748e12a8e'
    """
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def parse_keys(text: str, place: str) -> list[ApiKey]:
    """The keys of a key file's text; `place` is for messages. Raises KeyFileError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise KeyFileError(f"{place} is not TOML: {error}") from error
    unknown = sorted(document.keys() - {"keys"})
    entries = document.get("keys", [])
    if unknown or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        found = f"{unknown[0]!r}" if unknown else "something else"
        raise KeyFileError(f"{place} holds {found}; it may hold only [[keys]] tables.")
    return [_entry(entry, number, place) for number, entry in enumerate(entries, start=1)]


def environment_keys(text: str, variable: str, *, admin: bool = False) -> list[ApiKey]:
    """The keys of `name:key,name:key`; a bare key is called `VARIABLE-1` and so on. Raises KeyFileError."""
    keys = []
    for number, part in enumerate((part.strip() for part in text.split(",")), start=1):
        name, colon, key = part.rpartition(":")
        if not colon:
            name = f"{variable.lower().replace('_', '-')}-{number}"
        if not _PLAIN.fullmatch(key):
            raise KeyFileError(
                f"{variable}: entry {number} is empty or holds spaces or letters beyond ASCII; "
                "write name:key,name:key or key,key."
            )
        keys.append(_entry({"name": name, "hash": digest_of(key), "admin": admin}, number, variable))
    return keys


def check_keys(keys: Sequence[ApiKey]) -> None:
    """Refuse a name or a key that stands twice, and more than MAX_KEYS of them. Raises KeyFileError."""
    if len(keys) > MAX_KEYS:
        raise KeyFileError(f"There are {len(keys)} keys; {MAX_KEYS} are the most.")
    for what in ("name", "hash"):
        seen: dict[str, ApiKey] = {}
        for key in keys:
            if (other := seen.setdefault(getattr(key, what), key)) is not key:
                raise KeyFileError(f"Two keys have the same {what}: {other.name} and {key.name}; remove one.")


def load_keys(file: Path | None, environment: Mapping[str, str]) -> list[ApiKey]:
    """All keys of the file and of the variables. Raises KeyFileError."""
    keys = [] if file is None else parse_keys(_text(file), str(file))
    for variable, admin in (("ALPHATIER_API_KEYS", False), ("ALPHATIER_ADMIN_KEYS", True)):
        if text := environment.get(variable, "").strip():
            keys += environment_keys(text, variable, admin=admin)
    check_keys(keys)
    return keys


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise KeyFileError(
            f"Cannot read the key file {file}: {reason}. `alphatier keys new NAME --file {file}` makes one."
        ) from error


def _caller(key: ApiKey, defaults: KeyLimits) -> Caller:
    return Caller(
        name=key.name,
        default_tier=key.chosen_default(),
        priority=key.priority,
        brownout=key.brownout,
        tiers=None if key.tiers is None else frozenset(key.tiers),
        limits=_limits(key, defaults),
        expires=float("inf") if key.expires is None else key.expires.timestamp(),
        disabled=key.disabled,
        admin=key.admin,
    )


def _limits(key: KeyLimits, defaults: KeyLimits) -> Limits:
    """The key's limits, with `defaults` for what it leaves open."""
    values = defaults.model_dump(exclude_none=True)
    values |= key.model_dump(include=set(KeyLimits.model_fields), exclude_none=True)
    concurrent = values.get("concurrent_requests"), values.get("concurrent_streams")
    limits = Limits(_rate(values, "requests"), _rate(values, "tokens"), *concurrent)
    return UNLIMITED if limits == UNLIMITED else limits


def _rate(values: Mapping[str, int], unit: str) -> Rate | None:
    per_minute = values.get(f"{unit}_per_minute")
    return None if per_minute is None else Rate(per_minute, values.get(f"{unit}_burst", per_minute))


def _sent_key(authorization: str | None, api_key: str | None) -> str | None:
    """The bearer token, else Anthropic's `x-api-key`."""
    if authorization is not None and authorization[:7].lower() == "bearer ":
        return authorization[7:].strip() or api_key
    return api_key or None


def _unauthorized(message: str, code: str) -> Unauthorized:
    return Unauthorized(message, code=code, headers={"www-authenticate": "Bearer"})


_MEANT = {
    "name": "letters, digits and . _ @ -, at most 64, beginning with a letter or digit",
    "hash": "sha256: and 64 hexadecimal digits in lower case, as `alphatier keys new` writes it",
    "tiers": "family:tier, tier, family:* or *",
    "default_tier": "the name of one tier",
}


def first_fault(error: ValidationError) -> str:
    """What is wrong with an entry, without its values."""
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    said = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "string_pattern_mismatch":
        said = f"must be {_MEANT[str(fault['loc'][0])]}"
    return f"{where}: {said}" if where else said


def _entry(entry: dict[str, Any], number: int, place: str) -> ApiKey:
    try:
        return ApiKey.model_validate(entry)
    except ValidationError as error:
        name = entry.get("name")
        which = f"key {number}" + (f" ({name})" if isinstance(name, str) and len(name) <= 64 else "")
        raise KeyFileError(f"{place}: {which}: {first_fault(error)}") from None
