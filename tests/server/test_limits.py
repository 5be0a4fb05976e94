"""The arithmetic of limits, with a clock that the test owns."""

import asyncio
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphatier_server.limits.arithmetic import Account, Call, Limits, Rate, duration, rate_headers
from alphatier_server.limits.store import MemoryStore
from support.limits import place, refusal


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def admit(limits: Limits, account: Account, now: float, tokens: int = 0, *, streamed: bool = False) -> str | None:
    return account.take(limits.call("alice", streamed=streamed, tokens=tokens), now).refused


def test_a_minute_worth_of_requests_may_come_at_once_and_then_one_an_interval() -> None:
    limits, account = Limits(requests=Rate(6, 6)), Account()
    assert [admit(limits, account, 1000.0) for _ in range(7)] == [None] * 6 + ["requests_per_minute"]
    # 6 a minute: one every 10 s
    assert admit(limits, account, 1009.9) == "requests_per_minute"
    assert admit(limits, account, 1010.0) is None
    assert admit(limits, account, 1010.1) == "requests_per_minute"


def test_a_refusal_says_how_long_to_wait_and_waiting_that_long_is_enough() -> None:
    limits, account = Limits(requests=Rate(6, 1)), Account()
    assert admit(limits, account, 1000.0) is None
    refused = account.take(limits.call("alice", streamed=False, tokens=0), 1004.0)
    assert refused.wait == pytest.approx(6.0)
    assert admit(limits, account, 1004.0 + refused.wait) is None


def test_a_refused_request_costs_nothing() -> None:
    limits = Limits(requests=Rate(60, 60), concurrent_requests=1)
    account = Account()
    assert admit(limits, account, 1000.0) is None
    assert {admit(limits, account, 1000.0) for _ in range(100)} == {"concurrent_requests"}
    account.settle(limits.call("alice", streamed=False, tokens=0), 0, 1000.0)
    assert [admit(limits, account, 1000.0), account.in_flight] == [None, 1]


async def test_places_at_once_are_counted_and_come_back() -> None:
    store, limits = MemoryStore(), Limits(concurrent_requests=3, concurrent_streams=1)
    stream = await place(store, limits, 0, streamed=True)
    assert await refusal(store, limits, 0, streamed=True) == "concurrent_streams"
    others = [await place(store, limits, 0), await place(store, limits, 0)]
    assert await refusal(store, limits, 0) == "concurrent_requests"
    stream.close(None)
    stream.close(None)  # a second close gives nothing back twice
    await place(store, limits, 0, streamed=True)
    assert await refusal(store, limits, 0) == "concurrent_requests"
    for other in others:
        other.close(0)
    await place(store, limits, 0)


async def test_tokens_are_held_while_a_request_runs_and_booked_when_it_ends() -> None:
    clock = Clock()
    store, limits = MemoryStore(clock), Limits(tokens=Rate(600, 600))
    first = await place(store, limits, 400)
    assert await refusal(store, limits, 300) == "tokens_per_minute"
    first.close(100)  # 500 of 600 are left
    second = await place(store, limits, 500)
    assert await refusal(store, limits, 1) == "tokens_per_minute"
    second.close(500)
    clock.now += 10  # 600 a minute: 100 came back
    third = await place(store, limits, 100)
    assert b"x-ratelimit-remaining-tokens: 0\r\n" in third.lines


async def test_using_more_than_the_estimate_delays_later_requests() -> None:
    clock = Clock()
    store, limits = MemoryStore(clock), Limits(tokens=Rate(60, 60))
    (await place(store, limits, 10)).close(120)  # 60 too many: a minute until the next token
    clock.now += 60
    assert await refusal(store, limits, 0) == "tokens_per_minute"
    clock.now += 1
    await place(store, limits, 0)


async def test_a_request_larger_than_the_bucket_runs_alone() -> None:
    store, limits = MemoryStore(Clock()), Limits(tokens=Rate(100, 100))
    large = await place(store, limits, 5000)
    assert await refusal(store, limits, 1) == "tokens_per_minute"
    large.close(20)
    await place(store, limits, 80)


async def test_unknown_usage_books_the_estimate() -> None:
    store, limits = MemoryStore(Clock()), Limits(tokens=Rate(100, 100))
    (await place(store, limits, 100)).close(None)
    assert await refusal(store, limits, 1) == "tokens_per_minute"


