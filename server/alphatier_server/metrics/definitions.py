"""The gateway's Prometheus metrics: tokens and latencies by tier.

Names follow Prometheus' conventions (base units, `_total`). Label values come from the families and
from fixed lists, never from a client's text, so the number of series is bounded. server/README.md
describes each metric; a test fails when one is missing there.
"""

from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from alphatier_models import Family
from alphatier_server.metrics.collector import Counters, Gauge, Gauges, Histograms, StoreCollector
from alphatier_server.metrics.store import CAPACITY, Store

TOKEN_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000)
RATIO_BUCKETS = (0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 4)
TOKEN_TIME_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
OVERHEAD_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)

ENDPOINTS = ("chat/completions", "completions", "responses", "messages")

_TIER = ("family", "tier")
_ENDPOINT = ("family", "tier", "endpoint")


class Metrics:
    """All metrics of one gateway process.

    With a `folder`, they are those of all processes that have it, each under a name of its own, whichever of them
    is scraped; a process that follows another under the same name goes on with its counters. There are no exemplars
    of other processes then. `capacity` are the doubles of one process; a series without room is counted, not shown.
    """

    def __init__(self, folder: Path | None = None, process: str = "main", *, capacity: int = CAPACITY) -> None:
        self._store = store = Store(capacity, folder, process)
        new = StoreCollector(store, "alphatier_")
        store.on_full = Counters(new, "metric_series_dropped", "Metric series that had no room.").labels().inc
        self._tokens(new)
        self._latencies(new)
        self._requests(new)
        self._brownouts(new)
        self._alphas(new)
        self._shadow(new)
        self._canaries(new)
        self._replicas(new)
        self.registry = CollectorRegistry()
        """What a scrape shows."""
        self.registry.register(new)

    def forget_process(self, process: str) -> None:
        """The process of that name has died: what it had in flight is no more, what it counted stays."""
        self._store.forget_gauges(process)

    def declare(self, family: Family) -> None:
        """Make the family's series exist at 0, so that a rate over the first request is right."""
        for tier in family.tiers:
            self.in_flight.labels(family.name, tier.name)
            self.saved_tokens.labels(family.name, tier.name)
            for endpoint in ENDPOINTS:
                for counter in (self.prompt_tokens, self.completion_tokens, self.reasoning_tokens):
                    counter.labels(family.name, tier.name, endpoint)

    def show_replica(self, name: str) -> Gauge:
        """Begin the replica's series. Returns the gauge of its requests in flight."""
        for by in ("breaker", "health"):
            self.replica_ejections.labels(name, by)
        self.health_check_failures.labels(name)
        return self.replica_in_flight.labels(name)

    def forget_replica(self, name: str) -> None:
        """End the series of a replica that is gone."""
        gauges = self.replica_up, self.replica_in_flight, self.replica_breaker_state
        counters = self.replica_ejections, self.health_check_failures, self.engine_restarts
        for metric in (*gauges, *counters):
            metric.remove(name)

    def _tokens(self, new: StoreCollector) -> None:
        count, spread = partial(Counters, new), partial(Histograms, new, bounds=TOKEN_BUCKETS)
        self.prompt_tokens = count("prompt_tokens", "Prompt tokens read.", *_ENDPOINT)
        text = "Tokens generated, reasoning and answer together."
        self.completion_tokens = count("completion_tokens", text, *_ENDPOINT)
        text = "Generated tokens spent on reasoning, where the engine told."
        self.reasoning_tokens = count("reasoning_tokens", text, *_ENDPOINT)
        text = "Estimate of tokens saved against the reference tier, from the family's measured mean tokens."
        self.saved_tokens = count("estimated_saved_tokens", text, *_TIER)
        self.request_prompt_tokens = spread("request_prompt_tokens", "Prompt tokens a request.", *_TIER)
        self.request_completion_tokens = spread("request_completion_tokens", "Generated tokens a request.", *_TIER)
        text = "Reasoning tokens a request, where the engine told."
        self.request_reasoning_tokens = spread("request_reasoning_tokens", text, *_TIER)

    def _latencies(self, new: StoreCollector) -> None:
        seconds = partial(Histograms, new, bounds=SECONDS_BUCKETS)
        per_token = partial(Histograms, new, bounds=TOKEN_TIME_BUCKETS)
        text = "From the request's arrival to its last byte."
        self.duration = seconds("request_duration_seconds", text, *_ENDPOINT)
        text = "To the first generated token, streams only."
        self.first_token = seconds("time_to_first_token_seconds", text, *_TIER)
        text = "To the first token of the answer, after the thinking; streams only."
        self.first_answer_token = seconds("time_to_first_answer_token_seconds", text, *_TIER)
        text = "Mean time between the tokens after the first one; streams only."
        self.output_token = per_token("time_per_output_token_seconds", text, *_TIER)
        self.queue = seconds("queue_time_seconds", "Waiting in the engine's queue, where the engine told.", *_TIER)
        text = "The gateway's own time before the request went to the engine."
        self.overhead = Histograms(new, "gateway_overhead_seconds", text, *_TIER, bounds=OVERHEAD_BUCKETS)
        text = "Real over expected seconds of requests with a deadline whose choice was open."
        self.deadline_ratio = Histograms(new, "deadline_duration_ratio", text, *_TIER, bounds=RATIO_BUCKETS)
        text = "Waiting in the gateway's own queue, of requests that were let in."
        self.admission_wait = seconds("admission_wait_seconds", text, *_TIER)

    def _requests(self, new: StoreCollector) -> None:
        count = partial(Counters, new)
        labels = (*_TIER, "decision", "endpoint", "outcome")
        self.requests = count("requests", "Requests by how they ended.", *labels)
        self.decisions = count("decisions", "Tier decisions by rule.", *_TIER, "decision")
        text = (
            "Prompts that are unlike all that the family's router was trained on, so that the default answers `auto`."
        )
        self.auto_unlike = count("auto_unlike", text, "family")
        self.in_flight = Gauges(new, "requests_in_flight", "Requests being answered now.", *_TIER)
        self.errors = count("errors", "Error answers and broken streams by kind.", "kind")
        self.retries = count("retries", "Requests sent to an engine again.", *_TIER)
        self.disconnects = count("client_disconnects", "Clients that left before the end.", *_TIER)
        text = "Whole answers that ended at a limit of tokens."
        self.cut_off = count("cut_off_answers", text, *_TIER)
        self.shed = count("requests_shed", "Requests that the queue shed.", "priority", "reason")
        self.queued = Gauges(new, "queued_requests", "Requests that wait in the gateway's own queue.", "priority")
        self.limits_hit = count("limits_hit", "Requests refused by a limit.", "limit")
        text = "Admissions for which Redis, which counts limits, did not answer."
        self.limit_store_failures = count("limit_store_failures", text).labels()
        self.log_lines_dropped = count("log_lines_dropped", "Log lines that standard error did not take.").labels()

    def _brownouts(self, new: StoreCollector) -> None:
        gauges = partial(Gauges, new, merge="livemax")
        text = "How far open choices slide to terser tiers: from 0, none, to 1."
        self.brownout_level = gauges("brownout_level", text, "family")
        text = "Seconds that an answer takes, by the tokens that are open and those that end."
        self.brownout_seconds = gauges("brownout_seconds", text, "family")
        text = "Turns of the level by a tenth or more."
        self.brownout_reversals = Counters(new, "brownout_reversals", text, "family")

    def _alphas(self, new: StoreCollector) -> None:
        count = partial(Counters, new)
        text = "Requests for alphas that no tier of family.json has, within their keys' limits."
        self.alpha_requests = count("alpha_requests", text, *_TIER)
        self.alpha_fallbacks = count("alpha_fallbacks", "Of these, those that the nearest alpha answered.", *_TIER)
        self.alpha_loads = count("alpha_loads", "Attempts to load such an alpha, by outcome.", *_TIER, "outcome")
        self.alpha_evictions = count("alpha_evictions", "Such alphas that had to go for another.", *_TIER)
        text = "Such alphas that are loaded."
        self.alphas_loaded = Gauges(new, "alphas_loaded", text, "family", merge="mostrecent")
        text = "From the first request for such an alpha to its adapter on all engines."
        self.alpha_load = Histograms(new, "alpha_load_seconds", text, "family", bounds=SECONDS_BUCKETS)

    def _shadow(self, new: StoreCollector) -> None:
        count, pair = partial(Counters, new), (*_TIER, "reference")
        text = "Answers that were held against the reference tier's, by what came of it."
        self.shadow_answers = count("shadow_answers", text, *pair, "outcome")
        text = "Tokens generated for the answers that were compared, of the tier and of the reference tier."
        self.shadow_tokens = count("shadow_tokens", text, *pair, "of")
        text = "Sums of products of these tokens, from which the interval of the saving follows."
        self.shadow_token_products = count("shadow_token_products", text, *pair, "of")
        text = "Answers drawn for a comparison that were not compared, by reason."
        self.shadow_skipped = count("shadow_skipped", text, *_TIER, "reason")
        text = "Prompt and completion tokens that the reference tier used for comparisons."
        self.shadow_spent_tokens = count("shadow_spent_tokens", text, *_TIER)

    def _canaries(self, new: StoreCollector) -> None:
        count, trial = partial(Counters, new), (*_TIER, "version", "side")
        text = "Requests of a tier of which a new version is tried, by what came of them."
        self.canary_requests = count("canary_requests", text, *trial, "outcome")
        text = "Sums over their answers, from which means and their intervals follow."
        self.canary_sums = count("canary_sums", text, *trial, "of")
        text = "Of their answers, those that were held against the reference tier's."
        self.canary_compared = count("canary_compared", text, *trial, "outcome")

    def _replicas(self, new: StoreCollector) -> None:
        count, gauges = partial(Counters, new), partial(Gauges, new)
        self.replica_up = gauges("replica_up", "1 when the replica can answer.", "replica", merge="mostrecent")
        text = "Requests the replica is working on."
        self.replica_in_flight = gauges("replica_requests_in_flight", text, "replica")
        text = "The replica's circuit breaker: 0 closed, 1 half-open, 2 open."
        self.replica_breaker_state = gauges("replica_breaker_state", text, "replica", merge="livemax")
        text = "Times that the replica was taken out, by what found it bad."
        self.replica_ejections = count("replica_ejections", text, "replica", "by")
        self.health_check_failures = count("health_check_failures", "Active health checks that failed.", "replica")
        self.engine_restarts = count("engine_restarts", "Restarts of a managed engine.", "replica")
