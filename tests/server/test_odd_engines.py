"""Engines, and load balancers before them, that answer what nobody expects: the client gets an answer in time."""

import threading
from collections.abc import Sequence
from typing import Any

import openai
import orjson
import pytest

from alphatier_models import Family
from support.fake_engine import DONE, chunk, events, fake_engine, stay_silent
from support.fuzzing import ANSWER, BODY, request
from support.gateway import RunningGateway, pair, running_gateway
from support.raw_client import Heard, converse
from support.raw_engine import STREAM_END, STREAM_HEAD, Piece, RawEngine, chunked, whole

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
STREAM = b'{"model":"toy","stream":true}'
EVENTS = b"data: " + orjson.dumps(chunk({"content": "4"}, "stop")) + b"\n\n" + DONE


async def twice(gateway: RunningGateway, body: bytes) -> Heard:
    """The same question two times on one connection."""
    heard = await converse(gateway.url, [request(body) + request(body)], limit=5)
    assert not heard.garbage
    assert not heard.hung
    return heard


HTML = b"<html><body>Bad luck</body></html>"
STATUSES: dict[str, tuple[bytes, int, str | None]] = {
    "299 with an answer": (whole(ANSWER, "299 Odd"), 299, None),
    "302": (whole(ANSWER, "302 Found\r\nlocation: http://elsewhere/"), 502, "engine_failed"),
    "304": (b"HTTP/1.1 304 Not Modified\r\n\r\n", 502, "engine_failed"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 502, "engine_failed"),
    "401": (whole(b'{"error":"Unauthorized"}', "401 Unauthorized"), 502, "engine_refuses_gateway"),
    "403": (whole(HTML, "403 Forbidden", "text/html"), 502, "engine_refuses_gateway"),
    "407": (whole(HTML, "407 Proxy Authentication Required", "text/html"), 502, "engine_refuses_gateway"),
    "460, of a load balancer": (whole(HTML, "460 Gone", "text/html"), 502, "engine_failed"),
    "499, of nginx": (whole(HTML, "499 ", "text/html"), 502, "engine_failed"),
    "503 in HTML": (whole(HTML, "503 Service Unavailable", "text/html"), 503, "no_engine"),
    "504": (whole(HTML, "504 Gateway Timeout", "text/html"), 504, "engine_timeout"),
    "529": (whole(b"{}", "529 Overloaded"), 502, "engine_failed"),
    "999": (whole(b"{}", "999 Strange"), 502, "engine_failed"),
}


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("name", STATUSES)
async def test_any_status_is_an_answer_to_the_client(
    families: dict[str, Family], engine: RawEngine, name: str, body: bytes
) -> None:
    answer, status, code = STATUSES[name]
    engine.script = [answer]
    if body == STREAM and status == 299:
        return  # a whole answer to a stream, which is another test's
    async with running_gateway(families, engine.url) as gateway:
        heard = await twice(gateway, body)
    assert heard.statuses == [status, status]
    if code is not None:
        assert all(orjson.loads(each.body)["error"]["code"] == code for each in heard.answers)
        assert all(b"location" not in each.headers for each in heard.answers)
    assert not heard.closed


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"]
)
@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
async def test_interim_answers_are_none(
    families: dict[str, Family], engine: RawEngine, interim: bytes, body: bytes
) -> None:
    answer = STREAM_HEAD + chunked(EVENTS) + STREAM_END if body == STREAM else whole(ANSWER)
    engine.script = [interim, 0.01, interim + answer]
    async with running_gateway(families, engine.url) as gateway:
        assert (await twice(gateway, body)).statuses == [200, 200]


