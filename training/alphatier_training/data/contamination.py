r"""Training problems that an evaluation holds too: n words in a row that two questions share.

GPT-3's check (arXiv 2005.14165, appendix C) takes n = 13. A question shorter than n words is found when the whole of
it is the same. Words in a row that many different training questions share are a phrase of the trade ("where m and n
are relatively prime positive integers. Find m + n") and show nothing: NeMo Curator's `TaskDecontamination` passes
over n-grams that match more than 10 times, too. Questions that are the same as a whole are always found.

Words are such that copies have the same however they are written: case, punctuation, white space, LaTeX's layout
commands, `\frac{1}{2}` or `1/2`, `80,000` or `80000`, `2.50` or `2.5` make no difference. Operators do: they stay at
the front of the word that follows, so that `3 + 4` differs from `3 - 4` and n words are n words. Drawings in
Asymptote are left out, since they share their preambles.

What: the search, in time linear in the text. What not: no judgement; a shared n-gram can be chance, which a small
`share` shows.

>>> words(r"Janet's $\frac{1}{2}$ of 80,000 dollars")
['janets', '1', '/2', 'of', '80000', 'dollars']
"""

import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from alphatier_training.data.problem import Problem

COMMON = 10
"""An n-gram in more different training questions than this is a phrase, no copy."""

_WHOLE = "\n"
"""Stands before a question as a whole, which is no n-gram."""

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


@dataclass(frozen=True)
class Overlap:
    """A training problem that shares words in a row with an evaluation problem.

    Attributes:
        training: The training problem's number, from 0.
        data: The name of the evaluation's data set.
        evaluation: The evaluation problem's number there, from 0.
        ngram: The first shared words, or the whole question where it is shorter than n.
        share: How much of the evaluation question is found in the training question, 0 to 1: of its n-grams.
    """

    training: int
    data: str
    evaluation: int
    ngram: str
    share: float


def find_overlaps(
    training: Iterable[Problem], evaluation: Mapping[str, Sequence[Problem]], ngram: int = 13
) -> list[Overlap]:
    """Every pair of a training and an evaluation problem (by its data set's name) that share `ngram` words in a row.

    They come in the order of training problems.
    """
    places: dict[str, list[tuple[str, int]]] = defaultdict(list)
    sizes: dict[tuple[str, int], int] = {}
    for name, problems in evaluation.items():
        for number, problem in enumerate(problems):
            grams = _grams(problem.question, ngram)
            sizes[name, number] = len(grams) - 1
            for gram in grams:
                places[gram].append((name, number))

    known: list[list[str]] = []  # the n-grams of each training question that an evaluation has too
    different: set[str] = set()
    counts: Counter[str] = Counter()
    for problem in training:
        grams = _grams(problem.question, ngram)
        known.append([gram for gram in grams if gram in places])
        if grams and grams[-1] not in different:
            different.add(grams[-1])
            counts.update(known[-1])

    found: list[Overlap] = []
    for number, grams in enumerate(known):
        shared: dict[tuple[str, int], list[str]] = defaultdict(list)
        for gram in grams:
            for place in places[gram]:
                shared[place].append(gram)
        for place in sorted(shared):
            if telling := next((gram for gram in shared[place] if counts[gram] <= COMMON), None):
                same = shared[place][-1].startswith(_WHOLE)
                share = 1.0 if same else len(shared[place]) / sizes[place]
                found.append(Overlap(number, *place, telling.removeprefix(_WHOLE), share))
    return found


def words(question: str) -> list[str]:
    """The normalised words of a question; equal ones are one object, as a million questions share few of them."""
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


def _grams(question: str, ngram: int) -> list[str]:
    """All different runs of `ngram` words, then the question as a whole; nothing of a question without words."""
    text = words(question)
    runs = (" ".join(text[start : start + ngram]) for start in range(len(text) - ngram + 1))
    return [*dict.fromkeys(runs), _WHOLE + " ".join(text)] if text else []
