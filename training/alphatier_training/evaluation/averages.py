"""One figure over several data sets, relative to a reference tier, both ways that are in use, each named.

    normalised_sum  = sum of the tier's means over data sets / sum of the reference's   (the paper's figure)
    mean_of_ratios  = mean over data sets of the tier's mean / the reference's          (the authors' project page)

The first is led by the data set with the longest responses, the second counts each the same; for the paper's 7B model
at alpha 0.1 they are 77.1 % and 67.5 % of the tokens. What: pure functions. What not: no files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphatier_models import Interval
from alphatier_training.evaluation.comparing import same_questions
from alphatier_training.evaluation.intervals import limits, per_problem, resampled
from alphatier_training.evaluation.samples import Sample


@dataclass(frozen=True)
class Averages:
    """One figure of a tier relative to the reference's, 1 for the reference itself; None where that is 0."""

    normalised_sum: Interval | None
    mean_of_ratios: Interval | None


@dataclass(frozen=True)
class Overall:
    """A tier over several data sets."""

    accuracy: Averages
    tokens: Averages


def normalised_sum(values: Any, references: Any) -> Any:
    """Sum over data sets (the last axis) over the reference's sum.

    >>> round(float(normalised_sum([812.6, 2823.6, 10893.3], [1626.1, 4044.4, 13173.0])), 3)
    0.771
    """
    return np.sum(values, axis=-1) / np.sum(references, axis=-1)


def mean_of_ratios(values: Any, references: Any) -> Any:
    """Mean over data sets (the last axis) of each one's ratio to the reference.

    >>> round(float(mean_of_ratios([812.6, 2823.6, 10893.3], [1626.1, 4044.4, 13173.0])), 3)
    0.675
    """
    return np.mean(np.asarray(values) / np.asarray(references), axis=-1)


Samples = Mapping[str, Sequence[Sample]]
"""Data set to samples."""


def overall(tier: Samples, reference: Samples) -> Overall:
    """A tier relative to the reference, over the data sets of both; problems are resampled within each data set.

    Raises:
        ValueError: the two were not measured on the same data sets and problems.
    """
    if tier.keys() != reference.keys():
        raise ValueError("the two tiers were measured on different data sets; evaluate both on the same ones")
    if not all(same_questions(tier[name], reference[name]) for name in tier):
        raise ValueError("the two tiers have different problems; evaluate both with the same seed and problems")
    return Overall(_averages(tier, reference, "correct", (0, 1)), _averages(tier, reference, "tokens", ()))


def _averages(tier: Samples, reference: Samples, field: str, shares: tuple[int, ...]) -> Averages:
    rng, same = np.random.default_rng(0), tier is reference
    found = [[per_problem(group[name], field) for group in (tier, reference)] for name in sorted(tier)]
    pairs = [[[means[problem] for problem in sorted(means)] for means in pair] for pair in found]
    means = np.array([np.mean(pair, axis=1) for pair in pairs])
    drawn = np.stack([resampled(pair, () if same else shares, rng) for pair in pairs], axis=-1)
    fewest = min(len(pair[0]) for pair in pairs)
    with np.errstate(divide="ignore", invalid="ignore"):
        both = (limits(float(of(*means.T)), of(*drawn), fewest) for of in (normalised_sum, mean_of_ratios))
        return Averages(*both)
