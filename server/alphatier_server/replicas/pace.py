"""How fast one replica answers, as this process sees it from its own requests. No I/O.

Each request tells at its end how long its first token took and how long each further one did, beside how many
requests were in flight meanwhile, on average. Both are lines over that number, to be read off at the present one:

    seconds = intercept + slope x in flight

by least squares, in which an observation weighs less by e for every MEMORY that came after it. What other processes
and gateways have in flight is not seen, but is in the lines, as long as it grows with what this one has.
"""

import time
from collections.abc import Callable

from alphatier_server.limits.rate import Rate

MEMORY = 100
"""Observations."""

_KEPT = 1 - 1 / MEMORY


class Line:
    """A weighted least-squares line through observations that are forgotten in time."""

    __slots__ = ("_weight", "_x", "_xx", "_xy", "_y")

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def note(self, x: float, y: float) -> None:
        """Another observation."""
        self._weight = self._weight * _KEPT + 1.0
        self._x = self._x * _KEPT + x
        self._y = self._y * _KEPT + y
        self._xx = self._xx * _KEPT + x * x
        self._xy = self._xy * _KEPT + x * y

    def at(self, x: float) -> float | None:
        """What to expect at x, not below 0; None before there was any observation. It never falls with x."""
        if not self._weight:
            return None
        return max(0.0, self._y / self._weight + (self._slope() or 0.0) * (x - self._x / self._weight))

    def start(self) -> float:
        """What to expect at 0, not below 0; 0 too where that cannot be told, all observations lying at one place."""
        return 0.0 if self._slope() is None else self.at(0.0) or 0.0

    def _slope(self) -> float | None:
        if not (weight := self._weight):
            return None
        x, y = self._x / weight, self._y / weight
        spread = self._xx / weight - x * x
        return max(0.0, (self._xy / weight - x * y) / spread) if spread > 1e-6 * (x * x + 1) else None


class Began:
    """The moment at which a request went to the replica, and what it had done until then."""

    __slots__ = ("area", "at", "tokens")

    def __init__(self, at: float, area: float, tokens: float) -> None:
        self.at = at
        self.area = area
        self.tokens = tokens


class Pace:
    """Of one replica. Moments are `time.perf_counter` seconds; all is O(1) a request."""

    __slots__ = ("_area", "_clock", "_first", "_rate", "_since", "_token", "_whole", "tokens_in_flight")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since = clock()
        self._rate = Rate(self._since)
        self._area = 0.0
        """Requests in flight, integrated over time."""
        self._first, self._token, self._whole = Line(), Line(), Line()
        """The first token and each further one, by requests in flight; answers that were not streamed, by tokens."""
        self.tokens_in_flight = 0.0
        """What was expected, when they began, of the answers that have not ended."""

    def begin(self, in_flight: int, tokens: float) -> Began:
        """A request goes to the replica, beside so many others; so many tokens are expected of it."""
        now = self._moved(in_flight)
        self.tokens_in_flight += tokens
        return Began(now, self._area, tokens)

    def end(self, in_flight: int, began: Began) -> None:
        """It has ended, however; it was one of so many."""
        self._moved(in_flight)
        self.tokens_in_flight = max(0.0, self.tokens_in_flight - began.tokens) if in_flight > 1 else 0.0

    def note(self, in_flight: int, began: Began, first: float | None, tokens: int) -> None:
        """What it tells as it ends: so many tokens were generated, the first one at `first` where it was streamed."""
        now = self._moved(in_flight)
        self._rate.note(tokens, now)
        seconds = now - began.at
        if tokens <= 0 or seconds <= 0:
            return
        beside = (self._area - began.area) / seconds
        if first is None:
            self._whole.note(tokens, seconds)
            self._token.note(beside, max(0.0, seconds - self.first_token(beside)) / tokens)
            return
        self._first.note(beside, first - began.at)
        if tokens > 1:
            self._token.note(beside, (now - first) / (tokens - 1))

    def first_token(self, in_flight: float) -> float:
        """Seconds from dispatch to the first token, with so many in flight; 0 where that cannot be told."""
        first = self._first.at(in_flight)
        return self._whole.start() if first is None else first

    def per_token(self, in_flight: float) -> float | None:
        """Seconds for each further token; None before any request has told."""
        return self._token.at(in_flight)

    def seconds(self, in_flight: float, tokens: float) -> float | None:
        """From dispatch to so many tokens; None before any request has told."""
        each = self.per_token(in_flight)
        return None if each is None else self.first_token(in_flight) + each * max(0.0, tokens - 1)

    def tokens_per_second(self) -> float:
        """Generated by requests that have ended lately."""
        return self._rate.per_second(self._clock())

    def _moved(self, in_flight: int) -> float:
        """Time has passed with so many in flight."""
        now = self._clock()
        self._area += in_flight * (now - self._since)
        self._since = now
        return now
