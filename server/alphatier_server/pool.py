"""The engines that can answer, and the choice among them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from alphatier_server.decision import Decision
from alphatier_server.errors import NoEngine
from alphatier_server.metrics import Metrics

RETRY_AFTER_SECONDS = 5


@dataclass
class Replica:
    """One running engine: where it is, and under which names it serves which tiers."""

    name: str
    url: str
    family: str
    models: Mapping[str, str]
    """Tier name -> the model name that the engine knows."""
    continuous_usage: bool = False
    """Whether the engine can report usage with every chunk (vLLM), so that aborted requests are counted."""
    adds_metrics: bool = False
    """Whether the engine adds its own `metrics` object to answers because the gateway asked it to."""
    up: bool = False
    in_flight: int = field(default=0, init=False)

    def serves(self, decision: Decision) -> bool:
        """Whether the tier can be asked of this replica now."""
        return self.up and self.family == decision.family.name and decision.tier.name in self.models


class Pool:
    """All replicas. Engines join and leave it; requests borrow from it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._replicas: dict[str, Replica] = {}

    @property
    def replicas(self) -> list[Replica]:
        """The replicas, up or not."""
        return list(self._replicas.values())

    def put(self, replica: Replica) -> None:
        """Add the replica, or replace the one of the same name."""
        self._replicas[replica.name] = replica
        self._metrics.replica_up.labels(replica.name).set(replica.up)
        self._metrics.replica_in_flight.labels(replica.name).set(replica.in_flight)

    def set_up(self, replica: Replica, up: bool) -> None:
        """Note that the replica can, or cannot, answer."""
        replica.up = up
        self._metrics.replica_up.labels(replica.name).set(up)

    def ready(self) -> bool:
        """Whether any replica can answer."""
        return any(replica.up for replica in self._replicas.values())

    @contextmanager
    def pick(self, decision: Decision) -> Iterator[Replica]:
        """Borrow the replica with the fewest requests in flight that serves the tier.

        Raises NoEngine when none is up.
        """
        candidates = [replica for replica in self._replicas.values() if replica.serves(decision)]
        if not candidates:
            raise NoEngine(
                f"No engine that serves {decision.model} is up now; it may still be loading. "
                f"Ask again in {RETRY_AFTER_SECONDS} seconds; /health/ready tells when.",
                code="no_engine",
                retry_after=RETRY_AFTER_SECONDS,
            )
        replica = min(candidates, key=lambda candidate: candidate.in_flight)
        self._count(replica, 1)
        try:
            yield replica
        finally:
            self._count(replica, -1)

    def _count(self, replica: Replica, change: int) -> None:
        replica.in_flight += change
        self._metrics.replica_in_flight.labels(replica.name).set(replica.in_flight)
