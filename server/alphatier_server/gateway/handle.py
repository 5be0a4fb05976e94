"""The generating endpoints: from a request's bytes to the last byte of its answer.

One `Endpoint` serves one API's path, one `_Request` one request. Whatever happens, the request is
recorded exactly once; a client that leaves cancels the work, which closes the engine's connection,
which makes the engine abort.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from alphatier_models import Family
from alphatier_server.accelerator.exchange import Exchange
from alphatier_server.dialects.dialect import Dialect, Relay, Target
from alphatier_server.dialects.efforts import READ_FIELDS
from alphatier_server.dialects.json_object import JsonError, JsonObject
from alphatier_server.errors import (
    ClientGone,
    DeadlineExceeded,
    Draining,
    EngineFailed,
    GatewayError,
    InvalidRequest,
    NoEngine,
)
from alphatier_server.gateway.decide import Decision, decide
from alphatier_server.gateway.engine_errors import engine_error, failure, repeatable
from alphatier_server.gateway.media import refuse_remote_media
from alphatier_server.gateway.record import Outcome, Recorder, RequestRecord
from alphatier_server.gateway.request import deadline_of, lines, request_id
from alphatier_server.gateway.state import GatewayState
from alphatier_server.keys.access import Access, Admission, OpenAccess
from alphatier_server.limits.estimate import estimate_tokens
from alphatier_server.replicas.pool import Lease, Pool, Replica, Result
from alphatier_server.upstream import Answer, UpstreamClient, UpstreamError

log = logging.getLogger("alphatier")

ATTEMPTS = 3
"""Most engines that one request is sent to."""

_OUTCOMES: dict[int, Outcome] = {503: "unavailable", 504: "timeout"}
_JSON = b"content-type: application/json\r\n"
_EVENTS = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"


@dataclass(frozen=True)
class Gateway:
    """What the endpoints share."""

    families: Mapping[str, Family]
    pool: Pool
    recorder: Recorder
    upstream: UpstreamClient
    access: Access = field(default_factory=OpenAccess)
    state: GatewayState = field(default_factory=GatewayState)
    json_depth: int = 64
    keep_alive: float = 15.0
    """A stream is never silent for more than so many seconds: it gets a comment; 0: none."""
    media_hosts: tuple[str, ...] = ()
    """Hosts from which engines may fetch media that a request names by URL."""
    log_prompts: bool = False


class Endpoint:
    """One API's generating path."""

    def __init__(self, gateway: Gateway, dialect: Dialect) -> None:
        self._gateway = gateway
        self._dialect = dialect

    def __call__(self, exchange: Exchange) -> Coroutine[None, None, None]:
        """Answer one request."""
        return _Request(self._gateway, self._dialect, exchange).run()


