"""Two tiers on the same problems: paired tests of accuracy and of tokens, and Holm's correction for several.

What: pure functions of lists of samples. Accuracy: the exact sign test over the problems on which they differ,
McNemar's exact test for one sample a problem (doi:10.1007/BF02295996). Tokens: the ratio with a paired bootstrap
over problems, and a paired permutation test of the mean difference.
What not: no files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from alphatier_models import Interval
from alphatier_training.evaluation.intervals import mean, per_problem, ratio
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
    """Exact sign test over the problems on which they differ (McNemar's for one sample a problem), two-sided."""
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
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    tokens = [[means[problem] for problem in problems] for means in _tokens(first, second)]
    return Comparison(
        problems=len(problems),
        difference=mean(differences),
        first_better=better,
        second_better=worse,
        p_value=float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0,
        token_ratio=ratio(*tokens),
        token_p_value=_permuted(*tokens),
    )


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Several comparisons with Holm's correction, over accuracy and over tokens."""
    accuracy = holm([comparison.p_value for comparison in comparisons])
    tokens = holm([comparison.token_p_value for comparison in comparisons])
    return [
        replace(comparison, p_value=p, token_p_value=token_p)
        for comparison, p, token_p in zip(comparisons, accuracy, tokens, strict=True)
    ]


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
