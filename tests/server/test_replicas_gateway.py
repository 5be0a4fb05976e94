"""Several replicas behind a gateway: what clients see when one breaks, and where conversations go."""

from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from alphatier_models import Family
from alphatier_server.settings.replicas import PoolSettings
from support.fake_engine import completion, error, fake_engine
from support.gateway import RunningGateway, running_gateway
from support.waiting import eventually

QUICK_CHECKS = {"health_interval": 0.05}


async def ask(gateway: RunningGateway, *messages: str, **fields: Any) -> int:
    turns = [{"role": "user", "content": message} for message in messages or ("hello",)]
    async with gateway.http.post(
        f"{gateway.url}/v1/chat/completions", json={"model": "toy:terse", "messages": turns, **fields}
    ) as response:
        await response.read()
        status: int = response.status
        return status


async def test_no_client_notices_a_replica_that_breaks_and_its_breaker_opens(families: dict[str, Family]) -> None:
    # the breaker is what takes it out: its health checks go on being good
    settings = PoolSettings(breaker_failures=3, breaker_backoff=0.3, retry_minimum=10, **QUICK_CHECKS)
    async with AsyncExitStack() as stack:
        sound = await stack.enter_async_context(fake_engine(completion()))
        broken = await stack.enter_async_context(fake_engine(error(503, b'{"error": {"message": "overloaded"}}')))
        gateway = await stack.enter_async_context(running_gateway(families, sound.url, broken.url, replicas=settings))
        assert {await ask(gateway) for _ in range(30)} == {200}
        assert len(broken.bodies) >= 3
        assert await gateway.metric("alphatier_replica_breaker_state", replica=broken.replica) == 2
        assert await gateway.metric("alphatier_retries_total") == len(broken.bodies)
        # it recovers: one probe, and it is back
        broken.handler = completion()

        async def is_back() -> bool:
            assert await ask(gateway) == 200
            return await gateway.metric("alphatier_replica_breaker_state", replica=broken.replica) == 0

        for _ in range(200):
            if await is_back():
                break
        else:
            pytest.fail("the breaker did not close")
        assert await gateway.metric("alphatier_replica_requests_in_flight") == 0


async def test_when_all_replicas_are_broken_the_budget_keeps_retries_few(families: dict[str, Family]) -> None:
    settings = PoolSettings(
        breaker_failures=1000, breaker_window=1000, retry_minimum=0, retry_share=0.2, **QUICK_CHECKS
    )
    async with AsyncExitStack() as stack:
        failing = error(503, b'{"error": {"message": "overloaded"}}')
        engines = [await stack.enter_async_context(fake_engine(failing)) for _ in range(2)]
        urls = [engine.url for engine in engines]
        gateway = await stack.enter_async_context(running_gateway(families, *urls, replicas=settings))
        for _ in range(50):
            assert await ask(gateway) >= 500
        assert sum(len(engine.bodies) for engine in engines) <= 60  # 50, and a fifth again
        assert await gateway.metric("alphatier_retries_total") == 10


async def test_with_affinity_the_turns_of_a_conversation_go_to_one_replica(families: dict[str, Family]) -> None:
    settings = PoolSettings(affinity="prefix", **QUICK_CHECKS)
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(fake_engine(completion())) for _ in range(2)]
        urls = [engine.url for engine in engines]
        gateway = await stack.enter_async_context(running_gateway(families, *urls, replicas=settings))
        homes: Counter[int] = Counter()
        for number in range(16):
            before = [len(engine.bodies) for engine in engines]
            for turns in range(1, 5):
                assert await ask(gateway, f"question {number}", *["more"] * turns) == 200
            shares = [len(engine.bodies) - count for engine, count in zip(engines, before, strict=True)]
            assert sorted(shares) == [0, 4]
            homes[shares.index(4)] += 1
        assert len(homes) == 2  # all on one of them by chance: 1 in 32,768


async def test_a_replica_that_comes_later_is_found_by_itself(families: dict[str, Family]) -> None:
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(fake_engine(completion())) for _ in range(2)]
        engines[1].listing = error(503, b"")
        urls = [engine.url for engine in engines]
        settings = PoolSettings(**QUICK_CHECKS)
        gateway = await stack.enter_async_context(running_gateway(families, *urls, up=1, replicas=settings))
        assert {await ask(gateway) for _ in range(10)} == {200}
        assert engines[1].bodies == []
        engines[1].listing = None
        await eventually(lambda: sum(replica.up for replica in gateway.pool.replicas) == 2)
        assert {await ask(gateway) for _ in range(20)} == {200}
        assert engines[1].bodies
