r"""Whether a response is right: its last `\boxed{}` against the answer. Training and evaluation share it.

What: brace matching, an exact fast path for equal texts and plain numbers, math-verify for the rest
with a hard time limit for each comparison.
What not: no tolerance of a factor 100, no `50%` for `0.5` or `50`; no other place for an answer than
the box. Truncation is not seen here: callers, who know the token ids, count it as wrong.

>>> is_correct(r"17 + 25 = 42</think>\boxed{42}", "42")
True
>>> is_correct("The answer is 42.", "42")
False
"""

import re
from fractions import Fraction

from alphatier_training.grading.comparer import Comparer

COMPARISON_SECONDS = 3.0
"""The longest that one comparison may take; a later one is wrong (the authors' code allows 1 s)."""

_BOX = re.compile(r"\\boxed\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_NUMBER = re.compile(r"([+-]?)(\d{1,3}(?:,\d{3})+|\d+)?(?:\.(\d*))?")
_PERCENT = re.compile(r"\s*(?:\\?%|\bpercent\b|\\text\s*\{\s*percent\s*\})\s*$", re.IGNORECASE)
_LONGEST_NUMBER = 1000

_comparer = Comparer(COMPARISON_SECONDS)


def is_correct(response: str, answer: str) -> bool:
    r"""Whether the last `\boxed{}` of `response` equals `answer`; False when there is none."""
    given = last_box(response)
    return given is not None and equal(given, answer)


def last_box(response: str) -> str | None:
    r"""What stands in the last `\boxed{}`, or None when there is none or its braces are not closed."""
    starts = [match.end() for match in _BOX.finditer(response)]
    if not starts:
        return None
    depth = 1
    for brace in _BRACE.finditer(response, starts[-1]):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return response[starts[-1] : brace.start()]
    return None


def equal(given: str, answer: str) -> bool:
    """Whether two written answers are the same; a percentage equals only a percentage."""
    given, answer = _bare(given), _bare(answer)
    if not given or not answer:
        return False
    if given == answer:
        return True
    if bool(_PERCENT.search(given)) != bool(_PERCENT.search(answer)):
        return False
    given, answer = _PERCENT.sub("", given), _PERCENT.sub("", answer)
    one, other = _number(given), _number(answer)
    if one is not None and other is not None:
        return one == other
    return _comparer.equal(given, answer)


def _bare(text: str) -> str:
    return text.strip().strip("$").strip().removesuffix(".").strip()


def _number(text: str) -> Fraction | None:
    """The exact value of a plain decimal number, thousands commas allowed; None for anything else."""
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST_NUMBER and text.isascii() else None
    if match is None:
        return None
    sign, whole, decimals = match.group(1), (match.group(2) or "").replace(",", ""), match.group(3) or ""
    if not whole + decimals:
        return None
    return Fraction(int(sign + (whole + decimals)), 10 ** len(decimals))
