"""Who waits to be admitted, who is next, and who goes when there are too many. Pure: no clock, no I/O.

Within a class each key has a line of its own for each tier. A choice looks at every key that waits, not at every
request: a thousand requests of one key cost what one does.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from alphatier_server.settings.overload import PriorityClass

Tier = tuple[str, str]
"""Family and tier."""

CLASSES: tuple[PriorityClass, ...] = ("high", "normal", "low")
"""The highest first."""


class KeyUse:
    """What one key has in flight and in the queue, in requests: each prompt of a batch is one."""

    __slots__ = ("in_flight", "served", "waiting")

    def __init__(self) -> None:
        self.in_flight = 0
        self.waiting = 0
        self.served = 0
        """Grows from one request that is let in to the next: who was served last has the largest."""

    @property
    def held(self) -> int:
        """All that the gateway has of the key."""
        return self.in_flight + self.waiting


class Waiter:
    """One call that waits."""

    __slots__ = ("future", "key", "priority", "since", "tier", "use", "weight")

    def __init__(
        self, tier: Tier, key: str | None, use: KeyUse, priority: PriorityClass, weight: int, since: float
    ) -> None:
        self.tier = tier
        self.key = key
        self.use = use
        self.priority: PriorityClass = priority
        self.weight = weight
        """As how many requests it counts."""
        self.since = since
        self.future: Any = None


_Line = OrderedDict[Waiter, None]


class WaitingRoom:
    """All that wait, by class, tier and key."""

    def __init__(self) -> None:
        self._lines: dict[PriorityClass, dict[Tier, dict[str | None, _Line]]] = {each: {} for each in CLASSES}
        self._counts: dict[PriorityClass, int] = dict.fromkeys(CLASSES, 0)
        self._total = 0
        self.weight = 0
        """Requests of all that wait."""

    def __len__(self) -> int:
        return self._total

    def count(self, priority: PriorityClass) -> int:
        """How many of the class wait."""
        return self._counts[priority]

    def ahead(self, tier: Tier, priority: PriorityClass) -> int:
        """How many wait for the tier in this class and those above it."""
        classes = CLASSES[: CLASSES.index(priority) + 1]
        return sum(len(line) for each in classes for line in self._lines[each].get(tier, {}).values())

    def join(self, waiter: Waiter) -> None:
        """Stand at the end of its key's line."""
        lines = self._lines[waiter.priority].setdefault(waiter.tier, {})
        lines.setdefault(waiter.key, OrderedDict())[waiter] = None
        self._note(waiter, 1)

    def leave(self, waiter: Waiter) -> bool:
        """Out of the line; whether it stood there."""
        tiers = self._lines[waiter.priority]
        lines = tiers.get(waiter.tier, {})
        line = lines.get(waiter.key)
        if line is None or waiter not in line:
            return False
        del line[waiter]
        if not line:
            del lines[waiter.key]
        if not lines:
            del tiers[waiter.tier]
        self._note(waiter, -1)
        return True

    def first(self, room: Callable[[Tier], float]) -> Waiter | None:
        """Who is next, where each tier has room for so many requests: of the highest class the key with the fewest.

        Of several such keys it is the one that was served longest ago; of one key's calls the eldest. Where the
        next of a tier is a batch that does not fit yet, the tier's others wait with it, or it would for ever.
        """
        rooms: dict[Tier, float] = {}
        for each in CLASSES:
            best: Waiter | None = None
            for tier, lines in self._lines[each].items():
                if tier not in rooms:
                    rooms[tier] = room(tier)
                if rooms[tier] <= 0:
                    continue
                candidate = min((next(iter(line)) for line in lines.values()), key=_rank)
                if candidate.weight > rooms[tier]:
                    rooms[tier] = 0
                elif best is None or _rank(candidate) < _rank(best):
                    best = candidate
            if best is not None:
                return best
        return None

    def victim(self, priority: PriorityClass, held: int) -> Waiter | None:
        """Who makes room for a newcomer of this class whose key holds so many requests already; None: nobody.

        In the lowest class the newest of the key that holds most; in the newcomer's own class only if that key
        still holds more than the newcomer's afterwards, or equals would take turns at pushing each other out.
        """
        lowest = next(each for each in reversed(CLASSES) if self._counts[each])
        if CLASSES.index(lowest) < CLASSES.index(priority):
            return None
        newest = max(self._newest(lowest), key=lambda waiter: (waiter.use.held, waiter.since))
        return newest if lowest != priority or newest.use.held > held + 1 else None

    def _newest(self, priority: PriorityClass) -> Iterator[Waiter]:
        for lines in self._lines[priority].values():
            for line in lines.values():
                yield next(reversed(line))

    def _note(self, waiter: Waiter, change: int) -> None:
        waiter.use.waiting += change * waiter.weight
        self._counts[waiter.priority] += change
        self._total += change
        self.weight += change * waiter.weight


def _rank(waiter: Waiter) -> tuple[int, int, float]:
    return waiter.use.in_flight, waiter.use.served, waiter.since
