"""A simulator: engines that share their speed among requests, gateways with the real controller, random clients.

An engine works on `slots` requests at once, the first come first; a token of each takes `step + each * (how many)`
seconds, as a batch takes longer the larger it is. Of two engines that are drawn at random the one with fewer of the
gateway's own requests gets the next. Problems, tokens and what is right are drawn from samples of the family.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alphatier_models.routing import Expectation
from alphatier_server.gateway.brownout import Brownout, Part, between, way_down
from alphatier_server.gateway.brownouts import TICK_SECONDS


@dataclass(frozen=True)
class Pace:
    """An engine's speed."""

    slots: int
    step: float
    each: float

    @property
    def most(self) -> float:
        """Tokens a second with all slots taken."""
        return self.slots / (self.step + self.each * self.slots)


@dataclass(frozen=True)
class Tiers:
    """What the tiers did: right (0 or 1) and tokens are [tiers, problems, samples]; the thorough one is the first."""

    names: tuple[str, ...]
    right: Any
    tokens: Any

    @property
    def chances(self) -> list[float]:
        return [float(own.mean()) for own in self.right]

    @property
    def means(self) -> list[float]:
        return [float(own.mean()) for own in self.tokens]


@dataclass
class Seen:
    """Of each request, by arrival."""

    arrived: Any
    took: Any
    """Seconds; infinity where it was shed or had not ended."""
    tier: Any
    right: Any
    levels: list[list[float]] = field(default_factory=list)
    """A moment, and each gateway's level then."""
    reversals: list[int] = field(default_factory=list)


def simulate(
    tiers: Tiers,
    pace: Pace,
    rate: Callable[[float], float],
    seconds: float,
    controllers: Sequence[Brownout | None],
    *,
    engines: int = 1,
    patience: float = np.inf,
    expected: Sequence[float] | None = None,
    seed: int = 0,
    tick: float = 0.01,
    after: float = 0.0,
    share: Sequence[float] | None = None,
    speed: Callable[[float], float] = lambda _now: 1.0,
) -> Seen:
    """Run for `seconds`, and `after` more without new requests. `rate` is requests a second, `patience` the longest
    wait before an engine begins; `expected` the tokens that the gateways think tiers take."""
    draw = np.random.default_rng(seed)
    steps = int(seconds / tick)
    counts = draw.poisson([rate(at * tick) * tick for at in range(steps)])
    total = int(counts.sum())
    problems = draw.integers(tiers.right.shape[1], size=total)
    samples = draw.integers(tiers.right.shape[2], size=total)
    coins = draw.random(total)
    gateways = draw.choice(len(controllers), size=total, p=share)
    two = draw.integers(engines, size=(total, 2))
    seen = Seen(np.empty(total), np.full(total, np.inf), np.zeros(total, int), np.zeros(total, bool))
    left = np.full((engines, pace.slots), np.inf)
    who = np.full((engines, pace.slots), -1)
    where = np.empty(total, int)
    queues: list[deque[int]] = [deque() for _ in range(engines)]
    own = np.zeros((len(controllers), engines), int)
    parts: dict[int, Part] = {}
    thought = [
        Expectation(name, chance, tokens, 0, 0)
        for name, chance, tokens in zip(tiers.names, tiers.chances, expected or tiers.means, strict=True)
    ]
    way = way_down(thought[0], thought)
    places, costs = [thought.index(one) for one in way], [one.tokens for one in way]
    at = 0

    def begin(number: int, engine: int, slot: int) -> None:
        left[engine, slot] = tiers.tokens[seen.tier[number], problems[number], samples[number]]
        who[engine, slot] = number

    def end(number: int, *, whole: bool) -> None:
        own[gateways[number], where[number]] -= 1
        if number in parts:
            parts.pop(number).close(whole=whole)

    for step in range(steps + int(after / tick)):
        now = step * tick
        busy = (who >= 0).sum(axis=1)
        left -= (tick * speed(now) / (pace.step + pace.each * np.maximum(busy, 1)))[:, None]
        for engine, slot in zip(*np.nonzero((left <= 0) & (who >= 0)), strict=True):
            number = int(who[engine, slot])
            seen.took[number] = now - seen.arrived[number]
            end(number, whole=True)
            who[engine, slot], left[engine, slot] = -1, np.inf
            while queues[engine]:
                next_ = queues[engine].popleft()
                if now - seen.arrived[next_] > patience:
                    end(next_, whole=False)
                    continue
                begin(next_, engine, slot)
                break
        for _ in range(counts[step] if step < steps else 0):
            gateway = int(gateways[at])
            controller = controllers[gateway]
            one, other = (int(number) for number in two[at])
            engine = one if own[gateway, one] <= own[gateway, other] else other
            seen.arrived[at] = now
            if controller is not None:
                place = between(costs, controller.level, float(coins[at]))
                parts[at] = controller.work.begin(now, costs[place], costs[0], costs[-1])
                seen.tier[at] = places[place]
            seen.right[at] = tiers.right[seen.tier[at], problems[at], samples[at]]
            own[gateway, engine] += 1
            where[at] = engine
            free = np.flatnonzero(who[engine] < 0)
            if len(free) and not queues[engine]:
                begin(at, engine, int(free[0]))
            else:
                queues[engine].append(at)
            at += 1
        if step % max(1, round(TICK_SECONDS / tick)) == 0:
            seen.levels.append([now, *(0.0 if one is None else one.look(now) for one in controllers)])
    seen.reversals = [0 if one is None else one.reversals for one in controllers]
    return seen
