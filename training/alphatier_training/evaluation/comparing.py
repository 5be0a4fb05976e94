"""What the rows of a data set say together: paired tests, corrected for their number, and every figure of `figures`.

Paired permutation tests of problems' means: of accuracy (which is McNemar's test for one sample a problem,
doi:10.1007/BF02295996) and of tokens. Without samples: the two tiers' own intervals, squared and added, wider than a
paired one. What: from rows' figures and samples to a `Found`, for `alphatier evaluate` and for reports alike.
What not: no text; tables and JSON of it are made by `tables`.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm, sqrt
from pathlib import Path
from typing import Literal

from alphatier_models import Evaluation, Interval
from alphatier_training.builtin import way_of
from alphatier_training.evaluation.figures import (
    Efficiency,
    Frontier,
    Overall,
    Ways,
    adaptive_saving,
    efficiency,
    frontier_of,
    hypervolume,
    overall,
    ways,
)
from alphatier_training.evaluation.headroom import Headroom, headroom
from alphatier_training.evaluation.intervals import difference, holm, interval, permutation, ratio
from alphatier_training.evaluation.samples import DATASET, Sample, means, same_questions


@dataclass(frozen=True)
class Comparison:
    """Two tiers on the same problems."""

    problems: int
    difference: Interval
    """Accuracy of the first minus that of the second, a share."""
    kind: Literal["paired", "unpaired"] = "paired"
    """Whether by problem, or from the two accuracies alone; then all that follows is at its default."""
    first_better: int = 0
    """Problems that the first solves more often."""
    second_better: int = 0
    p_value: float | None = None
    """Paired permutation test of the mean difference in accuracy, two-sided."""
    token_ratio: Interval | None = None
    """Tokens of the first over tokens of the second; None when the second has none."""
    token_p_value: float | None = None
    """Paired permutation test of the mean difference in tokens, two-sided."""
    adaptive_saving: Interval | None = None
    """How much more of the second's tokens the first saves on easier levels; None without numbered levels."""


@dataclass(frozen=True)
class Line:
    """One row of one data set: a tier, or what was done to one."""

    tier: str
    figures: Evaluation
    samples: Sequence[Sample] = ()
    """What the figures are of; empty where they were not found."""
    file: Path | None = None
    """Where the samples are."""


Lines = Mapping[str, Line]
"""Row to what was measured of it."""

Test = tuple[str, ...]
"""Two rows, and the level if it is of that level's problems only."""


@dataclass(frozen=True)
class Found:
    """Everything that was found about one family."""

    family: str
    reference: str
    datasets: Mapping[str, Lines]
    comparisons: Mapping[str, Mapping[Test, Comparison]]
    """Data set to paired tests, corrected for all of them together."""
    efficiency: Mapping[str, Mapping[str, Efficiency]]
    """Data set to the figures of each row with samples that put accuracy and tokens together."""
    hypervolume: Mapping[str, Interval | None]
    """Data set to what the family's tiers dominate; None without the reference's samples."""
    headroom: Mapping[str, Sequence[Headroom]]
    """Data set to what choosing a tier by problem could gain; empty without several samples a problem."""
    ways: Mapping[str, Mapping[str, Ways]]
    """Data set to each row's ways of working; only the built-in problems have known ones."""
    overall: Mapping[str, Overall]
    """Row to its figures over all data sets, relative to the reference's; empty for one data set."""


