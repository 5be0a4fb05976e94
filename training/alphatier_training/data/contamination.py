"""Training problems that an evaluation holds too: n words in a row that two questions share.

GPT-3's check (arXiv 2005.14165, appendix C) takes n = 13. A question shorter than n words is found when the whole of
it is the same. Words in a row that many different training questions share are a phrase of the trade ("where m and n
are relatively prime positive integers. Find m + n") and show nothing: NeMo Curator's `TaskDecontamination` passes
over n-grams that match more than 10 times, too. Questions that are the same as a whole are always found.

What: the search, in time linear in the text. What not: no judgement; a shared n-gram can be chance, which a small
`share` shows.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from alphatier_training.data.problem import Problem
from alphatier_training.data.words import words

COMMON = 10
"""An n-gram in more different training questions than this is a phrase, no copy."""

_WHOLE = "\n"
"""Stands before a question as a whole, which is no n-gram."""


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
    """Every pair of a training and an evaluation problem that overlap, in the order of training problems.

    Args:
        training: The problems to train on.
        evaluation: Problems to measure on, by the name of their data set.
        ngram: Words in a row that count as an overlap.
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
            telling = next((gram for gram in shared[place] if counts[gram] <= COMMON), None)
            if telling is not None:
                same = shared[place][-1].startswith(_WHOLE)
                share = 1.0 if same else len(shared[place]) / sizes[place]
                found.append(Overlap(number, *place, telling.removeprefix(_WHOLE), share))
    return found


def _grams(question: str, ngram: int) -> list[str]:
    """All different runs of `ngram` words, then the question as a whole; nothing of a question without words."""
    text = words(question)
    runs = (" ".join(text[start : start + ngram]) for start in range(len(text) - ngram + 1))
    return [*dict.fromkeys(runs), _WHOLE + " ".join(text)] if text else []
