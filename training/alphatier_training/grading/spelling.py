r"""What can be said of two written answers for certain: same, different, or for math-verify to decide.

What: LaTeX that only changes the looks is dropped; exact values, units, number bases and
plain words are compared here. "Same" is said only where both spellings can have but one meaning.
What not: no algebra. `\sqrt{4}` and `2` are for math-verify.

>>> judge(r"\dfrac{3}{4}", "0.75"), judge("1,234.50", "1234.5"), judge("50%", "50"), judge("50%", "0.5")
(True, True, True, False)
>>> judge("x + 1", "1+x")
('x+1', '1+x')
"""

import re

from alphatier_training.grading.exact import exact_value
from alphatier_training.grading.units import PERCENT, without_unit, without_units

LONGEST = 1000
"""Characters; a longer text is right only if it is the very same. The longest answer of MATH-500 has 53."""

MATH_VERIFY_RESOLUTION = 1e-6
"""math-verify takes a decimal for a fraction when they agree to 6 places (its `float_rounding`)."""

_LOOKS = re.compile(r"\\(?:left|right|displaystyle|[bB]ig+[lr]?)(?![A-Za-z])|(?<!\\)\\[!;:]|\u200b")
_SPACE = re.compile(r"(?<!\\)\\[, ]|\\q?quad(?![A-Za-z])|~|\s")
_THOUSANDS_MARK = re.compile(r"(?<=\d)(?:,\\!\s*|\{,\}\s*|\\,)(?=\d{3}(?!\d))")
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_SHORT_FRACTION = re.compile(r"\\frac\s*(\d|\{[^{}]*\})\s*(\d|\{[^{}]*\})")
_IDLE_SPACE = re.compile(r" +(?![A-Za-z0-9.])|(?<![A-Za-z0-9.,]) +|(?<=,) +(?!\d{3}(?!\d))")
_ASSIGNMENT = re.compile(r"[A-Za-z](?:_(?:\w|\{\w+\}))?=([^=<>]+)")
_BASE = re.compile(r"\d_(?:\{(\d{1,9})\}|(\d))$")
_WORDS = re.compile(r"\\(?:text|textbf|mathrm|mbox)\s*\{([^{}\\$]*)\}")
_NOT_ZERO = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}|[A-Za-z].*[+-].*=|[+-].*[A-Za-z].*=")
_TUPLE = re.compile(r"\([^()]*,[^()]*\)")
_LIST = re.compile(r"[^()\[\]={][^()\[\]=]*,[^()\[\]=]*")
_LETTERS = re.compile(r"[A-Za-z][A-Za-z '-]*")

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
    return _judge_units(tidy(given), tidy(answer))


def _judge_units(given: str, answer: str) -> bool | Pair:
    """The same unit, or none on one side; cents are no dollars, and a percent sign is no factor of 100."""
    if given == answer:
        return True
    if any(PERCENT.search(without_unit(text)[0]) for text in (given, answer)):
        return False  # a percent sign that is no unit of the whole
    bare = without_units(given, answer)
    return bare is not None and _judge_values(*_unassigned(*bare))


def _judge_values(given: str, answer: str) -> bool | Pair:
    if not given or not answer:
        return False
    if given == answer:
        return True
    one, other = exact_value(given), exact_value(answer)
    if one is not None and other is not None:
        if one.value == other.value:
            return True
        rounded = abs(one.value - other.value) <= MATH_VERIFY_RESOLUTION
        return (given, answer) if rounded and one.is_decimal != other.is_decimal else False
    if _other_base(given, answer) or (other is not None and other.value == 0 and _NOT_ZERO.search(given)):
        return False
    words = _judge_words(given, answer)
    return _alike_in_brackets(given, answer) if words is None else words


def _alike_in_brackets(given: str, answer: str) -> Pair:
    """`1, 2` may stand for the point (1, 2) but not for (2, 1), as it does for math-verify."""
    if _TUPLE.fullmatch(given) and _LIST.fullmatch(answer):
        return given, f"({answer})"
    if _TUPLE.fullmatch(answer) and _LIST.fullmatch(given):
        return f"({given})", answer
    return given, answer


def _other_base(given: str, answer: str) -> bool:
    """Whether both are digits with an index, as in `52_8`, and the indices differ; math-verify drops them."""
    one, other = _BASE.search(given), _BASE.search(answer)
    return bool(one and other and int(one.group(1) or one.group(2)) != int(other.group(1) or other.group(2)))


def _judge_words(given: str, answer: str) -> bool | None:
    r"""Two plain words, at least one of them marked as `\text`; None when they are not that."""
    if not (_WORDS.fullmatch(given) or _WORDS.fullmatch(answer)):
        return None
    one, other = _words(given), _words(answer)
    if not (_LETTERS.fullmatch(one) and _LETTERS.fullmatch(other)):
        return None
    return one.casefold() == other.casefold()


def _words(text: str) -> str:
    match = _WORDS.fullmatch(text)
    bare = (match.group(1) if match else text).strip()
    return bare[1:-1] if re.fullmatch(r"\([A-Za-z]\)", bare) else bare


def _unassigned(given: str, answer: str) -> Pair:
    """`x=5` means 5 where the other side names no unknown."""
    if ("=" in given) == ("=" in answer):
        return given, answer
    one, other = (_ASSIGNMENT.fullmatch(text) for text in (given, answer))
    return (one.group(1) if one else given), (other.group(1) if other else answer)


def tidy(text: str) -> str:
    r"""`text` without what only changes the looks: `\left`, thin spaces, `\dfrac`, idle blanks.

    >>> tidy(r"\left( 3, \dfrac{\pi}{2} \right)"), tidy(r"10,\!080"), tidy(r"\frac 59")
    ('(3,\\frac{\\pi}{2})', '10080', '\\frac{5}{9}')
    """
    text = text.replace("\u2212", "-")
    if "\\" in text or "{" in text:
        text = _THOUSANDS_MARK.sub("", text)
        text = _FRACTION.sub(r"\\frac", _LOOKS.sub("", text))
        text = _SHORT_FRACTION.sub(_with_braces, text)
    return _bare(_IDLE_SPACE.sub("", _SPACE.sub(" ", text)))


def _with_braces(match: re.Match[str]) -> str:
    return r"\frac" + "".join(part if part[0] == "{" else f"{{{part}}}" for part in match.groups())


def _bare(text: str) -> str:
    text = text.strip()
    while len(text) > 3 and text[:2] + text[-2:] in (r"\(\)", r"\[\]"):
        text = text[2:-2].strip()
    return text.removesuffix(".").strip("$").strip().removesuffix(".").strip()
