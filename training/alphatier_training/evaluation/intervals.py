"""Means and ratios with 95 % intervals: Wilson's for a share, else a percentile bootstrap over problems.

The problem is the unit that was drawn, so several responses to one problem are averaged first.
What: numbers to intervals. What not: nothing of tiers or files.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from statistics import fmean, pvariance
from typing import Any

import numpy as np
from scipy import stats

from alphatier_models import Interval
from alphatier_training.evaluation.samples import Sample

CONFIDENCE = 0.95

RESAMPLES = 2000
"""Bootstrap resamples."""

BATCH_VALUES = 1 << 24
"""Values drawn at once, at most: memory, no part of the result."""


def share(means: Sequence[float], responses: int) -> Interval:
    """The share of right responses, from one mean a problem, with Wilson's interval for clusters.

    Wilson's interval of as many independent responses as these are worth (Korn and Graubard, Survey Methodology 24,
    1998; Franco et al., J. Survey Statistics and Methodology 7, 2019): p (1 - p) / variance of the mean of problems,
    no fewer than the problems and no more than the responses. One response a problem is Wilson's own interval; where
    all are right, each problem counts once, so some doubt stays.

    >>> share([1.0] * 30, responses=300)
    Interval(mean=1.0, low=0.886487, high=1.0)
    """
    problems, value = len(means), fmean(means)
    alone, between = value * (1 - value), pvariance(means)
    worth = min(max(problems * alone / between, problems), responses) if between else responses if alone else problems
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    centre = (value + z**2 / (2 * worth)) / (1 + z**2 / worth)
    half = z / (1 + z**2 / worth) * sqrt(value * (1 - value) / worth + (z / (2 * worth)) ** 2)
    return interval(value, max(0.0, centre - half), min(1.0, centre + half))


def difference(values: Sequence[float]) -> Interval:
    """The mean of one difference of shares a problem, each from -1 to 1, with Agresti and Min's interval.

    Wald's, with two problems more: one without a difference, one that is half 1 and half -1 (Statistics in Medicine
    24, 2005: half a problem more in each cell of the paired table). So some doubt stays where no problem differs.
    """
    problems = len(values) + 2
    centre = sum(values) / problems
    variance = (sum(value**2 for value in values) + 1) / problems - centre**2
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * sqrt(variance / problems)
    return interval(fmean(values), max(-1.0, centre - half), min(1.0, centre + half))


def mean(values: Sequence[float]) -> Interval:
    """The mean of one value a problem."""
    if len(set(values)) == 1:
        return interval(values[0], values[0], values[0])
    return _bootstrap((values,), np.mean, fmean(values))


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Interval | None:
    """The sum of the first over the sum of the second, resampled together; None when the second is nothing."""
    if min(denominators, default=0) <= 0:
        return None
    value = sum(numerators) / sum(denominators)
    if len(numerators) == 1:
        return interval(value, value, value)
    return _bootstrap((numerators, denominators), lambda one, other, axis: one.sum(axis) / other.sum(axis), value)


def of_means(columns: Sequence[Sequence[float]], statistic: Callable[..., Any]) -> Interval | None:
    """A function of means over problems, with a bootstrap that resamples the problems of all columns together.

    Args:
        columns: Each one value a problem.
        statistic: From the columns' means, numbers or arrays, to the figure.

    Returns:
        None where the figure, or more than a few resamples' (such as a division by 0), is no number.
    """
    values, problems = np.array(columns, dtype=float).T, len(columns[0])
    counts = np.random.default_rng(0).multinomial(problems, [1 / problems] * problems, size=RESAMPLES)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(*values.mean(axis=0)))
        drawn = np.asarray(statistic(*(counts @ values / problems).T))
    drawn = drawn[np.isfinite(drawn)]
    tail = 50 * (1 - CONFIDENCE)
    if not np.isfinite(value) or len(drawn) < CONFIDENCE * RESAMPLES:
        return None
    return interval(value, *(float(limit) for limit in np.percentile(drawn, [tail, 100 - tail])))


def interval(value: float, low: float, high: float) -> Interval:
    """An interval to six decimals that holds its mean."""
    value = round(value, 6)
    return Interval(mean=value, low=round(min(low, value), 6), high=round(max(high, value), 6))


def per_problem(samples: Sequence[Sample], field: str) -> Mapping[int, float]:
    """The mean of a field over each problem's responses."""
    values: defaultdict[int, list[float]] = defaultdict(list)
    for sample in samples:
        values[sample.problem].append(float(getattr(sample, field)))
    return {problem: fmean(group) for problem, group in values.items()}


def spread(figure: Interval, scale: float = 1) -> str:
    """A mean with its 95 % interval."""
    value, low, high = (scale * number for number in (figure.mean, figure.low, figure.high))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def _bootstrap(data: tuple[Sequence[float], ...], statistic: Any, value: float) -> Interval:
    result: Any = stats.bootstrap(
        tuple(np.asarray(values, dtype=float) for values in data),
        statistic,
        paired=len(data) > 1,
        vectorized=True,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH_VALUES // len(data[0])),
        method="percentile",
        rng=0,
    )
    return interval(value, float(result.confidence_interval.low), float(result.confidence_interval.high))
