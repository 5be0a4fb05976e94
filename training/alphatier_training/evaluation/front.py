"""The Pareto front of accuracy against tokens: which tiers no other tier beats on both counts.

What: pure functions of measured means. What not: no intervals; whether a difference is more than chance is
`comparing`'s question.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import log


@dataclass(frozen=True)
class Point:
    """What a tier delivers, and at what cost."""

    accuracy: float
    """Share of right responses, 0 to 1."""
    tokens: float
    """Generated tokens a response, or a share of the reference's."""

    def dominates(self, other: "Point") -> bool:
        """Whether this is at least as good on both counts, and better on one."""
        no_worse = self.accuracy >= other.accuracy and self.tokens <= other.tokens
        return no_worse and self != other


def dominators(points: Mapping[str, Point]) -> dict[str, str]:
    """Each dominated tier with the tier that beats it; of several, the most accurate, then the one of fewest tokens.

    >>> dominators({"base": Point(0.96, 45), "a": Point(0.98, 38), "b": Point(0.96, 18)})
    {'base': 'a'}
    """
    beaten: dict[str, str] = {}
    for name, point in points.items():
        better = [other for other in points if points[other].dominates(point)]
        if better:
            beaten[name] = max(better, key=lambda other: (points[other].accuracy, -points[other].tokens))
    return beaten


def front(points: Mapping[str, Point]) -> list[str]:
    """The tiers that none dominates, fewest tokens first; of equal ones all."""
    beaten = dominators(points)
    return sorted((name for name in points if name not in beaten), key=lambda name: points[name].tokens)


def evenly_spread(tokens: Sequence[float], number: int) -> list[int]:
    """Which `number` of `tokens` (ascending) to take so that they are spread evenly in log tokens.

    First and last are taken; the sum of the squared gaps between neighbours is the least there is, as it is when all
    gaps are equal. One alone is the last.

    >>> evenly_spread([10, 11, 20, 40], 3)  # gaps in log2: 1 and 1
    [0, 2, 3]
    """
    last, places = len(tokens) - 1, [log(max(value, 1e-9)) for value in tokens]
    if number > last:
        return list(range(len(tokens)))
    between = combinations(range(1, last), number - 2) if number > 1 else ()
    ways = [(0, *middle, last) for middle in between] or [(last,)]
    return list(min(ways, key=lambda way: sum((places[b] - places[a]) ** 2 for a, b in pairwise(way))))
