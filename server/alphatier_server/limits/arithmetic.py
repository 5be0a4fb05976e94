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
_ROUNDING = 1e-3
"""Of a millisecond."""


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

    def spent(self, full_at: float, now: float, units: float) -> float:
        """When the bucket will be full again after taking `units` out of it."""
        return (full_at if full_at > now else now) + units * self.interval


@dataclass(frozen=True, slots=True)
class Limits:
    """One key's limits; None where there is none."""

    requests: Rate | None = None
    tokens: Rate | None = None
    concurrent_requests: int | None = None
    concurrent_streams: int | None = None

    def __bool__(self) -> bool:
        return self != UNLIMITED

    def reservation(self, tokens: int) -> int:
        """The tokens to hold for a request that is estimated at `tokens`.

        At least one, so that an overdrawn bucket refuses; at most what a full bucket holds, so that a large
        request is let in when nothing else is running, and its excess delays what follows.
        """
        return 0 if self.tokens is None else max(1, min(tokens, self.tokens.burst))

    def most_requests(self) -> int | None:
        """The largest number of requests that one call may ever count as; None where any may."""
        capacities = [self.concurrent_requests, None if self.requests is None else self.requests.burst]
        return min((capacity for capacity in capacities if capacity is not None), default=None)


UNLIMITED = Limits()


class Account:
    """What a key has used. Moments are seconds of the store's clock; the state of a new key is all zero."""

    __slots__ = ("in_flight", "requests_full_at", "reserved", "streams", "tokens_full_at")

    def __init__(
        self,
        requests_full_at: float = 0.0,
        tokens_full_at: float = 0.0,
        in_flight: int = 0,
        streams: int = 0,
        reserved: int = 0,
    ) -> None:
        self.requests_full_at = requests_full_at
        self.tokens_full_at = tokens_full_at
        self.in_flight = in_flight
        self.streams = streams
        self.reserved = reserved


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


def take(
    limits: Limits, account: Account, *, streamed: bool, reservation: int, now: float, requests: int = 1
) -> Outcome:
    """Let a call in that counts as `requests`, or say which limit forbids it; a refusal changes nothing.

    >>> account, limits = Account(), Limits(requests=Rate(per_minute=60, burst=1))
    >>> take(limits, account, streamed=False, reservation=0, now=100.0).refused
    >>> take(limits, account, streamed=False, reservation=0, now=100.5)[:2]
    ('requests_per_minute', 0.5)
    """
    rate = limits.requests
    requests_full_at = account.requests_full_at
    requests_behind = requests_full_at - now if requests_full_at > now else 0.0
    tokens_behind = account.tokens_full_at - now if account.tokens_full_at > now else 0.0
    refused: LimitName | None = None
    wait = 0.0
    if limits.concurrent_requests is not None and account.in_flight + requests > limits.concurrent_requests:
        refused, wait = "concurrent_requests", CONCURRENCY_WAIT_SECONDS
    elif streamed and limits.concurrent_streams is not None and account.streams >= limits.concurrent_streams:
        refused, wait = "concurrent_streams", CONCURRENCY_WAIT_SECONDS
    elif rate is not None and (missing := requests - rate.burst + requests_behind / rate.interval) > SLACK:
        refused, wait = "requests_per_minute", missing * rate.interval
    elif limits.tokens is not None:
        missing = reservation + account.reserved - limits.tokens.left(tokens_behind)
        if missing > SLACK:
            refused, wait = "tokens_per_minute", missing * limits.tokens.interval
    if refused is not None:
        return Outcome(refused, wait, requests_behind, tokens_behind, account.reserved)
    if rate is not None:
        requests_behind += requests * rate.interval
        account.requests_full_at = now + requests_behind
    account.in_flight += requests
    account.streams += streamed
    account.reserved += reservation
    return Outcome(None, 0.0, requests_behind, tokens_behind, account.reserved)


def settle(
    limits: Limits,
    account: Account,
    *,
    streamed: bool,
    reservation: int,
    used: int,
    now: float,
    requests: int = 1,
) -> None:
    """Give the places of a call back and book the tokens it used."""
    account.in_flight -= requests
    account.streams -= streamed
    account.reserved -= reservation
    if limits.tokens is not None and used > 0:
        account.tokens_full_at = limits.tokens.spent(account.tokens_full_at, now, used)


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
    milliseconds = math.ceil(seconds * 1000 - _ROUNDING)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds > 0 else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:g}s"
    if minutes < 60:
        return f"{minutes}m{text}" if minutes else text
    return f"{minutes // 60}h{minutes % 60}m{text}"
