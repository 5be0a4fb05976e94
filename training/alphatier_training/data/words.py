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

_WRITINGS = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r"(?s)\[asy\](?:(?!\[asy\]).)*?\[/asy\]", " "),
        (r"(?<=\d)(?:,|\{,\}|\\,|\\!)+(?=\d{3}(?!\d))", ""),
        (r"\\[dtc]?frac\s*(\d)\s*(\d)", r" \1 / \2 "),
        (r"\\[dtc]?frac(?![a-zA-Z])", " "),
        (r"\}\s*\{", " / "),
        (r"\\(?:cdot|times)(?![a-zA-Z])|[×·]", " * "),
        (r"\\div(?![a-zA-Z])|÷", " / "),
        (r"\\leq?(?![a-zA-Z])|≤", " <= "),
        (r"\\geq?(?![a-zA-Z])|≥", " >= "),
        (r"[−–]", "-"),
        (r"\\(?:begin|end)\{[^{}]*\}", " "),
        (r"\\(?:left|right|[bB]igg?[lr]?|(?:display|text)style|q?quad|math(?:rm|bf|bb|it)|text(?:bf|it|rm)?"
         r"|operatorname|mbox|limits|[lc]?dots)(?![a-zA-Z])|\\[^a-zA-Z]", " "),
        (r"(?<=\w)['’`](?=\w)", ""),
        (r"(?<=[^\W\d_]{2})-(?=\w)|(?<=\w)-(?=[^\W\d_]{2})", " "),
        (r"(?:[^\w.+*/^=<>-]|_)+", " "),
    )
)  # fmt: skip
"""What is written in several ways, and how it is written here; in this order."""

_WORD = re.compile(r"([-+*/^=<>]{0,3}) ?(\d*\.?\d+|[^\W\d_]+)")


def words(question: str) -> list[str]:
    """The normalised words of a question, operators at their front.

    Equal words are one object, as a million questions share few of them.
    """
    text = unicodedata.normalize("NFKC", question)
    for pattern, plain in _WRITINGS:
        text = pattern.sub(plain, text)
    return [sys.intern(match[1] + _number(match[2])) for match in _WORD.finditer(text.casefold())]


def _number(word: str) -> str:
    """A number as it is written shortest: `.50` and `0.5` are the same."""
    if "." not in word:
        return word
    word = word.rstrip("0").rstrip(".")
    return "0" + word if word.startswith(".") else word or "0"
