"""How much of something there is a second, lately."""

import math

MEMORY_SECONDS = 10.0


class Rate:
    """An average whose weights fall by e every MEMORY_SECONDS; right from the first second on. Times are seconds."""

    __slots__ = ("_began", "_last", "_sum")

    def __init__(self, now: float) -> None:
        self._began = self._last = now
        self._sum = 0.0

    def note(self, amount: float, now: float) -> None:
        """So much has just come."""
        self._sum = self._sum * math.exp((self._last - now) / MEMORY_SECONDS) + amount
        self._last = now

    def per_second(self, now: float) -> float:
        """The rate; 0 before anything has come."""
        weight = MEMORY_SECONDS * (1.0 - math.exp((self._began - now) / MEMORY_SECONDS))
        return self._sum * math.exp((self._last - now) / MEMORY_SECONDS) / weight if weight > 0 else 0.0
