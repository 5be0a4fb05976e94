"""What is known of one request, and the one place where it becomes metrics and a log line.

`Recorder.close` is called exactly once for each request, in `finally`: finished, refused, failed,
cancelled or timed out alike.
"""

import logging
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from alphatier_models import Evaluation, Tier
from alphatier_server.decision import Decision
from alphatier_server.metrics import Metrics
from alphatier_server.relay import Observed
from alphatier_server.usage import Usage

Outcome = Literal["ok", "client_error", "engine_error", "unavailable", "timeout", "disconnected", "gateway_error"]

UNKNOWN = "unknown"
"""The label of requests that were refused before a tier was decided."""

request_log = logging.getLogger("alphatier.requests")


@dataclass
class RequestRecord:
    """One request from arrival to end. Times are `time.perf_counter` seconds."""

    request_id: str
    endpoint: str
    arrived: float = field(default_factory=time.perf_counter)
    decision: Decision | None = None
    replica: str | None = None
    streamed: bool = False
    sent_upstream: float | None = None
    first_token: float | None = None
    first_answer_token: float | None = None
    last_token: float | None = None
    queue_seconds: float | None = None
    usage: Usage | None = None
    outcome: Outcome = "gateway_error"
    status: int | None = None
    error_kind: str | None = None

    def mark_sent(self) -> None:
        """The request goes to the engine now."""
        self.sent_upstream = time.perf_counter()

    def observe(self, observed: Observed) -> None:
        """Take over what the relay saw."""
        self.usage = observed.usage
        self.first_token = observed.first_token
        self.first_answer_token = observed.first_answer_token
        self.last_token = observed.last_token
        self.queue_seconds = observed.queue_seconds


class Recorder:
    """Turns requests into metrics and log lines."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def decided(self, record: RequestRecord, decision: Decision) -> None:
        """The tier is known: the request counts as in flight for it."""
        record.decision = decision
        family, tier = _labels(record)
        self._metrics.in_flight.labels(family, tier).inc()
        self._metrics.decisions.labels(family, tier, decision.reason).inc()

    def close(self, record: RequestRecord) -> None:
        """Count the request and write its log line."""
        ended = time.perf_counter()
        family, tier = _labels(record)
        if record.decision is not None:
            self._metrics.in_flight.labels(family, tier).dec()
        reason = record.decision.reason if record.decision else UNKNOWN
        exemplar = {"request_id": record.request_id}
        self._metrics.requests.labels(family, tier, reason, record.endpoint, record.outcome).inc(exemplar=exemplar)
        if record.outcome == "disconnected":
            self._metrics.disconnects.labels(family, tier).inc()
        if record.error_kind is not None:
            self._metrics.errors.labels(record.error_kind).inc()
        self._metrics.duration.labels(family, tier, record.endpoint).observe(ended - record.arrived, exemplar)
        self._observe_tokens(record, family, tier, exemplar)
        self._observe_latencies(record, family, tier, exemplar)
        request_log.info(orjson.dumps(_log_line(record, ended)).decode())

    def _observe_tokens(self, record: RequestRecord, family: str, tier: str, exemplar: dict[str, str]) -> None:
        usage = record.usage
        if usage is None:
            return
        labels = (family, tier, record.endpoint)
        self._metrics.prompt_tokens.labels(*labels).inc(usage.prompt)
        self._metrics.completion_tokens.labels(*labels).inc(usage.completion)
        self._metrics.request_prompt_tokens.labels(family, tier).observe(usage.prompt, exemplar)
        self._metrics.request_completion_tokens.labels(family, tier).observe(usage.completion, exemplar)
        if usage.reasoning is not None:
            self._metrics.reasoning_tokens.labels(*labels).inc(usage.reasoning)
            self._metrics.request_reasoning_tokens.labels(family, tier).observe(usage.reasoning, exemplar)
        if record.decision is not None:
            saved = usage.completion * saved_share(record.decision)
            self._metrics.saved_tokens.labels(family, tier).inc(saved)

    def _observe_latencies(self, record: RequestRecord, family: str, tier: str, exemplar: dict[str, str]) -> None:
        metrics = self._metrics
        for histogram, moment in (
            (metrics.overhead, record.sent_upstream),
            (metrics.first_token, record.first_token),
            (metrics.first_answer_token, record.first_answer_token),
        ):
            if moment is not None:
                histogram.labels(family, tier).observe(moment - record.arrived, exemplar)
        if record.queue_seconds is not None:
            metrics.queue.labels(family, tier).observe(record.queue_seconds, exemplar)
        gap = _seconds_per_token(record)
        if gap is not None:
            metrics.output_token.labels(family, tier).observe(gap, exemplar)


def saved_share(decision: Decision) -> float:
    """Tokens saved for each token generated, from the family's measured means; 0 where it is not known.

    (mean tokens of the reference tier / mean tokens of this tier) - 1, on the first data set measured for both.
    """
    reference = decision.family.tier(decision.family.reference_tier)
    pair = _comparable(decision.tier, reference)
    if pair is None or pair[0].tokens.mean <= 0:
        return 0.0
    return max(0.0, pair[1].tokens.mean / pair[0].tokens.mean - 1.0)


def _comparable(tier: Tier, reference: Tier) -> tuple[Evaluation, Evaluation] | None:
    for mine in tier.evaluations:
        theirs = reference.evaluation(mine.dataset)
        if theirs is not None:
            return mine, theirs
    return None


def _labels(record: RequestRecord) -> tuple[str, str]:
    if record.decision is None:
        return UNKNOWN, UNKNOWN
    return record.decision.family.name, record.decision.tier.name


def _seconds_per_token(record: RequestRecord) -> float | None:
    if record.first_token is None or record.last_token is None or record.usage is None:
        return None
    later_tokens = record.usage.completion - 1
    return (record.last_token - record.first_token) / later_tokens if later_tokens > 0 else None


def _log_line(record: RequestRecord, ended: float) -> dict[str, Any]:
    """One request's figures, without its content: prompts and answers are never logged."""
    family, tier = _labels(record)
    usage = record.usage
    line: dict[str, Any] = {
        "event": "request",
        "request_id": record.request_id,
        "endpoint": record.endpoint,
        "family": family,
        "tier": tier,
        "alpha": record.decision.tier.alpha if record.decision else None,
        "decision": record.decision.reason if record.decision else None,
        "replica": record.replica,
        "stream": record.streamed,
        "outcome": record.outcome,
        "status": record.status,
        "error": record.error_kind,
        "prompt_tokens": usage.prompt if usage else None,
        "completion_tokens": usage.completion if usage else None,
        "reasoning_tokens": usage.reasoning if usage else None,
        "duration_seconds": round(ended - record.arrived, 6),
        "queue_seconds": record.queue_seconds,
    }
    for name, moment in (
        ("overhead_seconds", record.sent_upstream),
        ("time_to_first_token_seconds", record.first_token),
        ("time_to_first_answer_token_seconds", record.first_answer_token),
    ):
        line[name] = None if moment is None else round(moment - record.arrived, 6)
    return line
