"""Where limits are counted, for one process: plain objects. What is taken here is given back exactly once."""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from alphatier_server.limits.arithmetic import Account, Limits, Outcome, rate_headers, rate_lines, settle, take

_UNASKED = Outcome(None, 0.0, 0.0, 0.0, 0)


class Reservation:
    """What one call holds of a key's limits; what the request path knows as an admission."""

    __slots__ = (
        "__weakref__",
        "_open",
        "_store",
        "limits",
        "name",
        "outcome",
        "requests",
        "reservation",
        "streamed",
        "tag",
    )

    def __init__(
        self,
        store: "Ledger",
        name: str,
        limits: Limits,
        streamed: bool,
        reservation: int,
        requests: int = 1,
        outcome: Outcome = _UNASKED,
    ) -> None:
        self._store = store
        self._open = True
        self.name = name
        self.limits = limits
        self.streamed = streamed
        self.reservation = reservation
        """Tokens held."""
        self.requests = requests
        """How many requests the call counts as: the prompts of a batch."""
        self.outcome = outcome
        self.tag: object = None
        """For the store's own use."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The `x-ratelimit-*` headers as they stood when the request was let in."""
        return rate_headers(self.limits, self.outcome)

    @property
    def lines(self) -> bytes:
        """The same as bytes to send."""
        return rate_lines(self.limits, self.outcome)

    def close(self, tokens: int | None) -> None:
        """Give back what is held and book `tokens`; where they are not known, the estimate. Later calls do nothing.

        The estimate is booked for a client that left before the engine told its usage, or leaving early would
        be free. A request for which nothing was generated is closed with 0.
        """
        if self._open:
            self._open = False
            self._store.settle(self, self.reservation if tokens is None else tokens)


class Ledger(Protocol):
    """Takes places back."""

    def settle(self, call: Reservation, used: int) -> None:
        """Free what the call holds and book the tokens. Must not wait and must not raise."""
        ...


class Store(Ledger, Protocol):
    """Counts what keys use. `take` returns a reservation, or the outcome that names the limit in the way."""

    async def take(
        self, name: str, limits: Limits, *, streamed: bool, tokens: int, requests: int = 1
    ) -> Reservation | Outcome:
        """Let a call in that counts as so many requests; `tokens` is an estimate for all of them. Raises StoreFailed.

        Await it directly, not as a task: then a cancel has either no effect or leaves nothing taken.
        """
        ...

    def keep(self, names: Collection[str]) -> None:
        """Forget keys of other names, where that can be done."""
        ...

    async def upkeep(self) -> None:
        """To be called about once a second while the gateway runs. Does not raise."""
        ...

    async def close(self) -> None:
        """Send what is not sent yet, within a limit of time, and let go of connections and files."""
        ...


class StoreFailed(Exception):
    """The store cannot be asked now."""


class MemoryStore:
    """Counts for this process alone. `take` never suspends."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, Account] = {}

    async def take(
        self, name: str, limits: Limits, *, streamed: bool, tokens: int, requests: int = 1
    ) -> Reservation | Outcome:
        """See Store."""
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = Account()
        reservation = limits.reservation(tokens)
        outcome = take(
            limits, account, streamed=streamed, reservation=reservation, requests=requests, now=self._clock()
        )
        if outcome.refused is not None:
            return outcome
        call = Reservation(self, name, limits, streamed, reservation, requests, outcome)
        call.tag = account
        return call

    def settle(self, call: Reservation, used: int) -> None:
        """See Ledger."""
        account = call.tag
        assert isinstance(account, Account)
        settle(
            call.limits,
            account,
            streamed=call.streamed,
            reservation=call.reservation,
            requests=call.requests,
            used=used,
            now=self._clock(),
        )

    def keep(self, names: Collection[str]) -> None:
        """See Store. What still runs for a forgotten key is settled to nobody's account."""
        self._accounts = {name: account for name, account in self._accounts.items() if name in names}

    async def upkeep(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""
