"""Standard error of a whole gateway as a full disk, as a pipe that nobody reads, closed: requests are answered."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.families import small_family
from support.gateway import metric_value
from support.processes import free_port, until
from support.raw_engine import RawEngine, whole

BODY = {"model": "toy", "messages": [{"role": "user", "content": "2 + 2?"}]}

both = pytest.mark.parametrize("workers", [1, 2])


class Gateway:
    """A gateway whose standard error nobody looks at."""

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.http = httpx.Client(base_url=url, timeout=10)

    def ask(self, times: int) -> None:
        for _ in range(times):
            assert self.http.post("/v1/chat/completions", json=BODY).status_code == 200

    def loses_its_log_only(self) -> None:
        """All are answered, and their lines are counted as lost."""
        self.ask(400)
        assert self.lives()
        until(lambda: self.dropped() >= 400, 10)

    def lives(self) -> bool:
        return self.http.get("/health/live").status_code == 200

    def ready(self) -> bool:
        try:
            return self.http.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def dropped(self) -> float:
        return metric_value(self.http.get("/metrics").text, "alphatier_log_lines_dropped_total")


@contextmanager
def gateway(folder: Path, engine: RawEngine, workers: int, stderr: Any, *, closed: bool = False) -> Iterator[Gateway]:
    small_family(folder / "toy")
    port = str(free_port())
    command = [sys.executable, "-m", "alphatier_models.cli", "serve", "--port", port, "--drain-delay", "0"]
    command += ["--family", "toy", "--engine", engine.url, "--workers", str(workers)]
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command] if closed else command
    with _running(command, port, folder, stderr) as made:
        yield made


@contextmanager
def _running(command: list[str], port: str, folder: Path, stderr: Any) -> Iterator[Gateway]:
    environment = {**os.environ, "ALPHATIER_CONFIG": "gateway.toml"}
    process = subprocess.Popen(command, stderr=stderr, cwd=folder, start_new_session=True, text=True, env=environment)
    made = Gateway(f"http://127.0.0.1:{port}", process)
    try:
        until(made.ready, 60, process=process)
        yield made
    finally:
        made.http.close()
        process.terminate()
        process.wait(30)


@both
def test_a_full_disk_costs_log_lines_and_no_request(tmp_path: Path, engine: RawEngine, workers: int) -> None:
    with Path("/dev/full").open("wb") as full, gateway(tmp_path, engine, workers, full) as running:
        running.loses_its_log_only()
    assert running.process.returncode == 0


def test_what_is_lost_under_plain_uvicorn_is_counted_as_well(tmp_path: Path, engine: RawEngine) -> None:
    with Path("/dev/full").open("wb") as full, _under_uvicorn(tmp_path, engine, full) as running:
        running.ask(20)
        until(lambda: running.dropped() >= 20, 10)


def test_a_pipe_that_nobody_reads_holds_nothing_up_under_plain_uvicorn(tmp_path: Path, engine: RawEngine) -> None:
    engine.script = [whole(b'{"error": "no"}', "401 Unauthorized")]  # each is a message of the gateway's
    reading, writing = os.pipe()
    with _under_uvicorn(tmp_path, engine, writing) as running:
        for _ in range(800):
            assert running.http.post("/v1/chat/completions", json=BODY).status_code == 502
        os.close(writing)
        os.close(reading)


@contextmanager
def _under_uvicorn(folder: Path, engine: RawEngine, stderr: Any) -> Iterator[Gateway]:
    small_family(folder / "toy")
    (folder / "gateway.toml").write_text(f'families = ["toy"]\n[[engines]]\nurl = "{engine.url}"\n')
    port = str(free_port())
    command = [sys.executable, "-m", "uvicorn", "--factory", "alphatier_server:create_app", "--port", port]
    with _running([*command, "--no-access-log"], port, folder, stderr) as running:
        yield running


@both
def test_a_closed_standard_error_costs_log_lines_and_no_request(
    tmp_path: Path, engine: RawEngine, workers: int
) -> None:
    with gateway(tmp_path, engine, workers, None, closed=True) as running:
        running.loses_its_log_only()
    assert running.process.returncode == 0


@both
def test_a_pipe_whose_reader_is_gone_costs_log_lines_and_no_request(
    tmp_path: Path, engine: RawEngine, workers: int
) -> None:
    reading, writing = os.pipe()
    with gateway(tmp_path, engine, workers, writing) as running:
        os.close(writing)
        os.close(reading)
        running.loses_its_log_only()
    assert running.process.returncode == 0


@both
def test_a_pipe_that_nobody_reads_holds_nothing_up_and_is_written_again_when_it_is_read(
    tmp_path: Path, engine: RawEngine, workers: int
) -> None:
    reading, writing = os.pipe()
    with gateway(tmp_path, engine, workers, writing) as running:
        os.close(writing)
        running.ask(800)  # a pipe holds 64 KiB: some hundred lines
        assert running.lives()
        lines = [json.loads(line) for line in read_requests(reading, 800)]
        assert all(line["status"] == 200 for line in lines)
        assert running.dropped() == 0  # the queue took them
    os.close(reading)
    assert running.process.returncode == 0


def test_a_stuck_pipe_does_not_hold_the_end(tmp_path: Path, engine: RawEngine) -> None:
    reading, writing = os.pipe()
    with gateway(tmp_path, engine, 1, writing) as running:
        os.close(writing)
        running.ask(800)
        running.process.terminate()
        assert running.process.wait(8) == 0
    os.close(reading)


def read_requests(descriptor: int, count: int) -> list[bytes]:
    """So many request lines."""
    text = b""
    while text.count(b'"event":"request"') < count or not text.endswith(b"\n"):
        text += os.read(descriptor, 65536)
    return [line for line in text.splitlines() if b'"event":"request"' in line]


def test_every_line_is_json_and_says_when_how_grave_and_what(tmp_path: Path, engine: RawEngine) -> None:
    with (tmp_path / "log").open("wb") as file, gateway(tmp_path, engine, 2, file) as running:
        running.ask(3)
        running.process.terminate()
        running.process.wait(30)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert all({"time", "level", "event"} <= line.keys() for line in lines)
    assert sum(line["event"] == "request" for line in lines) == 3
    messages = [line["message"] for line in lines if line["event"] == "message"]
    assert messages[0].startswith("alphatier serves toy at http://127.0.0.1:")
    assert messages[-1] == "alphatier has stopped"
