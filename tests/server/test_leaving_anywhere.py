"""Clients that leave, deadlines and the end of the process at every step of a request: nothing stays behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from alphatier_models import Family
from alphatier_server.app import Application, AppSettings, Parts, assemble
from alphatier_server.gateway.request import Head, Paced
from alphatier_server.keys.access import Access
from alphatier_server.keys.ring import Caller
from alphatier_server.limits.store import Admission
from alphatier_server.logs import LogWriter, RequestLog
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Pool
from alphatier_server.replicas.replica import Replica
from alphatier_server.settings.gateway import GatewayConfig
from alphatier_server.settings.overload import OverloadSettings
from support.fake_engine import DONE, chunk, completion, either, events, fake_engine
from support.fuzzing import request
from support.gateway import RunningGateway, metric_value, running_gateway

CHAT = "/v1/chat/completions"
STEPS = 40
ONE_AT_A_TIME = OverloadSettings(max_in_flight=1, max_queue=1000, max_queue_seconds=20)
BODIES = {"whole": b'{"model":"toy"}', "stream": b'{"model":"toy","stream":true}'}


class SlowAccess(Access):
    """Takes a few steps to let a request in, and counts those that are in."""

    def __init__(self) -> None:
        super().__init__()
        self.open = 0

    async def admit(self, caller: Caller, *, streamed: bool, tokens: int, requests: int = 1) -> Admission:
        for _ in range(3):
            await asyncio.sleep(0)
        self.open += 1
        return _Admission(self)


class _Admission(Admission):
    def __init__(self, access: SlowAccess) -> None:
        self._access = access

    def close(self, tokens: int | None) -> None:
        self._access.open -= 1


class Asked:
    """A request whose body takes a step to come."""

    method = "POST"
    query = b""
    client: str | None = None

    def __init__(self, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        self.head = Head([(b"content-type", b"application/json"), *headers])
        self.arrived = asyncio.get_running_loop().time()
        self._body = body

    async def body(self) -> bytes:
        await asyncio.sleep(0)
        return self._body


class Listener:
    """A client that takes everything."""

    def __init__(self) -> None:
        self.status = 0
        self.complete = False
        self.started = self.wrote = self.disconnected = False
        self.keep_alive = True

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        self.start(status, head)
        self.finish(body)

    def start(self, status: int, head: bytes) -> None:
        self.started = True
        self.status = status

    def send_head(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.wrote = True

    def finish(self, data: bytes = b"") -> None:
        assert not self.complete
        self.complete = True

    def abort(self) -> None:
        self.complete = True

    def follow_pace(self, stream: Paced | None) -> None:
        pass


class Watched:
    """An application, and what it holds."""

    def __init__(self, family: Family, url: str, folder: Path) -> None:
        self.access = SlowAccess()
        self.metrics = Metrics()
        self._file = (folder / "log").open("wb")
        self._log = RequestLog(LogWriter(self._file.fileno()))
        self._path = folder / "log"
        pool = Pool(self.metrics)
        models = {tier.name: tier.name for tier in family.tiers}
        self._replica = pool.put(Replica("one", url, family.name, models, up=True))
        parts = Parts({family.name: family}, pool, self.metrics, self.access, log=self._log)
        self.made: Application = assemble(AppSettings(GatewayConfig(overload=ONE_AT_A_TIME)), parts)

    async def handle(self, asked: Asked, listener: Listener) -> None:
        await self.made.gateway.handle(self.made.dialects[CHAT], asked, listener)

    def check(self, requests: int) -> None:
        """Nothing is held, and each request was recorded once; both kinds of end were reached."""
        text = generate_latest(self.metrics.registry).decode()
        assert self.access.open == 0
        assert self._replica.in_flight == 0
        assert metric_value(text, "alphatier_requests_in_flight") == 0
        assert metric_value(text, "alphatier_requests_total") == requests
        assert metric_value(text, "alphatier_queued_requests") == 0
        self.made.close()
        lines = [json.loads(line) for line in self._path.read_bytes().splitlines()]
        outcomes = [line["outcome"] for line in lines if line.get("event") == "request"]
        assert len(outcomes) == requests
        assert len(set(outcomes)) == 2
        self._file.close()


ANSWERS = either(events(chunk({"content": "4"}), chunk({"content": "2"}, "stop"), DONE), completion())


@pytest.mark.parametrize("leaves", [True, False], ids=["the client leaves", "the process ends"])
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "in the queue"])
@pytest.mark.parametrize("body", BODIES)
async def test_a_request_that_is_cancelled_at_any_step_holds_nothing_and_is_recorded_once(
    family: Family, tmp_path: Path, body: str, waits: bool, leaves: bool
) -> None:
    async with fake_engine(ANSWERS) as engine:
        watched = Watched(family, engine.url, tmp_path)
        for steps in range(1, STEPS):
            first = asyncio.create_task(watched.handle(Asked(BODIES[body]), Listener())) if waits else None
            listener = Listener()
            task = asyncio.create_task(watched.handle(Asked(BODIES[body]), listener))
            for _ in range(steps):
                await asyncio.sleep(0)
            if not task.done():
                listener.disconnected = leaves
                task.cancel()
            await task
            assert listener.complete or leaves
            if first is not None:
                await first
            last = Listener()
            async with asyncio.timeout(5):
                await watched.handle(Asked(BODIES[body]), last)
            assert (last.status, last.complete) == (200, True)
        watched.check((STEPS - 1) * (3 if waits else 2))


@pytest.mark.parametrize("body", BODIES)
async def test_a_deadline_at_any_moment_is_answered_and_holds_nothing(
    family: Family, tmp_path: Path, body: str
) -> None:
    async with fake_engine(ANSWERS) as engine:
        watched = Watched(family, engine.url, tmp_path)
        named = BODIES[body].replace(b'"toy"', b'"toy:careful"')  # else a deadline might be too short for any tier
        statuses = set()
        for step in range(1, STEPS):
            listener = Listener()
            asked = Asked(named, (b"x-request-timeout", b"%.6f" % (step * 0.0001)))
            first = asyncio.create_task(watched.handle(Asked(BODIES[body]), Listener()))
            await asyncio.sleep(0)
            await watched.handle(asked, listener)
            await first
            assert listener.complete
            statuses.add(listener.status)
        assert statuses <= {200, 504}
        watched.check(2 * (STEPS - 1))


# -- on connections


@asynccontextmanager
async def served(family: Family, log: RequestLog, accelerated: bool) -> AsyncIterator[RunningGateway]:
    async with (
        fake_engine(ANSWERS) as engine,
        running_gateway(
            {"toy": family},
            engine.url,
            request_log=log,
            access=SlowAccess(),
            overload=ONE_AT_A_TIME,
            protocol=(lambda own: own) if accelerated else (lambda _own: HttpToolsProtocol),
        ) as gateway,
    ):
        yield gateway


@pytest.mark.parametrize("accelerated", [True, False], ids=["accelerator", "ASGI"])
@pytest.mark.parametrize("body", BODIES)
async def test_a_client_that_leaves_at_any_step_of_its_connection_leaves_nothing_behind(
    family: Family, tmp_path: Path, body: str, accelerated: bool
) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        log = RequestLog(LogWriter(file.fileno()))
        async with served(family, log, accelerated) as gateway:
            port = int(gateway.url.rpartition(":")[2])
            for steps in range(STEPS):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(request(BODIES[body]) * (1 + steps % 2))
                for _ in range(steps):
                    await asyncio.sleep(0)
                writer.transport.abort()
            await gateway.falls_to_zero()
            async with asyncio.timeout(10), gateway.http.post(gateway.url + CHAT, data=BODIES["whole"]) as answer:
                assert answer.status == 200
            assert await gateway.metric("alphatier_replica_requests_in_flight") == 0
            assert await gateway.metric("alphatier_queued_requests") == 0
            counted = await gateway.metric("alphatier_requests_total")
        log.flush()
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    recorded = [line["outcome"] for line in lines if line.get("event") == "request"]
    assert len(recorded) == counted
    assert set(recorded) <= {"ok", "disconnected"}
