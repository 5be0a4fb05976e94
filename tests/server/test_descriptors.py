"""A gateway that may open no more files: its own trouble, which says nothing about its engines."""

import resource
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson
import psutil
import pytest

from support.families import small_family
from support.fuzzing import ANSWER, BODY
from support.processes import serving, until
from support.raw_engine import whole

CARDS = orjson.dumps({"object": "list", "data": [{"id": f"toy:{tier}"} for tier in ("base", "careful", "terse")]})
CONFIGURATION = """
families = ["toy"]
[replicas]
health_interval = 0.05
[[engines]]
url = "{url}"
"""


class _OneAnswer(socketserver.StreamRequestHandler):
    """Answers one request on each connection, so that the next one needs another."""

    def handle(self) -> None:
        length = 0
        line = first = self.rfile.readline()
        while line.strip():
            line = self.rfile.readline()
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        self.rfile.read(length)
        body = whole(ANSWER if first.startswith(b"POST") else CARDS)
        self.wfile.write(body.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))


@contextmanager
def engine() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _OneAnswer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def no_more_files(pid: int) -> Iterator[None]:
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (psutil.Process(pid).num_fds(), before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="prlimit(2) is Linux'")
def test_without_descriptors_no_engine_is_taken_for_dead(tmp_path: Path) -> None:
    small_family(tmp_path / "toy")
    with engine() as url:
        (tmp_path / "gateway.toml").write_text(CONFIGURATION.format(url=url))
        with (
            serving(tmp_path, "--config", "gateway.toml", logs=tmp_path) as gateway,
            httpx.Client(base_url=gateway.url, headers={"content-type": "application/json"}) as client,
        ):
            assert client.post("/v1/chat/completions", content=BODY).status_code == 200
            with no_more_files(gateway.process.pid):
                many_checks = time.monotonic() + 1.0
                while time.monotonic() < many_checks:
                    answer = client.post("/v1/chat/completions", content=BODY)
                    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_many_connections")
                assert f"engine {url} cannot be checked: no file descriptor is left" in gateway.said()
            until(lambda: client.post("/v1/chat/completions", content=BODY).status_code == 200, 5)
            assert gateway.metric("alphatier_health_check_failures_total") == 0
