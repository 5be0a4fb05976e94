"""A gateway with few file descriptors: it takes all it may have, and running out is no engine's fault."""

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from alphatier_server.engines.api import EngineApi, HealthCheck
from alphatier_server.errors import NoDescriptors
from alphatier_server.settings.replicas import PoolSettings
from support.families import small_family
from support.fuzzing import request
from support.gateway import metric_value
from support.processes import free_port, until
from support.raw_client import connect
from support.raw_engine import RawEngine

HARD = 128


@pytest.fixture
def engine(engine: RawEngine) -> RawEngine:
    engine.close = True
    return engine


@contextmanager
def gateway(folder: Path, engine: RawEngine, limits: str = "") -> Iterator[tuple[str, psutil.Process]]:
    """A gateway that may have HARD descriptors and begins with half of them."""
    small_family(folder / "toy")
    port = free_port()
    (folder / "gateway.toml").write_text(f'families = ["toy"]\nengines = [{{ url = "{engine.url}" }}]\n{limits}\n')
    command = [sys.executable, "-m", "alphatier_models.cli", "serve", "--config", "gateway.toml"]
    command += ["--port", str(port), "--drain-delay", "0"]
    url = f"http://127.0.0.1:{port}"
    log = folder / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            ["bash", "-c", f'ulimit -Sn {HARD // 2}; ulimit -Hn {HARD}; exec "$@"', "bash", *command],
            cwd=folder, stderr=stream, stdout=stream, text=True,
        )  # fmt: skip
    try:
        until(lambda: _ready(url), 60, process=process, log=log)
        yield url, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def ask(client: socket.socket) -> tuple[int, str]:
    client.sendall(request())
    with client.makefile("rb") as answer:
        status = int(answer.readline().split()[1])
        length = 0
        while (line := answer.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        document = json.loads(answer.read(length))
    return status, document.get("error", {}).get("code", "")


def test_the_soft_limit_is_raised_and_idle_connections_are_capped(tmp_path: Path, engine: RawEngine) -> None:
    with gateway(tmp_path, engine) as (url, process), ExitStack() as stack:
        assert process.rlimit(resource.RLIMIT_NOFILE) == (HARD, HARD)
        first = stack.enter_context(connect(url))
        assert ask(first)[0] == 200
        idle = [stack.enter_context(connect(url)) for _ in range(HARD)]
        # half of what is left beside those for itself is kept, and 16 at least
        until(lambda: len(_told(idle)) > HARD - 20, 10)
        assert all(_was_refused(client) for client in _told(idle))
        assert ask(first)[0] == 200
        for client in idle:
            client.close()
        until(lambda: _ready(url), 10)


def _told(clients: list[socket.socket]) -> list[socket.socket]:
    return select.select(clients, [], [], 0)[0]


def _was_refused(client: socket.socket) -> bool:
    try:
        return b" 503 " in client.recv(100)
    except ConnectionError:
        return True


def test_running_out_is_told_as_such_and_no_engine_is_taken_out(tmp_path: Path, engine: RawEngine) -> None:
    with gateway(tmp_path, engine, "limits.max_connections = 10000") as (url, process), ExitStack() as stack:
        assert process.rlimit(resource.RLIMIT_NOFILE) == (HARD, HARD)
        first = stack.enter_context(connect(url))
        assert ask(first)[0] == 200
        idle = [stack.enter_context(connect(url)) for _ in range(HARD)]
        until(lambda: process.num_fds() > HARD - 5, 10)
        codes = {ask(first) for _ in range(20)}
        assert codes <= {(503, "too_many_connections"), (200, "")}
        assert (503, "too_many_connections") in codes
        for client in idle:
            client.close()
        until(lambda: ask(first)[0] == 200, 10)
        metrics = httpx.get(f"{url}/metrics").text
        assert metric_value(metrics, "alphatier_replica_ejections_total") == 0
        assert metric_value(metrics, "alphatier_errors_total", kind="no_engine") == 0


async def test_a_health_check_without_a_descriptor_says_nothing_about_the_engine() -> None:
    class Poor:
        async def fetch(self, *_arguments: object, **_named: object) -> None:
            raise NoDescriptors(os.strerror(24))

    check = HealthCheck(EngineApi("engine", "http://engine", None, Poor()), PoolSettings())  # type: ignore[arg-type]
    for healthy in (False, True):
        check.healthy = healthy
        assert await check.answers() is healthy