def test_headers_are_those_of_openai() -> None:
    limits = Limits(Rate(60, 60), Rate(6000, 6000))
    outcome = Account().take(limits.call("alice", streamed=False, tokens=600), 1000.0)
    assert rate_headers(limits, outcome) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5400",
        "x-ratelimit-reset-tokens": "6s",
    }
    assert rate_headers(Limits(concurrent_requests=1), outcome) == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.0001, "1ms"), (0.9991, "1s"), (59.9999, "1m0s"), (72.5, "1m12.5s"), (7384.25, "2h3m4.25s")],
)
def test_durations_read_like_go(seconds: float, text: str) -> None:
    assert duration(seconds) == text


GAPS = st.lists(st.floats(0, 30), min_size=1, max_size=60)
RATES = st.builds(Rate, st.integers(1, 500), st.integers(1, 500))


@settings(deadline=None)
@given(RATES, GAPS)
def test_no_window_sees_more_than_its_burst_and_its_share(rate: Rate, gaps: list[float]) -> None:
    limits, account, now, admitted = Limits(requests=rate), Account(), 1000.0, []
    for gap in gaps:
        now += gap
        while admit(limits, account, now) is None:
            admitted.append(now)
    for first, start in enumerate(admitted):
        for count, end in enumerate(admitted[first:], start=1):
            assert count <= rate.burst + (end - start) * rate.per_minute / 60 + 0.01


@given(RATES, GAPS)
def test_the_whole_share_is_admitted_to_who_asks_often_enough(rate: Rate, gaps: list[float]) -> None:
    limits, account, now, admitted = Limits(requests=rate), Account(), 1000.0, 0
    for gap in gaps:
        now += gap
        while admit(limits, account, now) is None:
            admitted += 1
    # Between two visits at most one burst can be lost to a full bucket; nothing else is.
    lost = sum(max(0.0, gap * rate.per_minute / 60 - rate.burst) for gap in gaps)
    assert admitted >= int(rate.burst + sum(gaps[1:]) * rate.per_minute / 60 - lost - len(gaps))


STEPS = st.lists(
    st.tuples(st.floats(0, 20), st.integers(1, 400), st.floats(0, 1), st.booleans(), st.integers(0, 5)),
    min_size=1,
    max_size=60,
)


@given(RATES, STEPS)
@settings(max_examples=300, deadline=None)
def test_settling_makes_no_tokens_out_of_nothing(
    rate: Rate, steps: list[tuple[float, int, float, bool, int]]
) -> None:
    """Whatever is reserved and given back, no window books more than burst + share, and no bucket overflows."""
    limits, account, now = Limits(tokens=rate), Account(), 1000.0
    running: list[tuple[Call, float]] = []
    booked: list[tuple[float, int]] = []
    for gap, estimate, share, starts, which in steps:
        now += gap
        call = limits.call("alice", streamed=False, tokens=estimate)
        if starts and account.take(call, now).refused is None:
            running.append((call, share))
        elif running:
            call, share = running.pop(which % len(running))
            used = int(call.tokens * share)
            account.settle(call, used, now)
            booked.append((now, used))
        left = rate.left(max(0.0, account.tokens_full_at - now))
        assert account.reserved == sum(call.tokens for call, _ in running)
        assert account.reserved <= left + 0.01 <= rate.burst + 0.02
    for first, (start, _) in enumerate(booked):
        for last in range(first, len(booked)):
            total = sum(used for _, used in booked[first : last + 1])
            assert total <= rate.burst + (booked[last][0] - start) * rate.per_minute / 60 + 0.1


async def test_the_memory_store_never_suspends_and_is_quick() -> None:
    store, limits = MemoryStore(), Limits(Rate(10**9, 10**9), Rate(10**9, 10**9), 10, 10)
    others: list[str] = []
    asyncio.get_running_loop().call_soon(others.append, "ran")
    fastest = float("inf")
    for _ in range(200):
        began = time.perf_counter()
        for _ in range(20):
            (await place(store, limits, 100, streamed=True)).close(50)
        fastest = min(fastest, (time.perf_counter() - began) / 20)
    assert others == []  # nothing else got a turn in 4,000 admissions
    assert fastest < 50e-6  # about 4 µs here; ten times that would be another algorithm
