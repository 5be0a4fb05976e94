"""HTTP as it is meant to be, on the accelerator's connections: what is kept, refused, awaited and given up."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from alphatier_models import Family
from alphatier_server.accelerator.protocol import AcceleratedProtocol
from alphatier_server.keys.access import build_access
from alphatier_server.settings.access import AccessSettings
from alphatier_server.settings.clients import ClientLimits
from alphatier_server.settings.gateway import GatewayConfig
from support.fake_engine import DONE, chunk, completion, either, events, until_set
from support.fuzzing import BODY, request
from support.gateway import RunningGateway, pair, running_gateway
from support.raw_client import converse
from support.waiting import eventually

CHAT = "/v1/chat/completions"
STREAM = b'{"model":"toy","stream":true}'
PAGE = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
WHOLE_STREAM = events(chunk({"content": "4"}, "stop"), DONE)


@asynccontextmanager
async def connected(gateway: RunningGateway) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    parts = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.transport.abort()


# -- connections


@pytest.mark.parametrize("asked", [PAGE, request(), request(line="GET /nowhere HTTP/1.1", body=b"")])
async def test_a_connection_is_kept_as_long_after_a_page_as_after_an_answer(
    families: dict[str, Family], asked: bytes
) -> None:
    made: list[AcceleratedProtocol] = []

    def noted(accelerated: type[AcceleratedProtocol]) -> type:
        class Noted(accelerated):  # type: ignore[misc, valid-type]
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                made.append(self)

        return Noted

    async with (
        running_gateway(families, protocol=noted, clients=ClientLimits(keep_alive=75)) as gateway,
        connected(gateway) as (reader, writer),
    ):
        writer.write(asked)
        await reader.readuntil(b"\r\n\r\n")
        assert [connection.timeout_keep_alive for connection in made] == [75]
    async with running_gateway(families, clients=ClientLimits(keep_alive=0.5)) as gateway:
        heard = await converse(gateway.url, [asked], limit=3)
        assert len(heard.answers) == 1
        assert not heard.closed  # while `converse` listened on
        async with connected(gateway) as (reader, writer):
            writer.write(asked)
            await reader.read()  # ends when the gateway closes it


async def test_a_client_that_takes_nothing_does_not_hold_a_connection_that_is_to_be_closed(
    families: dict[str, Family],
) -> None:
    document = completion(padding="x" * 20_000_000)
    limits = ClientLimits(timeout=0.3)
    async with pair(families, document, clients=limits) as (gateway, _):
        parts = urlsplit(gateway.url)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((parts.hostname, parts.port))
        client.sendall(request(headers=["connection: close"]))
        await gateway.falls_to_zero()
        await asyncio.sleep(1.0)  # more than the client may take
        client.setblocking(False)
        size = 0
        async with asyncio.timeout(5):
            while data := await asyncio.get_running_loop().sock_recv(client, 2**20):
                size += len(data)
        assert size < 20_000_000  # what the kernel had taken; the rest was given up
        client.close()


async def test_too_many_connections_are_told_so_and_those_before_them_served(families: dict[str, Family]) -> None:
    async with pair(families, completion(), clients=ClientLimits(connections=3)) as (gateway, _):
        async with connected(gateway) as (reader, writer), connected(gateway), connected(gateway):
            heard = await converse(gateway.url, [b""], limit=5)
            assert heard.statuses == [503]
            assert heard.closed
            assert orjson.loads(heard.answers[0].body)["error"]["code"] == "too_many_connections"
            assert int(heard.answers[0].headers[b"retry-after"]) >= 1
            writer.write(request())
            assert b" 200 " in await reader.readline()

        async def is_let_in() -> bool:
            return (await converse(gateway.url, [request()], limit=5)).statuses == [200]

        await eventually(is_let_in, 5)


# -- what comes with an answer


async def test_every_answer_has_a_date(families: dict[str, Family]) -> None:
    async with pair(families, WHOLE_STREAM) as (gateway, _):
        for asked in (request(STREAM), request(b"{"), PAGE, b"nonsense\r\n\r\n"):
            heard = await converse(gateway.url, [asked], limit=5)
            assert all(answer.headers[b"date"].endswith(b"GMT") for answer in heard.answers)
            assert heard.answers


@pytest.mark.parametrize("hosts", [(), ("host: a", "host: b")], ids=["none", "two"])
@pytest.mark.parametrize("line", [f"POST {CHAT} HTTP/1.1", "GET /health/live HTTP/1.1"])
async def test_http_1_1_needs_one_host(families: dict[str, Family], line: str, hosts: tuple[str, ...]) -> None:
    async with running_gateway(families) as gateway:
        asked = request(line=line, headers=hosts).replace(b"host: localhost\r\n", b"")
        heard = await converse(gateway.url, [asked], limit=5)
        assert heard.statuses == [400]
        assert heard.closed


@pytest.mark.parametrize("line", [f"POST {CHAT} HTTP/1.1", "GET /v1/models HTTP/1.1"])
async def test_a_loopback_gateway_without_keys_serves_no_foreign_host(families: dict[str, Family], line: str) -> None:
    assert GatewayConfig(access=AccessSettings(environment=False)).served_hosts() == ()
    async with running_gateway(families, clients=ClientLimits(hosts=())) as gateway:
        for host, served in (("evil.example", False), ("evil.example:8000", False), ("127.0.0.1:8000", True)):
            asked = request(line=line).replace(b"host: localhost", b"host: " + host.encode())
            heard = await converse(gateway.url, [asked], limit=5)
            assert (heard.statuses != [400]) == served, host
            assert served or orjson.loads(heard.answers[0].body)["error"]["code"] == "host_not_allowed"


# -- bodies that come late, or not at all


async def test_100_continue_waits_until_the_answer_before_it_is_complete(families: dict[str, Family]) -> None:
    go_on = asyncio.Event()
    handler = either(events(chunk({"content": "4"}, "stop"), then=until_set(go_on)), completion())
    second = request(headers=["expect: 100-continue"])
    async with pair(families, handler) as (gateway, _), connected(gateway) as (reader, writer):
        writer.write(request(STREAM))
        await reader.readuntil(b"finish_reason")
        writer.write(second[: -len(BODY)])
        async with gateway.http.get(f"{gateway.url}/health/live") as page:  # the head has been read meanwhile
            assert page.status == 200
        go_on.set()
        assert b"100 Continue" not in await reader.readuntil(b"\r\n0\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        writer.write(BODY)
        assert await reader.readline() == b"\r\n"
        assert b" 200 " in await reader.readline()


async def test_a_deadline_counts_from_the_requests_arrival(families: dict[str, Family]) -> None:
    async with pair(families, completion()) as (gateway, engine), connected(gateway) as (reader, writer):
        asked = request(headers=["x-request-timeout: 0.2"])
        began = time.perf_counter()
        writer.write(asked[:-1])  # and never the last byte
        assert b" 504 " in await reader.readline()
        assert 0.2 <= time.perf_counter() - began < 1.0
        assert engine.bodies == []


async def test_a_deadline_counts_from_arrival_also_behind_another_request(families: dict[str, Family]) -> None:
    async def slow(http: Any) -> Any:
        await asyncio.sleep(0.3)
        return await completion()(http)

    async with pair(families, slow) as (gateway, engine):
        hasty = request(headers=["x-request-timeout: 0.2"])
        heard = await converse(gateway.url, [request() + hasty], limit=5)
        assert heard.statuses == [200, 504]
        assert len(engine.bodies) == 1


async def test_a_key_is_looked_at_before_the_body_comes(families: dict[str, Family]) -> None:
    access = build_access(AccessSettings(), environment={"ALPHATIER_API_KEYS": "sk-one"})
    async with pair(families, completion(), access=access) as (gateway, engine):
        for more in ((), ("expect: 100-continue",)):
            heard = await converse(gateway.url, [request(headers=more)[: -len(BODY)]], limit=5)
            assert heard.statuses == [401]  # and no 100 before it, which would have been dropped from this list
            assert heard.closed
        assert engine.bodies == []


@pytest.mark.parametrize("accelerated", [True, False], ids=["accelerator", "ASGI"])
async def test_a_page_that_is_sent_a_body_without_end_is_given_up(
    families: dict[str, Family], accelerated: bool
) -> None:
    server = (lambda own: own) if accelerated else (lambda _own: HttpToolsProtocol)
    limits = ClientLimits(timeout=0.3, body_bytes=1000)
    async with running_gateway(families, clients=limits, protocol=server) as gateway:
        line = "POST /v1/models HTTP/1.1"
        heard = await converse(gateway.url, [request(line=line)[:-1]], limit=5)
        assert heard.statuses == [408]
        assert heard.closed
        endless = request(b"400\r\n" + b"x" * 0x400, line=line, headers=["transfer-encoding: chunked"], length=None)
        heard = await converse(gateway.url, [endless], limit=5)
        assert heard.statuses == [413]
        assert heard.closed


async def test_a_pipelined_body_may_take_as_long_as_the_answer_before_it(families: dict[str, Family]) -> None:
    go_on = asyncio.Event()
    handler = either(events(chunk({"content": "4"}, "stop"), then=until_set(go_on)), completion())
    large = orjson.dumps({"model": "toy", "padding": "x" * 600_000})
    async with (
        pair(families, handler, clients=ClientLimits(timeout=0.4)) as (gateway, _),
        connected(gateway) as (reader, writer),
    ):
        writer.write(request(STREAM) + request(large))
        await reader.readuntil(b"finish_reason")
        await asyncio.sleep(1.0)  # more than the client may take, which has sent it all
        go_on.set()
        await reader.readuntil(b"\r\n0\r\n\r\n")
        assert b" 200 " in await reader.readline()


# -- clients that send no more, and listen


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
async def test_a_client_that_has_closed_its_own_side_gets_its_answer(
    families: dict[str, Family], body: bytes, version: str
) -> None:
    asked_for = asyncio.Event()
    half_closed = asyncio.Event()

    async def late(http: Any) -> Any:
        streams = orjson.loads(await http.read()).get("stream")
        asked_for.set()
        await half_closed.wait()
        await asyncio.sleep(0.15)  # long enough for the gateway to look what has become of the client
        return await (WHOLE_STREAM if streams else completion())(http)

    async with pair(families, late) as (gateway, _), connected(gateway) as (reader, writer):
        writer.write(request(body, line=f"POST {CHAT} HTTP/{version}"))
        await asked_for.wait()
        writer.write_eof()
        half_closed.set()
        got = await reader.read()
        assert b"HTTP/1.1 200 OK" in got
        assert (b"[DONE]" if body == STREAM else b"boxed") in got
        assert await gateway.metric("alphatier_requests_total", outcome="ok") == 1


async def test_a_client_that_has_closed_its_own_side_gets_the_answers_to_a_pipeline(
    families: dict[str, Family],
) -> None:
    asked_for = asyncio.Event()
    half_closed = asyncio.Event()

    async def late(http: Any) -> Any:
        asked_for.set()
        await half_closed.wait()
        return await completion()(http)

    async with pair(families, late) as (gateway, _), connected(gateway) as (reader, writer):
        writer.write(request() + request() + PAGE + request())
        await asked_for.wait()
        writer.write_eof()
        half_closed.set()
        assert (await reader.read()).count(b"HTTP/1.1 200 OK") == 4


PIPELINE = {
    "an answer": (request(), 200),
    "bad JSON": (request(b"{"), 400),
    "an unknown model": (request(b'{"model":"gpt"}'), 404),
    "text": (request().replace(b"application/json", b"text/plain"), 415),
    "a page": (PAGE, 200),
    "no such page": (request(b"", line="GET /nowhere HTTP/1.1"), 404),
    "a wrong deadline": (request(headers=["x-request-timeout: 0"]), 400),
    "a deadline": (request(b'{"model":"toy:careful","user":"slow"}', headers=["x-request-timeout: 0.05"]), 504),
    "a stream": (request(STREAM), 200),
}


@pytest.mark.parametrize("accelerated", [True, False], ids=["accelerator", "ASGI"])
async def test_errors_in_a_pipeline_disturb_no_other_answer(families: dict[str, Family], accelerated: bool) -> None:
    async def some(http: Any) -> Any:
        body = orjson.loads(await http.read())
        if body.get("user") == "slow":
            await asyncio.sleep(1)
        return await (WHOLE_STREAM if body.get("stream") else completion())(http)

    server = (lambda own: own) if accelerated else (lambda _own: HttpToolsProtocol)
    async with pair(families, some, protocol=server) as (gateway, _):
        # Other servers do not tell whether the body is there yet: who is refused before it is read is closed.
        kept = [name for name in PIPELINE if accelerated or name not in ("text", "a wrong deadline")]
        names = [name for name in kept for _ in range(2)] + kept[::-1]
        heard = await converse(gateway.url, [b"".join(PIPELINE[name][0] for name in names)], limit=10)
        assert heard.statuses == [PIPELINE[name][1] for name in names]
        assert not heard.closed


async def test_nonsense_in_a_pipeline_disturbs_no_answer_before_it(families: dict[str, Family]) -> None:
    async with pair(families, completion()) as (gateway, _):
        heard = await converse(gateway.url, [request() + PAGE + b"nonsense\r\n\r\n"], limit=5)
        assert heard.statuses[:2] == [200, 200]
        assert heard.closed


async def test_a_mistake_in_a_protocol_callback_is_told_as_the_gateways_own(
    families: dict[str, Family], caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(accelerated: type[AcceleratedProtocol]) -> type:
        class Faulty(accelerated):  # type: ignore[misc, valid-type]
            def head_complete(self, http11: bool) -> None:
                raise KeyError("a mistake")

        return Faulty

    async with running_gateway(families, protocol=faulty) as gateway:
        heard = await converse(gateway.url, [request()], limit=5)
    assert heard.statuses == [500]
    assert orjson.loads(heard.answers[0].body)["error"]["code"] == "gateway_error"
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError]


# -- messages


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (orjson.dumps({"model": "m" * 500_000}), ()),
        (orjson.dumps({"model": "toy:" + "m" * 500_000}), ()),
        (orjson.dumps({"model": "toy", "efficiency_tier": "t" * 500_000}), ()),
        (orjson.dumps({"model": "toy", "reasoning_effort": "e" * 500_000}), ()),
        (orjson.dumps({"model": "toy:base", "efficiency_tier": "t" * 500_000}), ()),
        (orjson.dumps({"model": "toy", "k" * 500_000: 1})[:-1] + b',"model":"x"}', ()),
        (b'{"model":"toy"} ' + b"x" * 500_000, ()),
        (BODY, ("x-efficiency-tier: " + "t" * 50_000,)),
        (BODY, ("x-request-timeout: " + "9" * 50_000,)),
        (BODY, ("x-request-id: " + "9" * 50_000,)),
    ],
)
async def test_no_message_repeats_more_than_a_few_words_of_what_was_sent(
    families: dict[str, Family], body: bytes, headers: tuple[str, ...]
) -> None:
    async with running_gateway(families) as gateway:
        heard = await converse(gateway.url, [request(body, headers=headers)], limit=5)
        assert heard.statuses[0] in (400, 404, 503)
        assert len(heard.answers[0].body) < 1000


@pytest.mark.parametrize("path", ["/" + "p" * 50_000, "/v1/models/" + "m" * 50_000, "/%41" + "p" * 50_000])
async def test_no_page_repeats_a_long_path(families: dict[str, Family], path: str) -> None:
    async with running_gateway(families) as gateway:
        heard = await converse(gateway.url, [request(b"", line=f"GET {path} HTTP/1.1")], limit=5)
        assert heard.statuses == [404]
        assert len(heard.answers[0].body) < 1000
