"""Mistakes while an answer is written: the request fails alone, and no connection, nor any other request, hangs."""

import asyncio
from typing import Any

import orjson
import pytest

from alphatier_models import Family
from alphatier_server.accelerator.protocol import AcceleratedProtocol
from alphatier_server.app import Application, AppSettings, Parts, assemble
from alphatier_server.gateway.request import Head, Paced
from alphatier_server.keys.access import Access
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Pool
from alphatier_server.replicas.replica import Replica
from alphatier_server.settings.clients import ClientLimits
from support.fake_engine import DONE, chunk, completion, events, fake_engine, stay_silent
from support.fuzzing import request
from support.gateway import pair
from support.raw_client import converse

CHAT = "/v1/chat/completions"
STREAM = b'{"model":"toy","stream":true}'
PIECES = (chunk({"content": "4"}), chunk({"content": "2"}, "stop"), DONE)


class NoInkError(Exception):
    """What is raised."""


class Asked:
    """A request that is there as a whole."""

    method = "POST"
    query = b""
    client: str | None = None
    arrived = 0.0

    def __init__(self, body: bytes) -> None:
        self.head = Head([(b"content-type", b"application/json")])
        self._body = body

    async def body(self) -> bytes:
        return self._body


class Writer:
    """Keeps what is written, and raises in the methods that are named."""

    def __init__(self, *faulty: str) -> None:
        self._faulty = faulty
        self.said: list[str] = []
        self.begun = asyncio.Event()
        self.started = self.wrote = self.disconnected = False
        self.keep_alive = True

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        self.started = True
        self._say("answer")

    def start(self, status: int, head: bytes) -> None:
        self.started = True
        self._say("start")

    def send_head(self) -> None:
        self._say("send_head")

    def write(self, data: bytes) -> None:
        self.wrote = True
        self._say("write")

    def finish(self, data: bytes = b"") -> None:
        self._say("finish")

    def abort(self) -> None:
        self._say("abort")

    def follow_pace(self, stream: Paced | None) -> None:
        pass

    def _say(self, what: str) -> None:
        if what == "write" or what in self._faulty:
            self.begun.set()
        if what in self._faulty:
            raise NoInkError(what)
        self.said.append(what)


def application(
    families: dict[str, Family], url: str, limits: ClientLimits | None = None
) -> tuple[Application, Replica]:
    metrics = Metrics()
    pool = Pool(metrics)
    replica = pool.put(Replica("one", url, "toy", {tier.name: tier.name for tier in families["toy"].tiers}, up=True))
    settings = AppSettings(clients=limits or ClientLimits())
    return assemble(settings, Parts(families, pool, metrics, Access())), replica


