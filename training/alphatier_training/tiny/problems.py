"""Arithmetic problems of five levels, with a split that no seed can cross.

A problem is a chain of additions and subtractions worked from left to right, such as
``What is 17 + 25 - 8?``. Operands are 1 to 99 and every running value stays within 0 to 99.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from alphatier_training.data.problem import Problem

Split = Literal["train", "heldout"]

LARGEST = 99
"""Largest operand and running value."""

HELDOUT_SHARE = 8
"""One expression in this many is held out."""

TRIES_A_PROBLEM = 200
"""Draws a problem, at most; a level has only so many different held-out problems."""

PHRASES = ("What is {}?", "Compute {}.", "Calculate {}.", "{}")
"""Ways to ask; ``{}`` is the expression."""


@dataclass(frozen=True)
class LevelSettings:
    """How problems of one level are drawn."""

    operations: int
    two_digit: float
    """Probability that an operand has two digits, where the range of values allows it."""
    first_two_digit: float = 0.5
    """The same for the first number."""


LEVELS: dict[int, LevelSettings] = {
    1: LevelSettings(operations=1, two_digit=0.3),
    2: LevelSettings(operations=1, two_digit=0.5),
    3: LevelSettings(operations=1, two_digit=1.0),
    4: LevelSettings(operations=2, two_digit=0.1, first_two_digit=0.3),
    5: LevelSettings(operations=2, two_digit=0.7),
}
"""Levels from easy to hard."""


def expression_of(question: str) -> str:
    """The arithmetic expression inside a question that ``generate`` made."""
    start = next(index for index, char in enumerate(question) if char.isdigit())
    return question[start:].rstrip("?.")


def parse(expression: str) -> list[int]:
    """Signed operands of an expression: ``"17 + 25 - 8"`` gives ``[17, 25, -8]``."""
    words = expression.split()
    signs = [1, *(1 if word == "+" else -1 for word in words[1::2])]
    return [sign * int(word) for sign, word in zip(signs, words[0::2], strict=True)]


def render(operands: Sequence[int]) -> str:
    """The expression of signed operands, the inverse of ``parse``."""
    return str(operands[0]) + "".join(f" {'-' if value < 0 else '+'} {abs(value)}" for value in operands[1:])


def split_of(expression: str) -> Split:
    """The split an expression belongs to, decided by a hash of its text alone."""
    digest = hashlib.sha256(expression.encode()).digest()
    return "heldout" if digest[0] % HELDOUT_SHARE == 0 else "train"


def malformed_question(rng: random.Random) -> str:
    """A question that is no problem: words, another operation, too large a number, operands or signs too many.

    Unknown characters all look the same to the model, so their number and place are what varies.
    """
    parts = [str(rng.randint(0, LARGEST)) for _ in range(rng.randint(0, 3))]
    parts += ["x" * rng.randint(1, 12) for _ in range(rng.randint(0, 4))]
    parts += rng.choices(("+", "-", "=", ".", ","), k=rng.randint(0, 2))
    kind = rng.randrange(4)
    if kind == 0:
        parts += [str(rng.randint(LARGEST + 1, 10**6)), "+", str(rng.randint(1, LARGEST))]
    elif kind == 1:
        return f"{rng.randint(1, LARGEST)} {rng.choice('*/x%^')} {rng.randint(1, LARGEST)}"
    elif kind == 2:
        return f"{rng.randint(1, LARGEST)} {rng.choice(('+ +', '- +', '', '+ -'))} {rng.randint(1, LARGEST)}".strip()
    else:
        parts.append("x")
    rng.shuffle(parts)
    return rng.choice(PHRASES).format(" ".join(parts))


def _operand(total: int, two_digit: float, rng: random.Random) -> int:
    """A signed operand that keeps the running value within 0 to ``LARGEST``."""
    smallest = 10 if rng.random() < two_digit else 1
    sign = rng.choice((1, -1))
    if (LARGEST - total if sign > 0 else total) < smallest:
        sign = -sign
    room = LARGEST - total if sign > 0 else total
    return sign * rng.randint(smallest, min(room, LARGEST if smallest == 10 else 9))


def _expression(settings: LevelSettings, rng: random.Random) -> list[int]:
    """Signed operands of a random expression."""
    operands = [rng.randint(10, LARGEST) if rng.random() < settings.first_two_digit else rng.randint(1, 9)]
    for _ in range(settings.operations):
        operands.append(_operand(sum(operands), settings.two_digit, rng))
    return operands


def generate(count: int, *, seed: int, split: Split, levels: Sequence[int] = tuple(LEVELS)) -> list[Problem]:
    """Draw problems, the levels in turn, so that each has an equal share.

    The same arguments give the same problems. The phrase varies; the split does not depend on it.

    Args:
        count: Number of problems; they are distinct expressions in the held-out split.
        seed: Seed of the draw.
        split: Which side of the hash split to draw from.
        levels: Keys of ``LEVELS``.
    """
    rng = random.Random(f"{seed}/{split}")
    problems: list[Problem] = []
    seen: set[str] = set()
    tries = 0
    while len(problems) < count:
        tries += 1
        if tries > TRIES_A_PROBLEM * count:
            raise ValueError(
                f"there are fewer than {count} different {split} problems of levels {levels}; ask for fewer"
            )
        level = levels[len(problems) % len(levels)]
        operands = _expression(LEVELS[level], rng)
        expression = render(operands)
        if split_of(expression) != split or (split == "heldout" and expression in seen):
            continue
        seen.add(expression)
        problems.append(Problem(rng.choice(PHRASES).format(expression), str(sum(operands)), str(level)))
    return problems
