"""Means and ratios with 95 % intervals: Wilson's for a share, else a percentile bootstrap over problems.

The problem is the unit that was drawn, so several responses to one problem are averaged first.
What: numbers to intervals. What not: nothing of tiers or files.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
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


def wilson(right: int, total: int) -> Interval:
    """The share `right / total` with Wilson's interval (score interval without continuity correction)."""
    limits = stats.binomtest(right, total).proportion_ci(CONFIDENCE, method="wilson")
    return interval(right / total, limits.low, limits.high)


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
