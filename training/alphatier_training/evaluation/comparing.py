"""Two tiers on the same problems: paired tests of accuracy and of tokens, and Holm's correction for several.

What: pure functions of lists of samples. Paired permutation tests of problems' means: exact for accuracy (which is
McNemar's test for one sample a problem, doi:10.1007/BF02295996), by random signs for tokens. The ratio of tokens has
a paired bootstrap over problems.
What not: no files.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import Any

import numpy as np
from scipy import stats

from alphatier_models import Interval
from alphatier_training.evaluation.intervals import difference, per_problem, ratio
from alphatier_training.evaluation.samples import Sample

PERMUTATIONS = 9999
"""Of the signs of the differences in tokens; the least p-value is 2 / (PERMUTATIONS + 1)."""


@dataclass(frozen=True)
class Comparison:
    """Two tiers on the same problems."""

    problems: int
    difference: Interval
    """Accuracy of the first minus that of the second, a share."""
    first_better: int
    """Problems that the first solves more often."""
    second_better: int
    p_value: float
    """Exact paired permutation test of the mean difference in accuracy, two-sided."""
    token_ratio: Interval | None
    """Tokens of the first over tokens of the second; None when the second has none."""
    token_p_value: float
    """Paired permutation test of the mean difference in tokens, two-sided."""


def compare(first: Sequence[Sample], second: Sequence[Sample]) -> Comparison:
    """Compare two tiers, problem by problem.

    Raises:
        ValueError: they were not measured on the same problems.
    """
    one, other = per_problem(first, "correct"), per_problem(second, "correct")
    if one.keys() != other.keys():
        raise ValueError("the two tiers have different problems; evaluate both with the same seed and problems")
    problems = sorted(one)
    differences = [one[problem] - other[problem] for problem in problems]
    tokens = [[means[problem] for problem in problems] for means in _tokens(first, second)]
    return Comparison(
        problems=len(problems),
        difference=difference(differences),
        first_better=sum(d > 0 for d in differences),
        second_better=sum(d < 0 for d in differences),
        p_value=exact_permutation(differences, _finest(first, second)),
        token_ratio=ratio(*tokens),
        token_p_value=_permuted(*tokens),
    )


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Several comparisons with Holm's correction over all their tests, of accuracy and of tokens together."""
    p_values = holm([p for comparison in comparisons for p in (comparison.p_value, comparison.token_p_value)])
    return [
        replace(comparison, p_value=p, token_p_value=token_p)
        for comparison, p, token_p in zip(comparisons, p_values[::2], p_values[1::2], strict=True)
    ]


def exact_permutation(differences: Sequence[float], parts: int) -> float:
    """How often the mean of `differences` is as far from 0 when each one's sign is a coin's, two-sided.

    Args:
        differences: One a problem, multiples of 1 / `parts`.
        parts: The common denominator; the sums are counted in such parts.

    >>> exact_permutation([1, 1, 1, -1], parts=1), exact_permutation([0.5, 1.0], parts=2)
    (0.625, 0.5)
    """
    signed = [round(value * parts) for value in differences]
    sizes = [abs(value) for value in signed if value]
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
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def _finest(*groups: Sequence[Sample]) -> int:
    """The common denominator of all problems' shares."""
    return lcm(*(count for samples in groups for count in Counter(one.problem for one in samples).values()))


def _tokens(first: Sequence[Sample], second: Sequence[Sample]) -> tuple[Any, Any]:
    return per_problem(first, "tokens"), per_problem(second, "tokens")


def _permuted(first: Sequence[float], second: Sequence[float]) -> float:
    if first == second:
        return 1.0
    result: Any = stats.permutation_test(
        (np.asarray(first), np.asarray(second)),
        lambda one, other, axis: (one - other).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=1000,
        rng=0,
    )
    return float(result.pvalue)
