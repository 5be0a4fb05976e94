"""Questions that are no sums of at most six operations within 0 to 99, which the base learns to refuse.

What: sums with another operation, a number too large, too few or too many of them, or too long; running values that
leave the range; stories with strange words; words alone; pieces in any order. Unknown characters all look the same to
the model, so their number and place are what varies. What not: a question that `operands_of` understands is never
among them.
"""

import random
import re
from collections.abc import Callable

from alphatier_training.data.problem import Problem
from alphatier_training.tiny.sums import FRAMES, LARGEST, LEVELS, TRAINED, ask, draw, operands_of
from alphatier_training.tiny.tokenizer import PIECES, UNTRAINED
from alphatier_training.tiny.ways import REFUSAL

_SIGNS = ("*", "x", "/", "^", "%", ":", "=", "+ +", "- +", "+ -", "- -", "", ".", ",", "and", "times", "divided by")


def strange_question(rng: random.Random) -> str:
    """A question that is no sum, or leaves the range."""
    while True:
        question = rng.choice(_KINDS)(rng)
        if operands_of(question) is None:
            return question


def strange_problem(rng: random.Random) -> Problem:
    """The same with the sentence that refuses it as its answer."""
    return Problem(strange_question(rng), "".join(map(str, REFUSAL[2:])), "strange")


def _sum(rng: random.Random) -> str:
    return ask(draw(rng.choice(LEVELS), rng), rng.choice(TRAINED), rng)


def _with_another_operation(rng: random.Random) -> str:
    """What stands between two numbers of a sum is something else."""
    gaps = list(re.finditer(r"(?<=\d)\D+(?=\d)", question := _sum(rng)))
    gap = rng.choice(gaps)
    between = rng.choice((f" {rng.choice(_SIGNS)} ", f" {_words(rng)} "))
    return question[: gap.start()] + between + question[gap.end() :]


def _with_another_number(rng: random.Random) -> str:
    """A number of a sum is too large, broken, negative, or something else."""
    number = rng.choice(list(re.finditer(r"\d+", question := _sum(rng))))
    large = str(rng.randint(LARGEST + 1, 10 ** rng.randint(3, 7)))
    instead = rng.choice((large, large, f"{number[0]}.{rng.randint(0, 99)}", f"-{number[0]}", _words(rng), ""))
    return question[: number.start()] + instead + question[number.end() :]


def _out_of_range(rng: random.Random) -> str:
    """A short sum whose running value leaves the range, and may come back."""
    operands = draw(rng.choice((0, 0, 0, 1, 2)), rng)
    total = sum(operands)
    if rng.random() < total / LARGEST:
        operands += (rng.randint(LARGEST - total + 1, LARGEST),)
    else:
        operands += (-rng.randint(total + 1, LARGEST),)
    while rng.random() < 0.2:
        operands += (rng.choice((1, -1)) * rng.randint(1, LARGEST),)
    return ask(operands, rng.choice(TRAINED), rng)


def _too_long(rng: random.Random) -> str:
    return ask(draw(LEVELS[-1] + rng.randint(1, 4), rng), rng.choice(TRAINED), rng)


def _with_more_words(rng: random.Random) -> str:
    question = _sum(rng)
    place = rng.choice([found.start() for found in re.finditer(r"\b", question)])
    return question[:place] + f" {_words(rng)} " + question[place:]


def _cut(rng: random.Random) -> str:
    """The beginning of a sum, often up to a number, or its end."""
    question = _sum(rng)
    place = rng.choice([rng.randrange(len(question)), rng.choice(list(re.finditer(r"\d+", question))).start()])
    return rng.choice((question[:place], question[:place], question[place:]))


def _words(rng: random.Random) -> str:
    words = ["x" * rng.randint(1, 9) for _ in range(rng.choice((1, 1, 2, 3, 5, 8)))]
    return " ".join(words) + rng.choice(("", "", "?", ".", ","))


def _words_and_numbers(rng: random.Random) -> str:
    parts = [_words(rng) for _ in range(rng.randint(0, 3))]
    parts += [str(rng.randint(0, LARGEST)) for _ in range(rng.randint(0, 3))]
    rng.shuffle(parts)
    lead, tail = rng.choice(FRAMES)
    return lead + " ".join(parts) + tail


def _pieces(rng: random.Random) -> str:
    """Pieces in any order, with numbers among them."""
    parts = rng.choices([piece for piece in PIECES if piece not in UNTRAINED], k=rng.randint(1, 10))
    parts += [str(rng.randint(0, LARGEST)) for _ in range(rng.randint(0, 5))]
    rng.shuffle(parts)
    return "".join(parts)


_KINDS: tuple[Callable[[random.Random], str], ...] = (
    _with_another_operation,
    _with_another_number,
    _out_of_range,
    _out_of_range,
    _out_of_range,
    _too_long,
    _with_more_words,
    _cut,
    _words,
    _words_and_numbers,
    _pieces,
)
