r"""Ways of working a sum: how a response is written, told from its text, and how often the base uses it.

At once: no work, `<think></think>\boxed{34}`. Lines of 1, 2 or 3 operations, the longer the fewer tokens and the
likelier an error, then 0 to 2 checks that work it all again. Within a way and a level all responses are equally long.

>>> print(response((17, 25, -8), Way(lines=1, checks=0)))
<think>17 + 25 = 42
42 - 8 = 34
</think>\boxed{34}
>>> response((17, 25, -8), AT_ONCE)
'<think></think>\\boxed{34}'
"""

import random
import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from alphatier_models import Reasoning
from alphatier_training.tiny.sums import Operands, Part

THINK, END_THINK = Reasoning().start, Reasoning().end
"""The marks around the thinking."""

CHECK = ("Wait", ",", " let me", " check", " that", ".", "\n")
"""Before the work is done again."""

REFUSAL: tuple[Part, ...] = (THINK, END_THINK, "I can only", " add and subtract", " numbers up to ", 99)
"""The response to a question that is no sum within 0 to 99."""

_RESPONSE = re.compile(rf"(?:{THINK})?(.*?)(?:{END_THINK})?\s*\\boxed\{{\d+\}}", re.DOTALL)

_LINE = re.compile(r"\d+((?: [+-] \d+)+) = \d+\n")


class Way(NamedTuple):
    """How a sum is worked: operations a line, 0 for none at all, and how often it is checked."""

    lines: int
    checks: int = 0

    @property
    def name(self) -> str:
        """In words, however often it is checked: `lines of 2, checked`."""
        worked = f"lines of {self.lines}" if self.lines else "at once"
        return f"{worked}, checked" if self.checks else worked


AT_ONCE = Way(0)

AT_ONCE_SHARES = {1: 0.45, 2: 0.40, 3: 0.33, 4: 0.22, 5: 0.12, 6: 0.06}
"""By level: falling, so that errors on hard levels do not drive answers at once from the easy ones."""

LONG_LINES_SHARES: Mapping[int, Mapping[int, float]] = {
    1: {},
    2: {2: 0.2},
    **{level: {2: 0.15, 3: 0.15} for level in (3, 4, 5, 6)},
}
"""By level and operations a line; lines of one operation take what is left."""

CHECK_SHARES: Mapping[int, tuple[float, ...]] = {1: (0.3, 0.4, 0.3), 2: (0.7, 0.3), 3: (0.7, 0.3)}
"""By operations a line: shares of 0, 1, 2 checks."""


def response(operands: Operands, way: Way) -> str:
    """The whole response to a sum, without end token."""
    return "".join(map(str, parts(operands, way)))


def parts(operands: Operands, way: Way) -> list[Part]:
    """The response in pieces and numbers."""
    work = [] if way == AT_ONCE else _work(operands, way.lines)
    return [THINK, *work, *(*CHECK, *work) * way.checks, END_THINK, "\\boxed{", sum(operands), "}"]


def _work(operands: Operands, size: int) -> list[Part]:
    work: list[Part] = []
    total = operands[0]
    for start in range(1, len(operands), size):
        work.append(total)
        for value in operands[start : start + size]:
            work += [" - " if value < 0 else " + ", abs(value)]
            total += value
        work += [" = ", total, "\n"]
    return work


def way_of(text: str) -> Way | None:
    r"""The way of a response, right or wrong, by its first line; None where it is none of them.

    The marks around the thinking may be missing: tiers of a large alpha drop the first, which saves a token, and
    endpoints that give the thinking apart take both.

    >>> way_of(r"</think>\boxed{34}") == AT_ONCE
    True
    """
    found = _RESPONSE.fullmatch(text.strip())
    if found is None:
        return None
    work = found[1].strip()
    if not work:
        return AT_ONCE
    again = f"{work}\n".split("".join(CHECK))
    first = _LINE.match(again[0])
    if first is None or any(_LINE.sub("", part) for part in again):
        return None
    return Way(len(re.findall(r"[+-]", first[1])), len(again) - 1)


@cache
def shares(level: int) -> Mapping[Way, float]:
    """How often the base is to work a sum of `level` operations in each way; they add up to 1."""
    long_lines = LONG_LINES_SHARES[level]
    sizes = {1: 1 - AT_ONCE_SHARES[level] - sum(long_lines.values()), **long_lines}
    worked = {
        Way(size, checks): share * often
        for size, share in sizes.items()
        for checks, often in enumerate(CHECK_SHARES[size])
    }
    return {AT_ONCE: AT_ONCE_SHARES[level], **worked}


def draw_way(level: int, rng: random.Random) -> Way:
    """A way for a sum of `level` operations, as often as the base is to use it."""
    wanted = shares(level)
    return rng.choices(list(wanted), list(wanted.values()))[0]


def tokens(level: int, way: Way) -> int:
    """Tokens of a response with its end token: numbers take two each, so every class has one length."""
    if way == AT_ONCE:
        return 7
    work = 6 * -(-level // way.lines) + 3 * level
    return 7 + work + way.checks * (7 + work)
