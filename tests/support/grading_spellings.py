r"""One answer in many spellings: those that mean the same, and near misses that do not.

What: plain text rewriting with no knowledge of the grader, so that the two can disagree.
What not: no parsing; a rewriting that does not fit an answer is left out of its dictionary.

>>> right_spellings("1250")["thousands comma"], wrong_spellings("1250")["times 100"]
('1,250', '125000')
"""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction

INTEGER = re.compile(r"-?\d+")
DECIMAL = re.compile(r"-?\d*\.\d+")
FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
TUPLE = re.compile(r"(\((?:\\left)?)([^()\[\],]+),([^()\[\],]+)(\))")
LIST = re.compile(r"-?\d+(?:, ?-?\d+)+")
INTERVAL = re.compile(r"[(\[].*,.*[)\]]")
COMMAS = re.compile(r"\d{1,3}(?:,\d{3})+")
CHOICE = re.compile(r"\\text\{\(([A-E])\)\}")
WORD = re.compile(r"\\text\{([A-Za-z]+)\}")
OPENING = re.compile(r"(?<!\\left)(?<!\\)([(\[])")
CLOSING = re.compile(r"(?<!\\right)(?<!\\)([)\]])")

Rewriting = Callable[[str], str | None]


def right_spellings(answer: str) -> dict[str, str]:
    """Name of the rewriting to `answer` as rewritten; each means what `answer` means."""
    return dict(_rewritten(answer, RIGHT))


def wrong_spellings(answer: str) -> dict[str, str]:
    """Name of the slip to `answer` with that slip; none means what `answer` means."""
    return dict(_rewritten(answer, WRONG))


def _rewritten(answer: str, rewritings: dict[str, Rewriting]) -> Iterator[tuple[str, str]]:
    for name, rewrite in rewritings.items():
        text = rewrite(answer)
        if text is not None and text != answer:
            yield name, text


def _replaced(pattern: str, replacement: str) -> Rewriting:
    return lambda answer: re.sub(pattern, replacement, answer)


def _value(answer: str) -> Fraction | None:
    plain = answer.replace(",", "") if COMMAS.fullmatch(answer) else answer
    if INTEGER.fullmatch(plain) or DECIMAL.fullmatch(plain):
        return Fraction(plain)
    match = FRACTION.fullmatch(answer)
    return (-1 if match[1] else 1) * Fraction(int(match[2]), int(match[3])) if match else None


def _decimal(value: Fraction) -> str | None:
    """The decimal number, None when it does not end within twelve places."""
    for places in range(13):
        if (value * 10**places).denominator == 1:
            return f"{float(value):.{places}f}" if abs(value) < 10**6 else None
    return None


def _is_term(answer: str) -> bool:
    """Whether it is one number or expression: no list, tuple, interval, equation, word or unit."""
    return not re.search(r"[,=_]|\\(?:text|mbox|begin|pm|in|circ|cup|\$|\{)(?![a-z])", answer)


def _sized_brackets(answer: str) -> str | None:
    if "\\left" in answer or "\\text" in answer:
        return None
    return CLOSING.sub(r"\\right\1", OPENING.sub(r"\\left\1", answer))


def _grouped(separator: str) -> Rewriting:
    def rewrite(answer: str) -> str | None:
        if not re.fullmatch(r"-?\d{4,}", answer):
            return None
        return f"{int(answer):,}".replace(",", separator)

    return rewrite


def _with_zeros(answer: str) -> str | None:
    if DECIMAL.fullmatch(answer):
        return answer + "0"
    return answer + ".00" if INTEGER.fullmatch(answer) else None


def _as_decimal(answer: str) -> str | None:
    value = _value(answer)
    return _decimal(value) if value is not None and FRACTION.fullmatch(answer) else None


def _fraction(form: Callable[[str, int, int], str | None]) -> Rewriting:
    def rewrite(answer: str) -> str | None:
        match = FRACTION.fullmatch(answer)
        return form(match[1], int(match[2]), int(match[3])) if match else None

    return rewrite


