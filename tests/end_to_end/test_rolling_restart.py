"""Two gateways behind a real nginx, restarted one after the other under load: no client may notice.

The nginx configuration is the one that server/README.md recommends ("Rolling restarts"), read from there.
"""

import asyncio
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
import pytest

from benchmarks.soak.processes import EngineProcess
from support.families import small_family
from support.processes import Served, free_port, require, serving, until
from support.waiting import eventually

README = Path(__file__).parents[2] / "server" / "README.md"
USERS = 12
TOKENS = 40
"""Tokens a stream; `slow` makes the engine take about 10 ms for each, so that streams are open when SIGTERM comes."""
ENOUGH = 200
"""Requests that must be answered around each restart for the test to mean anything."""


@dataclass
class Load:
    """What the clients saw."""

    answered: int = 0
    streamed: int = 0
    failed: list[str] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    with (tmp_path / "engine.log").open("w") as log:
        engine = EngineProcess("engine", log)
        engine.start()
        yield engine
        engine.close()


def gateway(tmp_path: Path, engine: EngineProcess, name: str, port: int) -> ExitStack:
    """A gateway that serves until the stack is closed, which sends SIGTERM and waits for its end."""
    logs = tmp_path / name
    logs.mkdir(exist_ok=True)
    stack = ExitStack()
    options = ["--family", "toy", "--engine", engine.url, "--port", str(port), "--drain-seconds", "30"]
    served: Served = stack.enter_context(serving(tmp_path, *options, logs=logs))
    stack.callback(_end, served)
    return stack


def _end(served: Served) -> None:
    """End it as an orchestrator does: one SIGTERM, then patience."""
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(40) == 0


@contextmanager
def nginx(folder: Path, ports: tuple[int, int]) -> Iterator[str]:
    """nginx with the README's configuration in front of two gateways; its URL."""
    program, port = require("nginx"), free_port()
    folder.mkdir()
    block = re.search(r"## Rolling restarts.*?```nginx\n(.*?)```", README.read_text(), re.DOTALL)
    assert block is not None, "server/README.md has no nginx configuration"
    site = block[1].replace("listen 80;", f"listen 127.0.0.1:{port};")
    for name, gateway_port in zip(("gateway-1", "gateway-2"), ports, strict=True):
        site = site.replace(f"{name}:8000", f"127.0.0.1:{gateway_port}")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log warn;\n"
        f"events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n"
    )
    with (folder / "stderr.log").open("w") as log:
        process = subprocess.Popen([program, "-c", str(config), "-p", str(folder)], stderr=log, text=True)
        try:
            until(lambda: (folder / "pid").exists(), 20, process=process, log=folder / "stderr.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(20)


async def use(url: str, http: aiohttp.ClientSession, load: Load, number: int) -> None:
    """Ask again and again, streamed and not, until told to stop."""
    while not load.stop.is_set():
        number += USERS
        stream = number % 2 == 0
        orders = {"id": "x", "fault": "slow" if stream else "none", "tokens": TOKENS if stream else 4}
        body = orjson.dumps({"model": "toy", "stream": stream, "soak": orders})
        try:
            async with http.post(f"{url}/v1/chat/completions", data=body, headers={"x-request-id": "x"}) as answer:
                text = await answer.read()
        except aiohttp.ClientError as error:
            load.failed.append(repr(error))
            continue
        sound = text.endswith(b"data: [DONE]\n\n") if stream else b'"finish_reason":"stop"' in text
        if answer.status != 200 or not sound:
            load.failed.append(f"{answer.status} {text[-200:]!r}")
        load.answered += 1
        load.streamed += stream


@asynccontextmanager
async def loaded(url: str, load: Load) -> AsyncIterator[None]:
    """Users that ask from here to the end."""
    headers = {"content-type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as http, asyncio.TaskGroup() as group:
        for number in range(USERS):
            group.create_task(use(url, http, load, number))
        try:
            yield
        finally:
            load.stop.set()


async def more_answers(load: Load, count: int) -> None:
    goal = load.answered + count
    await eventually(lambda: load.answered >= goal, 60)


async def test_no_request_fails_while_two_gateways_are_restarted_one_after_the_other(
    tmp_path: Path, engine: EngineProcess
) -> None:
    small_family(tmp_path / "toy")
    ports = (free_port(), free_port())
    running = [await asyncio.to_thread(gateway, tmp_path, engine, f"g{n}", port) for n, port in enumerate(ports)]
    load = Load()
    try:
        with nginx(tmp_path / "nginx", ports) as url:
            async with loaded(url, load):
                await more_answers(load, ENOUGH)
                for number, port in enumerate(ports):
                    await asyncio.to_thread(running[number].close)
                    await more_answers(load, ENOUGH)
                    running[number] = await asyncio.to_thread(gateway, tmp_path, engine, f"g{number}", port)
                    await more_answers(load, ENOUGH)
    finally:
        for each in running:
            each.close()
    assert load.failed == []
    assert load.streamed > ENOUGH / 10
