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
from alphatier_training.evaluation.intervals import CONFIDENCE, RESAMPLES, interval, per_problem
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
    return Overall(_averages(tier, reference, "correct"), _averages(tier, reference, "tokens"))


def _averages(tier: Samples, reference: Samples, field: str) -> Averages:
    pairs = [_pairs(tier[name], reference[name], field) for name in sorted(tier)]
    means = np.array([pair.mean(axis=0) for pair in pairs])
    rng = np.random.default_rng(0)
    drawn = np.stack([_resampled(pair, rng) for pair in pairs], axis=1)
    return Averages(
        _figure(normalised_sum, means, drawn[drawn[:, :, 1].sum(axis=1) > 0]),
        _figure(mean_of_ratios, means, drawn[(drawn[:, :, 1] > 0).all(axis=1)]),
    )


def _pairs(tier: Sequence[Sample], reference: Sequence[Sample], field: str) -> Any:
    """An array of problems by (tier, reference)."""
    one, other = per_problem(tier, field), per_problem(reference, field)
    if one.keys() != other.keys():
        raise ValueError("the two tiers have different problems; evaluate both with the same seed and problems")
    return np.array([[one[problem], other[problem]] for problem in sorted(one)])


def _resampled(pairs: Any, rng: np.random.Generator) -> Any:
    """Means of resamples of one data set's problems, resamples by (tier, reference)."""
    return np.array([pairs[rng.integers(0, len(pairs), len(pairs))].mean(axis=0) for _ in range(RESAMPLES)])


def _figure(average: Any, means: Any, drawn: Any) -> Interval | None:
    """The average with its interval, over the resamples in which it is defined; None where it is not."""
    if not len(drawn):
        return None
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(average(drawn[:, :, 0], drawn[:, :, 1]), [tail, 100 - tail])
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(average(means[:, 0], means[:, 1]))
    return interval(value, float(low), float(high)) if np.isfinite(value) else None
