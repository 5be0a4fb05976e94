"""Shadow: a share of the requests is asked of the reference tier too, and both answers are compared.

It begins when the client has its answer, and nothing of it reaches the client, its key or its metrics. It takes what
the engines have to spare: where there is no room, where somebody waits, or where the budget of tokens is spent, it is
skipped, and one that runs gives way to a client that must wait. What was asked and said is in memory until the
comparison ends and is written nowhere; what stays are counts.

What not: a second comparison of one request, a retry, a verdict on an engine's health.
"""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from alphatier_models import Family, Reasoning, Tier
from alphatier_models.answers import agree, final_answer
from alphatier_server.dialects.dialect import Dialect
from alphatier_server.dialects.json_object import JsonObject
from alphatier_server.dialects.said import text_of
from alphatier_server.dialects.usage import Usage
from alphatier_server.errors import GatewayError, NoEngine, UpstreamError
from alphatier_server.gateway.decide import Decision
from alphatier_server.gateway.record import RequestRecord
from alphatier_server.gateway.sample import Sample
from alphatier_server.gateway.send import Sender
from alphatier_server.limits.arithmetic import Limits, Rate
from alphatier_server.limits.estimate import estimate
from alphatier_server.limits.queue import AdmissionQueue
from alphatier_server.limits.store import MemoryStore, Reservation
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.affinity import hash64
from alphatier_server.replicas.pool import Lease, Pool
from alphatier_server.settings.overload import LOWEST_ENGINE_PRIORITY
from alphatier_server.settings.shadow import ShadowSettings
from alphatier_server.upstream import UpstreamClient

log = logging.getLogger("alphatier")

MOST_SAMPLES = 256
"""Requests at once whose answers are kept, those included that still get theirs."""
MOST_BYTES = 1024 * 1024
"""Larger bodies and answers are not compared."""
_BURST = 0.1
"""The share of an hour's tokens that may be spent at once; the rest comes back evenly."""
_KEY = ""
"""In the queue; no API key is called so."""

Skipped = Literal[
    "several", "tools", "too_large", "disconnected", "failed", "busy", "load", "budget", "reference_failed"
]
Outcome = Literal["agree", "differ", "none"]


