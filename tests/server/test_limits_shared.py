"""Limits that several worker processes count together, with real processes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import support.limits
from alphatier_server.errors import StoreFailed
from alphatier_server.limits.arithmetic import Limits, Outcome, Rate
from alphatier_server.limits.shared import SharedStore
from alphatier_server.limits.store import Reservation

WORKERS = 4

# One worker process: takes as many places as it can, says how many, and then holds or returns them as it is told.
WORKER = """
import asyncio, sys
from pathlib import Path
from alphatier_server.limits.arithmetic import Limits, Rate
from alphatier_server.limits.store import Reservation
from alphatier_server.limits.shared import SharedStore

async def main():
    path, worker, tries = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    store = SharedStore(path, worker)
    limits = Limits(*eval(sys.argv[4]))
    print("ready", flush=True)
    sys.stdin.readline()
    places = []
    for _ in range(tries):
        answer = await store.take(limits.call("alice", streamed=True, tokens=10))
        if isinstance(answer, Reservation):
            places.append(answer)
    print(len(places), flush=True)
    if sys.stdin.readline().strip() == "return":
        for place in places:
            place.close(10)
        print("returned", flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    SharedStore.create(tmp_path / "limits", WORKERS)
    return tmp_path / "limits"


class Worker:
    def __init__(self, path: Path, number: int, limits: str, tries: int) -> None:
        command = [sys.executable, "-c", WORKER, str(path), str(number), str(tries), limits]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def reads(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def told(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()


@pytest.fixture
def workers(path: Path, request: pytest.FixtureRequest) -> Iterator[list[Worker]]:
    started = [Worker(path, number, *request.param) for number in range(WORKERS)]
    try:
        for worker in started:
            assert worker.reads() == "ready"
        yield started
    finally:
        for worker in started:
            worker.process.kill()
            worker.process.communicate(timeout=20)


def observer(path: Path) -> SharedStore:
    """The test's own view; it stands in column 0, whose worker has told its count and no longer takes places."""
    return SharedStore(path, 0)


def ask(store: SharedStore, limits: Limits, tokens: int = 1, *, requests: int = 1) -> Reservation | Outcome:
    return asyncio.run(support.limits.ask(store, limits, tokens, requests=requests))


@pytest.mark.parametrize("workers", [("(Rate(1, 40_000), None, None, None)", 15_000)], indirect=True)
def test_a_rate_is_exact_under_contention(workers: list[Worker]) -> None:
    for worker in workers:
        worker.told("go")
    # 4 x 15,000 tries for 40,000 places; one more comes back in a minute
    assert sum(int(worker.reads()) for worker in workers) == 40_000


@pytest.mark.parametrize("workers", [("(None, Rate(60, 6000), 700, 600)", 300)], indirect=True)
def test_places_and_tokens_are_exact_under_contention_and_all_come_back(path: Path, workers: list[Worker]) -> None:
    for worker in workers:
        worker.told("go")
    # 6000 tokens at 10 each: 600 places, which the streams' limit would allow as well
    assert sum(int(worker.reads()) for worker in workers) == 600
    for worker in workers:
        worker.told("return")
        assert worker.reads() == "returned"
    assert isinstance(ask(observer(path), Limits(None, None, 1, 1)), Reservation)
    probe = ask(observer(path), Limits(None, Rate(60, 6000)))
    assert isinstance(probe, Outcome)
    # 600 x 10 tokens were booked and none are held: at 60 a minute the bucket is full again in 6000 s
    assert (probe.refused, probe.reserved) == ("tokens_per_minute", 0)
    assert probe.tokens_behind == pytest.approx(6000, abs=60)


@pytest.mark.parametrize("workers", [("(None, Rate(10**6, 10**6), 1000, None)", 300)], indirect=True)
def test_a_killed_worker_gives_its_places_back(path: Path, workers: list[Worker]) -> None:
    limits = Limits(None, Rate(10**6, 10**6), 1000)
    for worker in workers:
        worker.told("go")
    counts = [int(worker.reads()) for worker in workers]
    assert sum(counts) == 1000
    store = observer(path)
    full = ask(store, limits)
    assert isinstance(full, Outcome)
    assert (full.refused, full.reserved) == ("concurrent_requests", 10_000)
    victim = max(range(1, WORKERS), key=lambda number: counts[number])
    os.kill(workers[victim].process.pid, signal.SIGKILL)
    workers[victim].process.wait(20)
    store.clear_worker(victim)
    freed = 0
    while isinstance(place := ask(store, limits, 10), Reservation):
        freed += 1
        assert place.outcome.reserved == 10_000 - (counts[victim] - freed) * 10
    assert freed == counts[victim] > 0


def test_a_stopped_worker_does_not_stop_the_others(path: Path) -> None:
    script = (
        "import fcntl, os, sys, time\n"
        "file = os.open(sys.argv[1], os.O_RDWR)\n"
        "fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        began = time.monotonic()
        assert isinstance(ask(SharedStore(path, 0), Limits(concurrent_requests=1)), Reservation)
        assert time.monotonic() - began < 10
        holder.kill()


def test_keys_are_apart_and_a_full_file_reuses_idle_records(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    SharedStore.create(path, 1, slots=2)
    store, other = SharedStore(path, 0), SharedStore(path, 0)
    limits = Limits(concurrent_requests=1)

    async def take(store: SharedStore, name: str) -> Reservation:
        answer = await store.take(limits.call(name, streamed=False, tokens=1))
        assert isinstance(answer, Reservation)
        return answer

    first, second = asyncio.run(take(store, "a")), asyncio.run(take(store, "b"))
    with pytest.raises(StoreFailed, match="More than 2 keys"):
        asyncio.run(take(store, "c"))
    first.close(0)
    third = asyncio.run(take(other, "c"))  # in the record of "a", which `store` remembers as it was
    with pytest.raises(StoreFailed, match="More than 2 keys"):
        asyncio.run(take(store, "a"))
    second.close(0)
    asyncio.run(take(store, "a")).close(0)
    third.close(0)


def test_a_place_returned_after_its_worker_was_cleared_changes_nothing(path: Path) -> None:
    store, limits = SharedStore(path, 1), Limits(concurrent_requests=1)
    place = ask(store, limits)
    assert isinstance(place, Reservation)
    SharedStore(path, 0).clear_worker(1)
    place.close(0)
    assert isinstance(ask(store, limits), Reservation)
    assert isinstance(ask(store, limits), Outcome)


def test_a_bucket_refills_between_processes(path: Path) -> None:
    now = [1000.0]
    one, two = SharedStore(path, 0, lambda: now[0]), SharedStore(path, 1, lambda: now[0])
    limits = Limits(requests=Rate(60, 1))
    assert isinstance(ask(one, limits), Reservation)
    assert isinstance(ask(two, limits), Outcome)
    now[0] += 1
    assert isinstance(ask(two, limits), Reservation)
    assert isinstance(ask(one, limits), Outcome)


def test_a_batch_holds_a_place_for_each_of_its_prompts(path: Path) -> None:
    store, limits = SharedStore(path, 1), Limits(None, None, 5)
    batch = ask(store, limits, requests=4)
    assert isinstance(batch, Reservation)
    one = ask(store, limits)
    assert isinstance(ask(SharedStore(path, 2), limits), Outcome)
    batch.close(0)
    assert isinstance(one, Reservation)
    one.close(0)
    assert isinstance(ask(store, limits, requests=5), Reservation)
