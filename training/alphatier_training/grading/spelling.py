r"""What can be said of two written answers for certain: same, different, or for math-verify to decide.

What: numbers are compared exactly, which is a thousand times faster; and what math-verify gets wrong is decided here:
units, percent signs, number bases, prose around a 0, the order of a point. "Same" is said only where both spellings
can have but one meaning.
What not: no algebra. `\sqrt{4}` and `2` are for math-verify.

>>> judge(r"\dfrac{3}{4}", "0.75"), judge("1,234.50", "1234.5"), judge("50%", "50"), judge("50%", "0.5")
(True, True, True, False)
>>> judge("x + 1", "1+x")
('x+1', '1+x')
"""

import re
from fractions import Fraction

from alphatier_training.grading.units import PERCENT, without_units

LONGEST = 1000
"""Characters; a longer text is right only if it is the very same. The longest answer of MATH-500 has 53."""

MATH_VERIFY_RESOLUTION = Fraction(1, 10**6)
"""math-verify takes a decimal for a fraction when they agree to 6 places (its `float_rounding`)."""

_LOOKS = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"(?<=\d)(?:,\\!\s*|\{,\}\s*|\\,)(?=\d{3}(?!\d))", ""),  # marks between thousands
        (r"\\(?:left|right|displaystyle)(?![A-Za-z])", ""),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"(?<!\\)\\[, ]|\s", " "),
        (r" +(?![A-Za-z0-9.])|(?<![A-Za-z0-9.,]) +|(?<=,) +(?!\d{3}(?!\d))", ""),  # blanks that part nothing
    )
)
_NUMBER = r"((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)"
_EXACT = re.compile(rf"([+-]?)(?:{_NUMBER}(?:/{_NUMBER})?|\\frac\{{{_NUMBER}\}}\{{{_NUMBER}\}})")
_ASSIGNMENT = re.compile(r"^[A-Za-z](?:_(?:\w|\{\w+\}))?=([^=<>]+)$")
_BASE = re.compile(r"[0-9]_\{?([0-9]{1,9})\}?$")
_NOT_ZERO = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}|[A-Za-z].*[+-].*=|[+-].*[A-Za-z].*=")
_POINT = re.compile(r"\([^()]*,[^()]*\)")
_LIST = re.compile(r"[^()\[\]={][^()\[\]=]*,[^()\[\]=]*")

Pair = tuple[str, str]


def judge(given: str, answer: str) -> bool | Pair:
    """True or False where that is certain, else the two texts, tidied, for math-verify."""
    given, answer = _bare(given), _bare(answer)
    if not given or not answer:
        return False
    if given == answer:
        return True
    if max(len(given), len(answer)) > LONGEST:
        return False
    given, answer = tidy(given), tidy(answer)
    bare = without_units(given, answer)
    if given == answer or bare is None:
        return given == answer
    return not any(PERCENT.search(text) for text in bare) and _judge_values(*_unassigned(*bare))


def _judge_values(given: str, answer: str) -> bool | Pair:
    if not given or not answer or given == answer:
        return bool(given)
    one, other = exact_value(given), exact_value(answer)
    if one is not None and other is not None:
        if one == other:
            return True
        return (given, answer) if abs(one - other) <= MATH_VERIFY_RESOLUTION else False
    if other == 0 and _NOT_ZERO.search(given):
        return False  # math-verify finds the 0 in `The answer is not 0`, and in `x - 1 = 0`
    bases = _BASE.search(given), _BASE.search(answer)
    if bases[0] and bases[1] and int(bases[0][1]) != int(bases[1][1]):
        return False  # math-verify drops the base of `52_8`
    if _POINT.fullmatch(given) and _LIST.fullmatch(answer):
        return given, f"({answer})"  # `1, 2` may stand for the point (1, 2) but not for (2, 1)
    return given, answer


def _unassigned(given: str, answer: str) -> Pair:
    """`x=5` means 5 where the other side names no unknown."""
    if ("=" in given) == ("=" in answer):
        return given, answer
    return _ASSIGNMENT.sub(r"\1", given), _ASSIGNMENT.sub(r"\1", answer)


def exact_value(text: str) -> Fraction | None:
    r"""The value of a plainly written integer, decimal or fraction; None for anything else.

    >>> exact_value(r"-\frac{9}{5}"), exact_value("1,234.5"), exact_value("x")
    (Fraction(-9, 5), Fraction(2469, 2), None)
    """
    match = _EXACT.fullmatch(text)
    if match is None:
        return None
    above, below = (
        [Fraction(part.replace(",", "").rstrip(".")) for part in match.groups()[1:] if part] + [Fraction(1)]
    )[:2]
    return (-above if match[1] == "-" else above) / below if below else None


def tidy(text: str) -> str:
    r"""`text` without what only changes the looks: `\left`, thin spaces, `\dfrac`, idle blanks.

    >>> tidy(r"\left( 3, \dfrac{\pi}{2} \right)"), tidy(r"10,\!080")
    ('(3,\\frac{\\pi}{2})', '10080')
    """
    for pattern, plain in _LOOKS:
        text = pattern.sub(plain, text)
    return _bare(text)


def _bare(text: str) -> str:
    text = text.strip()
    while len(text) > 3 and text[:2] + text[-2:] in (r"\(\)", r"\[\]"):
        text = text[2:-2].strip()
    return text.removesuffix(".").strip("$").strip().removesuffix(".").strip()
