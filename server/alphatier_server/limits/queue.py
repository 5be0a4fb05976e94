"""How many requests are in flight, and the queue of those that wait for one of them to end.

Caps hold for the process, for each tier and, where the pool tells how much its replicas may still take, for
replicas; a batch counts as its prompts, but never as more than the smallest cap. A call that finds no room waits, in
a line of bounded length and for a bounded time. Of those that wait the highest class goes first, and within it the
key with the fewest requests in flight: so each key gets its share, and what others leave. When the line is full the
lowest class goes, and within it the newest call of the key that holds most.
"""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable

from alphatier_server.errors import Overloaded, ShedReason
from alphatier_server.limits.waiting import CLASSES, KeyUse, Slot, Tier, WaitingRoom
from alphatier_server.settings.overload import OverloadSettings, PriorityClass

LONGEST_RETRY_SECONDS = 60
MEMORY_SECONDS = 10.0
_WORDS: dict[ShedReason, str] = {
    "queue_full": "its queue is full",
    "displaced": "its queue is full and another request went first",
    "waited": "the request has waited in its queue for as long as it may",
}


class TierUse:
    """What a tier has in flight, and how many of its requests end a second lately; times are in seconds.

    The rate is an average whose weights fall by e every MEMORY_SECONDS; right from the first second on.
    """

    __slots__ = ("_began", "_last", "_sum", "in_flight")

    def __init__(self, now: float) -> None:
        self.in_flight = 0
        self._began = self._last = now
        self._sum = 0.0

    def ended(self, now: float) -> None:
        """One has ended."""
        self._sum = self._sum * math.exp((self._last - now) / MEMORY_SECONDS) + 1.0
        self._last = now

    def per_second(self, now: float) -> float:
        """The rate; 0 before anything has ended."""
        weight = MEMORY_SECONDS * (1.0 - math.exp((self._began - now) / MEMORY_SECONDS))
        return self._sum * math.exp((self._last - now) / MEMORY_SECONDS) / weight if weight > 0 else 0.0


