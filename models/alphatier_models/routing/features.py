"""What a router sees of a prompt: counts and words, of any language and any domain, from the text alone.

Neither case nor white space (but line ends) makes a difference. Of a long prompt the beginning and the end are seen.
"""

import re
import unicodedata
from itertools import pairwise
from math import log1p

LONGEST = 512
"""Characters that are seen of a prompt: the first half of them, and the last."""

MOST_WORDS = 64
"""Of these, from the beginning and the end; all are counted."""

POSITIONS = 10
"""Numbers that are seen one by one, from the first."""

COUNTS = (
    "numbers",
    "long numbers",
    "digits",
    "last digits past ten",
    "last digits that fall",
    "last digits that rise",
    "words",
    "letters",
    "different words",
    "other scripts",
    "marks",
    "questions",
    "symbols",
    "code",
    "lines",
)
"""What is counted."""

NAMES = (*COUNTS, *(f"number {position}" for position in range(1, POSITIONS + 1)))
"""The measures of a prompt, in their order."""

_TOKEN = re.compile(
    r"\d+|[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_\u0e00-\u0eff\u3040-\u9fff\uac00-\ud7af]+|[^\w\s]|_"
)
_MARKS = frozenset(".,;:!?'\"-()\u2026\u3002\uff0c\u3001\u061f\uff1f\uff01")
_QUESTIONS = frozenset("?\uff1f\u061f")
_CODE = frozenset("{}[]<>=;_`\\|#@$&~^")


def features(prompt: str) -> tuple[list[float], list[str]]:
    """The prompt's measures, in the order of NAMES, and its words, each once.

    Measures are logarithms of counts (log(1 + n)), and of the first numbers themselves (of their last 15 digits); 0
    where there is none. Words are words, signs, characters of scripts without spaces, numbers by their digits (`#2`),
    and two of these that stand beside each other.

    >>> measures, words = features("What is 17 + 5?")
    >>> round(measures[NAMES.index("numbers")], 3), words[:4], words[-1]
    (1.099, ['what', 'is', '#2', '+'], '#1 ?')
    """
    if len(prompt) > LONGEST:
        prompt = f"{prompt[: LONGEST // 2]} {prompt[-LONGEST // 2 :]}"
    if not prompt.isascii():
        prompt = unicodedata.normalize("NFKC", prompt)
    tokens = _TOKEN.findall(prompt.casefold())
    numbers = [token for token in tokens if token.isdecimal()]
    seen = tokens if len(tokens) <= MOST_WORDS else [*tokens[: MOST_WORDS // 2], *tokens[-MOST_WORDS // 2 :]]
    singles = [f"#{min(len(token), 6)}" if token.isdecimal() else token for token in seen]
    pairs = [f"{one} {other}" for one, other in pairwise(singles)]
    counts = _counts(prompt, tokens, numbers)
    sizes = [log1p(int(number[-15:])) for number in numbers[:POSITIONS]]
    measures = [*map(log1p, counts), *sizes, *[0.0] * (POSITIONS - len(sizes))]
    return measures, list(dict.fromkeys([*singles, *pairs]))


def _counts(prompt: str, tokens: list[str], numbers: list[str]) -> tuple[int, ...]:
    """In the order of COUNTS."""
    last = [int(number[-1]) for number in numbers]
    beside = list(pairwise(last))
    words = [token for token in tokens if token[0].isalpha()]
    marks = sum(map(_MARKS.__contains__, tokens))
    return (
        len(numbers),
        sum(len(number) > 1 for number in numbers),
        sum(map(len, numbers)),
        sum(one + other > 9 for one, other in beside),
        sum(one > other for one, other in beside),
        sum(one < other for one, other in beside),
        len(words),
        sum(map(len, words)),
        len(set(words)),
        0 if prompt.isascii() else sum(not word.isascii() for word in words),
        marks,
        sum(map(_QUESTIONS.__contains__, tokens)),
        len(tokens) - len(numbers) - len(words) - marks,
        sum(map(_CODE.__contains__, tokens)),
        prompt.count("\n"),
    )
