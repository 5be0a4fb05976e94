"""What counts limits, as the rest of the gateway sees it; and the counting for one process: plain objects."""

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from alphatier_server.limits.arithmetic import Account, Call, Outcome, rate_lines


class Admission:
    """A call that was let in; by itself without limits. `close` must be called exactly once, whatever happened."""

    __slots__ = ()

    @property
    def lines(self) -> bytes:
        """`x-ratelimit-*` headers for the answer, each with its CR LF; empty without limits."""
        return b""

    def close(self, tokens: int | None) -> None:
        """The request has ended: free its places, and book the tokens it used.

        0 where nothing was generated (refused by the engine, never sent); None where it is not known how many
        (a client that left an answer before the engine told), which books the estimate, or leaving early would
        be free. Later calls do nothing.
        """


FREE = Admission()


class Reservation(Admission):
    """What one call holds of a key's limits."""

    __slots__ = ("__weakref__", "_open", "_settle", "call", "outcome", "tag")

    def __init__(
        self, settle: Callable[["Reservation", int], None], call: Call, outcome: Outcome, tag: Any = None
    ) -> None:
        """`settle` frees what it holds and books the tokens; it must not wait and must not raise."""
        self._settle = settle
        self._open = True
        self.call = call
        self.outcome = outcome
        self.tag = tag
        """For the store's own use."""

    @property
    def lines(self) -> bytes:
        return rate_lines(self.call.limits, self.outcome)

    def close(self, tokens: int | None) -> None:
        if self._open:
            self._open = False
            self._settle(self, self.call.tokens if tokens is None else tokens)


class Store(ABC):
    """Counts what keys use."""

    @abstractmethod
    async def take(self, call: Call) -> Reservation | Outcome:
        """Let a call in, or return the outcome that names the limit in the way. Raises StoreFailed.

        Await it directly, not as a task: then a cancel has either no effect or leaves nothing taken.
        """

    async def upkeep(self) -> None:  # noqa: B027
        """To be called about once a second while the gateway runs. Does not raise."""

    async def close(self) -> None:  # noqa: B027
        """Send what is not sent yet, within a limit of time, and let go of connections."""


class MemoryStore(Store):
    """Counts for this process alone. `take` never suspends."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: defaultdict[str, Account] = defaultdict(Account)

    async def take(self, call: Call) -> Reservation | Outcome:
        account = self._accounts[call.key]
        outcome = account.take(call, self._clock())
        return outcome if outcome.refused is not None else Reservation(self._settle, call, outcome, account)

    def _settle(self, reservation: Reservation, used: int) -> None:
        account: Account = reservation.tag
        account.settle(reservation.call, used, self._clock())
