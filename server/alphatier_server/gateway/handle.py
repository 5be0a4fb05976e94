"""The whole way of a request: decide, choose, admit, pick, send, relay, record.

    request -> decide -> choose -> admit (limits, an alpha's adapter, a slot) -> pick -> send -> relay -> record

Each step is a file beside this one. A request is one ordinary task: a client that leaves, a deadline and the end of
the process cancel it, which closes the engine's connection, which makes the engine abort.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from alphatier_models import Family
from alphatier_server.dialects.dialect import Dialect, Target
from alphatier_server.dialects.efforts import DEADLINE_FIELD, READ_FIELDS, deadline_field
from alphatier_server.dialects.json_object import JsonError, JsonObject
from alphatier_server.errors import (
    ClientGone,
    DeadlineExceeded,
    Draining,
    EngineFailed,
    GatewayError,
    InvalidRequest,
    UpstreamError,
)
from alphatier_server.gateway.admit import Admitter
from alphatier_server.gateway.alphas import Alphas
from alphatier_server.gateway.canary import Canaries
from alphatier_server.gateway.choose import Chooser
from alphatier_server.gateway.decide import Decision, decide
from alphatier_server.gateway.engine_errors import engine_error, failure
from alphatier_server.gateway.media import refuse_remote_media
from alphatier_server.gateway.record import Recorder, RequestRecord
from alphatier_server.gateway.relay import KeepAlive, SentError, relay_stream
from alphatier_server.gateway.request import DEADLINE_HEADER, Request, ResponseWriter, lines
from alphatier_server.gateway.send import Sender
from alphatier_server.gateway.shadow import Shadow
from alphatier_server.gateway.state import GatewayState
from alphatier_server.keys.ring import Caller
from alphatier_server.settings.alphas import STEP
from alphatier_server.settings.overload import ENGINE_PRIORITIES
from alphatier_server.upstream import Answer

log = logging.getLogger("alphatier")

_JSON = b"content-type: application/json\r\n"
_EVENTS = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"

LastBytes = Callable[[], None]
"""Sends what ends an answer."""


@dataclass(frozen=True)
class HandleSettings:
    """What an operator sets about single requests."""

    json_depth: int = 64
    keep_alive: float = 15.0
    """A stream that is silent for so many seconds gets a comment; 0: none."""
    media_hosts: tuple[str, ...] = ()
    """Hosts from which engines may fetch media that a request names by URL."""
    log_prompts: bool = False
    alpha_step: float = STEP


class Gateway:
    """Answers requests. One for a process."""

    def __init__(
        self,
        families: Mapping[str, Family],
        admitter: Admitter,
        alphas: Alphas,
        chooser: Chooser,
        canaries: Canaries,
        sender: Sender,
        recorder: Recorder,
        settings: HandleSettings,
        state: GatewayState,
        shadow: Shadow | None = None,
    ) -> None:
        self._families = families
        self._admitter = admitter
        self._alphas = alphas
        self._chooser = chooser
        self._canaries = canaries
        self._sender = sender
        self._recorder = recorder
        self._settings = settings
        self._state = state
        self._shadow = shadow

    async def handle(self, dialect: Dialect, request: Request, response: ResponseWriter) -> None:
        """Answer, record, and only then send the last bytes: who has the whole answer finds it in /metrics."""
        record = RequestRecord(dialect.endpoint, request)
        last: LastBytes | None = None
        try:
            answer = self._answer(dialect, request, response, record)
            last = await _within(request.head.deadline, DEADLINE_HEADER, request, answer)
            record.outcome = "ok"
        except ClientGone:
            record.outcome = "disconnected"
        except asyncio.CancelledError:
            if response.disconnected:
                record.outcome = "disconnected"
            else:
                ended = Draining("The gateway has ended before the answer was complete.", code="shutting_down")
                last = _failed(ended, dialect, response, record)
        except GatewayError as error:
            last = _failed(error, dialect, response, record)
        except Exception:  # the process edge: a fault of the gateway must not reach the client as a hang
            log.exception("request %s failed in the gateway", record.request_id)
            last = _failed(GatewayError("The gateway failed.", code="gateway_error"), dialect, response, record)
        finally:
            self._recorder.close(record)
            if last is not None and not response.disconnected:
                _say_last(last, response, record)
            if record.sample is not None and self._shadow is not None:
                self._shadow.compare(record.sample, record)

    async def _answer(
        self, dialect: Dialect, request: Request, response: ResponseWriter, record: RequestRecord
    ) -> LastBytes:
        """The steps, one after the other."""
        settings = self._settings
        if self._state.draining:
            response.keep_alive = False
            raise Draining("The gateway is about to end; ask again.", code="shutting_down", retry_after=1)
        if request.method == "POST":
            request.head.require_json()
        caller = self._admitter.caller(request.head)
        record.key = caller.name
        body = await self._read(request, record)
        record.body = values = body.values
        efforts, step = dialect.efforts(values), settings.alpha_step
        decision = decide(values, request.head.tiers(), self._families, efforts, caller.default_tier, step)
        own = deadline_field(values)
        if dialect.generates:
            left = _left(request, own)
            decision = self._chooser.choose(decision, values, efforts, caller, left, record.request_id)
        decision = self._recorder.decided(record, self._canaries.drawn(decision, values, record.request_id))
        rest = self._rest(dialect, request, response, record, body, caller, decision)
        return await (rest if own is None else _within(lambda: own, DEADLINE_FIELD, request, rest))

    async def _rest(
        self,
        dialect: Dialect,
        request: Request,
        response: ResponseWriter,
        record: RequestRecord,
        body: JsonObject,
        caller: Caller,
        decision: Decision,
    ) -> LastBytes:
        """The steps from the decision on."""
        settings, values = self._settings, body.values
        refuse_remote_media(body.raw, values, settings.media_hosts)
        record.streamed = _wants_stream(values)
        record.admission = await self._admitter.reserve(caller, decision, body, dialect, streamed=record.streamed)
        comments = record.streamed and settings.keep_alive > 0 and bool(dialect.keep_alive)
        # the head of a stream says which tier runs, and its first comment sends the head
        longest = settings.keep_alive if comments else math.inf
        decision = self._recorder.decided(record, await self._alphas.ready(decision, caller, longest))
        if comments:
            start = partial(_start, response, dialect, record)
            record.keep_alive = KeepAlive(dialect, response, settings.keep_alive, start)
        record.priority = ENGINE_PRIORITIES[caller.priority]
        await self._admitter.enter(record.admission, caller, decision)
        decision = self._recorder.decided(record, self._alphas.in_place(decision, caller))
        if self._shadow is not None:
            drawn, streamed = self._shadow.drawn, record.streamed
            record.sample = drawn(dialect, body, decision, record.request_id, streamed=streamed)
        answer, target = await self._sender.send(dialect, request, body, decision, record)
        if answer.body is None:
            return await _stream(answer, dialect, body, target, response, record)
        return _whole(answer, answer.body, dialect, body, target, response, record)

    async def _read(self, request: Request, record: RequestRecord) -> JsonObject:
        raw = await request.body()
        if request.method == "GET":  # a path that is passed on, of the first family's default tier
            return JsonObject(orjson.dumps({"model": next(iter(self._families), None)}))
        if self._settings.log_prompts:
            record.prompt = raw.decode("utf-8", "replace")
        try:
            return JsonObject(raw, READ_FIELDS, self._settings.json_depth)
        except JsonError as error:
            raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from error


async def _within(
    deadline: Callable[[], float | None], place: str, request: Request, answer: Coroutine[Any, Any, LastBytes]
) -> LastBytes:
    """The answer, within the client's own deadline in seconds, which counts from the request's arrival."""
    try:
        seconds = deadline()
    except GatewayError:
        answer.close()
        raise
    if seconds is None:
        return await answer
    left = seconds - (time.perf_counter() - request.arrived)
    if left <= 0:  # it waited behind another one on its connection
        answer.close()
        raise _deadline_exceeded(seconds, place)
    try:
        async with asyncio.timeout(left) as limit:
            return await answer
    except TimeoutError:
        if not limit.expired():
            raise
        raise _deadline_exceeded(seconds, place) from None


def _deadline_exceeded(seconds: float, place: str) -> GatewayError:
    words = f"The answer was not complete within the {seconds:g} seconds of {place}."
    return DeadlineExceeded(words, code="deadline_exceeded").never_again()


def _left(request: Request, own: float | None) -> float | None:
    """Seconds until the earlier of the header's deadline and the body's `own`."""
    header = request.head.deadline()
    if header is None and own is None:
        return None
    seconds = min(each for each in (header, own) if each is not None)
    return seconds - (time.perf_counter() - request.arrived)


async def _stream(
    answer: Answer,
    dialect: Dialect,
    body: JsonObject,
    target: Target,
    response: ResponseWriter,
    record: RequestRecord,
) -> LastBytes:
    """Relay the engine's stream; its end is what is left to send."""
    if answer.status >= 300:
        answer.connection.abort()
        record.result = "failed"
        raise engine_error(max(answer.status, 500), answer.headers, b"an error as a stream")
    record.relay = relay = dialect.relay(body.values, target)
    if not response.started:
        _start(response, dialect, record)
    try:
        tap = None if record.sample is None else record.sample.take
        last = await relay_stream(answer.connection, relay, response, tap)
    except UpstreamError as error:
        record.result = "failed"
        raise failure(error) from error
    except GatewayError:
        record.result = "failed"
        raise
    record.result = "ok"
    return partial(response.finish, last)


