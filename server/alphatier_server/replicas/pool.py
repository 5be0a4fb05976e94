"""The replicas that can answer, and the choice among them.

Of the replicas that serve a tier, two are drawn at random and the one with fewer requests in flight is
taken (the power of two choices, Mitzenmacher 2001): nearly as even as the least loaded of all, but
several workers or gateways that each see only their own requests do not all run to the same one. With
affinity, a conversation's turns go to the same replica instead.

What not: whether an engine runs (`engines`), and when one comes or goes (`fleet`); they tell the pool.
"""

import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from alphatier_server.errors import NoEngine
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.affinity import choose, conversation_key
from alphatier_server.replicas.breaker import Breaker
from alphatier_server.replicas.replica import Lease, Replica, Result
from alphatier_server.replicas.retry_budget import RetryBudget
from alphatier_server.settings.replicas import PoolSettings

__all__ = ["RETRY_AFTER_SECONDS", "Lease", "Pool", "Replica", "Result"]

RETRY_AFTER_SECONDS = 5
_BREAKER_LEVELS = {"closed": 0, "half_open": 1, "open": 2}
_SHOWN = tuple(field.name for field in fields(Replica) if field.init)

_Tier = tuple[str, str]


class Pool:
    """All replicas. Engines join and leave it; requests borrow from it. For one event loop, not for threads."""

    def __init__(
        self,
        metrics: Metrics,
        settings: PoolSettings | None = None,
        *,
        most_per_replica: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings or PoolSettings()
        self._most_per_replica = most_per_replica
        """Requests that one replica gets at once, as long as another has room; None: any number."""
        self.retries = RetryBudget(self.settings, clock)
        self._metrics = metrics
        self._clock = clock
        self._chance = chance
        self._affinity = self.settings.affinity == "prefix"
        self._replicas: dict[str, Replica] = {}
        self._candidates: dict[_Tier, list[Replica]] = {}
        self._broken: list[Replica] = []
        self._listeners: list[Callable[[], None]] = []
        self._batch = 0
        self._changed = False

    # --- requests ---------------------------------------------------------------------------------

    def lease(
        self, family: str, tier: str, body: Mapping[str, Any], avoid: Collection[str] = (), weight: int = 1
    ) -> Lease:
        """Borrow a replica that serves the tier, none of those named in `avoid` (they were tried before).

        A batch has the `weight` of its prompts. Raises NoEngine when there is none.
        """
        if self._broken and (probed := self._due_probe(family, tier, avoid)) is not None:
            probe = probed.breaker.probing()
            self._breaker_changed(probed)
            return Lease(self._ended, probed, probed.models[tier], probe, weight)
        candidates = self._candidates.get((family, tier)) or self._find(family, tier)
        if avoid:
            candidates = [replica for replica in candidates if replica.name not in avoid]
        if not candidates:  # more likely it is the requests that are bad than every engine (Envoy's panic threshold)
            candidates = [replica for replica in self._serving(family, tier) if replica.name not in avoid]
        if not candidates:
            raise NoEngine(
                f"No engine that serves {family}:{tier} is up now; it may still be loading. "
                f"Ask again in {RETRY_AFTER_SECONDS} seconds; /health/ready tells when.",
                code="no_engine",
                retry_after=RETRY_AFTER_SECONDS,
            )
        if self._most_per_replica is not None:
            candidates = [r for r in candidates if r.in_flight < self._most_per_replica] or candidates
        replica = self._choose(candidates, f"{family}:{tier}", body)
        return Lease(self._ended, replica, replica.models[tier], 0, weight)

    def _ended(self, replica: Replica, result: Result, probe: int) -> None:
        """A lease was closed: what does its result say about the replica?"""
        breaker = replica.breaker
        if result == "ok":
            # all was well and is: nothing to note
            if (breaker.history or probe) and breaker.succeeded(probe):
                self._breaker_changed(replica)
        elif result == "failed":
            if breaker.failed(self._clock(), probe, may_open=self._replaceable(replica)):
                self._breaker_changed(replica, ejected=True)
        elif probe and breaker.unprobed(self._clock(), probe):
            self._breaker_changed(replica)

    def spare(self, tier: tuple[str, str]) -> int | None:
        """How many more requests the tier's replicas may take; None where that is not bounded, or there is none."""
        most = self._most_per_replica
        candidates = self._candidates.get(tier) or self._find(*tier)
        return sum(max(0, most - replica.in_flight) for replica in candidates) if most and candidates else None

    def likely(self, family: str, tier: str) -> Replica | None:
        """A replica such as the tier's next request will get, affinity aside; None where none serves it."""
        candidates = self._candidates.get((family, tier)) or self._find(family, tier)
        return self._less_busy(candidates) if candidates else None

    def serves(self, family: str, tier: str) -> bool:
        """Whether any replica can answer for the tier."""
        return bool(self._candidates.get((family, tier)) or self._serving(family, tier))

    def ready(self) -> bool:
        """Whether any replica can answer."""
        return any(replica.up and not replica.draining for replica in self._replicas.values())

    @property
    def replicas(self) -> list[Replica]:
        """The replicas, up or not."""
        return list(self._replicas.values())

    def in_flight(self, name: str, model: str | None = None) -> int:
        """Requests that this process has open on the replica, or on one of its models; 0 when it is not known."""
        replica = self._replicas.get(name)
        if replica is None:
            return 0
        return replica.in_flight if model is None else replica.using.get(model, 0)

    def busy(self) -> dict[str, dict[str, int]]:
        """Replica -> the engine's model name -> requests that this process has open; for the parent of workers."""
        return {replica.name: dict(replica.using) for replica in self._replicas.values() if replica.using}

    # --- coming and going -------------------------------------------------------------------------

    def put(self, replica: Replica) -> Replica:
        """Add the replica, or give the one of the same name these values. Returns the one in the pool."""
        known = self._replicas.get(replica.name)
        if known is not None:
            self._change(replica.name, {field: getattr(replica, field) for field in _SHOWN})
            return known
        replica.breaker = Breaker(self.settings)
        replica.gauge = self._metrics.show_replica(replica.name)
        self._replicas[replica.name] = replica
        self.touch()
        return replica

    def set_up(self, name: str, up: bool) -> None:
        """Note that the replica can, or cannot, answer. One that comes back starts with a closed breaker."""
        self._change(name, {"up": up})

    def set_models(self, name: str, models: Mapping[str, str]) -> None:
        """Let the replica serve these tiers, and under these names, from the next request on."""
        self._change(name, {"models": dict(models)})

    def drain(self, name: str) -> None:
        """Give the replica no new requests."""
        self._change(name, {"draining": True})

    def remove(self, name: str) -> None:
        """Forget the replica. Leases on it may still be closed."""
        replica = self._replicas.pop(name, None)
        if replica is not None:
            self._metrics.forget_replica(name)
            self.touch()

    # --- what others see of it --------------------------------------------------------------------

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each change that `snapshot` shows (once for a whole `batch`)."""
        self._listeners.append(callback)

    def touch(self) -> None:
        """Something has changed that who listens must know: a replica, or the families."""
        self._forget_candidates()
        self._changed = True
        if not self._batch:
            self._notify()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Several changes at once: who listens sees all of them or none. No await inside."""
        self._batch += 1
        try:
            yield
        finally:
            self._batch -= 1
            if not self._batch and self._changed:
                self._notify()

    def snapshot(self) -> list[dict[str, Any]]:
        """The replicas as JSON values, without what each process counts by itself. It holds the engines' keys."""
        return [
            {field: getattr(replica, field) for field in _SHOWN}
            | {"models": dict(replica.models), "headers": replica.headers.decode("latin-1")}
            for replica in self._replicas.values()
        ]

    def restore(self, snapshot: Sequence[Mapping[str, Any]]) -> None:
        """Become what `snapshot` shows; requests in flight and breakers stay, by the replicas' names."""
        with self.batch():
            names = {shown["name"] for shown in snapshot}
            for name in [name for name in self._replicas if name not in names]:
                self.remove(name)
            for shown in snapshot:
                self.put(Replica(**{**shown, "headers": shown["headers"].encode("latin-1")}))

    # --- inside -----------------------------------------------------------------------------------

    def _choose(self, candidates: Sequence[Replica], model: str, body: Mapping[str, Any]) -> Replica:
        if len(candidates) > 1 and self._affinity and (key := conversation_key(model, body)) is not None:
            return choose(key, candidates, self.settings.affinity_overload, self.settings.affinity_slack)
        return self._less_busy(candidates)

    def _less_busy(self, candidates: Sequence[Replica]) -> Replica:
        """Of two drawn at random."""
        if (count := len(candidates)) == 1:
            return candidates[0]
        first = int(self._chance() * count)
        second = int(self._chance() * (count - 1))
        one, other = candidates[first], candidates[second + (second >= first)]
        return one if one.in_flight <= other.in_flight else other

    def _find(self, family: str, tier: str) -> list[Replica]:
        found = [r for r in self._serving(family, tier) if r.breaker.state == "closed"]
        # names that nobody serves are not kept: there may be no end of them
        if found:
            self._candidates[family, tier] = found
        return found

    def _replaceable(self, replica: Replica) -> bool:
        """Whether another replica with a closed breaker serves each of its tiers: the last one is never taken out."""
        others = [o for o in self._replicas.values() if o is not replica and o.breaker.state == "closed"]
        sound = [o for o in others if o.up and not o.draining and o.family == replica.family]
        return all(any(tier in other.models for other in sound) for tier in replica.models)

    def _serving(self, family: str, tier: str) -> list[Replica]:
        return [
            replica
            for replica in self._replicas.values()
            if replica.up and not replica.draining and replica.family == family and tier in replica.models
        ]

    def _due_probe(self, family: str, tier: str, avoid: Collection[str]) -> Replica | None:
        now = self._clock()
        for replica in self._broken:
            due = replica.breaker.state == "open" and replica.breaker.retry_at <= now
            if due and replica.name not in avoid and replica in self._serving(family, tier):
                return replica
        return None

    def _breaker_changed(self, replica: Replica, *, ejected: bool = False) -> None:
        if self._replicas.get(replica.name) is not replica:  # it left the pool while the request ran
            return
        if ejected:
            self._metrics.replica_ejections.labels(replica.name, "breaker").inc()
        self._metrics.replica_breaker_state.labels(replica.name).set(_BREAKER_LEVELS[replica.breaker.state])
        self._forget_candidates()

    def _forget_candidates(self) -> None:
        self._candidates.clear()
        self._broken = [replica for replica in self._replicas.values() if replica.breaker.state != "closed"]

    def _change(self, name: str, values: Mapping[str, Any]) -> None:
        replica = self._replicas.get(name)
        if replica is None or all(getattr(replica, field) == value for field, value in values.items()):
            return
        if values.get("up") and not replica.up:
            replica.breaker.reset()
        for field, value in values.items():
            setattr(replica, field, value)
        self.touch()

    def _notify(self) -> None:
        self._changed = False
        for replica in self._replicas.values():
            self._metrics.replica_up.labels(replica.name).set(replica.up)
            self._metrics.replica_breaker_state.labels(replica.name).set(_BREAKER_LEVELS[replica.breaker.state])
        for callback in self._listeners:
            callback()
