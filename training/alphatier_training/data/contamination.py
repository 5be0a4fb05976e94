"""Training problems that an evaluation holds too: n words in a row that two questions share.

GPT-3's check (arXiv 2005.14165, appendix C) takes n = 13. A question shorter than n words is found when the whole of
it is the same. Words in a row that many different training questions share are a phrase of the trade ("where m and n
are relatively prime positive integers. Find m + n") and show nothing: NeMo Curator's `TaskDecontamination` passes
over n-grams that match more than 10 times, too. Questions that are the same as a whole are always found.

What: the search, in time linear in the text. What not: no judgement; a shared n-gram can be chance, which a small
`share` shows.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from alphatier_training.data.problem import Problem
from alphatier_training.data.words import words
from alphatier_training.run.reporting import Report, Reporter, silent

COMMON = 10
"""An n-gram in more different training questions than this is a phrase, no copy."""

STAGE = "contamination"
"""What the search calls itself in its reports."""

REPORT_EVERY = 5000
"""Training problems between two reports."""


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
    training: Sequence[Problem],
    evaluation: Mapping[str, Sequence[Problem]],
    ngram: int = 13,
    report: Reporter = silent,
) -> list[Overlap]:
    """Every pair of a training and an evaluation problem that overlap, in the order of training problems.

    Args:
        training: The problems to train on.
        evaluation: Problems to measure on, by the name of their data set.
        ngram: Words in a row that count as an overlap.
        report: Told now and then how far it is, as stage `contamination`: each training question counts twice.
    """
    index, passes = _Index(evaluation, ngram), 2 * len(training)
    asked: list[list[str]] = []
    for number, problem in enumerate(training):
        asked.append(words(problem.question))
        if number % REPORT_EVERY == 0:
            report(Report(STAGE, number, passes, "questions", "read"))
    common = index.common(asked)
    found: list[Overlap] = []
    for number, question in enumerate(asked):
        found += index.overlaps(number, question, common)
        if number % REPORT_EVERY == 0:
            report(Report(STAGE, len(training) + number, passes, "questions", f"{len(found)} overlaps"))
    report(Report(STAGE, passes, passes, "questions", f"{len(found)} overlaps", finished=True))
    return found


class _Index:
    """The n-grams of all evaluation questions, and where each is."""

    def __init__(self, evaluation: Mapping[str, Sequence[Problem]], ngram: int) -> None:
        self._ngram = ngram
        self._where: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self._whole: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self._sizes: dict[tuple[str, int], int] = {}
        for name, problems in evaluation.items():
            for number, problem in enumerate(problems):
                self._add((name, number), words(problem.question))

    def _add(self, place: tuple[str, int], question: list[str]) -> None:
        grams = set(_ngrams(question, self._ngram))
        self._sizes[place] = len(grams)
        if question:
            self._whole[" ".join(question)].add(place)
        for gram in grams:
            self._where[gram].add(place)

    def common(self, training: Sequence[list[str]]) -> set[str]:
        """The indexed n-grams that are in too many different training questions to show a copy."""
        different = {" ".join(question): question for question in training}
        counts = Counter(
            gram
            for question in different.values()
            for gram in set(_ngrams(question, self._ngram))
            if gram in self._where
        )
        return {gram for gram, count in counts.items() if count > COMMON}

    def overlaps(self, number: int, question: list[str], common: set[str]) -> Iterator[Overlap]:
        """What training question `number` shares with evaluation questions."""
        whole = " ".join(question)
        same = self._whole.get(whole, set())
        grams = list(dict.fromkeys(_ngrams(question, self._ngram)))
        shared: dict[tuple[str, int], list[str]] = defaultdict(list)
        for gram in grams:
            for place in self._where.get(gram, ()):
                shared[place].append(gram)
        for place in sorted(shared.keys() | same):
            found = shared[place]
            telling = next((gram for gram in found if gram not in common), None)
            if place in same:
                yield Overlap(number, *place, telling or whole, 1.0)
            elif telling is not None:
                yield Overlap(number, *place, telling, len(found) / self._sizes[place])


def _ngrams(question: list[str], ngram: int) -> Iterator[str]:
    """All runs of `ngram` words; none when the question is shorter."""
    return (" ".join(question[start : start + ngram]) for start in range(len(question) - ngram + 1))
