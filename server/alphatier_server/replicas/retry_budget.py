"""How many requests may be sent to an engine again: a share of the recent ones, and a few a second.

Retries without a budget turn a small overload into a large one: each failure causes more load. The
rule is Finagle's (twitter.github.io/finagle/guide/Clients.html#retry-budgets), counted exactly over
a window instead of with tokens that expire: in any ten seconds

    retries <= share * requests + minimum * 10
"""

import time
from collections import deque
from collections.abc import Callable

from alphatier_server.settings.replicas import PoolSettings

WINDOW_SECONDS = 10


class RetryBudget:
    """Counts requests and retries by the second. Each worker process has its own."""

    def __init__(self, settings: PoolSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._share = settings.retry_share
        self._free = settings.retry_minimum * WINDOW_SECONDS
        self._seconds = deque([[int(clock()), 0, 0]])
        """Each with its requests and its retries; the last one is now."""

    def earn(self) -> None:
        """A request has come (not a retry)."""
        self._now()[1] += 1

    def may_retry(self) -> bool:
        """Whether one more retry is within the budget; spends it when it is."""
        now = self._now()
        requests = sum(requests for _, requests, _ in self._seconds)
        retries = sum(retries for _, _, retries in self._seconds)
        if retries + 1 > self._share * requests + self._free:
            return False
        now[2] += 1
        return True

    def _now(self) -> list[int]:
        second = int(self._clock())
        if self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
            while self._seconds[0][0] <= second - WINDOW_SECONDS:
                self._seconds.popleft()
        return self._seconds[-1]
