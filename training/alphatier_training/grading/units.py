r"""Units at the end of an answer: dropped where they agree or one side has none, a mistake where they differ.

math-verify drops units and so takes 5 m for 5 km, and 5.4 cents for 5.4 dollars; here that is wrong. A percent sign
is a unit too: 50 % is 50 where the question says "percent", but never 0.5.

>>> without_unit(r"15\mbox{ cm}^2"), without_unit(r"\$18.90"), without_unit(r"90^\circ"), without_unit(r"50\%")
(('15', 'cm'), ('18.90', 'dollar'), ('90', 'degree'), ('50', 'percent'))
"""

import re

_NAMES = """
    mm millimeter millimetre, cm centimeter centimetre, m meter metre, km kilometer kilometre,
    inch inches in, foot feet ft, yard yd, mile mi,
    mg milligram, g gram, kg kilogram, ounce oz, pound lb, ton tonne, ml milliliter millilitre, liter litre l,
    second sec s, minute min, hour hr h, day, week, month, year yr,
    cent, dollar, degree deg, radian rad, percent, unit
"""
UNITS = {name: names.split()[0] for names in _NAMES.split(",") for name in names.split()}
"""Every spelling of a unit, without the plural's s, to the unit."""

PERCENT = re.compile(r"%|(?<![A-Za-z])(?:per ?cent(?:age)?|pct)(?![A-Za-z])", re.IGNORECASE)

_SIGNS = tuple(
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        (rf"(.*?)\s*(?:\\(?:text|mbox|mathrm)\{{\s*)?\\?(?:{PERCENT.pattern})\s*\}}?", r"\1\\text{percent}"),
        (r"(.+?)\s*(?:\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree|°)", r"\1\\text{degree}"),
        (r"(-?)\s*\\?\$\s*(-?[\d.,]+)", r"\1\2\\text{dollar}"),
    )
)
_MARKED = re.compile(
    r"(.*[^\s\\])\s*\\(?:text|textrm|mathrm|mbox|textbf)\s*\{\s*([A-Za-z. ]+?)\s*\}(?:\^\{?[23]\}?)?"
)
_PLAIN = re.compile(r"(.*(?:[0-9](?=\s)|[})$]))\s*((?:sq(?:uare|\.)? |cu(?:bic|\.)? )?[A-Za-z]{2,})")
_LETTER = re.compile(r"(.*\d) ([mgslh])")


def without_unit(text: str) -> tuple[str, str | None]:
    """`text` without its unit, and that unit; the text itself and None where it ends in no known unit."""
    signed = next((pattern.sub(words, text) for pattern, words in _SIGNS if pattern.fullmatch(text)), text)
    match = _MARKED.fullmatch(signed) or _PLAIN.fullmatch(signed)
    unit = _unit(match[2]) if match else None
    return (match[1], unit) if match and unit else (text, None)


def without_units(given: str, answer: str) -> tuple[str, str] | None:
    """Both texts without their units; None where the units differ. A bare `units` goes with any.

    A lone letter is a unit only beside another unit: `5 m` may be five times m.
    """
    (given, one), (answer, other) = without_unit(given), without_unit(answer)
    if one and not other:
        answer, other = _without_letter(answer)
    elif other and not one:
        given, one = _without_letter(given)
    if one and other and one != other and "unit" not in (one, other):
        return None
    return given, answer


def _without_letter(text: str) -> tuple[str, str | None]:
    match = _LETTER.fullmatch(text)
    return (match[1], UNITS[match[2]]) if match else (text, None)


def _unit(words: str) -> str | None:
    word = re.sub(r"^(?:sq(?:uare)?|cu(?:bic)?)\b|[. ]", "", words.casefold())
    return UNITS.get(word) or UNITS.get(word.removesuffix("s"))
