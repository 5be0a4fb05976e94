r"""The words of a question, such that copies have the same words however they are written.

Case, punctuation, white space, LaTeX's layout commands, `\frac{1}{2}` or `1/2`, `80,000` or `80000`, `2.50` or `2.5`
make no difference. Operators do: they stay at the front of the word that follows, so that `3 + 4` differs from
`3 - 4` and n words are n words. Drawings in Asymptote are left out, since they share their preambles.

>>> words(r"Janet's $\frac{1}{2}$ of 80,000 dollars")
['janets', '1', '/2', 'of', '80000', 'dollars']
"""

import re
import sys
import unicodedata

_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
_LAYOUT = re.compile(
    r"\\(?:begin|end)\{[^{}]*\}"
    r"|\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|qquad|quad|mathrm|mathbf|mathbb|mathit|text(?:bf|it|rm)?"
    r"|operatorname|mbox|limits|[lc]?dots)(?![a-zA-Z])"
    r"|\\[^a-zA-Z]"
)
_OPERATORS = {
    r"\cdot": "*",
    r"\times": "*",
    r"\div": "/",
    r"\leq": "<=",
    r"\le": "<=",
    r"\geq": ">=",
    r"\ge": ">=",
    "≤": "<=",
    "≥": ">=",
    "×": "*",
    "·": "*",
    "÷": "/",
    "−": "-",
    "–": "-",
}
_COMMAND = re.compile("|".join(rf"{re.escape(name)}(?![a-zA-Z])" for name in _OPERATORS))
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\}|\\,|\\!)+(?=\d{3}(?!\d))")
_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})-(?=\w)|(?<=\w)-(?=[^\W\d_]{2})")
_APOSTROPHE = re.compile(r"(?<=\w)['’`](?=\w)")
_WORD = re.compile(r"([-+*/^=<>]{0,3}) ?(\d*\.?\d+|[^\W\d_]+)")
_NESTED_FRACTIONS = 8
"""Fractions in fractions that are read; a bound, so that the time is linear in the text."""


def words(question: str) -> list[str]:
    """The normalised words of a question, operators at their front.

    Equal words are one object, as a million questions share few of them.
    """
    return [sys.intern(match[1] + _number(match[2])) for match in _WORD.finditer(_plain(question))]


def _plain(question: str) -> str:
    """The question as plain text: no LaTeX layout, no thousands commas, no marks inside words."""
    text = unicodedata.normalize("NFKC", _without_drawings(question))
    text = _THOUSANDS.sub("", text)
    text = _COMMAND.sub(lambda match: f" {_OPERATORS[match[0]]} ", text)
    for _ in range(_NESTED_FRACTIONS):
        text = _FRACTION.sub(_ratio, text)
    text = _LAYOUT.sub(" ", text)
    text = _HYPHEN.sub(" ", _APOSTROPHE.sub("", text))
    return re.sub(r"(?:[^\w.+*/^=<>-]|_)+", " ", text.casefold())


def _without_drawings(question: str) -> str:
    """The question without what stands between `[asy]` and `[/asy]`."""
    text, *drawings = question.split("[asy]")
    halves = (drawing.partition("[/asy]") for drawing in drawings)
    return " ".join([text, *(after if closed else inside for inside, closed, after in halves)])


def _ratio(match: re.Match[str]) -> str:
    above, below = match[1] or match[2] or "", match[3] or match[4] or ""
    return f" {above} / {below} "


def _number(word: str) -> str:
    """A number as it is written shortest: `.50` and `0.5` are the same."""
    if not word[-1].isdigit():
        return word
    if "." in word:
        word = word.rstrip("0").rstrip(".")
    return "0" + word if word.startswith(".") else word or "0"
