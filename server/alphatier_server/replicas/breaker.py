"""A circuit breaker for one replica: closed, open, half-open.

It opens after several failed requests in a row, or when too many of the last ones failed. While it is
open the replica gets no requests. When its time is up it is half-open: one request goes through as a
probe; if that one succeeds the breaker closes, else it opens for twice as long (Nygard, "Release It!",
2nd edition, chapter 5; the exponential times are those of Envoy's outlier detection).

No I/O and no clock of its own: moments (`time.monotonic` seconds) are given.
"""

from typing import Literal

from alphatier_server.settings.replicas import PoolSettings

State = Literal["closed", "half_open", "open"]


class Breaker:
    """The breaker's memory: the results of the last requests, and how long it has to stay open."""

    __slots__ = ("_backoff", "_failed", "_mask", "_probe", "_seen", "_settings", "history", "retry_at", "state")

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._mask = (1 << settings.breaker_window) - 1
        self._failed = (1 << settings.breaker_failures) - 1
        self._probe = 0
        self.reset()

    def reset(self) -> None:
        """Close it and forget everything: the replica is a new one."""
        self.state: State = "closed"
        self.history = 0
        """The last results while closed, one bit each, the latest lowest; 1 is a failure. 0 means all is well."""
        self.retry_at = 0.0
        """When an open breaker lets a probe through."""
        self._seen = 0
        self._backoff = self._settings.breaker_backoff

    def failed(self, now: float, probe: int = 0, *, may_open: bool = True) -> bool:
        """A request failed (`probe`: its number, if it is one). Returns whether the breaker has opened by it.

        One that may not open (nobody else could answer) still remembers.
        """
        if self.state == "closed":
            self._note(1)
            if not may_open or not self._too_many():
                return False
        elif not self._awaits(probe):  # sent before the breaker opened: says nothing that is not known
            return False
        self.state = "open"
        self.retry_at = now + self._backoff
        self._backoff = min(self._backoff * 2, self._settings.breaker_longest)
        self.history = self._seen = 0
        return True

    def succeeded(self, probe: int = 0) -> bool:
        """A request succeeded (`probe`: its number, if it is one). Returns whether the breaker has closed by it."""
        if self.state == "closed":
            self._note(0)
        elif self._awaits(probe):
            self.reset()
            return True
        return False

    def probing(self) -> int:
        """A probe is sent: its number, from 1. There is no second one until it has ended."""
        self.state = "half_open"
        self._probe += 1
        return self._probe

    def unprobed(self, now: float, probe: int) -> bool:
        """The probe told nothing (its client left): the next request is the probe. Returns whether it was one."""
        if not self._awaits(probe):
            return False
        self.state = "open"
        self.retry_at = now
        return True

    def _awaits(self, probe: int) -> bool:
        return self.state == "half_open" and probe == self._probe

    def _note(self, failure: int) -> None:
        self.history = (self.history << 1 | failure) & self._mask
        self._seen = min(self._seen + 1, self._settings.breaker_window)

    def _too_many(self) -> bool:
        in_a_row = self.history & self._failed == self._failed
        window = self._settings.breaker_window
        return in_a_row or (
            self._seen == window and self.history.bit_count() >= self._settings.breaker_share * window
        )
