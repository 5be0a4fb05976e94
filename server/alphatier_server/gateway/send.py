"""The fifth step: the request goes to an engine, and to another one where the first fails before it has answered.

Generating has no side effect, so what failed can be done again: within the retry budget, on another replica, on
three at most. A request on which a connection broke is repeated once at most: it may be what kills engines. Not
repeated is what ran into a time limit: the work may still go on, and another engine would be as slow.
"""

import re
from dataclasses import dataclass

from alphatier_server.dialects.dialect import Dialect, Target
from alphatier_server.dialects.json_object import JsonError, JsonObject
from alphatier_server.dialects.structured import json_demand
from alphatier_server.errors import (
    Broken,
    EngineFailed,
    GatewayError,
    InvalidRequest,
    NoDescriptors,
    NoEngine,
    TimedOut,
    Unreachable,
    UpstreamError,
)
from alphatier_server.gateway.decide import Decision
from alphatier_server.gateway.engine_errors import engine_error, failure
from alphatier_server.gateway.record import Recorder, RequestRecord
from alphatier_server.gateway.request import Request
from alphatier_server.replicas.pool import Pool, Replica, Result
from alphatier_server.upstream import Answer, UpstreamClient

ATTEMPTS = 3
"""Most times that one request is sent."""
_TRY_ANOTHER = (502, 503)
_QUERY = re.compile(rb"[\x21-\x7e]+")


@dataclass(slots=True)
class _Attempts:
    """What was tried for one request."""

    avoid: list[str]
    """Replicas that failed."""
    count: int = 0
    broken: int = 0
    """How many connections broke on it."""
    fresh: bool = False
    """Whether the next attempt needs a new connection, because the one before may have been closed unseen."""


class Sender:
    """Sends requests to the replicas of `pool`."""

    def __init__(
        self,
        pool: Pool,
        upstream: UpstreamClient,
        recorder: Recorder,
        *,
        reasoning_content: bool = False,
    ) -> None:
        self._pool = pool
        self._upstream = upstream
        self._recorder = recorder
        self._reasoning_content = reasoning_content

    async def send(
        self, dialect: Dialect, request: Request, body: JsonObject, decision: Decision, record: RequestRecord
    ) -> tuple[Answer, Target]:
        """An engine's answer, and who gave it; `record` holds the lease. Raises GatewayError."""
        self._pool.retries.earn()
        attempts = _Attempts([])
        failed: GatewayError | None = None
        result: Result
        try:
            while True:
                replica = self._pick(decision, body, attempts, failed, record)
                target = self.target(decision, replica, record.priority)
                attempts.count += 1
                fresh, attempts.fresh = attempts.fresh, False
                try:
                    answer = await self._post(dialect, request, body, target, replica, record, fresh=fresh)
                    if b"content-encoding" in answer.headers:
                        _refuse_compressed(answer)
                    if answer.status not in _TRY_ANOTHER or answer.body is None:
                        return answer, target
                    answer.connection.release()
                    failed, result = engine_error(answer.status, answer.headers, answer.body), "failed"
                    attempts.avoid.append(replica.name)
                    again = True
                except UpstreamError as error:
                    failed = failure(error)
                    again, result = _judge(error, replica, attempts)
                assert record.lease is not None
                record.lease.close(result)
                if not again or attempts.count == ATTEMPTS or not (attempts.fresh or self._pool.retries.may_retry()):
                    raise failed.never_again() if attempts.count > 1 else failed
                self._recorder.retried(record)
        finally:
            failed = None  # its traceback holds this frame: a circle that only the collector would end

    def _pick(
        self,
        decision: Decision,
        body: JsonObject,
        attempts: _Attempts,
        failed: GatewayError | None,
        record: RequestRecord,
    ) -> Replica:
        try:
            assert record.admission is not None
            record.lease = lease = self._pool.lease(
                decision.family.name, decision.tier.name, body.values, attempts.avoid, record.admission.weight
            )
        except NoEngine:
            if failed is not None:
                raise failed from None
            raise
        record.replica = lease.replica.name
        return lease.replica

    def target(self, decision: Decision, replica: Replica, priority: int | None) -> Target:
        """Who answers, for the API."""
        return Target(
            decision.model,
            replica.models[decision.tier.name],
            decision.family.reasoning,
            replica.continuous_usage,
            replica.adds_metrics,
            self._reasoning_content,
            priority if replica.by_priority else None,
        )

    async def _post(
        self,
        dialect: Dialect,
        request: Request,
        body: JsonObject,
        target: Target,
        replica: Replica,
        record: RequestRecord,
        *,
        fresh: bool,
    ) -> Answer:
        if not replica.writes_json and (field := json_demand(body.values)) is not None:
            words = "This family cannot write JSON: its vocabulary lacks the signs. Leave the field out."
            raise InvalidRequest(f"{field} is not supported. {words}", code="json_not_supported", param=field)
        try:
            sent = b"" if request.method == "GET" else dialect.engine_body(body, target)
        except JsonError as error:
            raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from error
        headers = b"%bx-request-id: %b\r\n%b" % (replica.headers, record.request_id.encode(), request.head.trace())
        path = f"{dialect.path}?{_query(request)}" if dialect.as_it_came and request.query else dialect.path
        record.mark_sent()
        return await self._upstream.post(replica.url, path, sent, headers, method=request.method, fresh=fresh)


def _query(request: Request) -> str:
    """Its query, which must not reach over the request's first line."""
    if not _QUERY.fullmatch(request.query):
        raise InvalidRequest("The query has characters that no URL has.", code="invalid_http")
    return request.query.decode("ascii")


def _judge(error: UpstreamError, replica: Replica, attempts: _Attempts) -> tuple[bool, Result]:
    """Whether to send the request again, and what the error says about the replica."""
    if isinstance(error, NoDescriptors):
        return False, "abandoned"
    if isinstance(error, TimedOut):
        return False, "failed"
    if isinstance(error, Unreachable):
        attempts.avoid.append(replica.name)
        return True, "failed"
    attempts.broken += 1
    if isinstance(error, Broken) and error.reused and not error.answered:
        # The engine may have closed the connection before it saw the request: that says nothing about either.
        attempts.fresh = True
        return attempts.broken == 1, "abandoned"
    attempts.avoid.append(replica.name)
    return attempts.broken == 1, "failed"


def _refuse_compressed(answer: Answer) -> None:
    if answer.headers[b"content-encoding"].lower() != b"identity":
        answer.connection.abort()
        raise EngineFailed("The engine compresses its answers, unasked.", code="engine_failed")
