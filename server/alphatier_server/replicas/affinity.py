"""Which replica a conversation belongs to, so that the engine finds its prefix in its cache.

The key is what stays the same over a conversation's turns: the client's own `session_id`,
`prompt_cache_key` or `user` if the body has one, else everything up to and including the first user
message (for plain completions the beginning of the prompt). The tier is part of the key, as
vLLM caches prefixes by adapter.

Replicas are ranked for each key by rendezvous hashing (Thaler and Ravishankar, 1998): when one goes,
only its keys move; when one comes, it takes an equal share from each. A replica that is overloaded is
passed over for the next in the ranking, as in consistent hashing with bounded loads (Mirrokni,
Thorup and Zadimoghaddam, 2016). Pure: no state, and the same on every worker and gateway.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

_FIELDS = ("session_id", "prompt_cache_key", "user")
_CHARACTERS = 2048
_MEMBERS = 64
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


class Ranked(Protocol):
    """What is ranked: its hash and its load."""

    seed: int
    in_flight: int


Candidate = TypeVar("Candidate", bound=Ranked)


def conversation_key(model: str, body: Mapping[str, Any]) -> int | None:
    """64 bits that stay the same over the conversation's turns; None when the body has nothing to go by."""
    beginning = "\0".join(_beginning(body))
    return hash64(f"{model}\0{beginning}".encode("utf-8", "backslashreplace")) if beginning else None


def _beginning(body: Mapping[str, Any]) -> Iterable[str]:
    for field in _FIELDS:
        if value := body.get(field):
            return [field, *_pieces(value)]
    turns = body.get("messages", body.get("input", body.get("prompt")))
    if isinstance(turns, list):
        turns = _first_turn(turns)
    system = body.get("system", body.get("instructions"))
    return [*_pieces(system), *_pieces(turns)]


def _first_turn(messages: list[Any]) -> list[Any]:
    for index, message in enumerate(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return messages[: index + 1]
    return messages


def _pieces(value: Any, depth: int = 6) -> Iterator[str]:
    """The texts of a JSON value, each cut short: an image in a message is not worth hashing whole."""
    if isinstance(value, str):
        yield value[:_CHARACTERS]
    elif isinstance(value, dict | list) and depth:
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for name, member in islice(members, _MEMBERS):
            yield str(name)
            yield from _pieces(member, depth - 1)
    elif value is not None and not isinstance(value, dict | list):
        yield repr(value)


def hash64(data: bytes) -> int:
    """64 well mixed bits of `data`, the same in every process."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def choose(key: int, candidates: Sequence[Candidate], overload: float, slack: int) -> Candidate:
    """The first in the key's ranking that is not overloaded; with one more request, one always is not."""
    best = max(candidates, key=lambda candidate: _rank(key, candidate.seed))
    if best.in_flight < slack:
        return best
    total = sum(candidate.in_flight for candidate in candidates) + 1
    bound = max(slack, overload * total / len(candidates))
    if best.in_flight < bound:
        return best
    ranking = sorted(candidates, key=lambda candidate: _rank(key, candidate.seed), reverse=True)
    return next(candidate for candidate in ranking if candidate.in_flight < bound)


def _rank(key: int, seed: int) -> int:
    """The finaliser of splitmix64 over both hashes."""
    mixed = ((key ^ seed) * _GOLDEN) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)
