"""How much more accurate one tier is than another, with an interval that stays honest when they hardly differ.

What: the difference of two accuracies measured on the same problems. One response a problem: Tango's score interval
for paired proportions (Statistics in Medicine 17, 1998), which leaves z^2 / (n + z^2) of doubt where no problem tells
the tiers apart, while a bootstrap would leave none. Several: Agresti and Min's, of `evaluation.intervals`.
Without samples: the two tiers' own intervals, squared and added (Newcombe, ibid., method 10 without correlation),
wider than a paired one. What not: no choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from scipy import stats
from scipy.optimize import brentq

from alphatier_models import Evaluation, Interval
from alphatier_training.evaluation.comparing import compare
from alphatier_training.evaluation.intervals import CONFIDENCE, difference, per_problem, ratio
from alphatier_training.evaluation.intervals import interval as bounded
from alphatier_training.evaluation.samples import Sample


@dataclass(frozen=True)
class Difference:
    """Accuracy of one tier minus that of another, a share."""

    interval: Interval
    """With its 95 % interval."""
    p_value: float | None
    """Exact paired permutation test of the mean difference, two-sided; None without samples."""
    kind: Literal["paired", "unpaired"]
    problems: int
    first_better: int = 0
    """Problems that the first tier solves more often; 0 without samples."""
    second_better: int = 0
    token_ratio: Interval | None = None
    """Tokens of the first tier over those of the second, paired by problem; None without samples."""


def same_questions(first: Sequence[Sample], second: Sequence[Sample]) -> bool:
    """Whether two tiers were measured on the same problems."""
    return _questions(first) == _questions(second)


def paired_difference(first: Sequence[Sample], second: Sequence[Sample]) -> Difference:
    """The difference of two tiers from their samples on the same problems; ValueError when they are not the same."""
    if not same_questions(first, second):
        raise ValueError(
            "the two tiers were asked different questions; evaluate both with the same seed and problems"
        )
    problems = sorted(_questions(first))
    right, tokens = (
        [_values(group, field, problems) for group in (first, second)] for field in ("correct", "tokens")
    )
    differences = [one - other for one, other in zip(*right, strict=True)]
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    once = len(problems) == len(first) == len(second)
    return Difference(
        interval=tango(better, worse, len(problems)) if once else difference(differences),
        p_value=compare(first, second).p_value,
        kind="paired",
        problems=len(problems),
        first_better=better,
        second_better=worse,
        token_ratio=ratio(*tokens),
    )


def unpaired_difference(first: Evaluation, second: Evaluation) -> Difference:
    """The difference of two tiers from their figures alone."""
    one, other = first.accuracy, second.accuracy
    centre = one.mean - other.mean
    low = centre - sqrt((one.mean - one.low) ** 2 + (other.high - other.mean) ** 2)
    high = centre + sqrt((one.high - one.mean) ** 2 + (other.mean - other.low) ** 2)
    problems = min(first.problems, second.problems)
    return Difference(bounded(centre, max(-1, low), min(1, high)), None, "unpaired", problems)


def tango(better: int, worse: int, problems: int) -> Interval:
    """(better - worse) / problems with Tango's 95 % score interval.

    `better` and `worse` count the problems that only the first, and only the second, of two tiers solves.
    """
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    centre = (better - worse) / problems

    def excess(difference: float) -> float:
        return _score(difference, better, worse, problems) - z

    def shortfall(difference: float) -> float:
        return _score(difference, better, worse, problems) + z

    edge = 1 - 1e-9
    low = brentq(excess, -edge, centre) if centre > -edge else -1.0
    high = brentq(shortfall, centre, edge) if centre < edge else 1.0
    return bounded(centre, low, high)


def _values(samples: Sequence[Sample], field: str, problems: Sequence[int]) -> list[float]:
    values = per_problem(samples, field)
    return [values[problem] for problem in problems]


def _questions(samples: Sequence[Sample]) -> dict[int, str]:
    return {sample.problem: sample.question for sample in samples}


def _score(difference: float, better: int, worse: int, n: int) -> float:
    """Tango's statistic: how many standard errors the data lie above `difference` (his b is `better`, c `worse`)."""
    centre = -better - worse + (2 * n - better + worse) * difference
    root = sqrt(max(0.0, centre**2 + 8 * n * worse * difference * (1 - difference)))
    only_second = (root - centre) / (4 * n)
    variance = n * (2 * only_second + difference * (1 - difference))
    above = better - worse - n * difference
    return above / sqrt(variance) if variance > 1e-12 else (0.0 if abs(above) < 1e-12 else above * 1e6)