class AdmissionQueue:
    """For one event loop, not for threads.

    `spare` tells how many more requests the replicas of a tier may take, as their leases stand (a lease counts as its
    slot's `weight`); None where that is not bounded, or where there is no replica at all (the pool's own error says
    so better). Who gets a slot must take its lease before it awaits anything else.
    """

    def __init__(
        self,
        settings: OverloadSettings,
        *,
        spare: Callable[[Tier], int | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._spare = spare
        self._clock = clock
        self._most = settings.max_in_flight or math.inf
        self._most_per_tier = settings.max_in_flight_per_tier or math.inf
        self._heaviest = min(self._most, self._most_per_tier, settings.max_in_flight_per_replica or math.inf)
        self._tiers: defaultdict[Tier, TierUse] = defaultdict(lambda: TierUse(clock()))
        self._keys: dict[str | None, KeyUse] = {}
        self._room = WaitingRoom()
        self.on_wait: Callable[[], None] = lambda: None
        """Called whenever a call must wait."""
        self._served = 0
        self._handed = 0
        """Requests of calls that were let in and have not run since: their leases are not taken yet."""
        self.in_flight = 0
        """Requests."""

    def waiting(self, priority: PriorityClass) -> int:
        """How many of the class wait now."""
        return self._room.count(priority)

    def wait(self, tier: Tier, priority: PriorityClass = "normal") -> float:
        """For how many seconds a request would wait, if it came now, as far as can be told."""
        return 0.0 if self._room_at_once(tier, 1) else self._through(tier, priority)

    def has_room(self, tier: Tier) -> bool:
        """Whether `enter` would let a call of one request in now, and nobody waits at all."""
        return not self._room and self._room_for(tier) >= 1

    async def enter(
        self, *, tier: Tier, key: str | None, priority: PriorityClass = "normal", requests: int = 1
    ) -> Slot:
        """Wait for a slot; does not suspend where one is free. Raises Overloaded.

        May be cancelled at any moment, and then holds nothing. Await it directly, not as a task.
        """
        use = self._keys[key] = self._keys.get(key) or KeyUse(key)
        weight = requests if requests <= self._heaviest else int(self._heaviest)
        slot = Slot(tier, use, priority, weight, self._released)
        if self._room_at_once(tier, weight):
            self._let_in(slot)
            return slot
        self._make_room_for(slot)
        self._keys[key] = use  # it may have been forgotten, where another of its requests made room
        slot.since = self._clock()
        slot.future = asyncio.get_running_loop().create_future()
        self._room.join(slot)
        self.on_wait()
        self.wake()
        await self._turn_of(slot)
        return slot

    def wake(self) -> None:
        """Let in who may come in now: a request has ended, a replica came."""
        while self._room and self.in_flight < self._most:
            slot = self._room.first(self._room_for)
            if slot is None:
                return
            self._room.leave(slot)
            if slot.future.done():  # cancelled, and has not run since
                self._forget_idle(slot.use)
                continue
            slot.waited = self._clock() - slot.since
            self._handed += slot.weight
            self._let_in(slot)
            slot.future.set_result(None)

    # --- inside -----------------------------------------------------------------------------------

    def _released(self, slot: Slot) -> None:
        self.in_flight -= slot.weight
        tier = self._tiers[slot.tier]
        tier.in_flight -= slot.weight
        tier.ended(self._clock())
        slot.use.in_flight -= slot.weight
        self._forget_idle(slot.use)
        self.wake()

    async def _turn_of(self, slot: Slot) -> None:
        """Wait until it is let in."""
        timer: asyncio.TimerHandle | None = None
        try:
            if not slot.future.done() and self._settings.max_queue_seconds is not None:
                loop = asyncio.get_running_loop()
                timer = loop.call_later(self._settings.max_queue_seconds, self._shed, slot, "waited")
            await slot.future
        except BaseException:
            self._abandon(slot)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        self._taken_up(slot)

    def _abandon(self, slot: Slot) -> None:
        """Who waited was shed or has gone; perhaps in the very turn of the loop in which it was let in."""
        if self._room.leave(slot):
            self._forget_idle(slot.use)
            self.wake()  # others may have waited with a batch
        elif not slot.future.cancelled() and slot.future.exception() is None:
            self._taken_up(slot)
            slot.close()

    def _taken_up(self, slot: Slot) -> None:
        self._handed -= slot.weight
        if not self._handed and self._room:
            asyncio.get_running_loop().call_soon(self.wake)  # when its lease is taken

    def _let_in(self, slot: Slot) -> None:
        self.in_flight += slot.weight
        self._tiers[slot.tier].in_flight += slot.weight
        slot.use.in_flight += slot.weight
        self._served = slot.use.served = self._served + 1

    def _room_at_once(self, tier: Tier, weight: int) -> bool:
        return self._room_for(tier) >= weight and not (self._room and self._room.ahead(tier, CLASSES[-1]))

    def _room_for(self, tier: Tier) -> float:
        """How many more requests the tier may take now."""
        use = self._tiers[tier]
        room = min(self._most - self.in_flight, self._most_per_tier - use.in_flight)
        if self._spare is None or room <= 0:
            return room
        spare = self._spare(tier)
        if spare is None or (use.in_flight == 0 and spare > self._handed):
            return room  # a batch that is too large for what replicas are up runs alone
        return min(room, spare - self._handed)

    def _make_room_for(self, newcomer: Slot) -> None:
        if self._settings.max_queue is None or len(self._room) < self._settings.max_queue:
            return
        victim = self._room.victim(newcomer.priority, newcomer.use.held) if self._room else None
        if victim is None:
            error = self._overloaded(newcomer, "queue_full")
            self._forget_idle(newcomer.use)
            raise error
        self._shed(victim, "displaced")

    def _shed(self, slot: Slot, reason: ShedReason) -> None:
        error = self._overloaded(slot, reason)
        if self._room.leave(slot):
            self._forget_idle(slot.use)
            if not slot.future.done():
                slot.future.set_exception(error)
            self.wake()

    def _overloaded(self, slot: Slot, reason: ShedReason) -> Overloaded:
        greedy = slot.use.held * len(self._keys) > self.in_flight + self._room.weight
        whose = "; this API key holds more than its share" if greedy else ""
        seconds = self._retry_after(slot)
        return Overloaded(
            f"The gateway is overloaded: {_WORDS[reason]}{whose}. Ask again in {seconds} s.",
            greedy=greedy,
            priority=slot.priority,
            shed=reason,
            retry_after=seconds,
        )

    def _retry_after(self, slot: Slot) -> int:
        return max(1, min(LONGEST_RETRY_SECONDS, math.ceil(self._through(slot.tier, slot.priority))))

    def _through(self, tier: Tier, priority: PriorityClass) -> float:
        """Seconds until those that wait for the tier are through, at the rate at which requests end lately."""
        rate = self._tiers[tier].per_second(self._clock())
        ahead = self._room.ahead(tier, priority) + 1
        return ahead / rate if rate > 0 else (self._settings.max_queue_seconds or 1.0)

    def _forget_idle(self, use: KeyUse) -> None:
        if not use.held and self._keys.get(use.key) is use:
            del self._keys[use.key]
