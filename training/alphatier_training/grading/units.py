r"""Units at the end of an answer: dropped where they agree or one side has none, a mistake where they differ.

math-verify drops units and so takes 5 m for 5 km, and 5.4 cents for 5.4 dollars; here that is wrong. A percent sign
is a unit too: 50 % is 50 where the question says "percent", but never 0.5.

>>> without_unit(r"15\mbox{ cm}^2"), without_unit(r"\$18.90"), without_unit(r"90^\circ"), without_unit(r"50\%")
(('15', 'cm'), ('18.90', 'dollar'), ('90', 'degree'), ('50', 'percent'))
"""

import re

_NAMES = {
    "mm": "millimeter millimetre",
    "cm": "centimeter centimetre",
    "m": "meter metre",
    "km": "kilometer kilometre",
    "inch": "inches in",
    "foot": "feet ft",
    "yard": "yd",
    "mile": "mi",
    "mg": "milligram",
    "g": "gram",
    "kg": "kilogram",
    "ounce": "oz",
    "pound": "lb",
    "ton": "tonne",
    "ml": "milliliter millilitre",
    "liter": "litre l",
    "second": "sec s",
    "minute": "min",
    "hour": "hr h",
    "day": "",
    "week": "",
    "month": "",
    "year": "yr",
    "cent": "",
    "dollar": "",
    "degree": "deg",
    "radian": "rad",
    "unit": "",
}
UNITS = {word: unit for unit, names in _NAMES.items() for word in (unit, *names.split())}
"""Every spelling of a unit, without the plural's s, to the unit."""

_MARKED = re.compile(
    r"(?P<rest>.*[^\s\\])\s*\\(?:text|textrm|mathrm|mbox|textbf)\s*\{\s*(?P<words>[A-Za-z. ]+?)\s*\}"
    r"(?:\^\{?[23]\}?)?\s*",
    re.DOTALL,
)
_PLAIN = re.compile(
    r"(?P<rest>.*(?:[0-9](?=\s)|[})]))\s*(?P<words>(?:sq(?:uare|\.)? |cu(?:bic|\.)? )?[A-Za-z]{2,})", re.DOTALL
)
_LETTER = re.compile(r"(?P<rest>.*\d) (?P<letter>[mgslh])", re.DOTALL)
_DEGREES = re.compile(r"(?P<rest>.+?)\s*(?:\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree|\u00b0)\s*", re.DOTALL)
PERCENT = re.compile(r"\\?%|(?<![A-Za-z])(?:percent(?:age)?|per cent|pct)(?![A-Za-z])", re.IGNORECASE)
_PERCENT_AT_END = re.compile(
    rf"(?:{PERCENT.pattern}|\\(?:text|mbox|mathrm)\s*\{{\s*(?:{PERCENT.pattern})\s*\}})\s*$", re.IGNORECASE
)
_DOLLARS = re.compile(r"(?P<sign>-?)\s*(?:\\\$|\$)\s*(?P<rest>-?[\d.,]+)")


def without_unit(text: str) -> tuple[str, str | None]:
    """`text` without its unit, and that unit; the text itself and None where it ends in no known unit."""
    if dollars := _DOLLARS.fullmatch(text):
        return dollars["sign"] + dollars["rest"], "dollar"
    if degrees := _DEGREES.fullmatch(text):
        return degrees["rest"], "degree"
    if percent := _PERCENT_AT_END.search(text):
        return text[: percent.start()].strip(), "percent"
    named = _MARKED.fullmatch(text) or _PLAIN.fullmatch(text)
    unit = _unit(named["words"]) if named else None
    return (named["rest"], unit) if named and unit else (text, None)


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
    return (match["rest"], UNITS[match["letter"]]) if match else (text, None)


def _unit(words: str) -> str | None:
    word = words.casefold().replace(".", " ").split()
    if word and word[0] in ("square", "sq", "cubic", "cu"):
        word = word[1:]
    if len(word) != 1:
        return None
    return UNITS.get(word[0]) or UNITS.get(word[0].removesuffix("s"))
