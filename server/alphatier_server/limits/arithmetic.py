"""What a key may use a minute and at once: the arithmetic. Pure: no clock, no I/O, no store.

Rates are the generic cell rate algorithm (GCRA, "virtual scheduling" in ITU-T I.371, annex A): a token bucket
that is stored as one number, the moment at which it will be full again. One number is what makes the
stores simple (a shared record, a Redis hash): there is no refill to run, and nothing to lock but a read and
a write. A bucket holds `burst` units and gains `per_minute` units a minute, so no window of w seconds sees more
than burst + per_minute * w / 60 units.

Tokens are reserved at admission and booked at the end, when the engine has told what was used: a reservation
holds tokens back without taking them out of the bucket, so settling for less gives back exactly what was held
and never more. A request that used more than its estimate is booked in full, and later ones wait for it.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

LimitName = Literal["requests_per_minute", "tokens_per_minute", "concurrent_requests", "concurrent_streams"]

CONCURRENCY_WAIT_SECONDS = 1.0
"""When to ask again after a refusal for concurrency: nobody knows when a running request will end."""
SLACK = 1e-3
"""Units by which a bucket may be short, so that rounding of its one number never refuses the last unit."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_minute` units a minute, up to `burst` of them at once. Times are seconds of any one clock."""

    per_minute: int
    burst: int
    interval: float = field(init=False)
    """Seconds in which one unit comes back."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", 60.0 / self.per_minute)

    def left(self, behind: float) -> float:
        """Units in a bucket that will be full in `behind` seconds; negative when it is overdrawn."""
        return self.burst - behind / self.interval


@dataclass(frozen=True, slots=True)
class Limits:
    """One key's limits; None where there is none."""

    requests: Rate | None = None
    tokens: Rate | None = None
    concurrent_requests: int | None = None
    concurrent_streams: int | None = None

    def call(self, key: str, *, streamed: bool, tokens: int, requests: int = 1) -> "Call":
        """One call with this key, estimated at `tokens`.

        It holds one token at least, so that an overdrawn bucket refuses; at most what a full bucket holds, so that a
        large request is let in when nothing else is running, and its excess delays what follows.
        """
        held = 0 if self.tokens is None else max(1, min(tokens, self.tokens.burst))
        return Call(key, self, streamed, held, requests)

    def most_requests(self) -> int | None:
        """The largest number of requests that one call may ever count as; None where any may."""
        capacities = [self.concurrent_requests, None if self.requests is None else self.requests.burst]
        return min((capacity for capacity in capacities if capacity is not None), default=None)


UNLIMITED = Limits()


class Call(NamedTuple):
    """What one call asks of its key's limits."""

    key: str
    """The key's name."""
    limits: Limits
    streamed: bool
    tokens: int
    """Held while it runs."""
    requests: int
    """As how many it counts: the prompts of a batch."""


class Outcome(NamedTuple):
    """The answer to a request for a place, and how full the buckets are after it."""

    refused: LimitName | None
    wait: float
    """Seconds until it is worth asking again; 0 when let in."""
    requests_behind: float
    """Seconds until the bucket of requests is full."""
    tokens_behind: float
    reserved: int
    """Tokens held for running requests, this one among them."""


