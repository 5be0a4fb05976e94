"""The generating endpoints, as plain ASGI: from the request's bytes to the last byte of the answer.

One instance serves one path. Whatever happens, the request is recorded exactly once; a client that
leaves cancels the work, which closes the engine's connection, which makes the engine abort.
"""

import asyncio
import logging
import re
import uuid
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from alphatier_models import Family
from alphatier_server.decision import TIER_FIELD, TIER_HEADER, Decision, decide
from alphatier_server.errors import (
    BodyTooLarge,
    ClientGone,
    EngineFailed,
    EngineRefused,
    GatewayError,
    InvalidRequest,
    RequestTimeout,
)
from alphatier_server.json_object import JsonError, JsonObject
from alphatier_server.pool import Pool, Replica
from alphatier_server.record import Outcome, Recorder, RequestRecord
from alphatier_server.relay import RelayPlan, StreamRelay, relay_response
from alphatier_server.upstream import Upstream

log = logging.getLogger("alphatier")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_PASSED_HEADERS = ("traceparent", "tracestate")
_OUTCOMES: dict[int, Outcome] = {503: "unavailable", 504: "timeout"}


@dataclass(frozen=True)
class Gateway:
    """What the endpoints share."""

    families: Mapping[str, Family]
    pool: Pool
    recorder: Recorder
    upstream: Upstream
    max_body_bytes: int
    client_timeout: float
    """Longest wait for a client to send its body, or to take more of its answer, in seconds."""


class CompletionEndpoint:
    """`/v1/chat/completions` or `/v1/completions`."""

    def __init__(self, gateway: Gateway, path: str, *, chat: bool) -> None:
        self._gateway = gateway
        self._path = path
        self._chat = chat
        self._name = path.removeprefix("/v1/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        record = RequestRecord(request_id(headers), self._name)
        client = _Client(send, record, self._gateway.client_timeout)
        try:
            raw = await self._read_body(headers, receive)
            await _unless_client_leaves(receive, self._answer(raw, headers, client, record))
        except ClientGone:
            record.outcome = "disconnected"
        except GatewayError as error:
            await _fail(error, client, record)
        except Exception:  # the process edge: a fault of the gateway must not reach the client as a hang
            log.exception("request %s failed in the gateway", record.request_id)
            await _fail(GatewayError("The gateway failed.", code="gateway_error"), client, record)
        finally:
            self._gateway.recorder.close(record)
        # The last bytes go out after the books are closed: who has the whole answer finds it in /metrics.
        await client.flush()

    async def _read_body(self, headers: Headers, receive: Receive) -> bytes:
        try:
            async with asyncio.timeout(self._gateway.client_timeout):
                return await _read_body(headers, receive, self._gateway.max_body_bytes)
        except TimeoutError as error:
            raise RequestTimeout("The body did not arrive in time.", code="request_timeout") from error

    async def _answer(self, raw: bytes, headers: Headers, client: "_Client", record: RequestRecord) -> None:
        body = _parse(raw)
        decision = decide(body.values, headers.getlist(TIER_HEADER), self._gateway.families)
        self._gateway.recorder.decided(record, decision)
        record.streamed = _wants_stream(body)
        with self._gateway.pool.pick(decision) as replica:
            record.replica = replica.name
            sent = _engine_body(body, replica, decision)
            plan = self._plan(body.values, decision, replica)
            record.mark_sent()
            async with self._gateway.upstream.send(
                replica, self._path, sent, _engine_headers(headers, record)
            ) as response:
                if response.status >= 400:
                    raise _engine_error(response.status, await self._gateway.upstream.read(response))
                if response.content_type == "text/event-stream":
                    await self._stream(response, plan, client, record)
                else:
                    answer, observed = relay_response(await self._gateway.upstream.read(response), plan)
                    record.observe(observed)
                    await client.answer(response.status, "application/json", answer)
        record.outcome = "ok"

    def _plan(self, body: Mapping[str, Any], decision: Decision, replica: Replica) -> RelayPlan:
        options = body.get("stream_options")
        options = options if isinstance(options, dict) else {}
        return RelayPlan(
            model=decision.model,
            marks=decision.family.reasoning if self._chat else None,
            keep_usage=options.get("include_usage") is True,
            keep_continuous_usage=options.get("continuous_usage_stats") is True,
            strip_metrics=replica.adds_metrics,
        )

    async def _stream(
        self, response: aiohttp.ClientResponse, plan: RelayPlan, client: "_Client", record: RequestRecord
    ) -> None:
        relay = StreamRelay(plan)
        last = b""
        await client.start(200, "text/event-stream")
        try:
            async for data in response.content.iter_any():
                out = relay.feed(data)
                if relay.done:
                    last += out
                else:
                    await client.write(out)
            client.end(last + relay.finish())
        finally:
            record.observe(relay.observed)
        if relay.observed.error is not None:
            raise _SentError("The engine ended its stream with an error.", code="engine_failed")


class _SentError(EngineFailed):
    """The engine's own error event is on its way to the client; there is nothing more to send."""


class _Client:
    """The answer as it goes out: knows whether its head was sent, and which headers every answer carries."""

    def __init__(self, send: Send, record: RequestRecord, timeout: float) -> None:
        self._send = send
        self._record = record
        self._timeout = timeout
        self.started = False
        self._last: bytes | None = None

    async def start(self, status: int, content_type: str, extra: Mapping[str, str] | None = None) -> None:
        """Send the head."""
        record = self._record
        headers = {"content-type": content_type, "x-request-id": record.request_id, **(extra or {})}
        if record.decision is not None:
            headers |= record.decision.headers()
        if content_type == "text/event-stream":
            headers |= {"cache-control": "no-cache", "x-accel-buffering": "no"}
        self.started = True
        record.status = status
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes) -> None:
        """Send a part of the body."""
        if not data:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
        except TimeoutError as error:  # it holds the connection open but takes nothing
            raise ClientGone from error

    def end(self, data: bytes = b"") -> None:
        """Keep the last part until `flush`."""
        self._last = data

    async def flush(self) -> None:
        """Send the last part, if there is one."""
        if self._last is not None:
            await self._send({"type": "http.response.body", "body": self._last})

    async def answer(
        self, status: int, content_type: str, body: bytes, extra: Mapping[str, str] | None = None
    ) -> None:
        """Send the head of a whole answer, and keep its body until `flush`."""
        await self.start(status, content_type, {"content-length": str(len(body)), **(extra or {})})
        self.end(body)