def _whole(
    answer: Answer,
    answered: bytes,
    dialect: Dialect,
    body: JsonObject,
    target: Target,
    response: ResponseWriter,
    record: RequestRecord,
) -> LastBytes:
    answer.connection.release()
    if answer.status >= 300:
        raise _refusal(answer, answered, record)
    if response.started:
        record.result = "failed"
        raise EngineFailed("The engine did not stream its answer.", code="engine_failed")
    record.result = "failed"  # should its answer turn out to be none
    client_bytes, observed = dialect.answer(answered, body.values, target)
    record.observe(observed)
    record.result = "ok"
    record.status = answer.status
    if record.sample is not None:
        record.sample.take(client_bytes)
    return partial(response.answer, answer.status, _head(_kind(answer, dialect), dialect, record), client_bytes)


def _say_last(last: LastBytes, response: ResponseWriter, record: RequestRecord) -> None:
    try:
        last()
    except Exception:  # the process edge, as in `handle`: what cannot be written must not hang
        if record.outcome != "gateway_error":  # else it was told of
            log.exception("the answer to request %s could not be written", record.request_id)
        response.abort()


def _refusal(answer: Answer, answered: bytes, record: RequestRecord) -> GatewayError:
    """The engine's error. Not kept where it is raised: its traceback would hold the frame that holds it."""
    error = engine_error(answer.status, answer.headers, answered)
    record.result = "failed" if error.status >= 500 else "abandoned"
    return error