def find(
    family: str,
    reference: str,
    datasets: Mapping[str, Lines],
    tests: Mapping[str, Sequence[Test]],
    frontiers: Mapping[str, Frontier],
) -> Found:
    """All that the rows say together; rows that were not asked the same questions are not compared.

    Args:
        family: Its name.
        reference: The row that the others are compared with.
        datasets: The rows of each data set.
        tests: What is tested on each data set.
        frontiers: Published ones, see `read_frontiers`.
    """
    taken = {name: {row: one for row, one in lines.items() if one.samples} for name, lines in datasets.items()}
    together, areas, room, by_row = {}, {}, {}, defaultdict[str, dict[str, Sequence[Sample]]](dict)
    for name, lines in taken.items():
        samples = {row: line.samples for row, line in lines.items()}
        longest = max((line.figures.sampling.max_tokens for line in lines.values()), default=0)
        against, frontier = samples.get(reference, ()), frontier_of(name, frontiers)
        together[name] = {row: efficiency(own, against, longest, frontier) for row, own in samples.items()}
        tiers = {row: own for row, own in samples.items() if row == lines[row].tier}
        areas[name], room[name] = hypervolume(tiers, reference), headroom(tiers)
        for row, own in samples.items():
            by_row[row][name] = own
    everywhere = {row: own for row, own in by_row.items() if len(own) == len(taken) > 1}
    averages = {row: one for row, own in everywhere.items() if (one := overall(own, everywhere.get(reference, {})))}
    worked = {
        name: {row: ways(line.samples, way_of) for row, line in lines.items() if name == DATASET}
        for name, lines in taken.items()
    }
    return Found(family, reference, datasets, _comparisons(taken, tests), together, areas, room, worked, averages)


def compare(first: Sequence[Sample], second: Sequence[Sample]) -> Comparison:
    """Compare two tiers, problem by problem.

    Raises:
        ValueError: they were not measured on the same problems.
    """
    if not same_questions(first, second):
        raise ValueError("the two tiers have different problems; evaluate both with the same seed and problems")
    rights, tokens = ([means(one, field) for one in (first, second)] for field in ("correct", "tokens"))
    differences, longer = ([one - other for one, other in zip(*pair, strict=True)] for pair in (rights, tokens))
    responses = (Counter(one.problem for one in samples) for samples in (first, second))
    parts = lcm(*(count for counts in responses for count in counts.values()))  # of the means' common denominator
    return Comparison(
        problems=len(differences),
        difference=difference(differences, min(len(first), len(second))),
        first_better=sum(d > 0 for d in differences),
        second_better=sum(d < 0 for d in differences),
        p_value=permutation(differences, parts),
        token_ratio=ratio(*tokens) if min(tokens[1]) else None,
        token_p_value=permutation(longer, parts),
        adaptive_saving=adaptive_saving(first, second),
    )


def unpaired(first: Evaluation, second: Evaluation) -> Comparison:
    """Two tiers from their figures alone (Newcombe, Statistics in Medicine 17, 1998, method 10 unpaired)."""
    one, other = first.accuracy, second.accuracy
    centre = one.mean - other.mean
    low = centre - sqrt((one.mean - one.low) ** 2 + (other.high - other.mean) ** 2)
    high = centre + sqrt((one.high - one.mean) ** 2 + (other.mean - other.low) ** 2)
    problems = min(first.problems, second.problems)
    return Comparison(problems, interval(centre, max(-1.0, low), min(1.0, high)), "unpaired")


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Several paired comparisons with Holm's correction over all their tests, of accuracy and of tokens together."""
    p_values = iter(holm([float(p or 0) for one in comparisons for p in (one.p_value, one.token_p_value)]))
    return [replace(one, p_value=next(p_values), token_p_value=next(p_values)) for one in comparisons]


def _comparisons(
    datasets: Mapping[str, Lines], tests: Mapping[str, Sequence[Test]]
) -> dict[str, dict[Test, Comparison]]:
    found = {}
    for name, lines in datasets.items():
        for test in (test for test in tests.get(name, ()) if all(row in lines for row in test[:2])):
            sides = [[one for one in lines[row].samples if one.level in test[2:] or not test[2:]] for row in test[:2]]
            if all(sides) and same_questions(*sides):
                found[name, test] = compare(*sides)
    pairs = list(zip(found, corrected(list(found.values())), strict=True))
    return {name: {test: one for (where, test), one in pairs if where == name} for name in datasets}
