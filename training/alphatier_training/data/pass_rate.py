"""Which problems the base solves often enough, and not always: pure functions over graded responses.

A problem that the base never solves, or always solves at the same length, gives no gradient; the paper's own problems
are not filtered (arXiv 2502.04463), which is the recipe's default. What not: no sampling; `evaluation.sampling` does.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from alphatier_training.data.problem import Problem
from alphatier_training.errors import DataError
from alphatier_training.recipe.problems import PassRate


class Graded(Protocol):
    """A graded response, such as `evaluation.samples.Sample`."""

    @property
    def problem(self) -> int:
        """The problem's number, from 0."""

    @property
    def correct(self) -> bool:
        """Whether it is right; a truncated one is not."""


def pass_rates(samples: Iterable[Graded], problems: int) -> list[float]:
    """The share of right responses of each of `problems` problems, in their order.

    Raises:
        DataError: a problem has no response, so that its rate is unknown.
    """
    asked: Counter[int] = Counter()
    right: Counter[int] = Counter()
    for sample in samples:
        asked[sample.problem] += 1
        right[sample.problem] += sample.correct
    missing = [number for number in range(problems) if not asked[number]]
    if missing:
        raise DataError(
            f"{len(missing)} of {problems} problems have no response of the base, the first is number {missing[0]}; "
            "take the missing samples before filtering by pass rate."
        )
    return [right[number] / asked[number] for number in range(problems)]


def filter_by_pass_rate(problems: Sequence[Problem], rates: Sequence[float], plan: PassRate) -> list[Problem]:
    """The problems whose rate is within the plan's bounds, both included, in their order.

    Raises:
        ValueError: there is not one rate for each problem.
    """
    pairs = zip(problems, rates, strict=True)
    return [problem for problem, rate in pairs if plan.minimum <= rate <= plan.maximum]
