"""Numbers of problems to means, differences and ratios with 95 % intervals, and to p-values.

    share         Wilson's, of as many independent responses as these are worth
    difference    Tango's, likewise
    mean, ratio   Student's on the scale of logarithms, as lengths are skewed
    of_means      of any function of means: a bootstrap over problems
    crossed       of a mean over seeds and problems
    permutation   of a paired test; holm: of several

The problem is the unit that was drawn, so several responses to one problem are averaged first. All right leaves doubt
in each. What not: nothing of tiers or files.
"""

from collections.abc import Callable, Collection, Sequence
from math import exp, inf, sqrt
from statistics import fmean, pvariance, stdev
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from alphatier_models import Interval
from alphatier_models.intervals import NORMAL as _NORMAL
from alphatier_models.intervals import interval as interval
from alphatier_models.intervals import wilson

CONFIDENCE = 0.95

RESAMPLES = 2000
"""Bootstrap resamples."""

MOST_SUMS = 1_000_000
"""Sums of differences that are counted one by one in a permutation test."""

PERMUTATIONS = 9999
"""Of random signs where there are more; the least p-value then is 2 / (PERMUTATIONS + 1)."""


def share(means: Sequence[float], responses: int) -> Interval:
    """The share of right responses, from one mean a problem.

    Wilson's interval of as many independent responses as these are worth (Korn and Graubard, Survey Methodology 24,
    1998; Franco et al., J. Survey Statistics and Methodology 7, 2019): p (1 - p) / variance of the mean of problems,
    no fewer than the problems and no more than the responses. One response a problem is Wilson's own interval; where
    all are right, each problem counts once, so some doubt stays.

    >>> share([1.0] * 30, responses=300)
    Interval(mean=1.0, low=0.886487, high=1.0)
    """
    value = fmean(means)
    return wilson(value, _worth(value * (1 - value), means, responses))


def difference(values: Sequence[float], responses: int) -> Interval:
    """The mean of one difference of shares a problem, each from -1 to 1.

    Tango's interval (Statistics in Medicine 17, 1998) of as many pairs of responses as these are worth, in the sense
    of `share`. One response a problem is Tango's own interval, which leaves z² / (n + z²) of doubt where no problem
    tells the two apart.
    """
    better, worse = (fmean(max(0.0, sign * value) for value in values) for sign in (1, -1))
    pairs = _worth(better + worse - (better - worse) ** 2, values, responses)
    return interval(fmean(values), *_tango(better * pairs, worse * pairs, pairs))


def _tango(better: float, worse: float, pairs: float) -> tuple[float, float]:
    """Of (better - worse) / pairs, each the number of pairs that only one of two gets right (Tango's b and c)."""
    centre, edge = (better - worse) / pairs, 1 - 1e-9

    def score(difference: float) -> float:
        """How many standard errors the pairs lie above `difference`."""
        middle = -better - worse + (2 * pairs - better + worse) * difference
        root = sqrt(max(0.0, middle**2 + 8 * pairs * worse * difference * (1 - difference)))
        variance = (root - middle) / 2 + pairs * difference * (1 - difference)
        above = better - worse - pairs * difference
        return float(above / sqrt(variance)) if variance > 1e-12 else (0.0 if abs(above) < 1e-12 else above * 1e6)

    low = brentq(lambda at: score(at) - _NORMAL, -edge, centre) if centre > -edge else -1.0
    high = brentq(lambda at: score(at) + _NORMAL, centre, edge) if centre < edge else 1.0
    return low, high


def mean(values: Sequence[float]) -> Interval:
    """The mean of one value a problem, none negative; see `ratio`."""
    return ratio(values, [1.0] * len(values))


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """The sum of the first over the sum of the second, a pair a problem, each of the second above 0.

    Student's interval of the ratio's logarithm, its error by linearisation (Cochran, Sampling Techniques, chapter 6).
    A single problem tells nothing of its spread, so its interval has no width.
    """
    problems, value = len(numerators), sum(numerators) / sum(denominators)
    if problems == 1 or not value:
        return interval(value, value, value)
    rest = [one - value * other for one, other in zip(numerators, denominators, strict=True)]
    half = _student(problems - 1) * stdev(rest) / sqrt(problems) / fmean(numerators)
    return interval(value, value * exp(-half), value * exp(half))


