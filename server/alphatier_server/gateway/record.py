"""What is known of one request, and the one place where it becomes metrics and a log line.

`Recorder.close` is called exactly once for each request, in `finally`: finished, refused, failed,
cancelled or timed out alike.
"""

import logging
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from alphatier_server.dialects.dialect import Observed, Relay
from alphatier_server.dialects.efforts import asked
from alphatier_server.dialects.usage import Usage
from alphatier_server.errors import GatewayError
from alphatier_server.gateway.admit import Admitted
from alphatier_server.gateway.decide import Decision
from alphatier_server.gateway.relay import KeepAlive
from alphatier_server.gateway.request import Request
from alphatier_server.gateway.sample import Sample
from alphatier_server.gateway.tier_metrics import EndpointMetrics, TierMetrics
from alphatier_server.logs import RequestLog
from alphatier_server.metrics.canary import Arm
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Lease, Result

log = logging.getLogger("alphatier")

Outcome = Literal["ok", "client_error", "engine_error", "unavailable", "timeout", "disconnected", "gateway_error"]

_OUTCOMES: dict[int, Outcome] = {503: "unavailable", 504: "timeout"}

UNKNOWN = "unknown"
"""The label of requests that were refused before a tier was decided."""


class RequestRecord:
    """One request from arrival to end: what is known of it, what it holds. Times are `time.perf_counter` seconds."""

    # What most requests never change stands on the class.
    decision: Decision | None = None
    tier_metrics: "TierMetrics | None" = None
    """Where the decided tier is counted."""
    replica: str | None = None
    streamed: bool = False
    decided: float | None = None
    sent_upstream: float | None = None
    first_token: float | None = None
    first_answer_token: float | None = None
    last_token: float | None = None
    queue_seconds: float | None = None
    usage: Usage | None = None
    cut_off: bool = False
    """Whether the answer ended at a limit of tokens."""
    outcome: Outcome = "gateway_error"
    status: int | None = None
    error_kind: str | None = None
    limit: str | None = None
    """The limit that refused the request."""
    key: str | None = None
    """The name of the caller's API key."""
    priority: int | None = None
    """What the engine is told, where it schedules by priority."""
    retries: int = 0
    body: Mapping[str, Any] = MappingProxyType({})
    """The request's body, parsed, once it could be read."""
    prompt: str | None = None
    """The request's body, where the operator wants it logged."""

    keep_alive: KeepAlive | None = None
    relay: Relay | None = None
    lease: Lease | None = None
    result: Result = "abandoned"
    """What the request says about its replica's health."""
    admission: Admitted | None = None
    sample: Sample | None = None
    """What is kept of its answer, where the reference tier is asked too."""

    def __init__(self, endpoint: str, request: Request) -> None:
        self.request_id = request.head.request_id
        self.endpoint = endpoint
        self.arrived = request.arrived
        self.request = request

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
        self.cut_off = observed.cut_off

    def fail(self, error: GatewayError) -> None:
        """The request ends with this error."""
        self.error_kind = error.kind
        self.limit = getattr(error, "limit", None)
        self.outcome = _OUTCOMES.get(error.status, "client_error" if error.status < 500 else "engine_error")
        if error.kind == "gateway_error":
            self.outcome = "gateway_error"

    def release(self) -> None:
        """Give back all that the request holds."""
        if self.keep_alive is not None:
            self.keep_alive.stop()
            self.keep_alive = None  # it knows this record: a circle that only the collector would end
        if self.relay is not None:
            self.observe(self.relay.observed)
        if self.lease is not None:
            if self.usage is not None:
                self.lease.note(self.first_token, self.usage.completion)
            self.lease.close(self.result)
        if self.admission is not None:
            self.admission.close(self._tokens(), whole=self.outcome == "ok")

    def _tokens(self) -> int | None:
        """What the request used; 0 where nothing was generated, None where that is not known."""
        if self.usage is not None:
            return self.usage.prompt + self.usage.completion
        refused = self.outcome in ("client_error", "unavailable", "engine_error") and self.relay is None
        return 0 if refused or self.sent_upstream is None else None


