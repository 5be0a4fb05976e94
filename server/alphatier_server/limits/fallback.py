"""What happens while Redis does not answer, by the operator's choice.

`local`   each gateway counts by itself, from full buckets: up to (number of gateways) times the limits
`refuse`  requests of limited keys are answered with 503
`allow`   nothing is limited

The first failure is logged once, and so is the return. In between, Redis is tried once a second by one request;
the others do not wait for it.
"""

import logging
import time
from collections.abc import Callable, Collection

from alphatier_server.errors import LimitsUnavailable, StoreFailed
from alphatier_server.limits.arithmetic import UNLIMITED, Call, Outcome
from alphatier_server.limits.store import MemoryStore, Reservation, Store
from alphatier_server.settings.access import RedisFailure

log = logging.getLogger("alphatier")

RETRY_SECONDS = 1.0

_WORDS = {
    "local": "each gateway counts limits by itself until it is back",
    "refuse": "requests of limited keys are answered with 503 until it is back",
    "allow": "nothing is limited until it is back",
}


class FallbackStore(Store):
    """Asks `shared`, and does what `on_failure` says when it fails. `told` is called once a failure."""

    def __init__(
        self,
        shared: Store,
        on_failure: RedisFailure,
        told: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        local: Store | None = None,
    ) -> None:
        self._shared = shared
        self._local = local or MemoryStore(clock)
        self._on_failure = on_failure
        self._told = told
        self._clock = clock
        self._down = False
        self._try_at = 0.0

    async def take(self, call: Call) -> Reservation | Outcome:
        """See Store. Raises LimitsUnavailable where failures are to refuse."""
        now = self._clock()
        if not self._down or now >= self._try_at:
            self._try_at = now + RETRY_SECONDS
            try:
                answer = await self._shared.take(call)
            except StoreFailed as error:
                self._fail(error)
            else:
                self._succeed()
                return answer
        if self._on_failure == "refuse":
            words = "The gateway cannot check the limits of this API key now; ask again shortly."
            raise LimitsUnavailable(words, code="limits_unavailable", retry_after=1)
        if self._on_failure == "allow":
            call = call._replace(limits=UNLIMITED, tokens=0)
        return await self._local.take(call)

    def settle(self, reservation: Reservation, used: int) -> None:
        """Reservations know their own store."""
        raise NotImplementedError

    def keep(self, names: Collection[str]) -> None:
        self._shared.keep(names)
        self._local.keep(names)

    async def upkeep(self) -> None:
        await self._shared.upkeep()
        await self._local.upkeep()

    async def close(self) -> None:
        await self._shared.close()
        await self._local.close()

    def _fail(self, error: StoreFailed) -> None:
        self._told()
        if not self._down:
            self._down = True
            log.warning("Redis does not answer (%s): %s", error, _WORDS[self._on_failure])

    def _succeed(self) -> None:
        if self._down:
            self._down = False
            log.warning("Redis answers again: limits are shared between gateways")