class Shadow:
    """For one event loop. `workers` processes share the budget."""

    def __init__(
        self,
        settings: ShadowSettings,
        workers: int,
        pool: Pool,
        queue: AdmissionQueue,
        sender: Sender,
        upstream: UpstreamClient,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._below = int(settings.share * 2**64)
        self._pool = pool
        self._queue = queue
        self._sender = sender
        self._upstream = upstream
        self._metrics = metrics
        tokens = settings.tokens_per_hour / workers
        rate = Rate(max(1, int(tokens * (1 - _BURST) / 60)), max(1, int(tokens * _BURST)))
        self._limits, self._budget = Limits(tokens=rate), MemoryStore()
        self._samples = 0
        self._running: set[asyncio.Task[None]] = set()
        queue.on_wait = self._give_way

    def drawn(
        self, dialect: Dialect, body: JsonObject, decision: Decision, request_id: str, *, streamed: bool
    ) -> Sample | None:
        """The sample that this request is, or None. Who gets one must call `compare`."""
        if not dialect.generates or dialect.as_it_came or hash64(request_id.encode()) >= self._below:
            return None
        reason = _not_comparable(body)
        if reason is None and self._samples >= MOST_SAMPLES:
            reason = "busy"
        if reason is not None:
            self._skip(decision, reason)
            return None
        self._samples += 1
        return Sample(dialect, body, decision, streamed=streamed)

    def compare(self, sample: Sample, record: RequestRecord) -> None:
        """The client's answer has ended: ask the reference tier, where there is room. Does not wait."""
        self._samples -= 1
        if record.outcome != "ok" or record.usage is None:
            self._skip(sample.decision, "disconnected" if record.outcome == "disconnected" else "failed")
        elif sample.size > MOST_BYTES:
            self._skip(sample.decision, "too_large")
        elif len(self._running) >= self._settings.max_in_flight:
            self._skip(sample.decision, "busy")
        else:
            task = asyncio.create_task(self._compared(sample, record.usage.completion, record.request_id))
            self._running.add(task)
            task.add_done_callback(partial(self._ended, sample.decision))

    def close(self) -> None:
        """End what runs."""
        self._give_way()

    def _give_way(self) -> None:
        for task in self._running:
            task.cancel()

    def _ended(self, decision: Decision, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if task.cancelled():
            self._skip(decision, "load")

    async def _compared(self, sample: Sample, tokens: int, request_id: str) -> None:
        decision = sample.decision
        try:
            reason = await self._ask(sample, tokens, request_id)
        except (TimeoutError, UpstreamError, GatewayError):
            reason = "reference_failed"
        except Exception:  # the edge of a task: nobody waits for it
            log.exception("an answer could not be compared with the reference tier's")
            reason = "reference_failed"
        if reason is not None:
            self._skip(decision, reason)

    async def _ask(self, sample: Sample, tokens: int, request_id: str) -> Skipped | None:
        """Ask and compare; the reason why not. Raises TimeoutError, UpstreamError or GatewayError."""
        decision = sample.decision
        reference = reference_of(decision.family, self._settings.tier)
        where = decision.family.name, reference.name
        if not self._queue.has_room(where):
            return "load"
        _, held = estimate(len(sample.body.raw), sample.body.values, reference)
        place = await self._budget.take(self._limits.call(_KEY, streamed=False, tokens=held))
        if not isinstance(place, Reservation):
            return "budget"
        slot = await self._queue.enter(tier=where, key=_KEY, priority="low")  # there is room: it does not wait
        lease: Lease | None = None
        used: int | None = 0
        try:
            lease = self._pool.lease(*where, sample.body.values)
            if (
                lease.replica.breaker.state != "closed"
                or lease.replica.in_flight > self._settings.max_engine_in_flight
            ):
                return "load"
            used = None
            async with asyncio.timeout(self._settings.timeout):
                raw, usage = await self._answer(sample, decision._replace(tier=reference), lease, request_id)
            used = usage.prompt + usage.completion
        except NoEngine:
            return "load"
        finally:
            if lease is not None:
                lease.close("abandoned")
            slot.close()
            place.close(used)
        self._metrics.shadow_spent_tokens.labels(*where).inc(used)
        said = text_of(sample.answer(), streamed=sample.streamed), text_of(raw, streamed=False)
        self._count(decision, reference, _outcome(*said, decision.family.reasoning), tokens, usage.completion)
        return None

    async def _answer(self, sample: Sample, decision: Decision, lease: Lease, request_id: str) -> tuple[bytes, Usage]:
        """The reference tier's whole answer, and its tokens. Raises UpstreamError or GatewayError."""
        target = self._sender.target(decision, lease.replica, LOWEST_ENGINE_PRIORITY)
        body = JsonObject(sample.body.edited({}, {"stream", "stream_options"}))
        headers = b"%bx-request-id: shadow-%b\r\n" % (lease.replica.headers, request_id.encode())
        sent = sample.dialect.engine_body(body, target)
        answer = await self._upstream.post(lease.replica.url, sample.dialect.path, sent, headers)
        if answer.body is None:
            answer.connection.abort()
            raise GatewayError("The reference tier streams, unasked.")
        answer.connection.release()
        if answer.status >= 300:
            raise GatewayError(f"The reference tier answered {answer.status}.")
        raw, observed = sample.dialect.answer(answer.body, body.values, target)
        if observed.usage is None:
            raise GatewayError("The reference tier does not tell its tokens.")
        return raw, observed.usage

    def _count(self, decision: Decision, reference: Tier, outcome: Outcome, mine: int, theirs: int) -> None:
        metrics, pair = self._metrics, (decision.family.name, decision.tier.name, reference.name)
        metrics.shadow_answers.labels(*pair, outcome).inc()
        if decision.arm is not None:
            decision.arm.compared(outcome)
        for of, amount in (("answer", mine), ("reference", theirs)):
            metrics.shadow_tokens.labels(*pair, of).inc(amount)
        products = {"answer_answer": mine * mine, "answer_reference": mine * theirs, "reference_reference": theirs**2}
        for of, amount in products.items():
            metrics.shadow_token_products.labels(*pair, of).inc(amount)

    def _skip(self, decision: Decision, reason: Skipped) -> None:
        self._metrics.shadow_skipped.labels(decision.family.name, decision.tier.name, reason).inc()


def reference_of(family: Family, name: str | None) -> Tier:
    """The tier of that name, or the family's own reference tier."""
    return next((tier for tier in family.listed if tier.name == name), None) or family.tier(family.reference_tier)


def _not_comparable(body: JsonObject) -> Skipped | None:
    values: Mapping[str, Any] = body.values
    if len(body.raw) > MOST_BYTES:
        return "too_large"
    prompt = values.get("prompt")
    several = isinstance(prompt, list) and prompt and not isinstance(prompt[0], int)
    if several or any(values.get(name) not in (None, 1) for name in ("n", "best_of")):
        return "several"
    return "tools" if values.get("tools") or values.get("functions") else None


def _outcome(said: str, reference: str, marks: Reasoning | None) -> Outcome:
    """`none` where the reference tier has no final answer; without one the other differs from it."""
    theirs = final_answer(_after_thinking(reference, marks))
    if theirs is None:
        return "none"
    mine = final_answer(_after_thinking(said, marks))
    return "agree" if mine is not None and agree(mine, theirs) else "differ"


def _after_thinking(text: str, marks: Reasoning | None) -> str:
    """The text without thinking that an engine did not split off; nothing of thinking that did not end."""
    if marks is None:
        return text
    _, end, answer = text.rpartition(marks.end)
    return answer if end else "" if text.lstrip().startswith(marks.start) else text
