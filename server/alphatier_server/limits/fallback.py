"""What happens while Redis does not answer, by the operator's choice.

`local`   each gateway counts by itself, from full buckets: up to (number of gateways) times the limits
`refuse`  requests of limited keys are answered with 503
`allow`   nothing is limited

The first failure is logged once, and so is the return. In between, Redis is tried once a second by one request;
the others do not wait for it.
"""

import logging
import time
from collections.abc import Callable

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
                self._told()
                self._is_down(True, f"Redis does not answer ({error}): {_WORDS[self._on_failure]}")
            else:
                self._is_down(False, "Redis answers again: limits are shared between gateways")
                return answer
        if self._on_failure == "refuse":
            words = "The gateway cannot check the limits of this API key now; ask again shortly."
            raise LimitsUnavailable(words, code="limits_unavailable", retry_after=1)
        if self._on_failure == "allow":
            call = call._replace(limits=UNLIMITED, tokens=0)
        return await self._local.take(call)

    async def upkeep(self) -> None:
        await self._shared.upkeep()

    async def close(self) -> None:
        await self._shared.close()

    def _is_down(self, down: bool, words: str) -> None:
        if down != self._down:
            self._down = down
            log.warning("%s", words)
