"""Engines are started, noticed, restarted and ended, and none outlives the gateway. The engine is a small HTTP
server with a child process of its own, as vLLM has."""

import asyncio
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from alphatier_server.engines.adapters import AdapterStore
from alphatier_server.engines.api import EngineKeys
from alphatier_server.engines.devices import Devices
from alphatier_server.engines.engine import EngineContext
from alphatier_server.engines.managed import ManagedEngine
from alphatier_server.engines.spec import EngineSpec
from alphatier_server.errors import EngineError
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Pool
from alphatier_server.upstream import UpstreamClient, UpstreamLimits
from support.waiting import eventually

ENGINE = """
import http.server, subprocess, sys
# the child is in a session of its own, so that a signal to the process group does not reach it
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *arguments): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@dataclass
class Supervised:
    pool: Pool
    metrics: Metrics
    task: asyncio.Task[None]
    reported: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_reported(self, words: str, times: int = 1) -> None:
        async with asyncio.timeout(20):
            while sum(words in text for text in self.reported) < times:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def supervised(folder: Path, program: str) -> AsyncIterator[Supervised]:
    spec = EngineSpec(
        name="toy-engine",
        kind="vllm",
        family="toy",
        models={"base": "toy:base"},
        command=lambda port: [sys.executable, "-c", program, str(port)],
        environment={},
        shape=(),
    )
    metrics = Metrics()
    pool = Pool(metrics)
    reported: list[str] = []
    changed = asyncio.Event()

    def report(text: str) -> None:
        reported.append(text)
        changed.set()

    client = UpstreamClient(UpstreamLimits())
    store = AdapterStore(folder / "adapters")
    context = EngineContext(
        {}, {}, pool, metrics, client, report, pool.in_flight, folder, store, EngineKeys(), Devices(tuple)
    )
    engine = ManagedEngine(spec, context, spec.name)
    task = asyncio.create_task(engine.run())
    try:
        yield Supervised(pool, metrics, task, reported, changed)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        client.close()


def engine_processes() -> list[psutil.Process]:
    """The guard of the toy engine and all below it; other tests' engines may be running too."""
    guards = [p for p in psutil.Process().children() if "HTTPServer" in " ".join(p.cmdline())]
    return [process for guard in guards for process in (guard, *guard.children(recursive=True))]


async def ended(processes: list[psutil.Process]) -> bool:
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 15)
    return not alive


async def test_an_engine_is_up_once_it_answers_and_is_ended_with_all_its_children(tmp_path: Path) -> None:
    async with supervised(tmp_path, ENGINE) as running:
        await running.until_reported("is ready")
        assert [replica.up for replica in running.pool.replicas] == [True]
        processes = engine_processes()
        assert len(processes) == 3  # guard, engine, the engine's child
    assert await ended(processes)
    assert not running.pool.ready()


async def test_a_killed_engine_is_down_at_once_and_started_again(tmp_path: Path) -> None:
    async with supervised(tmp_path, ENGINE) as running:
        await running.until_reported("is ready")
        processes = engine_processes()
        engine = next(process for process in processes if "HTTPServer" in " ".join(process.cmdline()[:3]))
        engine.send_signal(signal.SIGKILL)
        await running.until_reported("is ready", times=2)
        assert await ended(processes)  # the first engine's child too
        assert running.pool.ready()
        assert (
            running.metrics.registry.get_sample_value("alphatier_engine_restarts_total", {"replica": "toy-engine"})
            == 1
        )


async def test_an_engine_that_never_comes_up_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    async with supervised(tmp_path, "raise SystemExit('no such model')") as running:
        with pytest.raises(EngineError, match="no such model"):
            await asyncio.wait_for(running.task, 30)


async def test_an_engine_that_cannot_even_be_started_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the logs' folder should be")
    async with supervised(tmp_path / "logs", ENGINE) as running:
        with pytest.raises(EngineError, match="toy-engine does not start: engine toy-engine cannot be started: "):
            await asyncio.wait_for(running.task, 30)
        assert "engine toy-engine cannot be started: " in " ".join(running.reported)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere an engine could not bind its port beside the gateway")
async def test_nobody_else_gets_the_port_of_an_engine_that_is_about_to_bind_it(tmp_path: Path) -> None:
    waits_for_the_event = (
        f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.01)"
    )
    async with supervised(tmp_path, waits_for_the_event + ENGINE) as running:
        await eventually(lambda: running.pool.replicas)
        (replica,) = running.pool.replicas
        port = int(replica.url.rpartition(":")[2])
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port))
        (tmp_path / "go").touch()
        await running.until_reported("is ready")


def test_an_engine_dies_with_a_gateway_that_was_killed(tmp_path: Path) -> None:
    parent_program = textwrap.dedent(f"""
        import subprocess, sys, time
        from alphatier_models.guard import GUARD
        engine = [sys.executable, "-c", {ENGINE!r}, "0"]
        subprocess.Popen([*GUARD, *engine], stdin=subprocess.PIPE, start_new_session=True)
        time.sleep(600)
    """)
    parent = subprocess.Popen([sys.executable, "-c", parent_program])
    tree = psutil.Process(parent.pid)
    for _ in range(200):
        if len(tree.children(recursive=True)) == 3:
            break
        psutil.wait_procs([tree], timeout=0.1)
    processes = tree.children(recursive=True)
    assert len(processes) == 3
    parent.kill()
    parent.wait(5)
    _, alive = psutil.wait_procs(processes, timeout=15)
    assert alive == []
