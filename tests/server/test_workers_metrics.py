"""Figures that several processes write and any of them reads: no death, restart or full file loses any."""

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from alphatier_server.metrics.multiprocess import forget_live_values, shared_registry
from support.gateway import metric_value

WRITER = """
import os, signal, sys
from pathlib import Path
from alphatier_server.metrics.multiprocess import share
share(Path(sys.argv[1]), sys.argv[2])
from alphatier_server.metrics.definitions import Metrics
metrics = Metrics()
for tier in range(100):  # far more than the 64 KiB with which a file begins
    series = ("toy", str(tier), "default", "chat/completions", "ok")
    metrics.requests.labels(*series).inc()
    metrics.request_completion_tokens.labels("toy", str(tier)).observe(tier)
metrics.requests.labels("toy", "0", "default", "chat/completions", "ok").inc(2)
metrics.in_flight.labels("toy", "0").inc(5)
metrics.in_flight.labels("toy", "0").dec()
metrics.replica_up.labels("engine").set(int(sys.argv[3]))
metrics.replica_breaker_state.labels("engine").set(int(sys.argv[4]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def write(folder: Path, process: str, *, up: int = 1, breaker: int = 0) -> None:
    """A process of that name writes its figures and is killed."""
    command = [sys.executable, "-c", WRITER, str(folder), process, str(up), str(breaker)]
    assert subprocess.run(command, timeout=60).returncode == -9


def scraped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    registry = shared_registry()
    assert isinstance(registry, CollectorRegistry)
    return generate_latest(registry).decode()


def test_figures_of_several_processes_and_of_successors_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "worker0", breaker=2)
    write(tmp_path, "worker1", up=0)
    forget_live_values(tmp_path, "worker0")
    write(tmp_path, "worker0", up=1)  # its successor goes on in the same files
    text = scraped(tmp_path, monkeypatch)
    assert metric_value(text, "alphatier_requests_total", tier="0") == 3 * (1 + 2)
    assert metric_value(text, "alphatier_requests_total") == 3 * (100 + 2)
    assert metric_value(text, "alphatier_request_completion_tokens_count") == 3 * 100
    assert metric_value(text, "alphatier_request_completion_tokens_sum", tier="99") == 3 * 99
    # 99 tokens: in no bucket below 128
    assert metric_value(text, "alphatier_request_completion_tokens_bucket", tier="99", le="64.0") == 0
    assert metric_value(text, "alphatier_request_completion_tokens_bucket", tier="99", le="128.0") == 3
    assert metric_value(text, "alphatier_requests_in_flight") == 4 + 4  # of the two that are there
    assert metric_value(text, "alphatier_replica_up") == 1  # who said it last


def test_what_a_dead_process_had_in_flight_goes_and_what_it_counted_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "worker0")
    write(tmp_path, "worker1", breaker=1)
    forget_live_values(tmp_path, "worker1")
    text = scraped(tmp_path, monkeypatch)
    assert metric_value(text, "alphatier_requests_in_flight") == 4
    assert metric_value(text, "alphatier_replica_breaker_state") == 0
    assert metric_value(text, "alphatier_requests_total") == 2 * (100 + 2)


def test_a_process_by_itself_shares_nothing() -> None:
    assert shared_registry() is None
