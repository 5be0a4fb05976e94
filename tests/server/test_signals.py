"""How a gateway ends: alone and with workers, with streams that run, and when somebody is impatient."""

import fcntl
import http.client
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import orjson
import pytest

from support.families import small_family
from support.processes import Served, serving_toy, until
from support.raw_client import connect
from support.raw_engine import STREAM_END, STREAM_HEAD, Piece, chunked, raw_engine

BODY = {"model": "toy", "messages": [{"role": "user", "content": "2 + 2?"}], "stream": True}
PATH = "/v1/chat/completions"

both = pytest.mark.parametrize("workers", [1, 2])


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    document = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return chunked(b"data: " + orjson.dumps(document) + b"\n\n")


def stream(seconds: float) -> list[Piece]:
    """A token, a pause, a token, the end."""
    end = [event({}, "stop"), chunked(b"data: [DONE]\n\n"), STREAM_END]
    return [STREAM_HEAD, event({"content": "a"}), seconds, event({"content": "b"}), *end]


@dataclass
class Client:
    """A client in a thread, reading one stream to its end."""

    url: str
    text: str = ""
    fault: str = ""
    first: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self.thread = threading.Thread(target=self._read)
        self.thread.start()
        assert self.first.wait(20)

    def _read(self) -> None:
        try:
            with httpx.stream("POST", self.url + PATH, json=BODY, timeout=60) as answer:
                for text in answer.iter_text():
                    self.text += text
                    self.first.set()
        except httpx.TransportError as error:
            self.fault = type(error).__name__


@contextmanager
def streaming(folder: Path, workers: int, seconds: float, *options: str) -> Iterator[tuple[Served, Client]]:
    """A gateway with a client whose stream pauses for so long; in the end its thread has ended too."""
    with raw_engine() as engine, serving_toy(folder, engine.url, *options, workers=workers) as served:
        engine.script = stream(seconds)
        client = Client(served.url)
        client.start()
        yield served, client
        client.thread.join(20)


@both
def test_sigterm_refuses_what_is_new_finishes_what_runs_and_ends_with_0(tmp_path: Path, workers: int) -> None:
    with streaming(tmp_path, workers, 1.5, "--drain-delay", "3") as (served, client):
        kept = http.client.HTTPConnection(urlsplit(served.url).netloc)
        kept.request("GET", "/health/ready")
        assert kept.getresponse().read()
        served.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{served.url}/health/ready").status_code == 503, 2)

        kept.request("POST", PATH, orjson.dumps(BODY))
        answer = kept.getresponse()
        assert answer.status == 503
        assert answer.headers["retry-after"]
        assert answer.headers["connection"] == "close"
        assert orjson.loads(answer.read())["error"]["code"] == "shutting_down"
        fresh = httpx.post(served.url + PATH, json=BODY)
        assert (fresh.status_code, fresh.headers["connection"]) == (503, "close")
        assert httpx.get(f"{served.url}/health/live").status_code == 200

        client.thread.join(20)
        assert client.text.endswith("data: [DONE]\n\n")
        assert served.process.wait(20) == 0


@both
def test_a_stream_that_outlasts_the_drain_limit_is_told_so(tmp_path: Path, workers: int) -> None:
    with streaming(tmp_path, workers, 30.0, "--drain-seconds", "1") as (served, client):
        started = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0
        assert 0.9 < time.monotonic() - started < 6
        client.thread.join(20)
        assert "shutting_down" in client.text
        assert "[DONE]" not in client.text


@both
def test_without_a_drain_limit_a_stream_may_take_as_long_as_it_does(tmp_path: Path, workers: int) -> None:
    with streaming(tmp_path, workers, 2.0, "--drain-seconds", "0") as (served, client):
        served.process.send_signal(signal.SIGINT)
        client.thread.join(20)
        assert client.text.endswith("data: [DONE]\n\n")
        assert served.process.wait(20) == 0


@both
def test_a_second_signal_ends_it_at_once(tmp_path: Path, workers: int) -> None:
    with streaming(tmp_path, workers, 30.0, "--drain-delay", "20") as (served, client):
        served.process.send_signal(signal.SIGTERM)
        until(lambda: "ending:" in served.said(), 5)
        started = time.monotonic()
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(20) == 1
        assert time.monotonic() - started < 4
        client.thread.join(20)
        assert client.fault


@both
def test_ctrl_c_does_not_listen_on(tmp_path: Path, workers: int) -> None:
    with streaming(tmp_path, workers, 30.0, "--drain-delay", "20") as (served, _):
        served.process.send_signal(signal.SIGINT)
        until(lambda: refused(served.url), 5)
        assert served.process.poll() is None
        served.process.send_signal(signal.SIGINT)
        served.process.wait(20)


def refused(url: str) -> bool:
    try:
        with connect(url):
            return False
    except ConnectionRefusedError:
        return True


def test_a_terminal_that_is_closed_ends_the_gateway(tmp_path: Path) -> None:
    small_family(tmp_path / "toy")
    with raw_engine() as engine:
        options = ("--family", str(tmp_path / "toy"), "--engine", engine.url, "--port", "0")
        command = [sys.executable, "-m", "alphatier_models.cli", "serve", *options]
        ours, theirs = pty.openpty()
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                command, stdin=theirs, stderr=log, start_new_session=True, preexec_fn=take_terminal
            )
        os.close(theirs)
        until(lambda: "ready" in (tmp_path / "log").read_text(), 30, log=tmp_path / "log")
        os.close(ours)
        assert process.wait(20) == 0


def take_terminal() -> None:
    """Make standard input the controlling terminal, as a shell's is."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
