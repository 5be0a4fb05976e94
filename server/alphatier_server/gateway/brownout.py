"""Brownout: how far open choices slide to terser tiers while answers take too long. Pure: time is passed in.

    seconds = tokens expected of all that is open / tokens that end in a second
    level   = (seconds - begin) / (full - begin), from 0 (none) to 1 (all get the tersest tier)

By Little's law these are the seconds that an answer takes, weighted by its tokens: in the gateway's queue, in the
engine's and in the making. A request counts from its admission, so they grow before any answer is late. Both numbers
are the process's own and in one unit: no engine is asked, tokens that are all expected wrong by a factor cancel out,
and every gateway in front of the same engines sees the same seconds, whatever its part of the traffic. As the level
that is wanted depends on them alone, gateways agree without talking.

The level is a share of the tokens that can be saved (`between`), so that it means the same to the engines everywhere.
It rises at once. It falls slowly, and hardly at all where what is asked for is more than what the engines can do at
that level, which the tiers' tokens tell ahead of any queue.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from alphatier_models.routing import Expectation

LATE = 0.75
"""Of `begin`: the level rises when an answer has taken so long; traffic that grows looks like overload at first."""
BAND = 0.2
"""By so much less than the level is must be wanted before it falls."""
CREEP = 0.1
"""Of the speed at which it falls: where demand keeps it up. Not 0, so that a gateway that slid further comes back."""

TURN = 0.1
"""Turns of the level by less are none."""


class Limits(NamedTuple):
    """When the level moves, and how fast. Seconds."""

    begin: float
    """When answers take longer, the level rises."""
    full: float
    """When answers take so long, it is 1."""
    back: float
    """What it takes from 1 to 0."""
    dwell: float
    """How long it stays after it has risen."""


class Work:
    """What a process has open, in expected tokens, and what of that ends in a second."""

    def __init__(self, memory: float) -> None:
        self._memory = memory
        """Seconds after which what ended counts for a third."""
        self._open: OrderedDict[Part, None] = OrderedDict()
        self._last: float | None = None
        self._weight = 0.0
        """Seconds that are remembered."""
        self._ended = self._asked = self._savable = 0.0
        """Tokens, in these seconds."""
        self.tokens = 0.0
        """Expected of all that is open."""
        self.speed = 0.0
        """Tokens a second that the engines can do: the most that was seen; while they are too slow, what is seen."""

    def begin(self, now: float, tokens: float, own: float, least: float) -> "Part":
        """A request of which `tokens` are expected; its own tier takes `own`, the tersest that it may get `least`."""
        if self._last is None:
            self._last = now
        self.tokens += tokens
        self._asked += own
        self._savable += own - least
        part = Part(self, tokens, now)
        self._open[part] = None
        return part

    def end(self, part: "Part", *, whole: bool) -> None:
        """The request is over; `whole`: its answer was complete."""
        del self._open[part]
        self.tokens = self.tokens - part.tokens if self._open else 0.0
        if whole:
            self._ended += part.tokens

    def look(self, now: float, slow: float) -> float:
        """The seconds that an answer takes now; 0 as long as that is not known. Engines are `slow` from there on."""
        if self._last is None:
            return 0.0
        kept = math.exp((self._last - now) / self._memory)
        self._last = now
        self._weight = self._weight * kept + self._memory * (1.0 - kept)
        self._ended, self._asked, self._savable = (one * kept for one in (self._ended, self._asked, self._savable))
        if self._weight < self._memory / 2:
            return 0.0
        rate = self._ended / self._weight
        if rate > self.speed:
            self.speed = rate
        elif self.tokens > slow * rate and self.eldest(now) > slow:
            self.speed += (rate - self.speed) * (1.0 - kept)
        return self.tokens / self.speed if self.speed > 0 else 0.0

    def eldest(self, now: float) -> float:
        """For how long the eldest request has been open."""
        return now - next(iter(self._open)).since if self._open else 0.0

    @property
    def idle(self) -> bool:
        """Whether nothing is open."""
        return not self._open

    @property
    def need(self) -> float:
        """The level at which what was asked for lately is what the engines can do."""
        if not self._savable:
            return 0.0
        return (self._asked - self.speed * self._weight) / self._savable


class Part:
    """One request's part of the work. `close` once, whatever happened; closing it again does nothing."""

    __slots__ = ("_work", "since", "tokens")

    def __init__(self, work: Work, tokens: float, since: float) -> None:
        self._work: Work | None = work
        self.tokens = tokens
        self.since = since

    def close(self, *, whole: bool) -> None:
        """The request is over; `whole`: its answer was complete."""
        work, self._work = self._work, None
        if work is not None:
            work.end(self, whole=whole)


