"""Requests in flight and the queue before them, on a clock that jumps."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from alphatier_server.errors import Overloaded
from alphatier_server.limits.queue import AdmissionQueue, TierUse
from alphatier_server.limits.waiting import CLASSES, Slot
from alphatier_server.settings.overload import OverloadSettings, PriorityClass
from support.virtual_time import run_virtually

TOY = ("toy", "terse")
OTHER = ("toy", "thorough")


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        run_virtually(test(*arguments, **named))

    return run


def queue_of(spare: Callable[[tuple[str, str]], int | None] | None = None, **settings: Any) -> AdmissionQueue:
    return AdmissionQueue(OverloadSettings(**settings), spare=spare, clock=asyncio.get_running_loop().time)


class Clients:
    """Requests of a test, and in which order they were let in."""

    def __init__(self, queue: AdmissionQueue) -> None:
        self.queue = queue
        self.let_in: list[str] = []
        self.slots: dict[str, Slot] = {}
        self.shed: dict[str, Overloaded] = {}

    def send(
        self, name: str, key: str = "a", priority: PriorityClass = "normal", tier: tuple[str, str] = TOY
    ) -> asyncio.Task[None]:
        return asyncio.create_task(self._send(name, key, priority, tier))

    async def _send(self, name: str, key: str, priority: PriorityClass, tier: tuple[str, str]) -> None:
        try:
            self.slots[name] = await self.queue.enter(tier=tier, key=key, priority=priority)
            self.let_in.append(name)
        except Overloaded as error:
            self.shed[name] = error

    async def arrive(self, name: str, key: str = "a", priority: str = "normal", tier: tuple[str, str] = TOY) -> None:
        """`send`, and all that can run has run."""
        self.send(name, key, priority, tier)  # type: ignore[arg-type]
        await turns()

    async def finish(self, name: str) -> None:
        self.slots.pop(name).close()
        await turns()


async def turns() -> None:
    """All that can run has run."""
    for _ in range(5):
        await asyncio.sleep(0)


@virtually
async def test_a_free_slot_is_had_without_a_turn_of_the_loop() -> None:
    queue = queue_of(max_in_flight=1)
    entering = queue.enter(tier=TOY, key=None)
    with pytest.raises(StopIteration) as done:
        entering.send(None)
    slot = done.value.value
    assert (queue.in_flight, slot.waited) == (1, 0.0)
    slot.close()
    slot.close()
    assert queue.in_flight == 0


@virtually
async def test_who_finds_no_slot_waits_for_one_and_is_told_how_long_it_waited() -> None:
    queue = queue_of(max_in_flight=1)
    clients = Clients(queue)
    clients.send("first")
    await clients.arrive("second")
    assert (clients.let_in, queue.waiting("normal")) == (["first"], 1)
    await asyncio.sleep(3)
    await clients.finish("first")
    assert clients.let_in == ["first", "second"]
    assert clients.slots["second"].waited == pytest.approx(3)


@virtually
async def test_each_tier_has_its_own_cap_and_a_full_one_holds_no_other_up() -> None:
    queue = queue_of(max_in_flight_per_tier=1, max_queue=1)
    clients = Clients(queue)
    for name in ("toy", "waits"):
        clients.send(name)
    await turns()
    clients.send("other", tier=OTHER)  # the queue is full, but not of requests for this tier
    await turns()
    assert clients.let_in == ["toy", "other"]
    assert clients.shed == {}


@virtually
async def test_no_more_go_on_than_the_replicas_may_take() -> None:
    leases, may_take = 0, 2

    async def request() -> None:
        nonlocal leases
        await queue.enter(tier=TOY, key="a")
        leases += 1
        assert leases <= may_take

    queue = queue_of(lambda _: may_take - leases)
    requests = [asyncio.create_task(request()) for _ in range(6)]
    await turns()
    assert leases == 2
    may_take = 5  # a replica came
    queue.wake()
    await turns()
    assert leases == 5
    leases -= 1  # a lease was closed
    queue.wake()
    await turns()
    assert [task.done() for task in requests] == [True] * 6


@virtually
async def test_replicas_of_two_tiers_that_are_free_at_once_both_go_on() -> None:
    """While one request has its slot and not yet its lease, nobody knows whose replica it will take."""
    leases = {TOY: 1, OTHER: 1}
    queue = queue_of(lambda tier: 1 - leases[tier])
    let_in = []

    async def request(tier: tuple[str, str]) -> None:
        await queue.enter(tier=tier, key="a")
        leases[tier] += 1
        let_in.append(tier)

    waiting = [asyncio.create_task(request(tier)) for tier in (TOY, OTHER)]
    await turns()
    leases.update({TOY: 0, OTHER: 0})
    queue.wake()
    await asyncio.wait(waiting, timeout=1)
    assert let_in == [TOY, OTHER]


@virtually
async def test_a_newcomer_does_not_overtake_who_waits() -> None:
    may_take = 0
    clients = Clients(queue_of(lambda _: may_take))
    await clients.arrive("elder", "a")
    may_take = 1  # and nobody has said so
    await clients.arrive("newcomer", "b")
    assert clients.let_in[0] == "elder"


@virtually
async def test_one_keys_thousand_requests_do_not_delay_anothers_one() -> None:
    clients = Clients(queue_of(max_in_flight=1, max_queue=2000))
    for number in range(1000):
        clients.send(f"greedy-{number}", "greedy")
    await turns()
    await clients.arrive("modest", "modest")
    await clients.finish("greedy-0")
    assert clients.let_in == ["greedy-0", "modest"]


@virtually
async def test_ten_keys_get_the_same_however_much_one_of_them_asks() -> None:
    """Four times what can be done, half of it by one key; each request takes a second of eight places."""
    queue, done = queue_of(max_in_flight=8, max_queue=100, max_queue_seconds=5.0), Counter[str]()
    loop, draw, waits, shed = asyncio.get_running_loop(), random.Random(3), [], Counter[tuple[str, int]]()

    async def request(key: str) -> None:
        try:
            slot = await queue.enter(tier=TOY, key=key)
        except Overloaded as error:
            shed[key, error.status] += 1
            return
        waits.append(slot.waited)
        await asyncio.sleep(1.0)
        done[key] += 1
        slot.close()

    running = []
    while loop.time() < 200:
        key = "0" if draw.random() < 0.5 else str(draw.randrange(1, 10))
        running.append(asyncio.create_task(request(key)))
        await asyncio.sleep(draw.expovariate(32))
    await asyncio.wait(running)
    total = sum(done.values())
    assert total >= 0.98 * 8 * 200
    assert max(waits) <= 5.0
    assert max(done.values()) <= 1.1 * total / 10
    assert shed["0", 429] > 10 * shed["0", 503]


@virtually
async def test_what_others_leave_a_greedy_key_may_have() -> None:
    clients = Clients(queue_of(max_in_flight=4))
    for number in range(8):
        clients.send(f"greedy-{number}", "greedy")
    await turns()
    assert len(clients.let_in) == 4


@virtually
async def test_a_batch_takes_as_many_places_as_it_has_prompts_and_is_not_passed_by_smaller_ones() -> None:
    queue = queue_of(max_in_flight=4)
    first, second = [await queue.enter(tier=TOY, key="a", requests=2) for _ in range(2)]
    order: list[str] = []

    async def request(name: str, requests: int, priority: PriorityClass = "normal") -> Slot:
        slot = await queue.enter(tier=TOY, key=name, priority=priority, requests=requests)
        order.append(name)
        return slot

    batch = asyncio.create_task(request("batch", 3))
    await turns()
    singles = [asyncio.create_task(request("single", 1)), asyncio.create_task(request("low", 1, "low"))]
    await turns()
    first.close()
    await turns()
    assert order == []
    second.close()
    await asyncio.wait([batch, singles[0]])
    assert (order, queue.in_flight) == (["batch", "single"], 4)
    batch.result().close()
    await singles[1]


@virtually
@pytest.mark.parametrize("leaves", [True, False])
async def test_who_waited_with_a_batch_goes_on_when_that_leaves_or_is_shed(leaves: bool) -> None:
    queue = queue_of(max_in_flight=2, max_queue_seconds=5.0)
    clients = Clients(queue)
    await clients.arrive("first")
    batch = asyncio.create_task(queue.enter(tier=TOY, key="b", requests=2))
    await turns()
    await asyncio.sleep(1)
    await clients.arrive("second")
    assert clients.let_in == ["first"]
    if leaves:
        batch.cancel()
    with pytest.raises((Overloaded, asyncio.CancelledError)):
        await batch
    await turns()
    assert clients.let_in == ["first", "second"]


@virtually
async def test_a_batch_beyond_every_cap_runs_alone() -> None:
    queue = queue_of(max_in_flight=4, max_in_flight_per_tier=3)
    slot = await queue.enter(tier=TOY, key="a", requests=1000)
    assert (slot.weight, queue.in_flight) == (3, 3)
    slot.close()
    slot = await asyncio.wait_for(queue.enter(tier=TOY, key="a", requests=1000), 1)
    slot.close()
    assert queue.in_flight == 0


@virtually
async def test_so_does_one_beyond_what_the_replicas_may_take() -> None:
    queue = queue_of(lambda _: 2)
    slot = await asyncio.wait_for(queue.enter(tier=TOY, key="a", requests=5), 1)
    waiting = asyncio.create_task(queue.enter(tier=TOY, key="b", requests=5))
    await turns()
    assert not waiting.done()
    slot.close()
    await waiting


@virtually
async def test_a_key_that_sends_batches_gets_no_more_than_one_that_does_not() -> None:
    queue = queue_of(max_in_flight=8)
    held = [await queue.enter(tier=TOY, key="batches", requests=4), await queue.enter(tier=TOY, key="b", requests=4)]
    clients = Clients(queue)
    await clients.arrive("of batches", "batches")
    for number in range(3):
        clients.send(f"single-{number}", "singles")
    await turns()
    held[1].close()
    await turns()
    assert clients.let_in == ["single-0", "single-1", "single-2", "of batches"]


@virtually
async def test_a_higher_class_goes_first_and_the_lower_ones_when_it_is_done() -> None:
    clients = Clients(queue_of(max_in_flight=1))
    await clients.arrive("first")
    for name, priority in (("low", "low"), ("normal", "normal"), ("high", "high"), ("high too", "high")):
        await clients.arrive(name, key=name, priority=priority)
    for name in ("first", "high", "high too", "normal"):
        await clients.finish(name)
    assert clients.let_in == ["first", "high", "high too", "normal", "low"]


@virtually
async def test_who_waits_for_too_long_is_shed() -> None:
    queue = queue_of(max_in_flight=1, max_queue_seconds=7.0)
    clients = Clients(queue)
    clients.send("first")
    waiting = clients.send("second", key="b")
    await waiting
    assert asyncio.get_running_loop().time() == pytest.approx(7.0)
    error = clients.shed["second"]
    assert (error.status, error.code, error.shed, error.priority) == (503, "overloaded", "waited", "normal")
    assert queue.waiting("normal") == 0


@virtually
async def test_a_full_queue_sheds_the_newest_of_the_lowest_class_for_a_higher_one() -> None:
    clients = Clients(queue_of(max_in_flight=1, max_queue=3))
    clients.send("first")
    for name, key, priority in (("n", "b", "normal"), ("l1", "c", "low"), ("l2", "c", "low"), ("h", "d", "high")):
        await clients.arrive(name, key, priority)
    assert {name: error.shed for name, error in clients.shed.items()} == {"l2": "displaced"}
    clients.send("late low", "e", "low")
    await clients.arrive("late high", "e", "high")
    clients.send("later normal", "f", "normal")
    await clients.arrive("last low", "g", "low")
    assert {name: error.shed for name, error in clients.shed.items()} == {
        "l2": "displaced",
        "late low": "queue_full",
        "l1": "displaced",
        "later normal": "queue_full",
        "last low": "queue_full",
    }


@virtually
async def test_in_a_full_queue_the_key_that_waits_most_makes_room_for_the_others() -> None:
    clients = Clients(queue_of(max_in_flight=1, max_queue=4))
    for number in range(6):
        clients.send(f"greedy-{number}", "greedy")
    await turns()
    await clients.arrive("modest", "modest")
    assert {name: (error.status, error.shed) for name, error in clients.shed.items()} == {
        "greedy-5": (503, "queue_full"),  # nobody else was there
        "greedy-4": (429, "displaced"),
    }
    await clients.arrive("greedy-6", "greedy")
    assert clients.shed["greedy-6"].status == 429


@virtually
async def test_retry_after_and_the_wait_tell_what_the_rate_and_the_queue_say() -> None:
    clients = Clients(queue_of(max_in_flight=2, max_queue=20))
    assert clients.queue.wait(TOY) == 0
    for number in range(40):  # two a second end
        clients.send(f"r{number}", f"key-{number}")
        await asyncio.sleep(0.5)
        await clients.finish(f"r{number}")
    for number in range(22):
        clients.send(f"w{number}", f"key-{number}")
    await turns()
    assert 10 <= clients.queue.wait(TOY) <= 12
    await clients.arrive("one too many", "key-99")
    assert 10 <= int(clients.shed["one too many"].headers["retry-after"]) <= 12  # 21 at two a second


def test_the_rate_is_right_from_the_start_and_forgets() -> None:
    rate = TierUse(100.0)
    assert rate.per_second(100.0) == 0.0
    for number in range(20):
        rate.ended(100.0 + (number + 1) / 10)
    assert rate.per_second(102.0) == pytest.approx(10, rel=0.1)
    assert rate.per_second(202.0) < 0.01


@virtually
async def test_a_client_that_leaves_in_the_turn_in_which_it_is_let_in_takes_nothing_along() -> None:
    queue = queue_of(max_in_flight=1)
    clients = Clients(queue)
    clients.send("first")
    second = clients.send("second")
    await clients.arrive("third")
    clients.slots.pop("first").close()  # the second has its slot now, and has not run since
    second.cancel()
    await turns()
    assert clients.let_in == ["first", "third"]
    assert queue.in_flight == 1


@virtually
async def test_a_client_that_has_left_and_not_run_since_is_passed_over() -> None:
    clients = Clients(queue_of(max_in_flight=1))
    clients.send("first")
    second = clients.send("second")
    await clients.arrive("third")
    second.cancel()
    clients.slots.pop("first").close()
    await turns()
    assert clients.let_in == ["first", "third"]


@virtually
async def test_storms_of_clients_that_leave_leave_nothing() -> None:
    draw, loop = random.Random(11), asyncio.get_running_loop()
    queue = queue_of(max_in_flight=5, max_in_flight_per_tier=4, max_queue=50, max_queue_seconds=0.4)

    async def request() -> None:
        tier, priority = draw.choice([TOY, OTHER]), draw.choice(CLASSES)
        try:
            slot = await queue.enter(tier=tier, key=draw.choice("abc"), priority=priority)
        except Overloaded:
            return
        try:
            assert queue.in_flight <= 5
            await asyncio.sleep(draw.choice([0, 0, 0.01, 0.1]))
        finally:
            slot.close()

    for _ in range(50):
        tasks = [asyncio.create_task(request()) for _ in range(100)]
        for task in tasks:
            loop.call_later(draw.choice([0, 0, 0.01, 0.05, 0.5]), task.cancel)
        await asyncio.wait(tasks)
        assert [queue.waiting(priority) for priority in CLASSES] == [0, 0, 0]
        assert (queue.in_flight, queue._keys, queue._handed) == (0, {}, 0)


@virtually
async def test_a_slot_costs_microseconds() -> None:
    queue = queue_of(max_in_flight=100)
    fastest = float("inf")
    for _ in range(100):
        began = time.perf_counter()
        for _ in range(50):
            (await queue.enter(tier=TOY, key="a", priority="normal")).close()
        fastest = min(fastest, (time.perf_counter() - began) / 50)
    assert fastest < 30e-6  # about 2.5 µs here; ten times that would be another algorithm


def test_a_file_turns_caps_off_with_zero() -> None:
    off = OverloadSettings(
        max_in_flight=0, max_in_flight_per_tier=0, max_in_flight_per_replica=0, max_queue_seconds=0.0
    )
    assert (off.max_in_flight, off.max_in_flight_per_tier, off.max_queue_seconds) == (None, None, None)


@virtually
async def test_where_nobody_may_wait_who_finds_no_slot_is_refused_at_once() -> None:
    queue = queue_of(max_in_flight=1, max_queue=0)
    await queue.enter(tier=TOY, key="a")
    with pytest.raises(Overloaded) as refused:
        await queue.enter(tier=TOY, key="b")
    assert (refused.value.shed, asyncio.get_running_loop().time()) == ("queue_full", 0.0)
