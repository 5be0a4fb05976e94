"""The admission queue against a model, in whatever order things happen."""

import asyncio
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from alphatier_server.errors import Overloaded
from alphatier_server.limits.queue import AdmissionQueue
from alphatier_server.limits.waiting import CLASSES, Slot
from alphatier_server.settings.overload import OverloadSettings, PriorityClass
from support.virtual_time import VirtualTimeLoop

MOST, MOST_PER_TIER, MOST_WAITING, LONGEST = 4, 3, 6, 10.0
TIERS = (("toy", "terse"), ("toy", "thorough"))


class Request:
    """One client's request, as the request path makes it."""

    def __init__(
        self, world: "Overload", key: str, tier: tuple[str, str], priority: PriorityClass, prompts: int
    ) -> None:
        self.world = world
        self.key = key
        self.tier = tier
        self.priority = priority
        self.prompts = prompts
        self.weight = min(prompts, MOST_PER_TIER)
        self.since = world.loop.time()
        self.slot: Slot | None = None
        self.shed: Overloaded | None = None
        self.task = world.loop.create_task(self.run())

    async def run(self) -> None:
        try:
            self.slot = await self.world.queue.enter(
                tier=self.tier, key=self.key, priority=self.priority, requests=self.prompts
            )
        except Overloaded as error:
            self.shed = error
        else:
            spare = self.world.spare(self.tier)
            assert spare >= self.weight or (spare > 0 and self.world.leases[self.tier] == 0)
            self.world.leases[self.tier] += self.weight
            self.world.let_in.append(self)

    @property
    def waits(self) -> bool:
        return not self.task.done()


class Overload(RuleBasedStateMachine):
    """Caps hold, nobody waits where there is room, nothing is lost, the order is the rule's."""

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.leases: Counter[tuple[str, str]] = Counter()
        self.may_take = dict.fromkeys(TIERS, 3)
        self.all: list[Request] = []
        self.let_in: list[Request] = []
        limits = OverloadSettings(
            max_in_flight=MOST,
            max_in_flight_per_tier=MOST_PER_TIER,
            max_queue=MOST_WAITING,
            max_queue_seconds=LONGEST,
        )
        self.queue = AdmissionQueue(limits, spare=self.spare, clock=self.loop.time)

    def spare(self, tier: tuple[str, str]) -> int:
        return self.may_take[tier] - self.leases[tier]

    def turn(self) -> None:
        """All that can run runs."""

        async def turns() -> None:
            for _ in range(4):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    @rule(
        target=requests,
        keys=st.lists(st.sampled_from("abc"), min_size=1, max_size=4),
        tier=st.sampled_from(TIERS),
        priority=st.sampled_from(CLASSES),
        prompts=st.sampled_from([1, 1, 1, 2, 9]),
    )
    def ask(self, keys: list[str], tier: tuple[str, str], priority: PriorityClass, prompts: int) -> object:
        made = [Request(self, key, tier, priority, prompts) for key in keys]
        self.all += made
        self.turn()
        return multiple(*made)

    @rule(request=consumes(requests))
    def end(self, request: Request) -> None:
        """A running request ends; the next is who the rule says."""
        if request.slot is None:
            return
        waiting = [other for other in self.all if other.waits]
        held = Counter[str]()
        for other in self.all:
            if other.slot is not None and other is not request:
                held[other.key] += other.weight
        before = len(self.let_in)
        self.give_back(request)
        self.turn()
        for chosen in self.let_in[before:]:
            for other in waiting:
                if other.waits and other.tier == chosen.tier:
                    higher = CLASSES.index(other.priority) - CLASSES.index(chosen.priority)
                    assert higher > 0 or (higher == 0 and held[other.key] >= held[chosen.key])
            held[chosen.key] += chosen.weight

    @rule(request=consumes(requests))
    def leave(self, request: Request) -> None:
        """A client leaves, whatever its request is doing."""
        request.task.cancel()
        if request.slot is not None:
            self.give_back(request)
        self.turn()

    @rule(ending=consumes(requests), leaving=st.lists(consumes(requests), max_size=6), first=st.booleans())
    def end_while_others_leave(self, ending: Request, leaving: list[Request], first: bool) -> None:
        """In one turn of the loop: whoever is let in may be leaving already, or leave before it has run."""
        for request in leaving if first else []:
            request.task.cancel()
        self.give_back(ending)
        ending.task.cancel()
        for request in leaving:
            request.task.cancel()
            self.give_back(request)
        self.turn()

    @rule(tier=st.sampled_from(TIERS), may_take=st.integers(0, 4))
    def replicas_change(self, tier: tuple[str, str], may_take: int) -> None:
        self.may_take[tier] = may_take
        self.queue.wake()
        self.turn()

    @rule(seconds=st.floats(0.1, 12.0))
    def time_passes(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.turn()
        assert all(self.loop.time() - request.since <= LONGEST + 0.01 for request in self.all if request.waits)

    def give_back(self, request: Request) -> None:
        if request.slot is not None:
            self.leases[request.tier] -= request.weight
            request.slot.close()
            self.queue.wake()
            request.slot = None

    @invariant()
    def caps_hold_and_nothing_is_lost(self) -> None:
        running = [request for request in self.all if request.slot is not None]
        assert self.queue.in_flight == sum(request.weight for request in running) <= MOST
        assert all(self.running(tier) <= MOST_PER_TIER for tier in TIERS)
        waiting = Counter(request.priority for request in self.all if request.waits)
        assert {each: self.queue.waiting(each) for each in CLASSES} == {each: waiting[each] for each in CLASSES}
        assert waiting.total() <= MOST_WAITING
        for request in self.all:
            if request.task.done() and not request.task.cancelled():
                request.task.result()

    @invariant()
    def nobody_waits_where_there_is_room(self) -> None:
        for tier in {request.tier for request in self.all if request.waits}:
            lightest = min(request.weight for request in self.all if request.waits and request.tier == tier)
            heaviest = max(request.weight for request in self.all if request.waits and request.tier == tier)
            room = min(MOST - self.queue.in_flight, MOST_PER_TIER - self.running(tier))
            room = min(room, self.spare(tier)) if self.running(tier) or self.spare(tier) <= 0 else room
            # Where a batch is next, the tier's others wait with it.
            assert room < (heaviest if heaviest > 1 else lightest)

    def running(self, tier: tuple[str, str]) -> int:
        return sum(request.weight for request in self.all if request.slot is not None and request.tier == tier)

    def teardown(self) -> None:
        for request in self.all:
            request.task.cancel()
            self.give_back(request)
        self.turn()
        for request in self.all:
            self.give_back(request)
        assert (self.queue.in_flight, self.queue._keys, self.queue._handed) == (0, {}, 0)
        self.loop.close()


TestOverload = Overload.TestCase
TestOverload.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
