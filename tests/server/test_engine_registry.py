"""What happens to an engine whose supervision fails by something that nobody has foreseen."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from alphatier_server.engines.adapters import AdapterStore
from alphatier_server.engines.api import EngineKeys
from alphatier_server.engines.devices import Devices
from alphatier_server.engines.engine import Engine, EngineContext, FamilyChange
from alphatier_server.engines.registry import EngineRegistry
from alphatier_server.engines.spec import EngineSpec
from alphatier_server.errors import EngineError
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Pool, Replica
from alphatier_server.upstream import UpstreamClient, UpstreamLimits
from support.waiting import eventually


class FaultyEngine(Engine):
    """Comes up, and has a bug the first time."""

    def __init__(self, pool: Pool) -> None:
        super().__init__("engine")
        self.url = "http://engine"
        self.starts = 0
        self.fail = asyncio.Event()
        self._pool = pool

    def replicas(self) -> list[str]:
        return ["engine"]

    async def run(self) -> None:
        self.starts += 1
        self._pool.put(Replica("engine", self.url, "toy", {"base": "toy:base"}, up=True))
        self.settled.set()
        await self.fail.wait()
        raise RuntimeError("secret")

    async def prepare(self, change: FamilyChange, spec: EngineSpec | None) -> None: ...

    def commit(self, change: FamilyChange, spec: EngineSpec | None) -> None: ...

    def unused(self) -> list[tuple[str, str]]:
        return []

    async def unload(self, model: str) -> None: ...


@asynccontextmanager
async def registry(folder: Path, pool: Pool, reported: list[str]) -> AsyncIterator[EngineRegistry]:
    metrics = Metrics()
    client = UpstreamClient(UpstreamLimits())
    store = AdapterStore(folder / "adapters")
    context = EngineContext(
        {}, {}, pool, metrics, client, reported.append, pool.in_flight, folder, store, EngineKeys(), Devices(tuple)
    )
    failures: list[BaseException] = []
    engines = EngineRegistry(context, failures.append)
    try:
        yield engines
    finally:
        await engines.close()
        client.close()
    assert failures == []


async def test_an_engine_whose_supervision_fails_is_down_for_a_while_and_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool(Metrics())
    reported: list[str] = []
    async with registry(tmp_path, pool, reported) as engines:
        engine = FaultyEngine(pool)
        engines.begin(engine)
        await eventually(pool.ready)
        with caplog.at_level(logging.ERROR):
            engine.fail.set()
            await eventually(lambda: not pool.ready())
        engine.fail.clear()
        assert engines.status()[0]["state"] == "down"
        shown = f"{reported} {engines.status()}"
        assert "RuntimeError, see the log" in shown
        assert "secret" not in shown  # what a stranger's exception says is for the log only
        assert "Traceback" in caplog.text
        await eventually(pool.ready)
        assert engine.starts == 2
        assert engines.status()[0]["state"] == "up"


class HopelessEngine(FaultyEngine):
    """Cannot be started."""

    async def run(self) -> None:
        raise EngineError("no such model")


async def test_an_engine_that_was_given_up_makes_room_for_the_next_attempt_under_its_name(tmp_path: Path) -> None:
    pool = Pool(Metrics())
    async with registry(tmp_path, pool, []) as engines:
        given_up, next_one = HopelessEngine(pool), FaultyEngine(pool)
        given_up.origin = "admin"  # the gateway itself goes on without it
        engines.begin(given_up)
        await given_up.settled.wait()
        assert [engine["state"] for engine in engines.status()] == ["failed"]
        engines.begin(next_one)
        await next_one.settled.wait()
        await engines.remove(given_up)  # somebody may still hold it
        assert [(engine["name"], engine["state"]) for engine in engines.status()] == [("engine", "up")]