def _start(response: ResponseWriter, dialect: Dialect, record: RequestRecord) -> None:
    """Begin a stream's answer."""
    record.status = 200
    response.start(200, _head(_EVENTS, dialect, record))


def _kind(answer: Answer, dialect: Dialect) -> bytes:
    """The answer's content type: JSON, but for a path that is only passed on."""
    if not dialect.as_it_came:
        return _JSON
    return b"content-type: %b\r\n" % answer.headers.get(b"content-type", b"application/octet-stream")


def _failed(error: GatewayError, dialect: Dialect, response: ResponseWriter, record: RequestRecord) -> LastBytes:
    """Take note of the error; what is left to send says so in the API's shape."""
    record.fail(error)
    if isinstance(error, SentError):
        return response.finish
    if response.started:
        event = dialect.error_event(error, record.relay)
        return partial(response.finish, event) if event else response.abort
    record.status = error.status
    head = _head(_JSON, dialect, record) + lines(error.headers)
    return partial(response.answer, error.status, head, dialect.error_body(error, record.request_id))


def _head(first: bytes, dialect: Dialect, record: RequestRecord) -> bytes:
    identity = record.request_id.encode()
    head = first
    for name in dialect.request_id_headers:
        head += b"%b: %b\r\n" % (name, identity)
    if record.decision is not None:
        head += record.decision.lines
    return head if record.admission is None else head + record.admission.lines


def _wants_stream(values: Mapping[str, Any]) -> bool:
    stream = values.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("stream must be true or false", code="invalid_type", param="stream")
    return bool(stream)
