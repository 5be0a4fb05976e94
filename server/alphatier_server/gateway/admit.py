"""The second step: who asks, whether they may, and when there is room for it."""

from alphatier_server.dialects.dialect import Dialect
from alphatier_server.dialects.json_object import JsonObject
from alphatier_server.errors import Overloaded
from alphatier_server.gateway.brownout import Part
from alphatier_server.gateway.brownouts import Brownouts
from alphatier_server.gateway.decide import Decision
from alphatier_server.gateway.dial import as_measured
from alphatier_server.gateway.request import Head
from alphatier_server.keys.access import Access
from alphatier_server.keys.ring import Caller
from alphatier_server.limits.estimate import estimate
from alphatier_server.limits.queue import AdmissionQueue
from alphatier_server.limits.store import Admission
from alphatier_server.limits.waiting import CLASSES, Slot
from alphatier_server.metrics.definitions import Metrics


class Admitted:
    """What a request that was let in holds: its place within the key's limits, and from `enter` on its slot."""

    __slots__ = ("_part", "_reservation", "lines", "requests", "slot", "weight")

    def __init__(self, reservation: Admission, requests: int, part: Part | None) -> None:
        self._reservation = reservation
        self._part = part
        self.slot: Slot | None = None
        self.lines = reservation.lines
        """`x-ratelimit-*` headers for the answer, each with its CR LF; empty without limits."""
        self.requests = requests
        """The prompts of a batch."""
        self.weight = requests
        """As many requests it counts for in the queue."""

    def close(self, tokens: int | None, *, whole: bool) -> None:
        """Give both back; `tokens` were used (see Admission), and the answer was `whole`."""
        if self._part is not None:
            self._part.close(whole=whole)
        if self.slot is not None:
            self.slot.close()
        self._reservation.close(tokens)


class Admitter:
    """Lets requests in: by key, by limits, and in turn where more come than the engines can take."""

    def __init__(self, access: Access, queue: AdmissionQueue, brownouts: Brownouts, metrics: Metrics) -> None:
        self._access = access
        self._brownouts = brownouts
        self._queue = queue
        self._metrics = metrics
        self._queued = {priority: metrics.queued.labels(priority) for priority in CLASSES}

    def caller(self, head: Head) -> Caller:
        """Who sends this head; its body need not be there yet. Raises Unauthorized or InvalidRequest."""
        return self._access.caller(*head.credentials())

    async def reserve(
        self, caller: Caller, decision: Decision, body: JsonObject, dialect: Dialect, *, streamed: bool
    ) -> Admitted:
        """Take a place within the caller's limits.

        Raises Forbidden, InvalidRequest (a batch that no limit would ever let in), RateLimited or LimitsUnavailable.
        """
        self._access.allow(caller, decision.family.name, decision.chosen)
        requests, tokens = estimate(len(body.raw), body.values, as_measured(decision.family, decision.tier))
        if not dialect.generates:
            tokens = 0
        reservation = await self._access.admit(caller, streamed=streamed, tokens=tokens, requests=requests)
        part = self._brownouts.begin(decision, caller, requests) if dialect.generates else None
        return Admitted(reservation, requests, part)

    async def enter(self, admitted: Admitted, caller: Caller, decision: Decision) -> None:
        """Take a slot when one is free. Who gets it must choose a replica before awaiting anything else.

        Raises Overloaded.
        """
        tier = decision.family.name, decision.tier.name
        queued = self._queued[caller.priority]
        queued.inc()
        try:
            slot = await self._queue.enter(
                tier=tier, key=caller.name, priority=caller.priority, requests=admitted.requests
            )
        except Overloaded as error:
            self._metrics.shed.labels(error.priority, error.shed).inc()
            raise
        finally:
            queued.dec()
        self._metrics.admission_wait.labels(*tier).observe(slot.waited)
        admitted.slot, admitted.weight = slot, slot.weight