@dataclass(slots=True)
class Account:
    """What a key has used. Moments are seconds of the store's clock; the state of a new key is all zero."""

    requests_full_at: float = 0.0
    tokens_full_at: float = 0.0
    in_flight: int = 0
    streams: int = 0
    reserved: int = 0

    def take(self, call: Call, now: float) -> Outcome:
        """Let a call in, or say which limit forbids it; a refusal changes nothing.

        >>> account, call = Account(), Limits(requests=Rate(60, burst=1)).call("alice", streamed=False, tokens=9)
        >>> account.take(call, 100.0).refused
        >>> account.take(call, 100.5)[:2]
        ('requests_per_minute', 0.5)
        """
        requests_full_at, tokens_full_at = self.requests_full_at, self.tokens_full_at
        requests_behind = requests_full_at - now if requests_full_at > now else 0.0
        tokens_behind = tokens_full_at - now if tokens_full_at > now else 0.0
        refused, wait = self._obstacle(call, requests_behind, tokens_behind)
        if refused is None:
            if (rate := call.limits.requests) is not None:
                requests_behind += call.requests * rate.interval
                self.requests_full_at = now + requests_behind
            self.in_flight += call.requests
            self.streams += call.streamed
            self.reserved += call.tokens
        return Outcome(refused, wait, requests_behind, tokens_behind, self.reserved)

    def settle(self, call: Call, used: int, now: float) -> None:
        """Give the places of a call back and book the tokens it used."""
        self.in_flight -= call.requests
        self.streams -= call.streamed
        self.reserved -= call.tokens
        if call.limits.tokens is not None and used > 0:
            self.tokens_full_at = max(self.tokens_full_at, now) + used * call.limits.tokens.interval

    def _obstacle(self, call: Call, requests_behind: float, tokens_behind: float) -> tuple[LimitName | None, float]:
        """The limit that forbids the call, and after how many seconds that may be over."""
        _, limits, streamed, held, requests = call
        if limits.concurrent_requests is not None and self.in_flight + requests > limits.concurrent_requests:
            return "concurrent_requests", CONCURRENCY_WAIT_SECONDS
        if streamed and limits.concurrent_streams is not None and self.streams >= limits.concurrent_streams:
            return "concurrent_streams", CONCURRENCY_WAIT_SECONDS
        rate = limits.requests
        if rate is not None and (missing := requests - rate.left(requests_behind)) > SLACK:
            return "requests_per_minute", missing * rate.interval
        rate = limits.tokens
        if rate is not None and (missing := held + self.reserved - rate.left(tokens_behind)) > SLACK:
            return "tokens_per_minute", missing * rate.interval
        return None, 0.0


def rate_headers(limits: Limits, outcome: Outcome) -> dict[str, str]:
    """The `x-ratelimit-*` headers as OpenAI's API sends them (its guide "Rate limits", "Rate limits in headers")."""
    pairs = (line.partition(": ") for line in rate_lines(limits, outcome).decode("ascii").splitlines())
    return {name: value for name, _, value in pairs}


def rate_lines(limits: Limits, outcome: Outcome) -> bytes:
    """The same as header lines, each with its CR LF."""
    lines, requests, tokens = b"", limits.requests, limits.tokens
    if requests is not None:
        full_in = outcome.requests_behind
        left = int(requests.burst - full_in / requests.interval + SLACK)
        lines = _REQUESTS % (requests.per_minute, left if left > 0 else 0, duration(full_in).encode())
    if tokens is not None:
        full_in = outcome.tokens_behind
        left = int(tokens.burst - full_in / tokens.interval - outcome.reserved + SLACK)
        full_in += outcome.reserved * tokens.interval
        lines += _TOKENS % (tokens.per_minute, left if left > 0 else 0, duration(full_in).encode())
    return lines


_LINES = b"x-ratelimit-limit-UNIT: %d\r\nx-ratelimit-remaining-UNIT: %d\r\nx-ratelimit-reset-UNIT: %b\r\n"
_REQUESTS, _TOKENS = (_LINES.replace(b"UNIT", unit) for unit in (b"requests", b"tokens"))


def duration(seconds: float) -> str:
    """A duration as OpenAI (and Go's time.Duration) writes it, rounded up to milliseconds.

    >>> [duration(s) for s in (0, 0.0204, 1, 7.66, 360, 3600.5)]
    ['0s', '21ms', '1s', '7.66s', '6m0s', '1h0m0.5s']
    """
    milliseconds = math.ceil(seconds * 1000 - 1e-3)  # a rounding error is no millisecond
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds > 0 else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:g}s"
    if minutes < 60:
        return f"{minutes}m{text}" if minutes else text
    return f"{minutes // 60}h{minutes % 60}m{text}"
