r"""What can be said of two written answers for certain: same, different, or for math-verify to decide.

What: numbers are compared exactly, which is a thousand times faster; and what math-verify gets wrong is decided here:
units, percent signs, number bases, prose around a 0, the order of a point. "Same" is said only where both spellings
can have but one meaning.
Units at the end are dropped where they agree or one side has none, and a mistake where they differ: math-verify drops
them, and so takes 5 m for 5 km, and 5.4 cents for 5.4 dollars. A percent sign is a unit too: 50 % is 50 where the
question says "percent", but never 0.5.
What not: no algebra. `\sqrt{4}` and `2` are for math-verify.

>>> judge(r"\dfrac{3}{4}", "0.75"), judge("1,234.50", "1234.5"), judge("50%", "50"), judge("50%", "0.5")
(True, True, True, False)
>>> judge("x + 1", "1+x"), judge(r"15\mbox{ cm}^2", "15"), judge("5 m", "5 km")
(('x+1', '1+x'), True, False)
"""

import re
from fractions import Fraction

LONGEST = 1000
"""Characters; a longer text is right only if it is the very same. The longest answer of MATH-500 has 53."""

MATH_VERIFY_RESOLUTION = Fraction(1, 10**6)
"""math-verify takes a decimal for a fraction when they agree to 6 places (its `float_rounding`)."""

_UNIT_NAMES = """
    mm millimeter millimetre, cm centimeter centimetre, m meter metre, km kilometer kilometre,
    inch inches in, foot feet ft, yard yd, mile mi,
    mg milligram, g gram, kg kilogram, ounce oz, pound lb, ton tonne, ml milliliter millilitre, liter litre l,
    second sec s, minute min, hour hr h, day, week, month, year yr,
    cent, dollar, degree deg, radian rad, percent, unit
"""
UNITS = {name: names.split()[0] for names in _UNIT_NAMES.split(",") for name in names.split()}
"""Every spelling of a unit, without the plural's s, to the unit."""

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
_PERCENT = re.compile(r"%|(?<![A-Za-z])(?:per ?cent(?:age)?|pct)(?![A-Za-z])", re.IGNORECASE)
_SIGNS = tuple(
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        (rf"(.*?)\s*(?:\\(?:text|mbox|mathrm)\{{\s*)?\\?(?:{_PERCENT.pattern})\s*\}}?", r"\1\\text{percent}"),
        (r"(.+?)\s*(?:\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree|°)", r"\1\\text{degree}"),
        (r"(-?)\s*\\?\$\s*(-?[\d.,]+)", r"\1\2\\text{dollar}"),
    )
)
_UNIT = re.compile(
    r"(.*[^\s\\])\s*\\(?:text|textrm|mathrm|mbox|textbf)\s*\{\s*([A-Za-z. ]+?)\s*\}(?:\^\{?[23]\}?)?"
    r"|(.*(?:[0-9](?=\s)|[})$]))\s*((?:sq(?:uare|\.)? |cu(?:bic|\.)? )?[A-Za-z]{2,})"
)
_LETTER = re.compile(r"(.*\d) ([mgslh])")
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
    if given == answer or not given or not answer or max(len(given), len(answer)) > LONGEST:
        return bool(given) and given == answer
    given, answer = _tidy(given), _tidy(answer)
    values = _without_units(given, answer)
    if given == answer or values is None:
        return given == answer
    return not any(_PERCENT.search(text) for text in values) and _judge_values(*_unassigned(*values))


def _judge_values(given: str, answer: str) -> bool | Pair:
    if not given or not answer or given == answer:
        return bool(given)
    one, other = _exact_value(given), _exact_value(answer)
    if one is not None and other is not None:
        close = 0 < abs(one - other) <= MATH_VERIFY_RESOLUTION
        return (given, answer) if close else one == other
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


def _exact_value(text: str) -> Fraction | None:
    """The value of a plainly written integer, decimal or fraction; None for anything else."""
    match = _EXACT.fullmatch(text)
    if match is None:
        return None
    sign, *parts = match.groups("")
    above, below = ([Fraction(part.replace(",", "").rstrip(".")) for part in parts if part] + [Fraction(1)])[:2]
    return (-above if sign == "-" else above) / below if below else None


def _without_units(given: str, answer: str) -> Pair | None:
    """Both texts without their units; None where the units differ. A bare `units` goes with any.

    A lone letter is a unit only beside another unit: `5 m` may be five times m.
    """
    (given, one), (answer, other) = _without_unit(given), _without_unit(answer)
    if one and not other and (letter := _LETTER.fullmatch(answer)):
        answer, other = letter[1], UNITS[letter[2]]
    elif other and not one and (letter := _LETTER.fullmatch(given)):
        given, one = letter[1], UNITS[letter[2]]
    return None if one and other and one != other and "unit" not in (one, other) else (given, answer)


def _without_unit(text: str) -> tuple[str, str | None]:
    """`text` without its unit, and that unit; the text itself and None where it ends in no known unit."""
    signed = next((pattern.sub(words, text) for pattern, words in _SIGNS if pattern.fullmatch(text)), text)
    if match := _UNIT.fullmatch(signed):
        value, words = (group for group in match.groups() if group is not None)
        word = re.sub(r"^(?:sq(?:uare)?|cu(?:bic)?)\b|[. ]", "", words.casefold())
        if unit := UNITS.get(word) or UNITS.get(word.removesuffix("s")):
            return value, unit
    return text, None


def _tidy(text: str) -> str:
    r"""`text` without what only changes the looks: `\left`, thin spaces, `\dfrac`, idle blanks."""
    for pattern, plain in _LOOKS:
        text = pattern.sub(plain, text)
    return _bare(text)


def _bare(text: str) -> str:
    text = text.strip()
    while len(text) > 3 and text[:2] + text[-2:] in (r"\(\)", r"\[\]"):
        text = text[2:-2].strip()
    return text.removesuffix(".").strip("$").strip().removesuffix(".").strip()
