"""From samples to figures: means with 95 % intervals, percentiles, and the paired comparison of two tiers.

What: pure functions of lists of samples; accuracy of one sample a problem has Wilson's interval,
everything else a percentile bootstrap over problems (the problem is the unit that was drawn).
What not: no files. Figures are in family.json's own types.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from scipy import stats

from alphatier_models import Evaluation, Interval, LevelResult, SamplingSettings, TokenPercentiles
from alphatier_training.evaluation.samples import Plan, Sample

CONFIDENCE = 0.95
RESAMPLES = 2000
"""Bootstrap resamples."""


def evaluation(plan: Plan, samples: Sequence[Sample]) -> Evaluation:
    """The figures of one tier, as family.json keeps them."""
    tokens = [sample.tokens for sample in samples]
    p50, p90, p99 = (float(value) for value in np.percentile(tokens, [50, 90, 99]))
    return Evaluation(
        dataset=plan.dataset,
        sampling=SamplingSettings(
            temperature=plan.temperature, top_p=plan.top_p, max_tokens=plan.max_tokens, seed=plan.seed
        ),
        problems=plan.problems,
        samples_per_problem=plan.samples_per_problem,
        accuracy=accuracy(samples),
        tokens=mean_tokens(samples),
        token_percentiles=TokenPercentiles(p50=p50, p90=p90, p99=p99),
        truncation_rate=round(fmean(sample.truncated for sample in samples), 6),
        levels=tuple(_level(level, group) for level, group in sorted(by_level(samples).items())),
    )


def by_level(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The samples of each difficulty."""
    groups: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.level].append(sample)
    return dict(groups)


def accuracy(samples: Sequence[Sample]) -> Interval:
    """The share of right responses with its 95 % interval."""
    means = list(_per_problem(samples, "correct").values())
    if len(means) < len(samples):
        return _bootstrap(means)
    right = sum(sample.correct for sample in samples)
    limits = stats.binomtest(right, len(samples)).proportion_ci(CONFIDENCE, method="wilson")
    return _interval(right / len(samples), limits.low, limits.high)


def mean_tokens(samples: Sequence[Sample]) -> Interval:
    """Mean generated tokens a response with its 95 % interval."""
    return _bootstrap(list(_per_problem(samples, "tokens").values()))


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


def compare(first: Sequence[Sample], second: Sequence[Sample]) -> Comparison:
    """Compare the accuracy of two tiers, problem by problem.

    Raises:
        ValueError: they were not measured on the same problems.
    """
    one, other = _per_problem(first, "correct"), _per_problem(second, "correct")
    if one.keys() != other.keys():
        raise ValueError("the two tiers have different problems; evaluate both with the same seed and problems")
    differences = [one[problem] - other[problem] for problem in sorted(one)]
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    p_value = float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0
    return Comparison(len(differences), _bootstrap(differences), better, worse, p_value)


def spread(interval: Interval, scale: float = 1) -> str:
    """A mean with its 95 % interval."""
    mean, low, high = (scale * value for value in (interval.mean, interval.low, interval.high))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def _level(level: str, samples: Sequence[Sample]) -> LevelResult:
    return LevelResult(
        level=level,
        problems=len({sample.problem for sample in samples}),
        accuracy=accuracy(samples),
        tokens=mean_tokens(samples),
    )


def _per_problem(samples: Sequence[Sample], field: str) -> Mapping[int, float]:
    values: defaultdict[int, list[float]] = defaultdict(list)
    for sample in samples:
        values[sample.problem].append(float(getattr(sample, field)))
    return {problem: fmean(group) for problem, group in values.items()}


def _bootstrap(values: Sequence[float]) -> Interval:
    mean = fmean(values)
    if len(set(values)) == 1:
        return _interval(mean, mean, mean)
    result: Any = stats.bootstrap(
        (np.asarray(values),), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, method="percentile", rng=0
    )
    return _interval(mean, float(result.confidence_interval.low), float(result.confidence_interval.high))


def _interval(mean: float, low: float, high: float) -> Interval:
    mean = round(mean, 6)
    return Interval(mean=mean, low=round(min(low, mean), 6), high=round(max(high, mean), 6))
