"""Audit of limits over a whole soak: no key had more than it may, as its clients and the request log saw it.

Both are lower bounds of what the gateway let in, so that they never accuse it wrongly: a stream counts from when its
client saw the head until its client last read a piece that was not the end.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.soak.books import Books, Line
from benchmarks.soak.keys import KEYS


@dataclass(frozen=True, slots=True)
class Stores:
    """A Redis that breaks: while it is away the gateway counts by itself, and one that was killed begins anew."""

    redis_kills: int = 0

    @property
    def counting(self) -> int:
        """Stores that count at the same time."""
        return 2

    @property
    def buckets(self) -> int:
        """Full buckets there were in all."""
        return 2 + self.redis_kills


def check_streams(
    books: Books, streams: Mapping[str, Sequence[tuple[float, float]]], stores: Stores | None = None
) -> None:
    """Streams open at once, by key: from, to, in seconds of one clock."""
    for name, key in KEYS.items():
        allowed = key.limits.get("concurrent_streams")
        if allowed is None:
            continue
        books.most_streams[name] = most = most_at_once(streams.get(name, ()))
        if stores is not None:  # a stream that a killed Redis has forgotten may run beside those of the next one
            allowed *= stores.counting + min(1, stores.redis_kills)
        if most > allowed:
            books.complain(f"{most} streams of the key {name!r} were open at once, {allowed} may be")


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """How many spans overlap at most; one that ends when another begins does not overlap it.

    >>> most_at_once([(0, 2), (1, 3), (2, 4)])
    2
    """
    steps = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    most = current = 0
    for _, step in steps:
        current += step
        most = max(most, current)
    return most


def check_rates(books: Books, lines: Sequence[Line], seconds: float, stores: Stores | None = None) -> None:
    """Requests and tokens that got through to engines, against a full bucket and what flows in within `seconds`."""
    for name, key in KEYS.items():
        for unit in ("requests", "tokens"):
            rate = key.limits.get(f"{unit}_per_minute")
            if rate is None:
                continue
            sent = [line for line in lines if line["key"] == name and line["replica"] is not None]
            used = sum((line["prompt_tokens"] or 0) + (line["completion_tokens"] or 0) for line in sent)
            used = sum(line.get("prompts", 1) for line in sent) if unit == "requests" else used
            full, counting = (1, 1) if stores is None else (stores.buckets, stores.counting)
            allowed = full * key.limits[f"{unit}_burst"] + counting * rate * seconds / 60
            if used > allowed + 1:
                books.complain(f"{used} {unit} of the key {name!r} got through, {allowed:.0f} may")