class Brownout:
    """The level of one family in one process."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.work = Work(limits.full)
        self.level = 0.0
        self.seconds = 0.0
        """That an answer takes; 0 where it is not known."""
        self.reversals = 0
        """How often the level has turned and gone the other way by `TURN` or more."""
        self._rising = True
        self._extreme = 0.0
        self._rose = self._looked = -math.inf

    def look(self, now: float) -> float:
        """The level from now on. To be called often, as long as it is not 0 or work is open."""
        limits = self._limits
        self.seconds = self.work.look(now, limits.begin)
        wanted = (self.seconds - limits.begin) / (limits.full - limits.begin)
        if wanted > self.level and self.work.eldest(now) > LATE * limits.begin:
            self._move(min(1.0, wanted), now)
        elif 0.0 < self.level > wanted + BAND and now > self._rose + limits.dwell:
            speed = (CREEP if self.work.need + BAND > self.level else 1.0) / limits.back
            self._move(max(0.0, wanted + BAND, self.level - speed * (now - self._looked)), now)
        self._looked = now
        return self.level

    def _move(self, level: float, now: float) -> None:
        if level > self.level:
            self._rose = now
        self.level = level
        if (level > self._extreme) is self._rising:
            self._extreme = level
        elif abs(level - self._extreme) >= TURN:
            self.reversals += 1
            self._rising, self._extreme = not self._rising, level


def way_down(own: Expectation, candidates: Sequence[Expectation]) -> list[Expectation]:
    """The tiers from a request's own to the tersest that no mix of two others beats, the terser the later."""
    way: list[Expectation] = []
    for one in sorted((one for one in candidates if one.tokens < own.tokens), key=_worth):
        if not way or one.chance > way[-1].chance:
            _without_beaten(way, one)
            way.append(one)
    _without_beaten(way, own)
    return [own, *reversed(way)]


def between(tokens: Sequence[float], level: float, coin: float) -> int:
    """Which of these falling numbers, by place, so that their mean is `level` of the way from the first to the last.

    The `coin` (0 to 1) decides between the two around it. At a higher level the same coin never gives an earlier one.

    >>> between([40, 20, 10], 0.5, coin=0.4), between([40, 20, 10], 0.5, coin=0.6), between([40, 20, 10], 1, 0.9)
    (1, 1, 2)
    """
    wanted = tokens[0] + min(level, 1.0) * (tokens[-1] - tokens[0])
    place = next((place for place, some in enumerate(tokens) if some <= wanted), len(tokens) - 1)
    if place == 0:
        return 0
    more, less = tokens[place - 1], tokens[place]
    return place if coin < (more - wanted) / (more - less) else place - 1


def _worth(one: Expectation) -> tuple[float, float]:
    return one.tokens, -one.chance


def _without_beaten(way: list[Expectation], one: Expectation) -> None:
    """Take out of a way up what lies below the line from the one before it to `one`."""
    while len(way) > 1:
        before, last = way[-2:]
        share = (last.tokens - before.tokens) / (one.tokens - before.tokens)
        if before.chance + share * (one.chance - before.chance) < last.chance:
            return
        way.pop()
