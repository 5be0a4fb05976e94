"""Limits that several gateways count together in a real Redis, and what happens when it is gone."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from alphatier_server.errors import LimitsUnavailable, StoreFailed
from alphatier_server.limits.arithmetic import Account, Call, Limits, Rate
from alphatier_server.limits.fallback import FallbackStore
from alphatier_server.limits.redis_commands import End, Lease, RedisCommands
from alphatier_server.limits.redis_store import TIME_LIMIT_SECONDS, RedisStore
from alphatier_server.limits.store import Reservation
from alphatier_server.settings.access import RedisFailure
from support.limits import ask, place, refusal
from support.redis_server import RedisServer, redis_server
from support.waiting import eventually

NewStore = Callable[..., RedisStore]


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    with shared_server.client() as client:
        client.flushall()
    return shared_server


def gateway(server: RedisServer, stack: AsyncExitStack, **options: Any) -> RedisStore:
    """Patient with Redis where a test does not say otherwise: a busy machine is not what these tests are about."""
    store = RedisStore(server.url, **{"time_limit": 5.0, **options})
    stack.push_async_callback(store.close)
    return store


async def test_two_gateways_share_every_limit(server: RedisServer, stack: AsyncExitStack) -> None:
    one, two = gateway(server, stack), gateway(server, stack)
    limits = Limits(Rate(60, 4), Rate(1000, 1000), 3, 1)
    first = await place(one, limits, 100, streamed=True)
    assert await refusal(two, limits, streamed=True) == "concurrent_streams"
    await place(two, limits, 100)
    third = await place(one, limits, 100)
    assert third.outcome.reserved == 300
    assert await refusal(two, limits) == "concurrent_requests"
    first.close(100)
    await eventually(lambda: server.held()["leases"] == 2)
    assert await refusal(two, limits, 801) == "tokens_per_minute"  # 100 are booked, 200 held
    await place(two, limits, 100, streamed=True)
    third.close(0)
    await eventually(lambda: server.held()["leases"] == 2)
    assert await refusal(one, limits) == "requests_per_minute"


async def test_a_limit_is_exact_when_gateways_ask_at_once(server: RedisServer, stack: AsyncExitStack) -> None:
    stores = [gateway(server, stack) for _ in range(3)]
    limits = Limits(Rate(1, 50), None, 40)
    answers = await asyncio.gather(*(ask(store, limits) for store in stores for _ in range(40)))
    assert sum(isinstance(answer, Reservation) for answer in answers) == 40


async def test_the_script_says_what_the_pure_arithmetic_says(server: RedisServer, stack: AsyncExitStack) -> None:
    """The same 400 random steps, with the same clock, in Redis and in arithmetic.py."""
    redis = RedisCommands(server.url, "test", lease_seconds=1e6, connection_seconds=5.0, patience=5.0)
    stack.push_async_callback(redis.close)
    limits = Limits(Rate(90, 7), Rate(5000, 900), 6, 3)
    account, now, draw = Account(), 5000.0, random.Random(7)
    running: list[Lease] = []
    for number in range(400):
        now += draw.choice([0, 0, 0.1, 0.5, 2.0])
        if running and draw.random() < 0.4:
            lease = running.pop(draw.randrange(len(running)))
            used = draw.randrange(2 * lease.call.tokens)
            account.settle(lease.call, used, now)
            assert await redis.settle([End(lease, used, number, 0.0)], now) == []
            continue
        call = Call("a", limits, draw.random() < 0.5, draw.randrange(1, 400), draw.choice([1, 1, 1, 2, 5]))
        lease = redis.lease(number, call)
        expected = account.take(call, now)
        said = await redis.take(lease, now)
        assert said.refused == expected.refused
        assert said[1:] == pytest.approx(expected[1:], abs=1e-4)
        if expected.refused is None:
            running.append(lease)
    with server.client() as client:
        assert int(client.hget(client.keys("*:usage")[0], "running") or 0) == account.in_flight
    assert account.streams == server.held()["streams"]
    assert len(running) == server.held()["leases"]


async def test_places_of_a_dead_gateway_end_by_themselves(server: RedisServer, stack: AsyncExitStack) -> None:
    """It takes places and never renews them; a living one that renews keeps its own."""
    limits = Limits(None, Rate(1000, 1000), 2)
    living, dead = (gateway(server, stack, lease_seconds=0.6) for _ in range(2))
    kept = await place(living, limits, 10)
    await place(dead, limits, 500)
    assert await refusal(living, limits) == "concurrent_requests"
    async with asyncio.timeout(10):
        while not isinstance(answer := await ask(living, limits, 10), Reservation):
            await living.upkeep()
            await asyncio.sleep(0.05)
    assert answer.outcome.reserved == 10 + kept.call.tokens  # the dead gateway's 500 tokens are free again
    assert await refusal(living, limits) == "concurrent_requests"


async def test_nothing_stays_in_redis_for_ever(server: RedisServer, stack: AsyncExitStack) -> None:
    store = gateway(server, stack)
    running = await place(store, Limits(Rate(60, 60), Rate(60, 60), 5, 5), streamed=True)
    with server.client() as client:
        assert len(keys := client.keys("*")) == 3
        assert all(60 < client.ttl(key) <= 125 for key in keys)  # a lease's minute and one more
        running.close(120)
        await eventually(lambda: server.held()["leases"] == 0)
        # The bucket of tokens is overdrawn: it is full again in two minutes, and kept for one more.
        assert {key.rpartition("}:")[2].partition(":")[0] for key in client.keys("*")} == {"usage", "booked"}
        assert all(110 < client.ttl(key) <= 185 for key in client.keys("*"))


async def test_leases_are_entered_again_after_redis_lost_its_data(redis: RedisServer, stack: AsyncExitStack) -> None:
    store, limits = gateway(redis, stack, lease_seconds=0.9), Limits(None, Rate(100, 100), 1)
    running = await place(store, limits, 30)
    redis.kill()
    redis.start()
    async with asyncio.timeout(10):
        while redis.held()["leases"] == 0:
            await store.upkeep()
            await asyncio.sleep(0.02)
    assert await refusal(store, limits) == "concurrent_requests"
    running.close(30)
    await eventually(lambda: redis.held()["leases"] == 0)
    assert (await place(store, limits, 10)).outcome.reserved == 10


async def test_ends_that_redis_missed_are_sent_when_it_is_back(redis: RedisServer, stack: AsyncExitStack) -> None:
    store, limits = gateway(redis, stack, time_limit=TIME_LIMIT_SECONDS), Limits(None, Rate(100, 100), 1)
    running = await place(store, limits, 30)
    redis.freeze()
    running.close(90)
    await eventually(lambda: not store._ended)
    await eventually(lambda: store._ended)  # it was sent, and nobody answered
    redis.thaw()
    await eventually(lambda: redis.held()["leases"] == 0)
    assert await refusal(store, limits, 20) == "tokens_per_minute"
    await place(store, limits, 5)


async def test_a_silent_redis_is_not_waited_for(redis: RedisServer, stack: AsyncExitStack) -> None:
    store, limits = gateway(redis, stack, time_limit=TIME_LIMIT_SECONDS), Limits(concurrent_requests=1)
    redis.freeze()
    began = time.monotonic()
    with pytest.raises(StoreFailed, match="no answer within"):
        await ask(store, limits)
    assert time.monotonic() - began < 1.0
    redis.thaw()
    # The script may have run after all; its lease is given back.
    async with asyncio.timeout(10):
        while not isinstance(await ask(store, limits), Reservation):
            await store.upkeep()
            await asyncio.sleep(0.02)


async def test_a_cancelled_admission_leaves_no_lease(redis: RedisServer, stack: AsyncExitStack) -> None:
    store, limits = gateway(redis, stack), Limits(concurrent_requests=1)
    (await place(store, limits)).close(0)
    await eventually(lambda: redis.held()["leases"] == 0)
    redis.freeze()
    asking = asyncio.create_task(ask(store, limits))
    await asyncio.sleep(0.05)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    redis.thaw()
    async with asyncio.timeout(10):
        while not isinstance(await ask(store, limits), Reservation):
            await store.upkeep()
            await asyncio.sleep(0.02)


class TestWhenRedisIsGone:
    """The operator's choice, and the way back."""

    limits = Limits(concurrent_requests=2)

    @pytest.fixture
    def failures(self) -> list[str]:
        return []

    def guarded(
        self,
        server: RedisServer,
        stack: AsyncExitStack,
        choice: RedisFailure,
        failures: list[str],
        now: list[float],
    ) -> FallbackStore:
        return FallbackStore(gateway(server, stack), choice, lambda: failures.append("failed"), lambda: now[0])

    @pytest.mark.parametrize("choice", ["local", "refuse", "allow"])
    async def test_each_choice_does_what_it_says_and_redis_is_used_again(
        self,
        redis: RedisServer,
        stack: AsyncExitStack,
        choice: RedisFailure,
        failures: list[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        now = [1000.0]
        one = self.guarded(redis, stack, choice, failures, now)
        two = self.guarded(redis, stack, choice, failures, now)
        kept = [await place(one, self.limits), await place(two, self.limits)]
        assert await refusal(one, self.limits) == "concurrent_requests"
        redis.kill()
        with caplog.at_level(logging.WARNING, logger="alphatier"):
            if choice == "refuse":
                for _ in range(5):
                    with pytest.raises(LimitsUnavailable) as refused:
                        await ask(one, self.limits)
                    assert refused.value.headers["retry-after"] == "1"
            else:
                fallback = [await ask(one, self.limits) for _ in range(5)]
                let_in = [answer for answer in fallback if isinstance(answer, Reservation)]
                assert len(let_in) == (2 if choice == "local" else 5)
                for answer in let_in:
                    answer.close(0)
            assert failures == ["failed"]  # the other four did not ask Redis
            assert [record.message.partition(" (")[0] for record in caplog.records] == ["Redis does not answer"]
            redis.start()
            now[0] += 1.5
            for answer in kept:
                answer.close(0)
            kept = [await place(one, self.limits) for _ in range(2)]
            assert redis.held()["leases"] == 2
            assert caplog.records[-1].message.startswith("Redis answers again")
        assert await refusal(two, self.limits) == "concurrent_requests"


def test_a_wrong_url_is_told_without_its_password() -> None:
    from alphatier_server.errors import KeyFileError
    from alphatier_server.keys.access import build_access

    environment = {"ALPHATIER_API_KEYS": "alice:sk-at-0123456789", "ALPHATIER_REDIS_URL": "http://:geheim@host:6379"}
    from alphatier_server.settings.access import AccessSettings

    with pytest.raises(KeyFileError, match="redis_url is no URL") as error:
        build_access(AccessSettings(), environment=environment)
    assert "geheim" not in str(error.value)
