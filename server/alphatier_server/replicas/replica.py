"""One running engine as the gateway sees it, and a request's hold on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from alphatier_server.metrics.collector import Gauge
from alphatier_server.replicas.affinity import hash64
from alphatier_server.replicas.breaker import Breaker
from alphatier_server.replicas.pace import Pace

Result = Literal["ok", "failed", "abandoned"]
"""How a request ended, for the replica: `failed` is the engine's fault; `abandoned` (the client left, or its
request was wrong) says nothing about the engine's health."""


@dataclass(eq=False, slots=True)
class Replica:
    """One running engine: where it is, and under which names it serves which tiers.

    Only the pool changes one. The object stays the same while the engine is in the pool, so that requests
    that began before a change are counted with those that began after it.
    """

    name: str
    url: str
    family: str
    models: Mapping[str, str]
    """Tier name -> the model name that the engine knows. Replaced as a whole, never changed in place."""
    continuous_usage: bool = False
    """Whether the engine can report usage with every chunk (vLLM), so that aborted requests are counted."""
    adds_metrics: bool = False
    """Whether the engine adds its own `metrics` object to answers because the gateway asked it to."""
    by_priority: bool = False
    """Whether the engine schedules by the `priority` that a request tells."""
    writes_json: bool = True
    """Whether its vocabulary holds what a JSON object needs; without it vLLM fails on such a request."""
    headers: bytes = field(default=b"", repr=False)
    """Header lines for every request to it, each with its CR LF: the engine's own key, if it has one."""
    up: bool = False
    """Whether the engine answers, as far as checks and its supervision know."""
    draining: bool = False
    """Whether it gets no new requests and is to go when its last one has ended."""
    in_flight: int = field(default=0, init=False)
    """Requests that it works on; a batch counts as its prompts."""
    using: dict[str, int] = field(default_factory=dict, init=False)
    """The engine's model name -> requests in flight on it; old weights are unloaded when theirs is gone."""
    seed: int = field(default=0, init=False)
    breaker: Breaker = field(init=False, repr=False)
    pace: Pace = field(default_factory=Pace, init=False, repr=False)
    gauge: Gauge = field(init=False, repr=False)
    """Where `in_flight` is written for Prometheus."""

    def __post_init__(self) -> None:
        self.seed = hash64(self.name.encode("utf-8", "replace"))


Ended = Callable[[Replica, Result, int], None]
"""What is told of a lease that was closed: on which replica, how, and the number of the probe."""


class Lease:
    """One request's hold on a replica. `close` once, whatever happened; closing it again does nothing.

    `probe` is its number where it tries a replica whose breaker was open, else 0.
    """

    __slots__ = ("_among", "_began", "_ended", "_model", "_open", "_probe", "_weight", "replica")

    def __init__(self, ended: Ended, replica: Replica, model: str, probe: int, weight: int) -> None:
        self.replica = replica
        self._ended = ended
        self._model = model
        self._probe = probe
        self._open = True
        self._weight = weight
        replica.in_flight += weight
        self._began, self._among = replica.pace.clock(), replica.in_flight
        replica.using[model] = replica.using.get(model, 0) + 1
        replica.gauge.set(replica.in_flight)

    def note(self, first: float | None, tokens: int) -> None:
        """Before it is closed: what the request tells of the replica's pace (`Pace.note`)."""
        if self._open and self._weight == 1:
            self.replica.pace.note(self._began, self._among, first, tokens)

    def close(self, result: Result) -> None:
        """The request has ended for this replica."""
        if not self._open:
            return
        self._open = False
        replica = self.replica
        replica.in_flight -= self._weight
        left = replica.using[self._model] - 1
        if left:
            replica.using[self._model] = left
        else:
            del replica.using[self._model]
        replica.gauge.set(replica.in_flight)
        self._ended(replica, result, self._probe)
