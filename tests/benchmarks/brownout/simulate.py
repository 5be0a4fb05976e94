"""A simulator: engines that share their speed among requests, gateways with the real controller, random clients.

An engine works on some requests at once (`slots`), the first come first; each of their tokens takes a step of
`paced_engine.Speed`. Of two engines that are drawn at random the one with fewer of the gateway's own requests gets
the next. What an answer takes and whether it is right are drawn from what the tiers did.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphatier_models.routing import Expectation
from alphatier_server.gateway.brownout import Brownout, Part, between, way_down
from alphatier_server.gateway.brownouts import TICK_SECONDS
from benchmarks.paced_engine import Speed


@dataclass(frozen=True)
class Tiers:
    """What the tiers did: right (0 or 1) and tokens are [tiers, problems, samples]; the thorough one is the first."""

    names: tuple[str, ...]
    right: Any
    tokens: Any

    @property
    def chances(self) -> Any:
        """Of being right, by tier."""
        return self.right.mean(axis=(1, 2))

    @property
    def means(self) -> Any:
        """Tokens an answer, by tier."""
        return self.tokens.mean(axis=(1, 2))


@dataclass
class Seen:
    """Arrays of all requests, by arrival; times in seconds."""

    arrived: Any
    took: Any
    """Infinity where it was shed, or had not ended."""
    tier: Any
    """By number."""
    right: Any
    thorough: Any
    """Whether the thorough tier would have been right."""
    levels: Any
    """[moments, 1 + gateways]: the moment, and each gateway's level."""


@dataclass(frozen=True)
class House:
    """Engines and their speed, from where on `faster` or slower."""

    speed: Speed
    slots: int
    engines: int = 1
    patience: float = np.inf
    """Longest wait before an engine begins; then the request is shed."""
    faster: Callable[[float], float] = lambda _now: 1.0


def simulate(
    tiers: Tiers,
    house: House,
    rate: Callable[[float], float],
    seconds: float,
    controllers: Sequence[Brownout | None],
    *,
    expected: Sequence[float] | None = None,
    share: Sequence[float] | None = None,
    seed: int = 0,
    tick: float = 0.01,
) -> Seen:
    """So many seconds of `rate` requests a second, and what is then open to its end.

    A gateway for each of the controllers; None: without brownout. `expected` are the tokens that the gateways think
    tiers take, `share` the gateways' parts of the traffic.
    """
    return _Run(tiers, house, controllers, expected, tick).run(rate, seconds, share, np.random.default_rng(seed))


class _Run:
    def __init__(
        self,
        tiers: Tiers,
        house: House,
        controllers: Sequence[Brownout | None],
        expected: Sequence[float] | None,
        tick: float,
    ) -> None:
        self._tiers, self._house, self._controllers, self._tick = tiers, house, controllers, tick
        figures = zip(tiers.names, tiers.chances, tiers.means if expected is None else expected, strict=True)
        thought = [Expectation(name, chance, tokens, tokens, tokens) for name, chance, tokens in figures]
        way = way_down(thought[0], thought)
        self._places = [thought.index(one) for one in way]
        self._costs = [one.tokens for one in way]
        shape = house.engines, house.slots
        self._left = np.full(shape, np.inf)
        """Tokens, of each slot's request."""
        self._begins = np.zeros(shape)
        """When it takes part in steps."""
        self._who = np.full(shape, -1)
        self._waiting: list[deque[int]] = [deque() for _ in range(house.engines)]
        self._own = np.zeros((len(controllers), house.engines), int)
        self._parts: dict[int, Part] = {}

    def run(self, rate: Callable[[float], float], seconds: float, share: Sequence[float] | None, draw: Any) -> Seen:
        tick, tiers = self._tick, self._tiers
        counts = draw.poisson([rate(step * tick) * tick for step in range(round(seconds / tick))])
        total = int(counts.sum())
        problems, samples = (draw.integers(most, size=total) for most in tiers.right.shape[1:])
        self._drawn = problems, samples
        self._coins = draw.random(total)
        self._gateways = draw.choice(len(self._controllers), size=total, p=share)
        self._two = draw.integers(self._house.engines, size=(total, 2))
        self._where = np.zeros(total, int)
        self._seen = seen = Seen(
            np.zeros(total), np.full(total, np.inf), np.zeros(total, int), None, tiers.right[0][self._drawn], None
        )
        levels: list[list[float]] = []
        step = number = open_ = 0
        while step < len(counts) or open_:
            now = step * tick
            open_ -= self._work(now)
            for _ in range(counts[step] if step < len(counts) else 0):
                self._come(number, now)
                number, open_ = number + 1, open_ + 1
            if step % max(1, round(TICK_SECONDS / tick)) == 0:
                levels.append([now, *(0.0 if one is None else one.look(now) for one in self._controllers)])
            step += 1
        seen.right = tiers.right[(seen.tier, *self._drawn)]
        seen.levels = np.array(levels)
        return seen

    def _work(self, now: float) -> int:
        """Let all engines work for one tick. Returns how many requests have ended."""
        house, ended = self._house, 0
        taking_part = (self._who >= 0) & (self._begins <= now)
        step = house.speed.base + house.speed.each * taking_part.sum(axis=1)
        self._left -= taking_part * (self._tick * house.faster(now) / step)[:, None]
        for engine, slot in zip(*np.nonzero(taking_part & (self._left <= 0)), strict=True):
            number = int(self._who[engine, slot])
            self._seen.took[number] = now - self._seen.arrived[number]
            self._end(number, whole=True)
            ended += 1
            self._who[engine, slot] = -1
            waiting = self._waiting[engine]
            while waiting and self._who[engine, slot] < 0:
                following = waiting.popleft()
                if now - self._seen.arrived[following] > house.patience:
                    self._end(following, whole=False)
                    ended += 1
                else:
                    self._begin(following, engine, slot, now)
        return ended

    def _come(self, number: int, now: float) -> None:
        gateway = self._gateways[number]
        controller, seen, own = self._controllers[gateway], self._seen, self._own[gateway]
        one, other = self._two[number]
        engine = one if own[one] <= own[other] else other
        seen.arrived[number] = now
        if controller is not None:
            costs = self._costs
            place = between(costs, controller.level, self._coins[number])
            self._parts[number] = controller.work.begin(now, costs[place], costs[0], costs[-1])
            seen.tier[number] = self._places[place]
        own[engine] += 1
        self._where[number] = engine
        free = int(np.argmin(self._who[engine]))
        if self._who[engine, free] < 0:
            self._begin(number, engine, free, now)
        else:
            self._waiting[engine].append(number)

    def _begin(self, number: int, engine: int, slot: int, now: float) -> None:
        problem, sample = (drawn[number] for drawn in self._drawn)
        self._left[engine, slot] = self._tiers.tokens[self._seen.tier[number], problem, sample]
        self._begins[engine, slot] = now + self._house.speed.prefill
        self._who[engine, slot] = number

    def _end(self, number: int, *, whole: bool) -> None:
        self._own[self._gateways[number], self._where[number]] -= 1
        if number in self._parts:
            self._parts.pop(number).close(whole=whole)