def of_means(
    columns: Sequence[Sequence[float]], statistic: Callable[..., Any], shares: Collection[int] = ()
) -> Interval | None:
    """A function of means over problems, with a bootstrap that resamples the problems of all columns together.

    Args:
        columns: Each one value a problem.
        statistic: From the columns' means, numbers or arrays, to the figure.
        shares: The columns that are shares of right answers; see `resampled`.

    Returns:
        None where the figure, or more than a few resamples' (such as a division by 0), is no number.
    """
    drawn = resampled(columns, shares, np.random.default_rng(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(*np.mean(columns, axis=1)))
        return limits(value, np.asarray(statistic(*drawn)), len(columns[0]))


def resampled(columns: Sequence[Sequence[float]], shares: Collection[int], rng: np.random.Generator) -> Any:
    """Means of resampled problems [columns, resamples].

    With shares, two problems more are resampled that know nothing: right or wrong by a coin of each share, the other
    columns at their means (Agresti and Min, Statistics in Medicine 24, 2005: half a problem more in each cell of the
    paired table). So some doubt stays where all answers are right.
    """
    values, problems = np.array(columns, dtype=float), len(columns[0])
    more = 2 if shares else 0
    unknown = rng.binomial(problems + more, more / (problems + more), RESAMPLES)
    counts = rng.multinomial(problems + more - unknown, [1 / problems] * problems)
    sums = values @ counts.T + np.outer(values.mean(axis=1), unknown)
    for column in shares:
        sums[column] += rng.binomial(unknown, 0.5) - values[column].mean() * unknown
    return sums / (problems + more)


def limits(value: float, drawn: Any, problems: int) -> Interval | None:
    """The interval of a bootstrap; None where the value, or more than a few of the drawn ones, is no number."""
    finite = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(finite) < CONFIDENCE * len(drawn):
        return None
    return percentiles(value, finite, problems)


def percentiles(value: float, drawn: Any, problems: int) -> Interval:
    """The interval of a bootstrap, all numbers.

    Percentiles widened for few problems (Hesterberg, The American Statistician 69, 2015, section 5.3).
    """
    wide = sqrt(problems / (problems - 1)) * _student(problems - 1) if problems > 1 else _NORMAL
    low, high = np.quantile(drawn, stats.norm.cdf([-wide, wide]))
    return interval(float(value), float(low), float(high))


class Crossed(NamedTuple):
    """The mean of a grid [seeds, problems], both drawn at random."""

    mean: float
    error: float
    """Its standard error."""
    freedom: float
    """Degrees of freedom of the error."""

    def interval(self) -> Interval:
        """By Student's distribution."""
        half = _student(self.freedom) * self.error
        return interval(self.mean, self.mean - half, self.mean + half)

    def share(self, problems: int) -> Interval:
        """Wilson's interval of a share, of as many responses as make this error; of all problems where it is 0."""
        alone = self.mean * (1 - self.mean)
        return wilson(self.mean, alone / self.error**2 if self.error else problems, _student(self.freedom))

    def p_value(self) -> float:
        """Of a mean of 0, two-sided."""
        if not self.error:
            return float(not self.mean)
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.freedom))


def crossed(grid: Any) -> Crossed:
    """The mean of a grid [seeds, problems] with its error.

    Seeds and problems are crossed random effects: the variances of their means are added, less that of what is
    neither, which is in both (Cameron, Gelbach and Miller, J. Business and Economic Statistics 29, 2011), but never
    below either. Degrees of freedom by Satterthwaite. A single seed adds nothing.

    >>> crossed([[0.0, 1.0], [1.0, 2.0]])  # .5 / 2 each and no rest: the root of .5, with .5² / (.25² + .25²) = 2
    Crossed(mean=1.0, error=0.7071067811865476, freedom=2.0)
    """
    cells = np.asarray(grid, dtype=float)
    means = [cells.mean(axis=axis, keepdims=True) for axis in (1, 0)]
    free = [one.size - 1 for one in means]
    parts = [float(one.var(ddof=1)) / one.size if one.size > 1 else 0.0 for one in means]
    rest, between = cells - means[0] - means[1] + cells.mean(), free[0] * free[1]
    neither = float((rest**2).sum()) / between / cells.size if between else 0.0
    variance = max(sum(parts) - neither, *parts)
    terms = zip((*parts, neither), (*free, between), strict=True)
    square = sum(part**2 / freedom for part, freedom in terms if freedom)
    return Crossed(float(cells.mean()), sqrt(variance), variance**2 / square if variance else inf)


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
        how = {
            "permutation_type": "samples",
            "vectorized": True,
            "n_resamples": PERMUTATIONS,
            "batch": 1000,
            "rng": 0,
        }
        return float(stats.permutation_test((differences,), np.mean, **how).pvalue)
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
    found = np.array(p_values, dtype=float)
    order = np.argsort(found)
    found[order] = np.maximum.accumulate(np.minimum(1.0, np.arange(len(found), 0, -1) * found[order]))
    return [float(value) for value in found]


def spread(figure: Interval | None, scale: float = 1, digits: int = 1) -> str:
    """A mean with its 95 % interval; a dash where there is none."""
    if figure is None:
        return "-"
    value, low, high = (f"{scale * number:.{digits}f}" for number in (figure.mean, figure.low, figure.high))
    return f"{value} ({low} to {high})"


def _worth(alone: float, means: Sequence[float], responses: int) -> float:
    """How many independent responses the means of problems are worth, `alone` being the variance of one."""
    problems, between = len(means), pvariance(means)
    if between:
        return min(max(problems * alone / between, problems), responses)
    return responses if alone else problems


def _student(freedom: float) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
