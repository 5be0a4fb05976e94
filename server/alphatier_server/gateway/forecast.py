"""When an answer will be complete: the gateway's own queue, and the pace of a replica as busy as it is."""

from alphatier_server.limits.queue import AdmissionQueue
from alphatier_server.replicas.pool import Pool
from alphatier_server.settings.overload import PriorityClass


class Forecast:
    """For one process, from its own requests."""

    def __init__(self, pool: Pool, queue: AdmissionQueue) -> None:
        self._pool = pool
        self._queue = queue

    def is_sure(self, family: str, tier: str) -> bool:
        """Whether the tier's replica has told lately how fast it is."""
        replica = self._pool.likely(family, tier)
        return replica is not None and replica.pace.is_fresh()

    def seconds(self, family: str, tier: str, tokens: float, priority: PriorityClass) -> float | None:
        """From now to so many tokens of the tier; None where its replica has not told yet how fast it is."""
        replica = self._pool.likely(family, tier)
        if replica is None:
            return None
        answering = replica.pace.seconds(replica.in_flight + 1, tokens)
        return None if answering is None else self._queue.wait((family, tier), priority) + answering
