"""What a router sees of a prompt: counts and words, of any language and any domain, from the text alone.

    numbers=3   how many there are, in steps: 0, 1, 2, ... 15, then powers of two
    w:plus      a word, a number (by its digits: `#2`), a mark, or a character of a script without spaces
    w:# plus    two that stand beside each other

Neither case nor white space makes a difference. Of a long prompt the beginning and the end are seen.
"""

import re
import unicodedata
from collections import Counter

LONGEST = 2000
"""Characters that are seen of a prompt: the first half of them, and the last."""

STEPS = (*range(16), 16, 32, 64, 128, 256, 512, 1024)
"""Where a count becomes another feature."""

MOST_TIMES = 4
"""A word that is there more often counts as so often."""

_TOKEN = re.compile(
    r"\d+|[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_\u0e00-\u0eff\u3040-\u9fff\uac00-\ud7af]+|[^\w\s]"
)
_MARKS = frozenset(".?!;:,。？！；：，、؟")


def features(prompt: str) -> tuple[dict[str, float], dict[str, int]]:
    """The features of a prompt, by name, and the counts that some of them are steps of.

    >>> found, counts = features("What is 17 + 5?")
    >>> counts["numbers"], found["numbers=2"], found["w:what"], found["w:#2 +"]
    (2, 1.0, 1.0, 1.0)
    """
    tokens = _TOKEN.findall(_normal(prompt))
    numbers = [token for token in tokens if token.isdecimal()]
    words = [token if not token.isdecimal() else f"#{min(len(token), 6)}" for token in tokens]
    counts = _counts(tokens, numbers)
    found = {f"{name}={_step(count)}": 1.0 for name, count in counts.items()}
    pairs = (f"w:{one} {other}" for one, other in zip(words, words[1:], strict=False))
    for name, times in Counter([*(f"w:{word}" for word in words), *pairs]).items():
        found[name] = float(min(times, MOST_TIMES))
    return found, counts


def _normal(prompt: str) -> str:
    if len(prompt) > LONGEST:
        prompt = f"{prompt[: LONGEST // 2]} {prompt[-LONGEST // 2 :]}"
    if not prompt.isascii():
        prompt = unicodedata.normalize("NFKC", prompt)
    return prompt.casefold()


def _counts(tokens: list[str], numbers: list[str]) -> dict[str, int]:
    last = [int(number[-1]) for number in numbers]
    beside = list(zip(last, last[1:], strict=False))
    marks = sum(token in _MARKS for token in tokens)
    symbols = sum(not token[0].isalnum() for token in tokens) - marks
    return {
        "numbers": len(numbers),
        "long numbers": sum(len(number) > 1 for number in numbers),
        "digits": sum(map(len, numbers)),
        "last digits past ten": sum(one + other > 9 for one, other in beside),
        "last digits that fall": sum(one > other for one, other in beside),
        "last digits that rise": sum(one < other for one, other in beside),
        "words": len(tokens) - len(numbers) - marks - symbols,
        "different words": len(set(tokens)),
        "marks": marks,
        "symbols": symbols,
    }


def _step(count: int) -> int:
    return count if count < 16 else 1 << min(count.bit_length() - 1, 10)
