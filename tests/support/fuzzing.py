"""The gateway as a real process in front of an engine that keeps and sends raw bytes: for fuzzers.

Requests have two ways into it: `alphatier serve` with its accelerator, and plain ASGI under an unchanged uvicorn.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from support.families import small_family
from support.processes import START_SECONDS, Served, serving, until
from support.raw_engine import RawEngine, raw_engine, whole

CHAT = "/v1/chat/completions"
BODY = b'{"model":"toy","messages":[{"role":"user","content":"?"}]}'
ANSWER = orjson.dumps(
    {
        "id": "x",
        "model": "toy:careful",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    }
)


WAYS = ("accelerator", "asgi")
BOTH_WAYS = pytest.mark.parametrize("pair", WAYS, indirect=True, scope="module")
"""For tests whose fixture `pair` takes its parameter to `fuzzed_gateway`."""


def way_of(request: pytest.FixtureRequest) -> str:
    """The parameter of `pair`; tests that are about the accelerator's own bounds give none."""
    return str(getattr(request, "param", "accelerator"))


def examples(count: int) -> int:
    """How many examples to try: more where `tests/benchmarks/fuzz.py` fuzzes for hours."""
    return count * int(os.environ.get("ALPHATIER_FUZZ", "1"))


@contextmanager
def fuzzed_gateway(folder: Path, way: str = "accelerator", **limits: float) -> Iterator[tuple[Served, RawEngine]]:
    """`limits` are those of the configuration file's `[limits]`."""
    small_family(folder / "toy")
    with raw_engine() as engine:
        engine.script = [whole(ANSWER)]
        _write_configuration(folder / "gateway.toml", engine.url, limits)
        served = serving(folder, "--config", "gateway.toml", logs=folder) if way != "asgi" else _under_uvicorn(folder)
        with served as gateway:
            yield gateway, engine


def module_pair(name: str, **limits: float) -> Any:
    """The fixture `pair` of a module: one gateway and its engine for all its tests."""

    @pytest.fixture(scope="module", name="pair")
    def pair(
        request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[tuple[Served, RawEngine]]:
        with fuzzed_gateway(tmp_path_factory.mktemp(name), way_of(request), **limits) as made:
            yield made

    return pair


def _write_configuration(file: Path, engine: str, limits: dict[str, float]) -> None:
    lines = ['families = ["toy"]', "[limits]", *(f"{name} = {value}" for name, value in limits.items())]
    # The engine fails on purpose and all the time; the gateway shall ask it nevertheless.
    lines += ["[replicas]", "breaker_failures = 1000000", "breaker_window = 1000", "breaker_share = 1.0"]
    file.write_text("\n".join([*lines, "[[engines]]", f'url = "{engine}"', ""]))


@contextmanager
def _under_uvicorn(folder: Path) -> Iterator[Served]:
    log = folder / "serve.log"
    command = [sys.executable, "-m", "uvicorn", "--factory", "alphatier_server:create_app", "--port", "0"]
    environment = {**os.environ, "ALPHATIER_CONFIG": str(folder / "gateway.toml")}
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream, stdout=stream, text=True, env=environment, cwd=folder)
    try:
        until(lambda: _running_on(log), START_SECONDS, process=process, log=log)
        served = Served(_running_on(log), process, log)
        until(served.ready, START_SECONDS, process=process, log=log)
        yield served
    finally:
        process.terminate()
        process.wait(60)


def _running_on(log: Path) -> str:
    found = re.search(r"running on (http://[^\s\"]+)", log.read_text())
    return found[1] if found else ""


def request(
    body: bytes = BODY,
    *,
    line: str = f"POST {CHAT} HTTP/1.1",
    headers: Sequence[str] = (),
    length: str | None = "content-length: {}",
) -> bytes:
    """A request's bytes; `length` None leaves out Content-Length."""
    lines = [line, "host: localhost", "content-type: application/json", *headers]
    if length is not None:
        lines.append(length.format(len(body)))
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


@contextmanager
def living(gateway: Served) -> Iterator[Served]:
    """Afterwards the process must run, and its log tell of no new fault of its own."""
    known = len(gateway.log.read_text())
    yield gateway
    assert gateway.process.poll() is None, "the gateway died"
    # Plain uvicorn refuses what follows a request by closing the connection under the request's answer.
    said = gateway.log.read_text()[known:]
    assert said.count("Traceback") == said.count("the handler is closed")