async def test_an_engine_that_wants_another_protocol_is_the_engines_failure(
    families: dict[str, Family], engine: RawEngine
) -> None:
    engine.script = [b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"]
    async with running_gateway(families, engine.url) as gateway:
        heard = await twice(gateway, BODY)
    assert heard.statuses == [502, 502]


async def test_a_redirect_counts_as_the_engines_failure(families: dict[str, Family], engine: RawEngine) -> None:
    engine.script = [whole(ANSWER, "302 Found\r\nlocation: http://elsewhere/")]
    async with running_gateway(families, engine.url) as gateway:
        await twice(gateway, BODY)
        assert await gateway.metric("alphatier_requests_total", outcome="engine_error") == 2
        assert gateway.pool.replicas[0].breaker.history == 0b11


async def test_the_gateways_own_key_refused_is_logged_and_counts_as_the_engines_failure(
    families: dict[str, Family], engine: RawEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.script = [whole(b'{"error":"Unauthorized"}', "401 Unauthorized")]
    async with running_gateway(families, engine.url) as gateway:
        with pytest.raises(openai.InternalServerError):
            await gateway.sdk().chat.completions.create(model="toy", messages=[])
        assert gateway.pool.replicas[0].breaker.history == 0b1
    assert "refuses the gateway's own key with status 401" in caplog.text


@pytest.mark.parametrize(
    "script",
    [
        [whole(EVENTS, kind="text/event-stream")],
        [whole(EVENTS, kind="text/event-stream")[:-20], 0.02, EVENTS[-20:]],
        [whole(EVENTS, kind="Text/Event-Stream;charset=utf-8")],
    ],
    ids=["at once", "in two pieces", "in capitals"],
)
async def test_events_may_come_with_a_length_again_and_again(
    families: dict[str, Family], engine: RawEngine, script: Sequence[Piece]
) -> None:
    engine.script = script
    async with running_gateway(families, engine.url) as gateway:
        for _ in range(2):
            heard = await twice(gateway, STREAM)
            assert heard.statuses == [200, 200]
            assert [answer.body for answer in heard.answers] == [EVENTS] * 2


@pytest.mark.parametrize(("path", "comment"), [(CHAT, b": keep-alive\n\n"), (MESSAGES, b"event: ping\n")])
async def test_a_stream_is_kept_alive_before_its_engine_has_said_anything(
    families: dict[str, Family], engine: RawEngine, path: str, comment: bytes
) -> None:
    go_on = threading.Event()

    def script(_request: Any) -> list[bytes]:
        go_on.wait(10)
        return [whole(b'{"error":{"message":"CUDA"}}', "500 Internal Server Error")]

    engine.script = script
    async with (
        running_gateway(families, engine.url, keep_alive=0.05) as gateway,
        gateway.http.post(gateway.url + path, data=STREAM) as response,
    ):
        assert response.status == 200
        assert (await response.content.readuntil(b"\n\n")).startswith(comment)
        go_on.set()
        rest = (await response.content.read()).split(b"\n\n")
        last = orjson.loads(rest[-2].rpartition(b"data: ")[2])
        assert last["error"]["message"] == "The engine failed with status 500."
        assert await gateway.metric("alphatier_requests_total", outcome="engine_error") == 1


async def test_a_whole_answer_to_a_stream_is_passed_on_or_told_of(
    families: dict[str, Family], engine: RawEngine
) -> None:
    engine.script = [whole(ANSWER)]
    async with running_gateway(families, engine.url) as gateway:
        heard = await twice(gateway, STREAM)
    assert heard.statuses == [200, 200]
    assert heard.answers[0].headers[b"content-type"] == b"application/json"


async def test_a_deadline_is_not_tried_again_by_openais_client(families: dict[str, Family]) -> None:
    async with pair(families, stay_silent) as (gateway, engine):  # type: ignore[arg-type]
        sdk = gateway.sdk().with_options(max_retries=2)
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.chat.completions.create(model="toy", messages=[], extra_headers={"x-request-timeout": "0.1"})
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert len(engine.bodies) == 1


async def test_what_failed_on_several_engines_is_not_tried_again_by_openais_client(
    families: dict[str, Family],
) -> None:
    async with (
        fake_engine(events_never) as one,
        fake_engine(events_never) as two,
        running_gateway(families, one.url, two.url) as gateway,
    ):
        with pytest.raises(openai.InternalServerError):
            await gateway.sdk().with_options(max_retries=2).chat.completions.create(model="toy", messages=[])
        assert len(one.bodies) + len(two.bodies) == 2


async def events_never(request: Any) -> Any:
    """Dies with the request."""
    assert request.transport is not None
    request.transport.abort()
    return await events()(request)
