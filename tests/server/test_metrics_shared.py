"""Figures that several processes write and any of them reads: no death, restart or full file loses any."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from alphatier_server.metrics.definitions import Metrics
from support.gateway import metric_value

WRITER = """
import os, signal, sys
from pathlib import Path
from alphatier_server.metrics.definitions import Metrics
metrics = Metrics(Path(sys.argv[1]), sys.argv[2])
for tier in range(1000):  # far more than is reserved at a time
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
OK = ("default", "chat/completions", "ok")


def write(folder: Path, process: str, *, up: int = 1, breaker: int = 0) -> None:
    """A process of that name writes its figures and is killed."""
    command = [sys.executable, "-c", WRITER, str(folder), process, str(up), str(breaker)]
    assert subprocess.run(command, timeout=60).returncode == -9


def scraped(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


@pytest.fixture
def parent(tmp_path: Path) -> Metrics:
    return Metrics(tmp_path, "parent")


def test_figures_of_several_processes_and_of_successors_add_up(tmp_path: Path, parent: Metrics) -> None:
    write(tmp_path, "worker0", breaker=2)
    write(tmp_path, "worker1", up=0)
    assert metric_value(scraped(parent), "alphatier_replica_breaker_state") == 2
    parent.forget_process("worker0")
    write(tmp_path, "worker0", up=1)  # its successor goes on in the same file
    text = scraped(parent)
    assert metric_value(text, "alphatier_requests_total", tier="0") == 3 * (1 + 2)
    assert metric_value(text, "alphatier_requests_total") == 3 * (1000 + 2)
    assert metric_value(text, "alphatier_request_completion_tokens_count") == 3 * 1000
    assert metric_value(text, "alphatier_request_completion_tokens_sum", tier="99") == 3 * 99
    # 99 tokens: in no bucket below 128
    assert metric_value(text, "alphatier_request_completion_tokens_bucket", tier="99", le="64.0") == 0
    assert metric_value(text, "alphatier_request_completion_tokens_bucket", tier="99", le="128.0") == 3
    assert metric_value(text, "alphatier_requests_in_flight") == 4 + 4  # of the two that are there
    assert metric_value(text, "alphatier_replica_breaker_state") == 0
    assert metric_value(text, "alphatier_replica_up") == 1  # who said it last


def test_what_a_dead_process_had_in_flight_goes_and_what_it_counted_stays(tmp_path: Path, parent: Metrics) -> None:
    write(tmp_path, "worker0")
    write(tmp_path, "worker1", breaker=1)
    parent.forget_process("worker1")
    text = scraped(parent)
    assert metric_value(text, "alphatier_requests_in_flight") == 4
    assert metric_value(text, "alphatier_replica_breaker_state") == 0
    assert metric_value(text, "alphatier_requests_total") == 2 * (1000 + 2)


def test_every_process_shows_the_same(tmp_path: Path, parent: Metrics) -> None:
    worker = Metrics(tmp_path, "worker0")
    parent.engine_restarts.labels("engine").inc()
    worker.in_flight.labels("toy", "base").inc()
    assert scraped(parent) == scraped(worker)
    worker.in_flight.labels("toy", "base").dec()
    worker.retries.labels("toy", "base").inc()
    assert scraped(parent) == scraped(worker)
    assert metric_value(scraped(parent), "alphatier_retries_total") == 1


def test_a_process_that_died_before_it_wrote_anything_is_forgotten_without_fault(parent: Metrics) -> None:
    parent.forget_process("worker7")


def test_what_a_killed_process_had_half_written_breaks_no_scrape_and_goes_to_its_successor(
    tmp_path: Path, parent: Metrics
) -> None:
    Metrics(tmp_path, "worker0").requests.labels("toy", "base", *OK).inc()
    numbers = tmp_path / "worker0.numbers"
    written = numbers.read_bytes().rstrip(b"\0")
    with numbers.open("r+b") as file:
        file.seek(-(-len(written) // 8) * 8)
        file.write(struct.pack("ddd", 1, 3, 0) + b'["alphatier_requests", "su')
    assert metric_value(scraped(parent), "alphatier_requests_total") == 1
    successor = Metrics(tmp_path, "worker0")
    successor.requests.labels("toy", "base", *OK).inc()
    successor.requests.labels("toy", "terse", *OK).inc(5)
    assert metric_value(scraped(parent), "alphatier_requests_total") == 1 + 1 + 5


@pytest.mark.parametrize("size", [0, 5, 16])
def test_a_file_that_is_just_being_made_breaks_no_scrape(tmp_path: Path, parent: Metrics, size: int) -> None:
    parent.retries.labels("toy", "base").inc()
    (tmp_path / "worker0.numbers").write_bytes(bytes(size))
    assert metric_value(scraped(parent), "alphatier_retries_total") == 1


def test_a_removed_replicas_series_vanish_and_come_back_with_it(tmp_path: Path, parent: Metrics) -> None:
    worker, dead = Metrics(tmp_path, "worker0"), Metrics(tmp_path, "worker1")
    for process in (parent, worker, dead):
        process.show_replica("engine")
        process.replica_ejections.labels("engine", "health").inc()
    parent.forget_process("worker1")  # it hears of the removal no more
    for process in (parent, worker):
        process.forget_replica("engine")
    assert 'replica="engine"' not in scraped(parent)
    for process in (parent, worker):
        process.show_replica("engine")
    assert metric_value(scraped(worker), "alphatier_replica_ejections_total", by="health") == 3


def test_a_successor_removes_also_what_only_its_predecessor_showed(tmp_path: Path, parent: Metrics) -> None:
    Metrics(tmp_path, "worker0").engine_restarts.labels("engine").inc()
    successor = Metrics(tmp_path, "worker0")
    assert metric_value(scraped(parent), "alphatier_engine_restarts_total") == 1
    successor.forget_replica("engine")
    assert 'replica="engine"' not in scraped(parent)


def test_a_full_file_loses_series_but_no_count_of_the_others(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, "parent", capacity=400)
    for number in range(100):
        metrics.engine_restarts.labels(f"engine-{number}").inc()
    text = scraped(metrics)
    shown = metric_value(text, "alphatier_engine_restarts_total")
    assert 0 < shown < 40
    assert metric_value(text, "alphatier_metric_series_dropped_total") == 100 - shown


def test_a_full_file_system_loses_series_and_ends_no_process(tmp_path: Path) -> None:
    limited = f"""
import resource
from pathlib import Path
from prometheus_client import generate_latest
from alphatier_server.metrics.definitions import Metrics
metrics = Metrics(Path({str(tmp_path)!r}), "parent")
size = (Path({str(tmp_path)!r}) / "parent.numbers").stat().st_size
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then it is EFBIG
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
for number in range(1000):
    metrics.engine_restarts.labels(f"engine-{{number}}").inc()
print(generate_latest(metrics.registry).decode())
"""
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, timeout=60, check=True)
    shown = metric_value(done.stdout, "alphatier_engine_restarts_total")
    assert 0 < shown < 1000
    assert metric_value(done.stdout, "alphatier_metric_series_dropped_total") == 1000 - shown