def _unbraced(sign: str, above: int, below: int) -> str | None:
    return rf"{sign}\frac{above}{below}" if above < 10 and below < 10 else None


def _word_without_mark(answer: str) -> str | None:
    match = WORD.fullmatch(answer) or CHOICE.fullmatch(answer)
    return match[1] if match else None


def _without_unit(answer: str) -> str | None:
    bare = re.sub(r"\^\\circ|\\(?:text|mbox)\{ [a-z]+\}(?:\^2)?|\\\$", "", answer)
    return bare.strip() if not WORD.fullmatch(answer) else None


def _number(form: Callable[[Fraction], str | None]) -> Rewriting:
    def rewrite(answer: str) -> str | None:
        value = _value(answer)
        return form(value) if value else None

    return rewrite


def _off_by_one(answer: str) -> str | None:
    if "\\text" in answer and not re.match(r"-?\d", answer):
        return None
    return re.sub(r"\d+", lambda match: str(int(match[0]) + 1), answer, count=1)


def _negated(answer: str) -> str | None:
    if answer == "0" or not _is_term(answer):
        return None
    return answer[1:] if re.fullmatch(r"-[^+-]+", answer) else f"-({answer})"


def _swapped(answer: str) -> str | None:
    match = TUPLE.fullmatch(answer)
    return f"({match[3]},{match[2]})" if match and match[2].strip() != match[3].strip() else None


def _other_end(answer: str) -> str | None:
    """An interval with one finite end the other way; `(2,4)` alone may be a point."""
    if not INTERVAL.fullmatch(answer) or not re.search(r"\\infty|[\[\]]", answer):
        return None
    if answer[0] == "(" and not answer.startswith((r"(-\infty", r"(-\sqrt")):
        return f"[{answer[1:]}"
    return answer[:-1] + {")": "]", "]": ")"}[answer[-1]] if not re.search(r"\\infty.$", answer) else None


def _other_choice(answer: str) -> str | None:
    match = CHOICE.fullmatch(answer)
    return rf"\text{{({'ABCDE'[(ord(match[1]) - 64) % 5]})}}" if match else None


RIGHT: dict[str, Rewriting] = {
    "as it is": lambda answer: f" {answer} ",
    "dfrac": _replaced(r"\\frac(?=[ {\d])", r"\\dfrac"),
    "tfrac": _replaced(r"\\d?frac(?=[ {\d])", r"\\tfrac"),
    "fraction without braces": _fraction(_unbraced),
    "slash": _fraction(lambda sign, above, below: f"{sign}{above}/{below}"),
    "fraction not reduced": _fraction(lambda sign, above, below: rf"{sign}\frac{{{above * 3}}}{{{below * 3}}}"),
    "fraction as decimal": _as_decimal,
    "sized brackets": _sized_brackets,
    "dollars": lambda answer: f"${answer}$",
    "inline maths": lambda answer: rf"\({answer}\)",
    "display style": lambda answer: rf"\displaystyle {answer}" if _is_term(answer) else None,
    "full stop": lambda answer: f"{answer}.",
    "blanks": lambda answer: re.sub(r"(?<=[\w)}]) ?([+=]) ?", r"  \1  ", answer),
    "no blanks": lambda answer: re.sub(r"(?<=[,+=]) | (?=[+=])", "", answer) if not COMMAS.search(answer) else None,
    "thin spaces": lambda answer: re.sub(r"(?<=[+=]) ?", r"\\,", answer),
    "thousands comma": _grouped(","),
    "thousands comma in braces": _grouped("{,}"),
    "thousands comma and thin space": _grouped(r",\!"),
    "no thousands comma": lambda answer: answer.replace(",", "") if COMMAS.fullmatch(answer) else None,
    "zeros after the point": _with_zeros,
    "zero before the point": lambda answer: f"0{answer}" if answer.startswith(".") else None,
    "plus sign": lambda answer: f"+{answer}" if re.fullmatch(r"\d+", answer) else None,
    "assignment": lambda answer: f"k = {answer}" if _is_term(answer) and "k" not in answer else None,
    "last of a chain": lambda answer: rf"6 \cdot 7 / 2 = {answer}" if INTEGER.fullmatch(answer) else None,
    "value of a function": lambda answer: f"f(7) = {answer}" if INTEGER.fullmatch(answer) else None,
    "percent": lambda answer: rf"{answer}\%" if _value(answer) is not None else None,
    "per cent in words": lambda answer: f"{answer} percent" if _value(answer) is not None else None,
    "word without mark": _word_without_mark,
    "without unit": _without_unit,
    "degrees in braces": _replaced(r"\^\\circ", r"^{\\circ}"),
    "degrees in words": _replaced(r"\^\\circ", r" \\text{ degrees}"),
    "root as power": lambda answer: re.sub(r"\\sqrt\{(\d+)\}", r"(\1)^{1/2}", answer),
    "root without braces": lambda answer: re.sub(r"\\sqrt\{(\d)\}", r"\\sqrt\1", answer),
    "square brackets": _replaced("pmatrix", "bmatrix"),
    "signed infinity": lambda answer: re.sub(r"(?<!-)\\infty", r"+\\infty", answer),
}