@pytest.mark.parametrize("faulty", [("write",), ("write", "finish"), ("start",), ("send_head",), ("finish",)])
async def test_a_stream_that_cannot_be_written_fails_alone_with_one_line(
    families: dict[str, Family], faulty: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = Writer(*faulty), Writer()

    async def in_pieces(http: Any) -> Any:
        response = await events(PIECES[0])(http)
        await broken.begun.wait()
        for piece in PIECES[1:]:
            await response.write(piece if isinstance(piece, bytes) else b"data: " + orjson.dumps(piece) + b"\n\n")
        return response

    async with fake_engine(in_pieces) as engine:
        made, replica = application(families, engine.url)
        await made.gateway.handle(made.dialects[CHAT], Asked(STREAM), broken)
        assert broken.said[-1] in ("finish", "abort")
        assert replica.in_flight == 0
        await made.gateway.handle(made.dialects[CHAT], Asked(STREAM), sound)
        assert sound.said[-1] == "finish"
        made.close()
    traces = [record for record in caplog.records if record.exc_info and record.exc_info[0] is NoInkError]
    assert len(traces) == 1
    assert {record.name for record in caplog.records if record.levelname == "ERROR"} == {"alphatier"}


async def test_an_answer_that_cannot_be_written_is_broken_off(
    families: dict[str, Family], caplog: pytest.LogCaptureFixture
) -> None:
    async with fake_engine(completion()) as engine:
        made, replica = application(families, engine.url)
        broken = Writer("answer")
        await made.gateway.handle(made.dialects[CHAT], Asked(b'{"model":"toy"}'), broken)
        made.close()
    assert broken.said == ["abort"]
    assert replica.in_flight == 0
    assert len(caplog.records) == 1


class FaultyTransport:
    """A transport that takes `writes` writes, then none."""

    def __init__(self, transport: Any, writes: int) -> None:
        self._transport = transport
        self._left = writes

    def write(self, data: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            raise NoInkError(data[:20])
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def faulty(accelerated: type[AcceleratedProtocol], writes: int) -> type:
    """Clients whose request says so are written to by a faulty transport."""

    class Faulty(accelerated):  # type: ignore[misc, valid-type]
        def head_complete(self, http11: bool) -> None:
            if (b"x-faulty", b"yes") in self.headers:
                self.transport: Any = FaultyTransport(self.transport, writes)
            super().head_complete(http11)

    return Faulty


@pytest.mark.parametrize("writes", [0, 1, 2])
async def test_a_connection_that_cannot_be_written_to_is_closed_and_its_engines_with_it(
    families: dict[str, Family], writes: int, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = asyncio.Event()

    async def wait(_request: Any) -> None:
        await go_on.wait()

    async def slowly(http: Any) -> Any:
        if orjson.loads(await http.read()).get("user") != "faulty":
            return await events(*PIECES[:2], then=wait)(http)
        response = await events(PIECES[0])(http)
        while True:
            await asyncio.sleep(0.01)
            await response.write(b"data: " + orjson.dumps(PIECES[0]) + b"\n\n")

    async with pair(families, slowly, protocol=lambda made: faulty(made, writes)) as (gateway, engine):
        other = asyncio.create_task(converse(gateway.url, [request(STREAM)], limit=10))
        broken = request(b'{"model":"toy","stream":true,"user":"faulty"}', headers=["x-faulty: yes"])
        heard = await converse(gateway.url, [broken], limit=10)
        assert heard.closed
        assert not any(answer.complete for answer in heard.answers)
        await asyncio.wait_for(engine.aborted.wait(), 5)
        go_on.set()
        assert (await other).statuses == [200]
        assert await gateway.metric("alphatier_requests_in_flight") == 0
        assert await gateway.metric("alphatier_replica_requests_in_flight") == 0
    traces = [record for record in caplog.records if record.exc_info]
    assert len(traces) == 1, [record.getMessage() for record in traces]


async def test_a_send_that_raises_under_asgi_ends_the_engines_request(families: dict[str, Family]) -> None:
    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise NoInkError

    with pytest.raises(NoInkError):
        await answered_under_asgi(families, send, ClientLimits())


async def test_a_send_that_never_returns_under_asgi_ends_the_engines_request(families: dict[str, Family]) -> None:
    sent: list[str] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    await answered_under_asgi(families, send, ClientLimits(timeout=0.2))
    assert sent == ["http.response.start", "http.response.body"]


async def answered_under_asgi(families: dict[str, Family], send: Any, limits: ClientLimits) -> None:
    """Ask for a stream whose engine falls silent; afterwards nothing of the request must be left."""
    async with fake_engine(events(*PIECES[:1], then=stay_silent)) as engine:
        made, replica = application(families, engine.url, limits)
        waiting = [{"type": "http.request", "body": STREAM, "more_body": False}]

        async def receive() -> Any:
            return waiting.pop() if waiting else await asyncio.Event().wait()

        headers = [(b"content-type", b"application/json"), (b"host", b"x")]
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": CHAT,
            "raw_path": CHAT.encode(),
            "query_string": b"",
        }
        scope |= {"headers": headers, "http_version": "1.1", "client": None, "root_path": "", "state": {}}
        try:
            async with asyncio.timeout(10):
                await made.app(scope, receive, send)
        finally:
            await asyncio.wait_for(engine.aborted.wait(), 5)
            assert replica.in_flight == 0
            made.close()
