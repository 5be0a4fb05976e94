"""The gateway's Prometheus metrics: tokens and latencies by tier.

Names follow Prometheus' conventions (base units, `_total`). Label values come from the families and
from fixed lists, never from a client's text, so the number of series is bounded. server/README.md
describes each metric; a test fails when one is missing there.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from prometheus_client import CollectorRegistry

from alphatier_models import Family
from alphatier_server.metrics.collector import Counters, Gauge, Gauges, Histograms, StoreCollector
from alphatier_server.metrics.store import CAPACITY, Merge, Store, forget_gauges

TOKEN_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000)
TOKEN_TIME_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
OVERHEAD_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)

ENDPOINTS = ("chat/completions", "completions", "responses", "messages")

_Kind = TypeVar("_Kind", Counters, Gauges, Histograms)
_TIER = ("family", "tier")
_ENDPOINT = ("family", "tier", "endpoint")


class Metrics:
    """All metrics of one gateway process.

    With a `folder`, they are those of all processes that have it, each under a name of its own, whichever of them
    is scraped; a process that follows another under the same name goes on with its counters. There are no exemplars
    of other processes then. `capacity` are the doubles of one process; a series without room is counted, not shown.
    """

    def __init__(self, folder: Path | None = None, process: str = "main", *, capacity: int = CAPACITY) -> None:
        self._folder = folder
        self._store = Store(capacity, folder, process)
        self._metrics: list[Counters | Gauges | Histograms] = []
        words = "alphatier_metric_series_dropped", "Metric series that had no room."
        dropped = Counters(*words, (), self._store, refuse=lambda: None)
        self.series_dropped = dropped.labels()
        self._requests_and_tokens()
        self._latencies()
        self._events()
        self._engines()
        self._metrics.append(dropped)
        self.registry = CollectorRegistry()
        """What a scrape shows."""
        self.registry.register(StoreCollector(self._store, self._metrics))

    def forget_process(self, process: str) -> None:
        """The process of that name has died: what it had in flight is no more, what it counted stays."""
        if self._folder is not None:
            forget_gauges(self._folder, process)

    def declare(self, family: Family) -> None:
        """Make the family's series exist at 0, so that a rate over the first request is right."""
        for tier in family.tiers:
            self.in_flight.labels(family.name, tier.name)
            self.saved_tokens.labels(family.name, tier.name)
            for endpoint in ENDPOINTS:
                for counter in (self.prompt_tokens, self.completion_tokens, self.reasoning_tokens):
                    counter.labels(family.name, tier.name, endpoint)

    def _requests_and_tokens(self) -> None:
        self.requests = self._counter(
            "requests", "Requests by how they ended.", (*_TIER, "decision", "endpoint", "outcome")
        )
        self.decisions = self._counter("decisions", "Tier decisions by rule.", (*_TIER, "decision"))
        self.in_flight = self._gauge("requests_in_flight", "Requests being answered now.", _TIER)
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens read.", _ENDPOINT)
        self.completion_tokens = self._counter(
            "completion_tokens", "Tokens generated, reasoning and answer together.", _ENDPOINT
        )
        self.reasoning_tokens = self._counter(
            "reasoning_tokens", "Generated tokens spent on reasoning, where the engine told.", _ENDPOINT
        )
        self.request_prompt_tokens = self._histogram(
            "request_prompt_tokens", "Prompt tokens a request.", _TIER, TOKEN_BUCKETS
        )
        self.request_completion_tokens = self._histogram(
            "request_completion_tokens", "Generated tokens a request.", _TIER, TOKEN_BUCKETS
        )
        self.request_reasoning_tokens = self._histogram(
            "request_reasoning_tokens", "Reasoning tokens a request, where the engine told.", _TIER, TOKEN_BUCKETS
        )
        self.saved_tokens = self._counter(
            "estimated_saved_tokens",
            "Estimate of tokens saved against the reference tier, from the family's measured mean tokens.",
            _TIER,
        )

    def _latencies(self) -> None:
        self.duration = self._histogram(
            "request_duration_seconds", "From the request's arrival to its last byte.", _ENDPOINT, SECONDS_BUCKETS
        )
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "To the first generated token, streams only.", _TIER, SECONDS_BUCKETS
        )
        self.first_answer_token = self._histogram(
            "time_to_first_answer_token_seconds",
            "To the first token of the answer, after the thinking; streams only.",
            _TIER,
            SECONDS_BUCKETS,
        )
        self.output_token = self._histogram(
            "time_per_output_token_seconds",
            "Mean time between the tokens after the first one; streams only.",
            _TIER,
            TOKEN_TIME_BUCKETS,
        )
        self.queue = self._histogram(
            "queue_time_seconds", "Waiting in the engine's queue, where the engine told.", _TIER, SECONDS_BUCKETS
        )
        self.overhead = self._histogram(
            "gateway_overhead_seconds",
            "The gateway's own time before the request went to the engine.",
            _TIER,
            OVERHEAD_BUCKETS,
        )
        self.admission_wait = self._histogram(
            "admission_wait_seconds",
            "Waiting in the gateway's own queue, of requests that were let in.",
            _TIER,
            SECONDS_BUCKETS,
        )

    def _events(self) -> None:
        self.errors = self._counter("errors", "Error answers and broken streams by kind.", ("kind",))
        self.retries = self._counter("retries", "Requests sent to an engine again.", _TIER)
        self.disconnects = self._counter("client_disconnects", "Clients that left before the end.", _TIER)
        self.shed = self._counter("requests_shed", "Requests that the queue shed.", ("priority", "reason"))
        self.queued = self._gauge("queued_requests", "Requests that wait in the gateway's own queue.", ("priority",))
        self.limits_hit = self._counter("limits_hit", "Requests refused by a limit.", ("limit",))
        self.limit_store_failures = self._counter(
            "limit_store_failures", "Admissions for which Redis, which counts limits, did not answer.", ()
        ).labels()
        self.log_lines_dropped = self._counter(
            "log_lines_dropped", "Log lines that standard error did not take.", ()
        ).labels()

    def _engines(self) -> None:
        self.replica_up = self._gauge("replica_up", "1 when the replica can answer.", ("replica",), "mostrecent")
        self.replica_in_flight = self._gauge(
            "replica_requests_in_flight", "Requests the replica is working on.", ("replica",)
        )
        self.replica_breaker_state = self._gauge(
            "replica_breaker_state",
            "The replica's circuit breaker: 0 closed, 1 half-open, 2 open.",
            ("replica",),
            "livemax",
        )
        self.replica_ejections = self._counter(
            "replica_ejections", "Times that the replica was taken out, by what found it bad.", ("replica", "by")
        )
        self.health_check_failures = self._counter(
            "health_check_failures", "Active health checks that failed.", ("replica",)
        )
        self.engine_restarts = self._counter("engine_restarts", "Restarts of a managed engine.", ("replica",))

    def show_replica(self, name: str, in_flight: Callable[[], float]) -> Gauge | None:
        """Begin the replica's series. Returns the gauge to write `in_flight` to; None when scrapes read it."""
        for by in ("breaker", "health"):
            self.replica_ejections.labels(name, by)
        self.health_check_failures.labels(name)
        gauge = self.replica_in_flight.labels(name)
        if self._folder is not None:  # other processes cannot call a function of this one
            return gauge
        gauge.function = in_flight
        return None

    def forget_replica(self, name: str) -> None:
        """End the series of a replica that is gone."""
        for metric in (
            self.replica_up,
            self.replica_in_flight,
            self.replica_breaker_state,
            self.replica_ejections,
            self.health_check_failures,
            self.engine_restarts,
        ):
            metric.remove_by_labels({"replica": name})

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counters:
        return self._shown(Counters(f"alphatier_{name}", text, labels, self._store, refuse=self.series_dropped.inc))

    def _gauge(self, name: str, text: str, labels: Sequence[str], merge: Merge = "livesum") -> Gauges:
        refuse = self.series_dropped.inc
        return self._shown(Gauges(f"alphatier_{name}", text, labels, self._store, merge=merge, refuse=refuse))

    def _histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Histograms:
        refuse = self.series_dropped.inc
        return self._shown(Histograms(f"alphatier_{name}", text, labels, self._store, buckets, refuse=refuse))

    def _shown(self, metric: _Kind) -> _Kind:
        self._metrics.append(metric)
        return metric
