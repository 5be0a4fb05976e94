"""Where limits are counted for several gateways: Redis, one script an admission.

A running call holds a lease that this process renews; leases of a gateway that died end by themselves within
LEASE_SECONDS. Every key in Redis expires. Ends of calls are sent in batches in the background, so that no
answer waits for them, and sent again when Redis was away. The clock is Redis' own.

Nothing is lost on the way, whoever leaves and whenever: a script runs in a task of its own that nobody cancels, and
what nobody has claimed is given back when its answer comes. Where no answer comes, the script may run later than the
end that is sent for it, on another connection: such an end leaves a tombstone, which that script finds.
"""

import asyncio
import functools
import itertools
import logging
import weakref
from collections import deque

from alphatier_server.errors import StoreFailed
from alphatier_server.limits.arithmetic import Call, Outcome
from alphatier_server.limits.redis_commands import FAILURES, End, Lease, RedisCommands
from alphatier_server.limits.store import Reservation, Store

log = logging.getLogger("alphatier")

TIME_LIMIT_SECONDS = 0.25
"""Longest wait for Redis before an admission goes on without it."""
PATIENCE_SECONDS = 1.0
"""Longest wait for one answer of Redis where nobody waits for it."""
LEASE_SECONDS = 60.0
WAITING_ENDS = 100_000
"""Ends of calls kept while Redis is away; older ones are dropped, their leases end by themselves."""
_RETRY_SECONDS = 0.25
_BATCH = 500


class RedisStore(Store):
    """Counts in Redis at `url`; names there begin with `prefix`. Made inside a running event loop or before it."""

    def __init__(
        self,
        url: str,
        prefix: str = "alphatier",
        *,
        lease_seconds: float = LEASE_SECONDS,
        time_limit: float = TIME_LIMIT_SECONDS,
    ) -> None:
        self._lease_seconds = lease_seconds
        self._time_limit = time_limit
        patience = max(PATIENCE_SECONDS, time_limit)
        self._commands = RedisCommands(
            url, prefix, lease_seconds=lease_seconds, connection_seconds=time_limit, patience=patience
        )
        self._taken, self._settled = itertools.count(), itertools.count()
        self._asking: set[asyncio.Task[Outcome]] = set()
        self._running: weakref.WeakSet[Reservation] = weakref.WeakSet()
        """Weak, so that the lease of a reservation that somebody forgets to close ends by itself."""
        self._ended: deque[End] = deque(maxlen=WAITING_ENDS)
        self._sending: asyncio.Task[None] | None = None
        self._one_writer = asyncio.Lock()
        self._renewed = 0.0
        self._closed = False

    async def take(self, call: Call) -> Reservation | Outcome:
        """See Store. May be cancelled at any moment."""
        lease = self._commands.lease(next(self._taken), call)
        asking = asyncio.get_running_loop().create_task(self._ask(lease))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            await asyncio.wait((asking,), timeout=self._time_limit)
            if not asking.done():
                raise StoreFailed(f"no answer within {self._time_limit:g} s")
            outcome = asking.result()
        except BaseException:
            asking.add_done_callback(functools.partial(self._give_back, lease))
            raise
        if outcome.refused is not None:
            return outcome
        reservation = Reservation(self._settle, call, outcome, lease)
        self._running.add(reservation)
        return reservation

    def _settle(self, reservation: Reservation, used: int) -> None:
        """Sent to Redis in the background."""
        self._running.discard(reservation)
        self._end(reservation.tag, used)

    async def upkeep(self) -> None:
        """Renew leases three times in their length."""
        now = asyncio.get_running_loop().time()
        if self._running and now - self._renewed >= self._lease_seconds / 3 and await self._renew_all():
            self._renewed = now

    async def close(self) -> None:
        """See Store."""
        if self._asking:
            await asyncio.wait(self._asking, timeout=PATIENCE_SECONDS)
        if self._sending is not None:
            await asyncio.wait((self._sending,), timeout=PATIENCE_SECONDS)
        self._closed = True
        left = [task for task in (*self._asking, self._sending) if task is not None and not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._commands.close()

    async def _ask(self, lease: Lease) -> Outcome:
        try:
            return await self._commands.take(lease)
        except BaseException as error:  # whether the script has run, or ever will, is not known
            lease.late = True
            self._end(lease, 0)
            if isinstance(error, FAILURES):
                raise StoreFailed(f"{type(error).__name__}: {error}") from error
            raise

    def _give_back(self, lease: Lease, asking: asyncio.Task[Outcome]) -> None:
        """Whoever asked has left. (Where asking failed, the end is sent already.)"""
        if not asking.cancelled() and asking.exception() is None and asking.result().refused is None:
            self._end(lease, 0)

    def _end(self, lease: Lease, used: int) -> None:
        loop = asyncio.get_running_loop()
        self._ended.append(End(lease, used, next(self._settled), loop.time()))
        if not self._closed and (self._sending is None or self._sending.done()):
            self._sending = loop.create_task(self._send())

    async def _send(self) -> None:
        """Send what has ended, in its order, until nothing waits; again after a pause while Redis fails."""
        while self._ended:
            unsent = [self._ended.popleft() for _ in range(min(len(self._ended), _BATCH))]
            try:
                async with self._one_writer:
                    unsent = self._worth_keeping(await self._commands.settle(unsent))
            except FAILURES as error:
                log.debug("ends of requests did not reach Redis: %r", error)
            finally:
                room = WAITING_ENDS - len(self._ended)
                self._ended.extendleft(reversed(unsent[max(0, len(unsent) - room) :]))
            if unsent:
                await asyncio.sleep(_RETRY_SECONDS)

    def _worth_keeping(self, refused: list[End]) -> list[End]:
        """Those whose leases may not have ended by themselves."""
        eldest = asyncio.get_running_loop().time() - self._lease_seconds
        kept = [end for end in refused if end.at > eldest]
        if len(kept) < len(refused):
            log.warning("Redis refuses to book %d requests that have ended", len(refused) - len(kept))
        return kept

    async def _renew_all(self) -> bool:
        async with self._one_writer:
            leases: list[Lease] = [reservation.tag for reservation in self._running]
            sure = [lease for lease in leases if not lease.late]
            for lease in sure:
                lease.late = True
            try:
                await self._commands.renew(leases)
            except FAILURES:
                return False
            for lease in sure:
                lease.late = False
            return True
