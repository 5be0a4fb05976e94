"""Whoever leaves, whenever, and whatever Redis does meanwhile: everything that a key held is free again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from alphatier_server.errors import LimitsUnavailable, StoreFailed
from alphatier_server.limits.arithmetic import Limits, Outcome, Rate
from alphatier_server.limits.fallback import FallbackStore
from alphatier_server.limits.redis_store import RedisStore
from alphatier_server.limits.store import Reservation, Store
from support.limits import ask, place
from support.redis_proxy import RedisProxy, redis_proxy
from support.redis_server import RedisServer
from support.waiting import eventually

LIMITS = Limits(None, Rate(10**9, 10**9), 5, 5)
"""Five at once; no rate that the tests could use up."""
NO_BURST = Limits(None, Rate(600, 600), 5)
NOTHING = {"leases": 0, "streams": 0, "reserved": 0}


@pytest.fixture
async def proxy(redis: RedisServer, tmp_path: Path, stack: AsyncExitStack) -> RedisProxy:
    return await stack.enter_async_context(redis_proxy(tmp_path / "proxy.sock", redis.socket))


def opened(stack: AsyncExitStack, url: str, **options: Any) -> RedisStore:
    store = RedisStore(url, **options)
    stack.push_async_callback(store.close)
    return store


def held(redis: RedisServer) -> dict[str, int]:
    """What Redis says that keys hold now."""
    with redis.client() as client:
        found = {what: sum(int(client.zcard(key)) for key in client.keys(f"*:{what}")) for what in NOTHING}
        hashes = [key for key in client.keys("*") if client.type(key) == "hash"]
        return found | {"reserved": sum(int(client.hget(key, "reserved") or 0) for key in hashes)}


def scripts_run(redis: RedisServer) -> int:
    with redis.client() as client:
        return int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


async def all_free(redis: RedisServer, store: Store, within: float = 2.0) -> None:
    """A second, and one more for a busy machine."""
    async with asyncio.timeout(within):
        while redis.held() != NOTHING:
            await store.upkeep()
            await asyncio.sleep(0.02)


async def one_call(store: Store, draw: random.Random, asked: list[str]) -> None:
    """A request as the request path makes it: whatever it got, it gives back."""
    reservation: Reservation | Outcome | None = None
    try:
        reservation = await ask(store, LIMITS, 100, streamed=draw.random() < 0.5)
        asked.append("in" if isinstance(reservation, Reservation) else "refused")
        await asyncio.sleep(draw.random() * 0.01)
    except (StoreFailed, LimitsUnavailable):
        asked.append("failed")
    finally:
        if isinstance(reservation, Reservation):
            reservation.close(7)


async def storm(store: Store, draw: random.Random, count: int, longest: float) -> list[str]:
    """So many requests whose clients all leave within `longest` seconds."""
    asked: list[str] = []
    left: list[asyncio.Task[None]] = []
    tasks = [asyncio.create_task(one_call(store, draw, asked)) for _ in range(count)]

    def leave(task: asyncio.Task[None]) -> None:
        if task.cancel():
            left.append(task)

    for task in tasks:
        asyncio.get_running_loop().call_later(draw.random() * longest, leave, task)
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in left)  # nobody went on for a client that had left
    return asked


async def test_clients_that_leave_during_admission_leave_nothing(redis: RedisServer, stack: AsyncExitStack) -> None:
    store = FallbackStore(opened(stack, redis.url, time_limit=5.0), "refuse")
    draw = random.Random(5)
    for _ in range(10):
        await storm(store, draw, 60, 0.05)
    await all_free(redis, store)
    await place(store, LIMITS, streamed=True)


async def warm(store: RedisStore) -> None:
    """All connections are there, and Redis knows the scripts: what follows is about admissions."""
    async with asyncio.timeout(30):
        late = True
        while late:  # as on a busy machine, where each has a quarter of a second
            calls = (store.take(LIMITS.call("warm", streamed=False, tokens=1)) for _ in range(64))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            late = any(isinstance(answer, Exception) for answer in answers)
            for answer in answers:
                if isinstance(answer, Reservation):
                    answer.close(0)


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.2])
async def test_nor_when_redis_is_slow(
    redis: RedisServer, proxy: RedisProxy, stack: AsyncExitStack, delay: float
) -> None:
    """There and back take twice the delay; an admission waits a quarter of a second at most."""
    store = opened(stack, proxy.url)
    await warm(store)
    proxy.delay = delay
    draw, before = random.Random(6), scripts_run(redis)
    for _ in range(4):
        await storm(store, draw, 80, 0.6)
    assert scripts_run(redis) - before > 30
    proxy.delay = 0.0
    await all_free(redis, store)


async def test_nor_when_redis_is_frozen_meanwhile(redis: RedisServer, stack: AsyncExitStack) -> None:
    store, draw = opened(stack, redis.url), random.Random(7)
    await warm(store)
    for _ in range(3):
        before = scripts_run(redis)
        storming = asyncio.create_task(storm(store, draw, 60, 0.3))
        await asyncio.sleep(0)
        redis.freeze()
        await storming
        await eventually(lambda: not store._asking, 5)  # the store has given every answer up
        redis.thaw()
        await storm(store, draw, 60, 0.3)
        await all_free(redis, store)
        assert scripts_run(redis) - before > 60


async def test_nor_when_connections_break_meanwhile(
    redis: RedisServer, proxy: RedisProxy, stack: AsyncExitStack
) -> None:
    store, draw = opened(stack, proxy.url), random.Random(8)
    await warm(store)
    before = scripts_run(redis)
    for _ in range(20):
        storming = asyncio.create_task(storm(store, draw, 40, 0.05))
        await asyncio.sleep(draw.random() * 0.02)
        proxy.cut()
        await storming
    await all_free(redis, store)
    assert scripts_run(redis) - before > 200


async def test_nor_when_redis_dies_meanwhile(redis: RedisServer, stack: AsyncExitStack) -> None:
    store, draw = opened(stack, redis.url), random.Random(9)
    await warm(store)
    for _ in range(3):
        storming = asyncio.create_task(storm(store, draw, 100, 0.3))
        await asyncio.sleep(draw.random() * 0.02)
        redis.kill()
        await storming
        await asyncio.to_thread(redis.start)
        await storm(store, draw, 30, 0.3)
        await all_free(redis, store)


async def late(
    redis: RedisServer,
    proxy: RedisProxy,
    sending: Callable[[], Awaitable[object]],
    then: Callable[[], Awaitable[object]],
) -> None:
    """The script that `sending` sends is run by Redis only after all that `then` does."""
    proxy.hold(b"EVALSHA")
    sent = asyncio.ensure_future(sending())
    async with asyncio.timeout(10):
        await proxy.arrived.wait()
        await sent
        await then()
        before = scripts_run(redis)
        proxy.let_go()
        await eventually(lambda: scripts_run(redis) > before)


async def settled(store: RedisStore) -> None:
    """Redis has said that it took every end."""
    while store._ended or (store._sending is not None and not store._sending.done()):
        await store.upkeep()
        await asyncio.sleep(0.02)


async def test_an_admission_that_redis_runs_after_its_end_leaves_nothing(
    redis: RedisServer, proxy: RedisProxy, stack: AsyncExitStack
) -> None:
    """Nobody got its answer; its end went another way and was there first."""
    store = opened(stack, proxy.url)
    (await place(store, LIMITS, streamed=True)).close(0)  # Redis knows the script from here on
    await settled(store)

    async def unanswered() -> None:
        with pytest.raises(StoreFailed):
            await ask(store, LIMITS, 100, streamed=True)

    async def end() -> None:
        await eventually(lambda: store._ended or not store._asking, 5)  # the store gives the answer up
        await settled(store)

    await late(redis, proxy, unanswered, end)
    assert redis.held() == NOTHING


async def test_leases_that_redis_renews_after_their_end_leave_nothing(
    redis: RedisServer, proxy: RedisProxy, stack: AsyncExitStack
) -> None:
    store = opened(stack, proxy.url)
    running = await place(store, LIMITS, 100, streamed=True)

    async def end() -> None:
        running.close(0)
        await settled(store)
        assert redis.held() == NOTHING

    await late(redis, proxy, store.upkeep, end)
    assert redis.held() == NOTHING


async def test_an_end_that_redis_gets_twice_is_booked_once(
    redis: RedisServer, proxy: RedisProxy, stack: AsyncExitStack
) -> None:
    store = opened(stack, proxy.url)
    running = await place(store, NO_BURST, 100)

    async def close() -> None:
        running.close(300)

    async def end() -> None:
        await settled(store)
        assert redis.held() == NOTHING

    await late(redis, proxy, close, end)
    after = await place(store, NO_BURST, 0)
    assert 25.0 < after.outcome.tokens_behind <= 30.0  # 300 tokens of 600 a minute


async def test_a_reservation_that_somebody_forgets_ends_with_its_lease(
    redis: RedisServer, stack: AsyncExitStack
) -> None:
    store = opened(stack, redis.url, lease_seconds=0.5, time_limit=5.0)
    one_at_once = Limits(concurrent_requests=1)
    await place(store, one_at_once)

    async def is_free() -> bool:
        await store.upkeep()
        return isinstance(await ask(store, one_at_once), Reservation)

    await eventually(is_free, 5)
