"""Worker processes are started, heard, missed and started again. The worker is a toy that does what it is told."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

from alphatier_server.errors import ServeError
from alphatier_server.process.workers import Workers, pause_after
from support.waiting import eventually

TOY = """
import json, os, signal, socket, sys, time
index, link, listener = map(int, sys.argv[1:])
boot = json.loads(sys.stdin.buffer.read())
if boot["fault"] == "dies":
    sys.exit(3)
if boot["fault"] == "first dies" and index == 0:
    sys.exit(3)
end = socket.socket(fileno=link)
def say(**message):
    end.sendall(json.dumps(message).encode() + b"\\n")
say(busy={}, snapshot=boot["first"]["snapshot"], was_told=boot["first"]["replicas"])
if boot["fault"] == "hangs":
    signal.pause()
for line in end.makefile():
    message = json.loads(line)
    if "drain" in message:
        break
    say(busy={"a": {"toy:base": index + 1}}, snapshot=message["snapshot"])
"""


@dataclass
class Toys:
    workers: Workers
    task: asyncio.Task[None]
    count: int
    told: list[str] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)


@asynccontextmanager
async def toys(count: int = 2, fault: str = "", silence: float = 30.0) -> AsyncIterator[Toys]:
    listeners = [socket.socket() for _ in range(count)]
    told: list[str] = []
    dead: list[int] = []
    workers = Workers(
        listeners,
        {"fault": fault},
        lambda: {"replicas": ["a"]},
        announce=told.append,
        on_death=dead.append,
        administer=_nobody_asks,
        command=(sys.executable, "-c", TOY),
        silence=silence,
        pause=lambda failures: 0.01,
    )
    task = asyncio.create_task(workers.answer())
    try:
        yield Toys(workers, task, count, told, dead)
    finally:
        workers.kill()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for listener in listeners:
            listener.close()


async def _nobody_asks(action: str, arguments: dict[str, Any]) -> tuple[int, Any]:
    raise AssertionError((action, arguments))


async def started(running: Toys) -> None:
    """Wait until all are heard: one that is not may be busy with anything."""
    await eventually(lambda: len(running.workers.processes) == running.count and not running.workers.busy("nothing"))


async def test_every_worker_starts_with_the_snapshot_of_now() -> None:
    async with toys(3) as running:
        await started(running)
        assert len(running.workers.processes) == 3
        assert running.workers.busy("a") == 0


async def test_requests_in_flight_are_the_sum_over_the_workers() -> None:
    async with toys(2) as running:
        await started(running)
        running.workers.broadcast_snapshot()
        await eventually(lambda: running.workers.busy("a") == 1 + 2)
        assert running.workers.busy("a", "toy:base") == 1 + 2
        assert running.workers.busy("a", "toy:other") == 0
        assert running.workers.busy("b") == 0


async def test_a_worker_that_may_not_have_seen_the_newest_snapshot_counts_as_busy() -> None:
    async with toys(1) as running:
        await started(running)
        (process,) = running.workers.processes
        os.kill(process, signal.SIGSTOP)
        running.workers.broadcast_snapshot()
        assert running.workers.busy("b") == 1
        os.kill(process, signal.SIGCONT)
        await eventually(lambda: running.workers.busy("b") == 0)


async def test_a_killed_worker_is_missed_and_started_again_and_the_others_stay() -> None:
    async with toys(2) as running:
        await started(running)
        before = running.workers.processes
        os.kill(before[0], signal.SIGKILL)
        await eventually(lambda: running.dead == [0] and len(running.workers.processes) == 2)
        assert running.told == ["worker 0 ended with signal SIGKILL; starting it again in 0.01 s"]
        assert running.workers.processes[1] == before[1]
        assert running.workers.processes[0] != before[0]


async def test_workers_that_die_again_and_again_are_an_error_that_says_so() -> None:
    async with toys(2, fault="dies") as running:
        with pytest.raises(
            ServeError, match=r"All workers keep ending: worker \d \d+ times in a row, the last time with status 3"
        ):
            await asyncio.wait_for(running.task, 30)
        await eventually(lambda: not running.workers.processes)


async def test_one_worker_that_dies_again_and_again_ends_no_other() -> None:
    async with toys(2, fault="first dies") as running:
        await eventually(lambda: len(running.dead) >= 8)
        assert set(running.dead) == {0}
        assert not running.task.done()
        await eventually(lambda: len(running.workers.processes) > 0)
        running.workers.broadcast_snapshot()
        await eventually(lambda: running.workers.busy("a", "toy:base") >= 2)  # the second worker answers
        *before, last = running.told
        assert before == ["worker 0 ended with status 3; starting it again in 0.01 s"] * 4
        assert last == (
            "worker 0 ended 5 times in a row, the last time with status 3; the others go on; "
            "starting it again in 0.01 s, and so on"
        )


def test_the_pause_before_a_start_grows_up_to_a_limit() -> None:
    assert [pause_after(failures) for failures in (1, 2, 3, 4, 5, 100_000)] == [0, 1, 2, 4, 5, 5]


async def test_a_worker_that_says_nothing_is_killed() -> None:
    async with toys(1, fault="hangs", silence=1.0) as running:
        await started(running)
        (process,) = running.workers.processes
        await eventually(lambda: not psutil.pid_exists(process))
        await eventually(lambda: "worker 0 has said nothing for 1 s; killing it" in running.told)


async def test_drained_workers_are_not_started_again() -> None:
    async with toys(2) as running:
        await started(running)
        running.workers.end(0)
        await asyncio.wait_for(running.task, 20)
        assert running.workers.processes == []
        assert running.told == []
