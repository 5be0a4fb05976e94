"""Sums of one to six operations in three wordings, with a split that no seed and no wording can cross.

A problem is worked from left to right; operands are 1 to 99 and every running value stays within 0 to 99. Its level
is its number of operations. How likely an operand is to have two digits is itself drawn for each problem, so that the
difficulty within a level varies too. A fourth wording is never trained on: it and another mix of levels are how a
shifted test set is made.

>>> operands = (17, 25, -8)
>>> for wording in WORDINGS: print(ask(operands, wording, random.Random(1)))
Compute 17 + 25 - 8.
17 plus 25 minus 8
Ben has 17 pens. He buys 25. He loses 8. How many does he have?
Start with 17, add 25, take away 8. Where do you end?
"""

import hashlib
import random
import re
from collections.abc import Sequence
from typing import Literal

from alphatier_training.data.problem import Problem

Split = Literal["train", "heldout"]
Wording = Literal["signs", "words", "story", "steps"]
Operands = tuple[int, ...]
"""Signed: 17 + 25 - 8 is (17, 25, -8)."""

LARGEST = 99
"""Largest operand and running value."""

LEVELS = (1, 2, 3, 4, 5, 6)
"""Numbers of operations, from easy to hard."""

HELDOUT_SHARE = 8
"""One sum in this many is held out."""

TRIES_A_PROBLEM = 200
"""Draws a problem, at most; a level has only so many different held-out problems."""

TRAINED: tuple[Wording, ...] = ("signs", "words", "story")
"""The wordings that a model is trained on."""

WORDINGS: tuple[Wording, ...] = (*TRAINED, "steps")

_SIGNS = ("What is {}?", "Compute {}.", "Calculate {}.", "{}")
_ACTORS = (("Ann", "She"), ("Ben", "He"), ("Eva", "She"), ("Tom", "He"), ("Mia", "She"), ("Sam", "He"))
_THINGS = ("apples", "books", "coins", "marbles", "pens", "stamps")
_GAINS = ("buys", "finds", "gets")
_LOSSES = ("gives away", "loses", "sells")
_MINUS = re.compile(rf"-|minus|{'|'.join(_LOSSES)}|take away")


def generate(
    count: int,
    *,
    seed: int,
    split: Split,
    levels: Sequence[int] = LEVELS,
    wordings: Sequence[Wording] = TRAINED,
) -> list[Problem]:
    """Draw problems, the levels in turn, so that each has an equal share; the wording is drawn for each.

    The same arguments give the same problems.

    Args:
        count: Number of problems; their sums are distinct in the held-out split.
        seed: Seed of the draw.
        split: Which side of the hash split to draw from.
        levels: Numbers of operations.
        wordings: How it may be asked.

    Raises:
        ValueError: There are not as many different held-out problems.
    """
    rng = random.Random(f"{seed}/{split}")
    problems: list[Problem] = []
    seen: set[Operands] = set()
    for _ in range(TRIES_A_PROBLEM * count):
        if len(problems) == count:
            break
        level = levels[len(problems) % len(levels)]
        operands = draw(level, rng)
        if split_of(operands) == split and not (split == "heldout" and operands in seen):
            seen.add(operands)
            problems.append(Problem(ask(operands, rng.choice(wordings), rng), str(sum(operands)), str(level)))
    if len(problems) < count:
        raise ValueError(f"there are fewer than {count} different {split} problems of levels {levels}; ask for fewer")
    return problems


def draw(level: int, rng: random.Random) -> Operands:
    """The operands of a random sum of `level` operations."""
    two_digit = rng.random()
    operands = [rng.randint(10, LARGEST) if rng.random() < two_digit else rng.randint(1, 9)]
    for _ in range(level):
        operands.append(_operand(sum(operands), rng.random() < two_digit, rng))
    return tuple(operands)


def _operand(total: int, two_digit: bool, rng: random.Random) -> int:
    """An operand that keeps the running value within 0 to LARGEST, of the wanted size where there is room for it."""
    room = {1: LARGEST - total, -1: total}
    least = 10 if two_digit and max(room.values()) >= 10 else 1
    sign = rng.choice([each for each in room if room[each] >= least])
    return sign * rng.randint(least, room[sign] if least == 10 else min(9, room[sign]))


def split_of(operands: Operands) -> Split:
    """The split of a sum, decided by a hash of its operands alone, however it is asked."""
    digest = hashlib.sha256(" ".join(map(str, operands)).encode()).digest()
    return "heldout" if digest[0] % HELDOUT_SHARE == 0 else "train"


def ask(operands: Operands, wording: Wording, rng: random.Random) -> str:
    """The question for a sum; names, things and verbs are drawn."""
    first, *rest = operands
    if wording == "signs":
        text = "".join(f" {'-' if value < 0 else '+'} {abs(value)}" for value in rest)
        return rng.choice(_SIGNS).format(f"{first}{text}")
    if wording == "words":
        return str(first) + "".join(f" {'minus' if value < 0 else 'plus'} {abs(value)}" for value in rest)
    if wording == "steps":
        text = "".join(f", {'take away' if value < 0 else 'add'} {abs(value)}" for value in rest)
        return f"Start with {first}{text}. Where do you end?"
    (name, pronoun), thing = rng.choice(_ACTORS), rng.choice(_THINGS)
    events = "".join(f" {pronoun} {rng.choice(_LOSSES if value < 0 else _GAINS)} {abs(value)}." for value in rest)
    return f"{name} has {first} {thing}.{events} How many does {pronoun.lower()} have?"


def operands_of(question: str) -> Operands:
    """The operands of a question that `ask` wrote, in any wording."""
    parts = re.findall(r"(\D*)(\d+)", question)
    return tuple(-int(number) if _MINUS.search(before) else int(number) for before, number in parts)
