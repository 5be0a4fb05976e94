"""How fast one replica answers, as this process sees it from its own requests. No I/O.

Each request tells at its end how long its first token took and how long each further one did, beside how many
requests were in flight when it began. Both are lines over that number, to be read off at the present one:

    seconds = intercept + slope x in flight

by least squares, in which an observation weighs less by e for every MEMORY that came after it. What other processes
and gateways have in flight is not seen, but is in the lines, as long as it grows with what this one has.
"""

import math
import time
from collections.abc import Callable

MEMORY = 100
"""Observations."""

FRESH_SECONDS = 10.0
"""After so long without an answer nothing is refused by what earlier ones told: else nobody would ever tell more."""

Z90 = 1.2816
"""Standard deviations above the mean below which nine of ten of a normal distribution are."""

_KEPT = 1 - 1 / MEMORY


class Line:
    """A weighted least-squares line through observations that are forgotten in time."""

    __slots__ = ("_weight", "_x", "_xx", "_xy", "_y", "_yy")

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = self._yy = 0.0

    def note(self, x: float, y: float, weight: float = 1.0) -> None:
        """Another observation."""
        self._weight = self._weight * _KEPT + weight
        self._x = self._x * _KEPT + weight * x
        self._y = self._y * _KEPT + weight * y
        self._xx = self._xx * _KEPT + weight * x * x
        self._xy = self._xy * _KEPT + weight * x * y
        self._yy = self._yy * _KEPT + weight * y * y

    def at(self, x: float) -> float | None:
        """What to expect at x, not below 0; None before there was any observation. It never falls with x."""
        if not self._weight:
            return None
        return max(0.0, self._y / self._weight + (self._slope() or 0.0) * (x - self._x / self._weight))

    def high(self, x: float) -> float | None:
        """What nine of ten stay below at x, as far as they lie evenly around the line; None as `at`."""
        middle = self.at(x)
        if middle is None:
            return None
        weight, slope = self._weight, self._slope() or 0.0
        around = self._yy / weight - (self._y / weight) ** 2
        along = slope * slope * (self._xx / weight - (self._x / weight) ** 2)
        return middle + Z90 * math.sqrt(max(0.0, around - along))

    def start(self) -> float:
        """What to expect at 0, not below 0; 0 too where that cannot be told, all observations lying at one place."""
        return 0.0 if self._slope() is None else self.at(0.0) or 0.0

    def _slope(self) -> float | None:
        if not (weight := self._weight):
            return None
        x, y = self._x / weight, self._y / weight
        spread = self._xx / weight - x * x
        return max(0.0, (self._xy / weight - x * y) / spread) if spread > 1e-6 * (x * x + 1) else None


class Pace:
    """Of one replica. Moments are `time.perf_counter` seconds; all is O(1) a request."""

    __slots__ = ("_first", "_token", "_told", "_whole", "clock")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._told = -math.inf
        self._first, self._token, self._whole = Line(), Line(), Line()
        """The first token and each further one, by requests in flight; answers that were not streamed, by tokens."""

    def note(self, began: float, in_flight: int, first: float | None, tokens: int) -> None:
        """A request ends that began then, as one of so many in flight, and has generated so many tokens, the first
        one at `first` where it was streamed."""
        now = self.clock()
        seconds = now - began
        if tokens <= 0 or seconds <= 0:
            return
        self._told = now
        if first is None:
            self._whole.note(tokens, seconds)
            self._token.note(in_flight, max(0.0, seconds - self._until_first(in_flight)) / tokens, tokens)
            return
        self._first.note(in_flight, first - began)
        if tokens > 1:
            self._token.note(in_flight, (now - first) / (tokens - 1), tokens)

    def is_fresh(self) -> bool:
        """Whether a request has told lately."""
        return self.clock() - self._told < FRESH_SECONDS

    def seconds(self, in_flight: float, tokens: float) -> float | None:
        """From dispatch to so many tokens in nine of ten cases; None before any request has told."""
        each = self._token.high(in_flight)
        return None if each is None else self._until_first(in_flight) + each * max(0.0, tokens - 1)

    def _until_first(self, in_flight: float) -> float:
        """Seconds to the first token; 0 where that cannot be told."""
        first = self._first.at(in_flight)
        return self._whole.start() if first is None else first
