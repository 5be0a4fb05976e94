"""Coroutines that run from callback to callback: who waits, goes on, is interrupted, and loses nothing."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from alphatier_server.gateway.work import Reply, Work, WorkQueue, in_task, in_work


class Log(list[str]):
    """What a work did, and whether it has ended."""

    def work(self, coroutine: Coroutine[Any, Any, None]) -> Work:
        work = Work(coroutine, lambda _: self.append("ended"))
        work.step()
        return work


async def turns() -> None:
    """A few turns of the loop."""
    for _ in range(5):
        await asyncio.sleep(0)


async def _wait(log: Log, reply: "Reply[str]", then: Callable[[], object] = lambda: None) -> None:
    try:
        log.append(f"got {await reply}")
    except (asyncio.CancelledError, ValueError) as error:
        log.append(type(error).__name__)
    then()


def test_it_goes_on_in_the_callback_that_sets_the_reply() -> None:
    log, reply = Log(), Reply[str]()
    log.work(_wait(log, reply))
    assert log == []
    reply.set_result("it")
    assert log == ["got it", "ended"]
    assert reply.done()


def test_a_reply_that_is_there_already_is_not_waited_for() -> None:
    log, reply = Log(), Reply[str]()
    reply.set_exception(ValueError())
    log.work(_wait(log, reply))
    assert log == ["ValueError", "ended"]


async def test_an_interruption_comes_where_the_work_waits() -> None:
    log, reply = Log(), Reply[str]()
    work = log.work(_wait(log, reply))
    work.interrupt(ValueError())
    assert log == ["ValueError", "ended"]
    work.interrupt(ValueError())  # too late: nothing happens
    work.cancel()
    await asyncio.sleep(0)
    assert log == ["ValueError", "ended"]


async def test_what_has_come_is_taken_before_an_interruption() -> None:
    log, future, reply = Log(), asyncio.get_running_loop().create_future(), Reply[str]()

    async def both() -> None:
        log.append(f"got {await future}")
        await _wait(log, reply)

    work = log.work(both())
    future.set_result("it")
    work.interrupt(asyncio.CancelledError())
    await turns()
    assert log == ["got it", "CancelledError", "ended"]


async def test_a_task_within_is_cancelled_with_the_work() -> None:
    log, started = Log(), asyncio.Event()

    async def slow() -> None:
        try:
            async with asyncio.timeout(60):
                started.set()
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("task cancelled")
            raise

    async def waits() -> None:
        try:
            await in_task(slow())
        except ValueError:
            log.append("interrupted")

    work = log.work(waits())
    await started.wait()
    work.interrupt(ValueError())
    await turns()
    assert log == ["interrupted", "ended", "task cancelled"]


async def test_a_task_awaits_a_work() -> None:
    reply = Reply[str]()

    async def asks() -> str:
        return (await reply).upper()

    task = asyncio.create_task(in_work(asks()))
    await asyncio.sleep(0)
    reply.set_result("it")
    assert await task == "IT"

    log, never = Log(), Reply[str]()
    task2 = asyncio.create_task(in_work(_wait(log, never)))
    await asyncio.sleep(0)
    task2.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task2
    assert log == ["CancelledError"]


async def test_it_ends_also_when_the_coroutine_fails() -> None:
    log = Log()

    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        log.work(fails())
    assert log == ["ended"]


@pytest.mark.parametrize(("streams", "turns_at_least"), [(0, 3), (1, 10)])
async def test_a_burst_is_begun_in_several_turns_and_in_order(streams: int, turns_at_least: int) -> None:
    log, queue = Log(), WorkQueue()
    queue.streams = streams

    async def begins(number: int) -> None:
        log.append(str(number))

    for number in range(40):
        queue.start(Work(begins(number)))
    assert log == []
    seen = set()
    while len(log) < 40:
        await asyncio.sleep(0)
        seen.add(len(log))
    assert log == [str(number) for number in range(40)]
    assert len(seen) >= turns_at_least
    queue.start(Work(begins(40)))
    await turns()
    assert log[-1] == "40"