class Recorder:
    """Turns requests into metrics and log lines."""

    def __init__(self, metrics: Metrics, log: RequestLog) -> None:
        self._metrics = metrics
        self._log = log
        self._tiers: dict[tuple[str, str], TierMetrics] = {}

    def decided(self, record: RequestRecord, decision: Decision) -> Decision:
        """The tier is known: the request counts as in flight for it, and for none decided before."""
        if decision is record.decision:
            return decision
        if record.tier_metrics is not None:
            record.tier_metrics.in_flight.dec()
        record.decision = decision
        record.tier_metrics = tier = self._tier(decision.family.name, decision.tier.name)
        tier.in_flight.inc()
        tier.decision(decision.reason).inc()
        if decision.why is not None:
            record.decided = time.perf_counter()
            if decision.why.unlike is not None:
                self._metrics.auto_unlike.labels(decision.family.name).inc()
        return decision

    def close(self, record: RequestRecord) -> None:
        """Give back what the request holds, count it, and write its log line. Raises nothing."""
        try:
            record.release()
        except Exception:  # whatever is wrong with the books, the client gets its answer
            log.exception("what request %s held was not given back", record.request_id)
        try:
            self._count(record)
        except Exception:
            log.exception("request %s was not counted", record.request_id)

    def _count(self, record: RequestRecord) -> None:
        ended = time.perf_counter()
        tier = record.tier_metrics or self._tier(UNKNOWN, UNKNOWN)
        endpoint = tier.endpoint(record.endpoint)
        exemplar = {"request_id": record.request_id}
        reason = UNKNOWN
        if record.decision is not None:
            tier.in_flight.dec()
            reason = record.decision.reason
        endpoint.requests(reason, record.outcome).inc()
        if record.outcome == "disconnected":
            tier.disconnects.inc()
        if record.error_kind is not None:
            self._metrics.errors.labels(record.error_kind).inc()
        if record.limit is not None:
            self._metrics.limits_hit.labels(record.limit).inc()
        endpoint.duration.observe(ended - record.arrived, exemplar)
        if record.usage is not None:
            self._observe_tokens(record, record.usage, tier, endpoint)
        self._observe_latencies(record, tier, exemplar)
        if record.decided is not None and record.outcome in ("ok", "timeout"):
            _observe_prediction(record, tier, ended - record.decided)
        if record.cut_off:
            tier.cut_off.inc()
        if record.decision is not None and record.decision.arm is not None:
            _count_trial(record, record.decision.arm, ended)
        self._log.write(_log_line(record, ended))

    def retried(self, record: RequestRecord) -> None:
        """The request is sent to an engine again."""
        record.retries += 1
        if record.tier_metrics is not None:
            record.tier_metrics.retries.inc()

    def _tier(self, family: str, tier: str) -> "TierMetrics":
        known = self._tiers.get((family, tier))
        if known is None:
            known = self._tiers[family, tier] = TierMetrics(self._metrics, family, tier)
        return known

    @staticmethod
    def _observe_tokens(
        record: RequestRecord, usage: Usage, tier: "TierMetrics", endpoint: "EndpointMetrics"
    ) -> None:
        endpoint.prompt_tokens.inc(usage.prompt)
        endpoint.completion_tokens.inc(usage.completion)
        tier.prompt_tokens.observe(usage.prompt)
        tier.completion_tokens.observe(usage.completion)
        if usage.reasoning is not None:
            endpoint.reasoning_tokens.inc(usage.reasoning)
            tier.reasoning_tokens.observe(usage.reasoning)
        if record.decision is not None:
            tier.saved_tokens.inc(usage.completion * tier.saved_share(record.decision))

    @staticmethod
    def _observe_latencies(record: RequestRecord, tier: "TierMetrics", exemplar: dict[str, str]) -> None:
        if record.sent_upstream is not None:
            tier.overhead.observe(record.sent_upstream - record.arrived)
        if record.first_token is not None:
            tier.first_token.observe(record.first_token - record.arrived, exemplar)
        if record.first_answer_token is not None:
            tier.first_answer_token.observe(record.first_answer_token - record.arrived, exemplar)
        if record.queue_seconds is not None:
            tier.queue.observe(record.queue_seconds)
        gap = _seconds_per_token(record)
        if gap is not None:
            tier.output_token.observe(gap)


def _observe_prediction(record: RequestRecord, tier: TierMetrics, seconds: float) -> None:
    """How long it took since the decision, at least, beside what was expected then."""
    assert record.decision is not None
    why = record.decision.why
    if why is not None and why.expected is not None and why.expected.seconds:
        tier.deadline_ratio.observe(seconds / why.expected.seconds)


def _count_trial(record: RequestRecord, arm: Arm, ended: float) -> None:
    if record.outcome in ("engine_error", "timeout", "gateway_error"):
        arm.failed()
    elif record.outcome == "ok":
        tokens = None if record.usage is None else record.usage.completion
        arm.answered(cut_off=record.cut_off, tokens=tokens, seconds=ended - (record.sent_upstream or record.arrived))


def _seconds_per_token(record: RequestRecord) -> float | None:
    if record.first_token is None or record.last_token is None or record.usage is None:
        return None
    later_tokens = record.usage.completion - 1
    return (record.last_token - record.first_token) / later_tokens if later_tokens > 0 else None


def _log_line(record: RequestRecord, ended: float) -> dict[str, Any]:
    """One request's figures; its content only where the operator asked for it."""
    usage, decision = record.usage, record.decision
    arrived = record.arrived
    line: dict[str, Any] = {
        "event": "request",
        "request_id": record.request_id,
        "endpoint": record.endpoint,
        "asked": asked(record.body) | record.request.head.asked(),
        "family": decision.family.name if decision else UNKNOWN,
        "tier": decision.tier.name if decision else UNKNOWN,
        "alpha": decision.tier.alpha if decision else None,
        "decision": decision.reason if decision else None,
        "key": record.key,
        "client": record.request.client,
        "user_agent": record.request.head.user_agent(),
        "replica": record.replica,
        "retries": record.retries,
        "stream": record.streamed,
        "outcome": record.outcome,
        "status": record.status,
        "error": record.error_kind,
        "prompt_tokens": usage.prompt if usage else None,
        "completion_tokens": usage.completion if usage else None,
        "reasoning_tokens": usage.reasoning if usage else None,
        "duration_seconds": _since(arrived, ended),
        "queue_seconds": record.queue_seconds,
        "overhead_seconds": _since(arrived, record.sent_upstream),
        "time_to_first_token_seconds": _since(arrived, record.first_token),
        "time_to_first_answer_token_seconds": _since(arrived, record.first_answer_token),
    }
    if decision is not None and decision.why is not None:
        line["choice"] = decision.why.document()
    if decision is not None and (arm := decision.arm) is not None:
        line["canary"] = {"tier": arm.tier, "version": arm.version, "side": arm.side}
    if record.prompt is not None:
        line["prompt"] = record.prompt
    return line


def _since(arrived: float, moment: float | None) -> float | None:
    return None if moment is None else int((moment - arrived) * 1e6) / 1e6  # round() takes four times as long
