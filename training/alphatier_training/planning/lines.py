"""A figure of an estimate, with the formula behind it, and how numbers are written in one."""

from dataclasses import dataclass

GB = 1e9
"""Bytes."""


@dataclass(frozen=True)
class Line:
    """One figure."""

    name: str
    value: float
    """In the unit of its table: bytes of memory, or seconds."""
    formula: str
    """How it comes about, with the numbers of this recipe."""


def total(lines: list[Line]) -> float:
    """The sum of the figures."""
    return sum(line.value for line in lines)


def short(value: float) -> str:
    """A count with a unit prefix: 1.78 B, 32.0 k."""
    for size, letter in ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == ' k' else size):.3g}{letter}"
    return f"{value:,.10g}"