class _Request:
    """One request on its way."""

    # What most requests never change stands on the class: setting it for each would cost as much as parsing the body.
    body: JsonObject | None = None
    admission: Admission | None = None
    lease: Lease | None = None
    result: Result = "abandoned"
    """What the request says about its replica's health."""
    relay: Relay | None = None
    keep_alive_timer: asyncio.TimerHandle | None = None
    deadline_timer: asyncio.TimerHandle | None = None
    reply: tuple[int, bytes, bytes] | None = None
    """A whole answer that waits to be sent: status, head, body."""
    tail: bytes | None = None
    """The last bytes of a stream that wait to be sent."""

    def __init__(self, gateway: Gateway, dialect: Dialect, exchange: Exchange) -> None:
        self.gateway = gateway
        self.dialect = dialect
        self.exchange = exchange
        self.record = RequestRecord(request_id(exchange.head.request_id), dialect.endpoint, exchange.arrived)

    async def run(self) -> None:
        """Answer, record, and only then send the last bytes: who has the whole answer finds it in /metrics."""
        try:
            await self._answer()
            self.record.outcome = "ok"
        except ClientGone:
            self.record.outcome = "disconnected"
        except asyncio.CancelledError:
            if self.exchange.disconnected:
                self.record.outcome = "disconnected"
            else:
                self._fail(Draining("The gateway has ended before the answer was complete.", code="shutting_down"))
        except GatewayError as error:
            self._fail(error)
        except Exception:  # the process edge: a fault of the gateway must not reach the client as a hang
            log.exception("request %s failed in the gateway", self.record.request_id)
            self._fail(GatewayError("The gateway failed.", code="gateway_error"))
        finally:
            self._settle()
            self._send()

    # -- before the engine

    async def _answer(self) -> None:
        gateway, record, exchange = self.gateway, self.record, self.exchange
        if exchange.disconnected:
            raise ClientGone
        if exchange.refusal is not None:
            raise exchange.refusal
        if gateway.state.draining:
            exchange.keep_alive = False
            raise Draining("The gateway is about to end; ask again.", code="shutting_down", retry_after=1)
        head, dialect = exchange.head, self.dialect
        caller = gateway.access.caller(head.authorization, head.api_key)
        record.key = caller.name
        self.body = body = self._parse()
        values = body.values
        decision = decide(values, head.tiers, gateway.families, dialect.efforts(values), caller.default_tier)
        gateway.recorder.decided(record, decision)
        gateway.access.allow(caller, decision)
        refuse_remote_media(body.raw, values, gateway.media_hosts)
        record.streamed = _wants_stream(values)
        if head.deadline is not None:
            self._set_deadline(deadline_of(head.deadline))
        tokens = estimate_tokens(len(body.raw), values, decision.tier) if dialect.generates else 0
        self.admission = await gateway.access.admit(caller, streamed=record.streamed, tokens=tokens)
        answer = await self._engine_answer(body, decision)
        assert self.lease is not None
        if answer.body is None:
            await self._stream(answer, body, decision, self.lease.replica)
        else:
            self._whole(answer, answer.body, body, decision, self.lease.replica)

    def _set_deadline(self, seconds: float) -> None:
        work = self.exchange.work
        assert work is not None
        words = f"The answer was not complete within the {seconds:g} seconds of X-Request-Timeout."
        error = DeadlineExceeded(words, code="deadline_exceeded")
        self.deadline_timer = asyncio.get_running_loop().call_later(seconds, work.interrupt, error)

    def _parse(self) -> JsonObject:
        try:
            return JsonObject(bytes(self.exchange.body), READ_FIELDS, self.gateway.json_depth)
        except JsonError as error:
            raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from error

    # -- the engine

    def _whole(self, answer: Answer, answered: bytes, body: JsonObject, decision: Decision, replica: Replica) -> None:
        answer.connection.release()
        if answer.status >= 400:
            self.result = "failed" if answer.status >= 500 else "abandoned"
            raise engine_error(answer.status, answer.headers, answered)
        client_bytes, observed = self.dialect.answer(answered, body.values, _target(decision, replica))
        self.record.observe(observed)
        self.result = "ok"
        self.reply = (answer.status, self._head(_JSON), client_bytes)

    async def _engine_answer(self, body: JsonObject, decision: Decision) -> Answer:
        """An engine's answer, from another engine where one fails before anything was sent to the client."""
        gateway = self.gateway
        gateway.pool.retries.earn()
        tried: list[str] = []
        failed: GatewayError | None = None
        try:
            while True:
                self.lease = lease = self._lease(body, decision, tried, failed)
                try:
                    answer = await self._post(body, decision, lease.replica)
                    if b"content-encoding" in answer.headers:
                        _refuse_compressed(answer)
                    if answer.status not in (502, 503) or answer.body is None:
                        return answer
                    answer.connection.release()
                    failed, again = engine_error(answer.status, answer.headers, answer.body), True
                except UpstreamError as error:
                    failed, again = failure(error, lease.replica.name), repeatable(error)
                lease.close("failed")
                tried.append(lease.replica.name)
                if not again or len(tried) == ATTEMPTS or not gateway.pool.retries.may_retry():
                    raise failed
                gateway.recorder.retried(self.record)
        finally:
            failed = None  # its traceback holds this frame: a circle that only the collector would end

    def _lease(self, body: JsonObject, decision: Decision, tried: list[str], failed: GatewayError | None) -> Lease:
        try:
            return self.gateway.pool.lease(decision.family.name, decision.tier.name, body.values, tried)
        except NoEngine:
            if failed is not None:
                raise failed from None
            raise

    def _post(self, body: JsonObject, decision: Decision, replica: Replica) -> Coroutine[Any, Any, Answer]:
        record = self.record
        record.replica = replica.name
        try:
            sent = self.dialect.engine_body(body, _target(decision, replica))
        except JsonError as error:
            raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from error
        headers = b"%bx-request-id: %b\r\n%b" % (
            replica.headers,
            record.request_id.encode(),
            self.exchange.head.trace,
        )
        record.mark_sent()
        return self.gateway.upstream.post(replica.url, self.dialect.path, sent, headers)

    async def _stream(self, answer: Answer, body: JsonObject, decision: Decision, replica: Replica) -> None:
        exchange, connection = self.exchange, answer.connection
        if answer.status >= 300:
            connection.abort()
            self.result = "failed"
            raise engine_error(max(answer.status, 500), answer.headers, b"an error as a stream")
        self.relay = relay = self.dialect.relay(body.values, _target(decision, replica))
        last = b""

        def sink(data: bytes) -> bool:
            nonlocal last
            out = relay.feed(data)
            if relay.done:
                last = out
                return True
            if out:
                exchange.write(out)
            return False

        self._start(connection.pause, connection.resume)
        try:
            ended = connection.relay(sink)
            exchange.send_head()
            await ended
            self.tail = last + relay.finish()
            connection.release()
        except UpstreamError as error:
            self.result = "failed"
            connection.abort()
            raise failure(error, replica.name) from error
        except BaseException:
            self.result = "abandoned" if exchange.disconnected else "failed"
            connection.abort()
            raise
        if relay.observed.error is not None:
            self.result = "failed"
            raise _SentError("The engine ended its stream with an error.", code="engine_failed")
        self.result = "ok"

    def _start(self, pause: Any, resume: Any) -> None:
        """Send the head of a stream; from here on the client's pace is the engine's."""
        exchange = self.exchange
        exchange.on_pause, exchange.on_resume = pause, resume
        self.record.status = 200
        exchange.start(200, self._head(_EVENTS))
        if self.gateway.keep_alive:
            loop = asyncio.get_running_loop()
            self.keep_alive_timer = loop.call_later(self.gateway.keep_alive / 2, self._keep_alive)

    def _keep_alive(self) -> None:
        """Runs now and then: has the stream been silent since the last time?"""
        if not self.exchange.wrote:
            self.exchange.write(self.dialect.keep_alive)
        self.exchange.wrote = False
        loop = asyncio.get_running_loop()
        self.keep_alive_timer = loop.call_later(self.gateway.keep_alive / 2, self._keep_alive)

    # -- the end

    def _head(self, first: bytes) -> bytes:
        record = self.record
        identity = record.request_id.encode()
        head = first
        for name in self.dialect.request_id_headers:
            head += b"%b: %b\r\n" % (name, identity)
        if record.decision is not None:
            head += record.decision.lines
        return head if self.admission is None else head + self.admission.lines

    def _fail(self, error: GatewayError) -> None:
        record = self.record
        record.error_kind = error.kind
        record.limit = getattr(error, "limit", None)
        record.outcome = _OUTCOMES.get(error.status, "client_error" if error.status < 500 else "engine_error")
        if error.kind == "gateway_error":
            record.outcome = "gateway_error"
        if isinstance(error, _SentError):
            return
        if self.exchange.started:
            self.tail = self.dialect.error_event(error, self.relay)
        else:
            body = self.dialect.error_body(error, record.request_id)
            self.reply = (error.status, self._head(_JSON) + lines(error.headers), body)

    def _settle(self) -> None:
        """Close the books: exactly once for each request."""
        record = self.record
        if self.keep_alive_timer is not None:
            self.keep_alive_timer.cancel()
        if self.deadline_timer is not None:
            self.deadline_timer.cancel()
        self.exchange.on_pause = self.exchange.on_resume = None
        if self.relay is not None:
            self.exchange.ended()
            record.observe(self.relay.observed)
        if self.lease is not None:
            self.lease.close(self.result)
        if self.admission is not None:
            self.admission.close(self._tokens())
        if self.reply is not None:
            record.status = self.reply[0]
        if self.gateway.log_prompts and self.body is not None:
            record.prompt = self.body.raw.decode("utf-8", "replace")
        self.gateway.recorder.close(record)

    def _tokens(self) -> int | None:
        """What the request used; 0 where nothing was generated, None where that is not known."""
        usage = self.record.usage
        if usage is not None:
            return usage.prompt + usage.completion
        refused = self.record.outcome in ("client_error", "unavailable", "engine_error") and not self.exchange.started
        return 0 if refused or self.record.sent_upstream is None else None

    def _send(self) -> None:
        if self.exchange.disconnected:
            return
        if self.reply is not None:
            self.exchange.answer(*self.reply)
        elif self.exchange.started:
            self.exchange.finish(self.tail or b"")


class _SentError(EngineFailed):
    """The engine's own error event is on its way to the client; there is nothing more to send."""


def _refuse_compressed(answer: Answer) -> None:
    if answer.headers[b"content-encoding"].lower() != b"identity":
        answer.connection.abort()
        raise EngineFailed("The engine compresses its answers, unasked.", code="engine_failed")


def _wants_stream(values: Mapping[str, Any]) -> bool:
    stream = values.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("stream must be true or false", code="invalid_type", param="stream")
    return bool(stream)


def _target(decision: Decision, replica: Replica) -> Target:
    return Target(
        decision.model,
        replica.models[decision.tier.name],
        decision.family.reasoning,
        replica.continuous_usage,
        replica.adds_metrics,
    )
