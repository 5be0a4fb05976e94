"""How many requests may be sent to an engine again: a share of the recent ones, and a few a second.

Retries without a budget turn a small overload into a large one: each failure causes more load. The
rule is Finagle's (twitter.github.io/finagle/guide/Clients.html#retry-budgets), counted exactly over
a window instead of with tokens that expire: in any ten seconds

    retries <= share * requests + minimum * 10
"""

import time
from collections.abc import Callable

from alphatier_server.settings.replicas import PoolSettings

WINDOW_SECONDS = 10


class RetryBudget:
    """Counts requests and retries by the second. Each worker process has its own."""

    def __init__(self, settings: PoolSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._share = settings.retry_share
        self._free = settings.retry_minimum * WINDOW_SECONDS
        self._second = int(clock())
        self._requests = self._retries = 0
        self._requests_by_second = [0] * WINDOW_SECONDS
        self._retries_by_second = [0] * WINDOW_SECONDS

    def earn(self) -> None:
        """A request has come (not a retry)."""
        place = self._place()
        self._requests += 1
        self._requests_by_second[place] += 1

    def may_retry(self) -> bool:
        """Whether one more retry is within the budget; spends it when it is."""
        place = self._place()
        if self._retries + 1 > self._share * self._requests + self._free:
            return False
        self._retries += 1
        self._retries_by_second[place] += 1
        return True

    def _place(self) -> int:
        """That of this second; seconds that the window has left are forgotten."""
        second = int(self._clock())
        if second != self._second:
            for passed in range(max(self._second, second - WINDOW_SECONDS) + 1, second + 1):
                place = passed % WINDOW_SECONDS
                self._requests -= self._requests_by_second[place]
                self._retries -= self._retries_by_second[place]
                self._requests_by_second[place] = self._retries_by_second[place] = 0
            self._second = second
        return second % WINDOW_SECONDS
