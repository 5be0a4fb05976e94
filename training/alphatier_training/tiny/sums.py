"""Sums of one to six operations in three wordings, with a split that no seed and no wording can cross.

A problem is worked from left to right; operands are 0 to 99 and every running value stays within 0 to 99. Its level
is its number of operations. How likely an operand is to have two digits is itself drawn for each problem, so that the
difficulty within a level varies too. A fourth wording is never trained on: it and another mix of levels are how a
shifted test set is made.

>>> operands = (17, 25, -8)
>>> for wording in WORDINGS: print(ask(operands, wording, random.Random(1)))
What is 17 + 25 - 8?
17 plus 25 minus 8
Tom has 17 apples. He gets 25. He gives away 8. How many does he have?
Start with 17, add 25, take away 8. Where do you end?
"""

import hashlib
import random
import re
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal

from alphatier_training.data.problem import Problem

Split = Literal["train", "heldout"]
Wording = Literal["signs", "words", "story", "steps"]
Operands = tuple[int, ...]
"""Signed: 17 + 25 - 8 is (17, 25, -8)."""
Part = str | int
"""A piece of a question or a response, or a number in it."""

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

FRAMES = (("", ""), ("What is ", "?"), ("Compute ", "."), ("Calculate ", "."), ("How much is ", "?"))
"""What may stand around a sum in signs or words."""

ACTORS = {"Ann": "She", "Eva": "She", "Mia": "She", "Ben": "He", "Sam": "He", "Tom": "He"}
THINGS = ("apples", "books", "coins", "marbles", "pens", "stamps")
GAINS = ("buys", "finds", "gets")
LOSSES = ("gives away", "loses", "sells")

PLUS = (" + ", " plus ", *(f". {pronoun} {verb} " for pronoun in ("She", "He") for verb in GAINS))
MINUS = (" - ", " minus ", *(f". {pronoun} {verb} " for pronoun in ("She", "He") for verb in LOSSES))
"""The pieces between two numbers."""

_NUMBER = re.compile(r"\d+")
_ASKED = re.compile(
    "(?:{frames})?({sum})[?.]?|(?:{actors}) has ({story}). How many does (?:she|he) have\\??".format(
        frames="|".join(filter(None, (lead for lead, _ in FRAMES))),
        sum=r"\d+(?:(?: [+-] | plus | minus )\d+)+",
        actors="|".join(ACTORS),
        story=rf"\d+ (?:{'|'.join(thing + '?' for thing in THINGS)})"
        rf"(?:\. (?:She|He) (?:{'|'.join(GAINS + LOSSES)}) \d+)+",
    )
)


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
    operands = [rng.randint(10, LARGEST) if rng.random() < two_digit else rng.randint(0, 9)]
    for _ in range(level):
        operands.append(_operand(sum(operands), rng.random() < two_digit, rng))
    return tuple(operands)


def _operand(total: int, two_digit: bool, rng: random.Random) -> int:
    """An operand that keeps the running value within 0 to LARGEST, of the wanted size where there is room for it."""
    room = {1: LARGEST - total, -1: total}
    least = 10 if two_digit and max(room.values()) >= 10 else 0
    sign = rng.choice([each for each in room if room[each] >= max(1, least)])
    return sign * rng.randint(least, room[sign] if least else min(9, room[sign]))


def split_of(operands: Operands) -> Split:
    """The split of a sum, decided by a hash of its operands alone, however it is asked."""
    digest = hashlib.sha256(" ".join(map(str, operands)).encode()).digest()
    return "heldout" if digest[0] % HELDOUT_SHARE == 0 else "train"


def ask(operands: Operands, wording: Wording, rng: random.Random) -> str:
    """The question for a sum; names, things and verbs are drawn."""
    lead, tail = rng.choice(FRAMES) if wording in ("signs", "words") else ("", "?")
    text = "".join(map(str, parts(operands, wording, rng)))
    if wording == "steps":
        text = text.replace(" plus ", ", add ").replace(" minus ", ", take away ")
    return lead + re.sub(r"(?<= has 1 )(\w+)s", r"\1", text) + tail


def parts(operands: Operands, wording: Wording, rng: random.Random) -> list[Part]:
    """The question as the tokenizer sees it: no frame and final mark, things always many, adding is a plus."""
    first, *rest = operands
    lead: list[Part] = [first]
    tail: list[Part] = []
    gains, losses = ([" + "], [" - "]) if wording == "signs" else ([" plus "], [" minus "])
    if wording == "story":
        name, things = rng.choice(list(ACTORS)), f" {rng.choice(THINGS)}"
        pronoun = ACTORS[name]
        gains, losses = ([f". {pronoun} {verb} " for verb in verbs] for verbs in (GAINS, LOSSES))
        lead, tail = [f"{name} has ", first, things], [f". How many does {pronoun.lower()} have"]
    elif wording == "steps":
        lead, tail = ["Start with ", first], [". Where do you end"]
    for value in rest:
        lead += [rng.choice(losses if value < 0 else gains), abs(value)]
    return lead + tail


def operands_of(question: str) -> Operands | None:
    """The operands of a question in a wording that is trained; None where it is too long or no sum within 0 to 99."""
    match = _ASKED.fullmatch(question)
    if match is None:
        return None
    text = match[1] or match[2]
    ends = [0, *(found.end() for found in _NUMBER.finditer(text))]
    signs = [-1 if re.search(rf"-|minus|{'|'.join(LOSSES)}", text[a:b]) else 1 for a, b in pairwise(ends)]
    operands = tuple(sign * int(number) for sign, number in zip(signs, _NUMBER.findall(text), strict=True))
    in_range = all(0 <= total <= LARGEST for total in accumulate(operands)) and max(map(abs, operands)) <= LARGEST
    return operands if in_range and len(operands) - 1 in LEVELS else None