WRONG: dict[str, Rewriting] = {
    "times 100": _number(
        lambda value: _decimal(value * 100) or rf"\frac{{{value.numerator * 100}}}{{{value.denominator}}}"
    ),
    "by 100": _number(
        lambda value: _decimal(value / 100) or rf"\frac{{{value.numerator}}}{{{value.denominator * 100}}}"
    ),
    "expression times 100": lambda answer: f"100({answer})" if _is_term(answer) and answer != "0" else None,
    "hundredth in percent": _number(lambda value: rf"{text}\%" if (text := _decimal(value * 100)) else None),
    "negated": _negated,
    "off by one": _off_by_one,
    "fraction upside down": _fraction(
        lambda sign, above, below: rf"{sign}\frac{{{below}}}{{{above}}}" if above else None
    ),
    "other numerator": _fraction(lambda sign, above, below: rf"{sign}\frac{{{above + 1}}}{{{below}}}"),
    "other denominator": _fraction(lambda sign, above, below: rf"{sign}\frac{{{above}}}{{{below + 1}}}"),
    "digit more": lambda answer: f"{answer}1" if INTEGER.fullmatch(answer) else None,
    "digit less": lambda answer: answer[:-1] if re.fullmatch(r"-?[1-9]\d+", answer) else None,
    "thousandth off": lambda answer: f"{answer}.001" if INTEGER.fullmatch(answer) else None,
    "swapped": _swapped,
    "one more in the list": lambda answer: f"{answer}, 99" if LIST.fullmatch(answer) else None,
    "one less in the list": lambda answer: answer.rsplit(",", 1)[0] if LIST.fullmatch(answer) else None,
    "hedged": lambda answer: rf"{answer} \text{{ or }} 987" if _is_term(answer) else None,
    "listed among others": lambda answer: f"986, {answer}, 987" if _is_term(answer) else None,
    "other end of the interval": _other_end,
    "other choice": _other_choice,
    "other word": lambda answer: rf"\text{{no{match[1]}}}" if (match := WORD.fullmatch(answer)) else None,
    "no root": _replaced(r"\\sqrt\{?(\d+)\}?", r"\1"),
    "other base": _replaced(r"_\{?\d\}?$", "_7"),
    "minus for plus": lambda answer: re.sub(r" ?\+ ?", "-", answer, count=1) if _is_term(answer) else None,
    "one of two": lambda answer: answer.replace(r"\pm", "+") if r"\pm" in answer else None,
    "in words": lambda answer: f"The answer is not {answer}",
}
