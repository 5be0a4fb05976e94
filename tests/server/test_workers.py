"""`alphatier serve --workers N` as processes: what they count and limit together, and what one death costs."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import orjson
import psutil
import pytest

from support.keys import key_file
from support.processes import Served, serving_toy, until
from support.raw_engine import RawEngine, RawRequest, raw_engine, whole

WORKERS = 3
REQUESTS = 2000
THREADS = 16
BODY = json.dumps({"model": "toy", "messages": [{"role": "user", "content": "2 + 2?"}]})


def completion(_request: RawRequest) -> list[bytes | float]:
    """Three tokens, two of them reasoning."""
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    usage["completion_tokens_details"] = {"reasoning_tokens": 2}  # type: ignore[assignment]
    message = {"role": "assistant", "content": "4", "reasoning": "2 + 2 = 4"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    document = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return [whole(orjson.dumps({**document, "usage": usage}))]


@dataclass
class Several:
    """A gateway of several workers and its engine."""

    served: Served
    engine: RawEngine

    @property
    def workers(self) -> list[psutil.Process]:
        return [p for p in psutil.Process(self.served.process.pid).children() if "worker" in " ".join(p.cmdline())]

    def ok(self) -> float:
        return self.served.metric("alphatier_requests_total", outcome="ok")

    def in_flight(self) -> float:
        names = ("alphatier_requests_in_flight", "alphatier_replica_requests_in_flight")
        return sum(self.served.metric(name) for name in names)


@contextmanager
def several(folder: Path, *options: str, workers: int = WORKERS) -> Iterator[Several]:
    with raw_engine() as engine:
        engine.script = completion
        with serving_toy(folder, engine.url, *options, workers=workers) as served:
            gateway = Several(served, engine)
            until(lambda: len(listening(gateway)) == workers, 30)
            yield gateway


def listening(gateway: Several) -> list[psutil.Process]:
    """The workers that have said that they listen."""
    return [worker for worker in gateway.workers if worker.status() != psutil.STATUS_ZOMBIE]


def load(url: str, requests: int, headers: dict[str, str] | None = None) -> Counter[int]:
    """Ask so often over many connections at once, ten requests each. Returns how often which status came."""
    seen: Counter[int] = Counter()
    lock = threading.Lock()
    shares = [len(range(start, requests, THREADS)) for start in range(THREADS)]

    def ask(share: int) -> None:
        mine: Counter[int] = Counter()
        while share:
            turn = min(10, share)
            mine.update(connection(url, turn, headers or {}))
            share -= turn
        with lock:
            seen.update(mine)

    threads = [threading.Thread(target=ask, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return seen


def connection(url: str, requests: int, headers: dict[str, str]) -> list[int]:
    parts = urlsplit(url)
    client = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    statuses = []
    for _ in range(requests):
        client.request("POST", "/v1/chat/completions", BODY, {"content-type": "application/json", **headers})
        answer = client.getresponse()
        answer.read()
        statuses.append(answer.status)
    client.close()
    return statuses


def test_counters_are_what_clients_saw_also_when_a_worker_was_killed_in_between(tmp_path: Path) -> None:
    with several(tmp_path) as gateway:
        assert load(gateway.served.url, REQUESTS // 2) == {200: REQUESTS // 2}
        assert gateway.ok() == REQUESTS // 2
        victim = gateway.workers[0]
        os.kill(victim.pid, signal.SIGKILL)
        until(lambda: not psutil.pid_exists(victim.pid) and len(listening(gateway)) == WORKERS, 30)
        assert gateway.ok() == REQUESTS // 2
        assert load(gateway.served.url, REQUESTS // 2) == {200: REQUESTS // 2}
        assert gateway.ok() == REQUESTS
        # 3 tokens a request, 2 of them reasoning; the histograms saw each request once
        assert gateway.served.metric("alphatier_completion_tokens_total") == 3 * REQUESTS
        assert gateway.served.metric("alphatier_reasoning_tokens_total") == 2 * REQUESTS
        assert gateway.served.metric("alphatier_request_duration_seconds_count") == REQUESTS
        assert gateway.served.metric("alphatier_replica_up") == 1
        assert gateway.in_flight() == 0
        assert len(gateway.engine.requests) == REQUESTS


def test_connections_are_spread_over_the_workers(tmp_path: Path) -> None:
    with several(tmp_path) as gateway:
        before = {worker.pid: sum(worker.cpu_times()[:2]) for worker in gateway.workers}
        load(gateway.served.url, 900)
        spent = [sum(worker.cpu_times()[:2]) - before[worker.pid] for worker in gateway.workers]
        assert min(spent) > 0.1 * sum(spent)  # an even third each, give or take the hash of 90 connections


def test_what_a_killed_worker_had_in_flight_is_no_more(tmp_path: Path) -> None:
    with several(tmp_path) as gateway:
        gateway.engine.stall = True
        gateway.engine.script = ()
        hanging = [threading.Thread(target=hang, args=(gateway.served.url,)) for _ in range(9)]
        for thread in hanging:
            thread.start()
        gateway.engine.wait_for(9)
        assert gateway.in_flight() == 9 + 9
        for worker in gateway.workers:
            os.kill(worker.pid, signal.SIGKILL)
        for thread in hanging:
            thread.join(30)
        until(lambda: gateway.served.ready(), 30)
        until(lambda: gateway.in_flight() == 0, 30)
        gateway.engine.stall = False
        gateway.engine.script = completion
        assert load(gateway.served.url, 20) == {200: 20}


def hang(url: str) -> None:
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        connection(url, 1, {})


def test_limits_hold_over_all_workers_together(tmp_path: Path) -> None:
    limits = {"team": {"requests_per_minute": 1, "requests_burst": 40}, "narrow": {"concurrent_requests": 2}}
    keys = key_file(tmp_path, {name: f"sk-{name}" for name in limits}, **limits)
    with several(tmp_path, "--keys", str(keys)) as gateway:
        assert load(gateway.served.url, 30) == {401: 30}
        seen = load(gateway.served.url, 160, {"authorization": "Bearer sk-team"})
        assert seen == {200: 40, 429: 120}
        assert gateway.served.metric("alphatier_limits_hit_total") == 120

        narrow = {"authorization": "Bearer sk-narrow"}
        gateway.engine.stall = True
        gateway.engine.script = ()
        gateway.engine.clear()
        hanging = [threading.Thread(target=hang_as, args=(gateway.served.url, narrow)) for _ in range(2)]
        for thread in hanging:
            thread.start()
        gateway.engine.wait_for(2)
        assert load(gateway.served.url, 24, narrow) == {429: 24}
        for worker in gateway.workers:
            os.kill(worker.pid, signal.SIGKILL)
        for thread in hanging:
            thread.join(30)
        gateway.engine.stall = False
        gateway.engine.script = completion
        until(lambda: gateway.served.ready(), 30)
        # the places of the killed workers are free again
        assert connection(gateway.served.url, 5, narrow) == [200] * 5


def hang_as(url: str, headers: dict[str, str]) -> None:
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        connection(url, 1, headers)


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    with several(tmp_path) as gateway:
        workers = gateway.workers
        gateway.served.process.kill()
        gateway.served.process.wait(10)
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert not alive


def test_a_port_that_another_gateway_has_is_refused(tmp_path: Path) -> None:
    with several(tmp_path, workers=2) as gateway:
        port = str(urlsplit(gateway.served.url).port)
        for workers in ("1", "2"):
            refused = tmp_path / "refused"
            refused.mkdir(exist_ok=True)
            done = run_to_the_end(tmp_path, "--port", port, "--engine", gateway.engine.url, "--workers", workers)
            assert f"Cannot listen on 127.0.0.1:{port}" in done


def run_to_the_end(folder: Path, *options: str) -> str:
    """What `alphatier serve` says when it cannot start."""
    command = [sys.executable, "-m", "alphatier_models.cli", "serve", "--family", str(folder / "toy"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)
    assert done.returncode == 1
    return done.stderr


def test_a_level_of_brownout_that_an_administrator_holds_is_held_by_all_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPHATIER_ADMIN_KEYS", "root:the-key-of-root")
    with several(tmp_path) as gateway:

        def held(level: float | None) -> int:
            headers = {"authorization": "Bearer the-key-of-root"}
            path = f"{gateway.served.url}/admin/families/toy/brownout"
            return httpx.put(path, json={"level": level}, headers=headers).status_code

        def slid() -> float:
            """The share of 300 requests over 30 connections."""
            before = gateway.served.metric("alphatier_decisions_total", decision="brownout")
            load(gateway.served.url, 300)
            return (gateway.served.metric("alphatier_decisions_total", decision="brownout") - before) / 300

        assert held(1) == 200
        until(lambda: slid() == 1, 10)
        assert held(None) == 200
        until(lambda: slid() == 0, 10)