def request_id(headers: Headers) -> str:
    """The client's `X-Request-Id` if it is a plain token, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


async def _read_body(headers: Headers, receive: Receive, limit: int) -> bytes:
    too_large = BodyTooLarge(f"The body is larger than {limit} bytes.", code="body_too_large")
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    parts: list[bytes] = []
    size = 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_large
        if not message.get("more_body", False):
            return b"".join(parts)


async def _unless_client_leaves(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run `work`; cancel it and raise ClientGone when the client disconnects first."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
    finally:
        for pending in (task, gone):
            pending.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
    task.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _parse(raw: bytes) -> JsonObject:
    try:
        return JsonObject(raw)
    except JsonError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from error


def _wants_stream(body: JsonObject) -> bool:
    stream = body.values.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("stream must be true or false", code="invalid_type", param="stream")
    return bool(stream)


def _engine_body(body: JsonObject, replica: Replica, decision: Decision) -> bytes:
    """The body for the engine: its own model name, no selectors, and usage reports as fine as it can give."""
    replace: dict[str, Any] = {"model": replica.models[decision.tier.name]}
    remove = {TIER_FIELD, "reasoning_effort"}
    reasoning = body.values.get("reasoning")
    if isinstance(reasoning, dict) and "effort" in reasoning:
        rest = {key: value for key, value in reasoning.items() if key != "effort"}
        if rest:
            replace["reasoning"] = rest
        else:
            remove.add("reasoning")
    options = body.values.get("stream_options")
    if body.values.get("stream") is True and (options is None or isinstance(options, dict)):
        wanted = {"include_usage": True}
        if replica.continuous_usage:
            wanted["continuous_usage_stats"] = True
        replace["stream_options"] = {**(options or {}), **wanted}
    return body.edited(replace, remove)


def _engine_headers(headers: Headers, record: RequestRecord) -> dict[str, str]:
    passed = {name: headers[name] for name in _PASSED_HEADERS if name in headers}
    return {"x-request-id": record.request_id, **passed}


def _engine_error(status: int, body: bytes) -> GatewayError:
    """The engine's error answer: its own 4xx in OpenAI's shape, anything else as the engine's failure."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = {"error": body[:500].decode("utf-8", "replace")}
    error = document.get("error", document.get("detail")) if isinstance(document, dict) else document
    if not isinstance(error, dict):
        message = error if isinstance(error, str) else orjson.dumps(error).decode()
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    if status < 500:
        return EngineRefused(status, {"error": error})
    return EngineFailed(f"The engine failed: {error.get('message')}", code="engine_failed")


async def _fail(error: GatewayError, client: _Client, record: RequestRecord) -> None:
    record.error_kind = error.kind
    record.outcome = _OUTCOMES.get(error.status, "client_error" if error.status < 500 else "engine_error")
    if error.kind == "gateway_error":
        record.outcome = "gateway_error"
    if isinstance(error, _SentError):
        return
    if client.started:
        client.end(error.event())
    else:
        extra = {"retry-after": str(error.retry_after)} if error.retry_after is not None else {}
        await client.answer(error.status, "application/json", error.body(), extra)
