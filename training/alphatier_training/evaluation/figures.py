"""From samples to the figures of one tier: accuracy, tokens, percentiles, levels, budgets.

What: pure functions of lists of samples, in family.json's own types. Accuracy with k samples is pass@1, the mean over
problems of the share that is right.
What not: no files; pairs of tiers are in `comparing`, several data sets in `averages`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from alphatier_models import BudgetResult, Evaluation, Interval, LevelResult, SamplingSettings, TokenPercentiles
from alphatier_training.evaluation.intervals import mean, per_problem, ratio, share
from alphatier_training.evaluation.samples import Plan, Sample


def evaluation(plan: Plan, samples: Sequence[Sample], budgets: Sequence[int] = ()) -> Evaluation:
    """The figures of one tier, as family.json keeps them.

    Args:
        plan: How the samples were taken.
        samples: All of them.
        budgets: Numbers of tokens at which responses are cut off, for accuracy at fixed budgets.
    """
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
        truncation_rate=truncation_rate(samples),
        levels=tuple(_level(level, group) for level, group in sorted(by_level(samples).items())),
        tokens_correct=tokens_where(samples, correct=True),
        tokens_wrong=tokens_where(samples, correct=False),
        budgets=tuple(at_budget(samples, budget) for budget in sorted(set(budgets))),
        problems_sha256=plan.problems_sha256 or None,
        prompt=None if plan.prompt == "{question}" else plan.prompt,
    )


def by_level(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The samples of each difficulty."""
    groups: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.level].append(sample)
    return dict(groups)


def accuracy(samples: Sequence[Sample]) -> Interval:
    """The share of right responses with its 95 % interval."""
    return share(list(per_problem(samples, "correct").values()), len(samples))


def mean_tokens(samples: Sequence[Sample]) -> Interval:
    """Mean generated tokens a response with its 95 % interval."""
    return mean(list(per_problem(samples, "tokens").values()))


def truncation_rate(samples: Sequence[Sample]) -> float:
    """The share of responses that were cut off."""
    return round(fmean(sample.truncated for sample in samples), 6)


def tokens_where(samples: Sequence[Sample], *, correct: bool) -> Interval | None:
    """Mean tokens of the right, or of the wrong, responses, over problems that have one; None when there are none."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for sample in samples:
        if sample.correct == correct:
            groups[sample.problem].append(sample.tokens)
    return ratio([sum(group) for group in groups.values()], [len(group) for group in groups.values()])


def cut_off(samples: Sequence[Sample], budget: int) -> list[Sample]:
    """What the samples would be at `max_tokens=budget`: a generation that is cut off is a prefix of the longer one.

    >>> cut = cut_off([Sample(0, 0, "", "1+1", "2", "", tokens=40, truncated=False, correct=True)], 32)[0]
    >>> cut.tokens, cut.truncated, cut.correct
    (32, True, False)
    """
    return [
        replace(sample, tokens=budget, truncated=True, correct=False) if sample.tokens > budget else sample
        for sample in samples
    ]


def at_budget(samples: Sequence[Sample], budget: int) -> BudgetResult:
    """The figures of samples that are cut off at `budget` tokens."""
    cut = cut_off(samples, budget)
    return BudgetResult(
        max_tokens=budget, accuracy=accuracy(cut), tokens=mean_tokens(cut), truncation_rate=truncation_rate(cut)
    )


def _level(level: str, samples: Sequence[Sample]) -> LevelResult:
    return LevelResult(
        level=level,
        problems=len({sample.problem for sample in samples}),
        accuracy=accuracy(samples),
        tokens=mean_tokens(samples),
    )
