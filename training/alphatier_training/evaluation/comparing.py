"""Two tiers on the same problems: paired tests of accuracy and of tokens, and Holm's correction for several.

What: pure functions of lists of samples. Paired permutation tests of problems' means: of accuracy (which is McNemar's
test for one sample a problem, doi:10.1007/BF02295996) and of tokens. Without samples: the two tiers' own intervals,
squared and added, wider than a paired one.
What not: no files.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm, sqrt
from typing import Any, Literal

import numpy as np
from scipy import stats

from alphatier_models import Evaluation, Interval
from alphatier_training.evaluation.intervals import difference, interval, per_problem, ratio
from alphatier_training.evaluation.samples import Sample

MOST_SUMS = 1_000_000
"""Sums of differences that are counted one by one."""

PERMUTATIONS = 9999
"""Of random signs where there are more; the least p-value then is 2 / (PERMUTATIONS + 1)."""


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


def same_questions(first: Sequence[Sample], second: Sequence[Sample]) -> bool:
    """Whether two tiers were measured on the same problems."""
    one, other = ({sample.problem: sample.question for sample in samples} for samples in (first, second))
    return one == other


def compare(first: Sequence[Sample], second: Sequence[Sample]) -> Comparison:
    """Compare two tiers, problem by problem.

    Raises:
        ValueError: they were not measured on the same problems.
    """
    if not same_questions(first, second):
        raise ValueError("the two tiers have different problems; evaluate both with the same seed and problems")
    rights, tokens = (
        [list(per_problem(ordered, field).values()) for ordered in map(_ordered, (first, second))]
        for field in ("correct", "tokens")
    )
    differences, longer = ([one - other for one, other in zip(*pair, strict=True)] for pair in (rights, tokens))
    parts = _finest(first, second)
    return Comparison(
        problems=len(differences),
        difference=difference(differences, min(len(first), len(second))),
        first_better=sum(d > 0 for d in differences),
        second_better=sum(d < 0 for d in differences),
        p_value=permutation(differences, parts),
        token_ratio=ratio(*tokens),
        token_p_value=permutation(longer, parts),
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
    """Several comparisons with Holm's correction over all their tests, of accuracy and of tokens together."""
    found = [p for one in comparisons for p in (one.p_value, one.token_p_value) if p is not None]
    p_values = iter(holm(found))
    return [
        replace(one, p_value=next(p_values), token_p_value=next(p_values)) if one.kind == "paired" else one
        for one in comparisons
    ]


def permutation(differences: Sequence[float], parts: int) -> float:
    """How often the mean of `differences` is as far from 0 when each one's sign is a coin's, two-sided.

    Exact, unless the differences are too many and too large to count all sums; then of random signs.

    Args:
        differences: One a problem, multiples of 1 / `parts`.
        parts: The common denominator; the sums are counted in such parts.

    >>> permutation([1, 1, 1, -1], parts=1), permutation([0.5, 1.0], parts=2)
    (0.625, 0.5)
    """
    signed = [round(value * parts) for value in differences]
    sizes = [abs(value) for value in signed if value]
    if sum(sizes) > MOST_SUMS:
        return _of_random_signs(differences)
    chances = np.zeros(sum(sizes) + 1)  # of the sum of those with a plus
    chances[0] = 1.0
    for size in sizes:
        chances[size:] = (chances[size:] + chances[:-size]) / 2
        chances[:size] /= 2
    sums = 2 * np.arange(len(chances)) - sum(sizes)
    return float(min(1.0, chances[abs(sums) >= abs(sum(signed))].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down method (Scand. J. Statist. 6, 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _ordered(samples: Sequence[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda sample: sample.problem)


def _finest(*groups: Sequence[Sample]) -> int:
    """The common denominator of all problems' shares."""
    return lcm(*(count for samples in groups for count in Counter(one.problem for one in samples).values()))


def _of_random_signs(differences: Sequence[float]) -> float:
    result: Any = stats.permutation_test(
        (np.asarray(differences), np.zeros(len(differences))),
        lambda one, other, axis: (one - other).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=1000,
        rng=0,
    )
    return float(result.pvalue)
