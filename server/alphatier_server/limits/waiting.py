"""Who waits to be admitted, who is next, and who goes when there are too many. Pure: no clock, no I/O.

Within a class each key has a line of its own for each tier. A choice looks at every key that waits, not at every
request: a thousand requests of one key cost what one does.
"""

from collections.abc import Callable
from typing import Any

from alphatier_server.settings.overload import PriorityClass

Tier = tuple[str, str]
"""Family and tier."""

CLASSES: tuple[PriorityClass, ...] = ("high", "normal", "low")
"""The highest first."""


class KeyUse:
    """What one key has in flight and in the queue, in requests: each prompt of a batch is one."""

    __slots__ = ("in_flight", "key", "served", "waiting")

    def __init__(self, key: str | None) -> None:
        self.key = key
        self.in_flight = 0
        self.waiting = 0
        self.served = 0
        """Grows from one request that is let in to the next: who was served last has the largest."""

    @property
    def held(self) -> int:
        """All that the gateway has of the key."""
        return self.in_flight + self.waiting


class Slot:
    """One call that waits or is in flight. `close` once it has ended; closing it again does nothing."""

    __slots__ = ("_release", "future", "priority", "since", "tier", "use", "waited", "weight")

    def __init__(
        self, tier: Tier, use: KeyUse, priority: PriorityClass, weight: int, release: Callable[["Slot"], None]
    ) -> None:
        self.tier = tier
        self.use = use
        self.priority: PriorityClass = priority
        self.weight = weight
        """As how many requests it counts."""
        self._release: Callable[[Slot], None] | None = release
        self.since = self.waited = 0.0
        """When it began to wait, and for how many seconds it did."""
        self.future: Any = None

    def close(self) -> None:
        """Let the next one in."""
        release, self._release = self._release, None
        if release is not None:
            release(self)


_Line = dict[Slot, None]


class WaitingRoom:
    """All that wait, by class, tier and key."""

    def __init__(self) -> None:
        self._lines: dict[PriorityClass, dict[tuple[Tier, str | None], _Line]] = {each: {} for each in CLASSES}
        self._total = 0
        self.weight = 0
        """Requests of all that wait."""

    def __len__(self) -> int:
        return self._total

    def count(self, priority: PriorityClass) -> int:
        """How many of the class wait."""
        return sum(len(line) for line in self._lines[priority].values())

    def ahead(self, tier: Tier, priority: PriorityClass) -> int:
        """How many wait for the tier in this class and those above it."""
        classes = CLASSES[: CLASSES.index(priority) + 1]
        return sum(len(line) for each in classes for (where, _), line in self._lines[each].items() if where == tier)

    def join(self, slot: Slot) -> None:
        """Stand at the end of its key's line."""
        self._lines[slot.priority].setdefault((slot.tier, slot.use.key), {})[slot] = None
        self._note(slot, 1)

    def leave(self, slot: Slot) -> bool:
        """Out of the line; whether it stood there."""
        lines, where = self._lines[slot.priority], (slot.tier, slot.use.key)
        line = lines.get(where, {})
        if slot not in line:
            return False
        del line[slot]
        if not line:
            del lines[where]
        self._note(slot, -1)
        return True

    def first(self, room: Callable[[Tier], float]) -> Slot | None:
        """Who is next, where each tier has room for so many requests: of the highest class the key with the fewest.

        Of several such keys it is the one that was served longest ago; of one key's calls the eldest. Where the
        next of a tier is a batch that does not fit yet, the tier's others wait with it, or it would for ever.
        """
        rooms: dict[Tier, float] = {}
        for each in CLASSES:
            heads: dict[Tier, Slot] = {}
            for (tier, _), line in self._lines[each].items():
                if tier not in rooms:
                    rooms[tier] = room(tier)
                if rooms[tier] > 0:
                    head = next(iter(line))
                    heads[tier] = min(heads.get(tier, head), head, key=_rank)
            rooms |= {tier: 0.0 for tier, head in heads.items() if head.weight > rooms[tier]}
            fitting = [head for tier, head in heads.items() if rooms[tier] > 0]
            if fitting:
                return min(fitting, key=_rank)
        return None

    def victim(self, priority: PriorityClass, held: int) -> Slot | None:
        """Who makes room for a newcomer of this class whose key holds so many requests already; None: nobody.

        In the lowest class the newest of the key that holds most; in the newcomer's own class only if that key
        still holds more than the newcomer's afterwards, or equals would take turns at pushing each other out.
        """
        lowest = next(each for each in reversed(CLASSES) if self._lines[each])
        if CLASSES.index(lowest) < CLASSES.index(priority):
            return None
        every_newest = (next(reversed(line)) for line in self._lines[lowest].values())
        newest = max(every_newest, key=lambda slot: (slot.use.held, slot.since))
        return newest if lowest != priority or newest.use.held > held + 1 else None

    def _note(self, slot: Slot, change: int) -> None:
        slot.use.waiting += change * slot.weight
        self._total += change
        self.weight += change * slot.weight


def _rank(slot: Slot) -> tuple[int, int, float]:
    return slot.use.in_flight, slot.use.served, slot.since
