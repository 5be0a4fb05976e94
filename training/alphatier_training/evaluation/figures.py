"""Figures of one tier, of a family, and of several data sets, all computed from stored samples.

    accuracy          pass@1: the mean over problems of the share that is right
    AES               1 dL + 3 dA, or 1 dL - 5 |dA| where accuracy falls; dL = (L0 - L) / L0, dA = (A - A0) / A0
                      against the reference (O1-Pruner, arXiv 2501.12570; other papers have 1, 5 and 10)
    tokens a right    mean tokens / accuracy (cost of pass in tokens, arXiv 2504.13359)
    adaptation        mean tokens at the hardest level / at the easiest (ALP, arXiv 2506.05256)
    budget area       the mean of accuracy over all budgets up to `max_tokens`, where a longer response is wrong
    adaptive saving   share of the other's tokens saved on the easier half of the levels, less that on the harder half
    REG               the sum over those budgets of a published frontier's accuracy less the tier's (arXiv 2506.07104)
    hypervolume       the share of the square (accuracy, 1 - tokens / the reference's) that the tiers dominate
    ways              the share of responses that are worked in each known way, by level
    normalised_sum    sum of the tier's means over data sets / sum of the reference's (the paper's figure)
    mean_of_ratios    mean over data sets of the tier's mean / the reference's (the authors' project page)

A = accuracy, L = mean tokens, of problems' means. Intervals resample problems, of all tiers together. Of the last
two the first is led by the data set with the longest responses, the second counts each the same; for the paper's 7B
model at alpha 0.1 they are 77.1 % and 67.5 % of the tokens.
What: pure functions, in family.json's own types. What not: tests of two tiers are in `comparing`.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from math import log
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from alphatier_models import BudgetResult, Evaluation, Interval, LevelResult, SamplingSettings, TokenPercentiles
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.intervals import limits, mean, of_means, ratio, resampled, share
from alphatier_training.evaluation.samples import Plan, Sample, means, same_questions

AES_CONSTANTS = (1.0, 3.0, 5.0)
"""Weights of tokens saved, accuracy gained and accuracy lost."""

Samples = Mapping[str, Sequence[Sample]]
"""Samples by tier, or by data set."""

Ways = Mapping[str, Mapping[str, Interval]]
"""Shares of responses by way of working and level."""

OTHER_WAY = "other"
"""What no known way of working fits."""


def evaluation(plan: Plan, samples: Sequence[Sample], budgets: Sequence[int] = ()) -> Evaluation:
    """The figures of one tier, as family.json keeps them.

    Args:
        plan: How the samples were taken.
        samples: All of them.
        budgets: Numbers of tokens at which responses are cut off, for accuracy at fixed budgets.
    """
    p50, p90, p99 = map(float, np.percentile([sample.tokens for sample in samples], [50, 90, 99]))
    return Evaluation(
        dataset=plan.dataset,
        sampling=SamplingSettings(**{name: getattr(plan, name) for name in SamplingSettings.model_fields}),
        problems=plan.problems,
        samples_per_problem=plan.samples_per_problem,
        token_percentiles=TokenPercentiles(p50=p50, p90=p90, p99=p99),
        levels=tuple(
            LevelResult(level=level, problems=len({one.problem for one in group}), **_accuracy_and_tokens(group))
            for level, group in _by_level(samples).items()
        ),
        tokens_correct=tokens_where(samples, correct=True),
        tokens_wrong=tokens_where(samples, correct=False),
        budgets=at_budgets(samples, budgets),
        truncation_rate=_truncation_rate(samples),
        problems_sha256=plan.problems_sha256 or None,
        prompt=None if plan.prompt == "{question}" else plan.prompt,
        **_accuracy_and_tokens(samples),
    )


def accuracy(samples: Sequence[Sample]) -> Interval:
    """The share of right responses with its 95 % interval."""
    return share(means(samples, "correct"), len(samples))


def ways(samples: Sequence[Sample], way_of: Callable[[str], str | None]) -> Ways:
    """The share of responses that are worked in each way, by level.

    >>> sums = [Sample(0, 0, "1", "", "", "short", 5, False, True), Sample(1, 0, "2", "", "", "long", 9, False, True)]
    >>> {way: {level: share.mean for level, share in of.items()} for way, of in ways(sums, str).items()}
    {'long': {'1': 0.0, '2': 1.0}, 'short': {'1': 1.0, '2': 0.0}}
    """
    told = {(one.problem, one.sample): way_of(one.whole) or OTHER_WAY for one in samples}
    found: dict[str, dict[str, Interval]] = {way: {} for way in sorted(set(told.values()))}
    for level, group in _by_level(samples).items():
        for way, shares in found.items():
            goes = [replace(one, correct=told[one.problem, one.sample] == way) for one in group]
            shares[level] = accuracy(goes)
    return found


def tokens_where(samples: Sequence[Sample], *, correct: bool) -> Interval | None:
    """Mean tokens of the right, or of the wrong, responses, over problems that have one; None when there are none."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for sample in samples:
        if sample.correct == correct:
            groups[sample.problem].append(sample.tokens)
    return ratio(list(map(sum, groups.values())), list(map(len, groups.values()))) if groups else None


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


def at_budgets(samples: Sequence[Sample], budgets: Sequence[int]) -> tuple[BudgetResult, ...]:
    """The figures where each response is cut off at so many tokens."""
    cut = {budget: cut_off(samples, budget) for budget in sorted(set(budgets))}
    return tuple(
        BudgetResult(max_tokens=budget, truncation_rate=_truncation_rate(group), **_accuracy_and_tokens(group))
        for budget, group in cut.items()
    )


class Frontier(NamedTuple):
    """The best accuracy that anybody published at each budget, on one data set."""

    budgets: tuple[float, ...]
    """Tokens, rising."""
    accuracies: tuple[float, ...]


def read_frontiers(path: Path) -> dict[str, Frontier]:
    """The published frontiers in a file, by the names that it gives its data sets: `{"aime24": [[0, 64], [0, 0.1]]}`.

    https://github.com/samjia2000/Optimal-Reasoning-Efficiency has such files in data/frontiers.

    Raises:
        TrainingError: it cannot be read, or holds no frontiers.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found = {name: Frontier(*(tuple(map(float, part)) for part in parts)) for name, parts in document.items()}
        for name, (budgets, accuracies) in found.items():
            if len(budgets) != len(accuracies) or any(before >= after for before, after in pairwise(budgets)):
                raise ValueError(f"{name}: not as many accuracies as budgets, or budgets that do not rise")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"{path} is no file of frontiers ({error}). It holds budgets and accuracies by data set, "
            '{"aime24": [[0, 1024, 2048], [0.02, 0.13, 0.21]]}.'
        ) from error
    return found


def frontier_of(dataset: str, frontiers: Mapping[str, Frontier]) -> Frontier | None:
    """The frontier of a data set: `AIME-24` is `aime24`."""
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): one for name, one in frontiers.items()}
    return plain.get(re.sub(r"[^a-z0-9]", "", dataset.lower()))


@dataclass(frozen=True)
class Efficiency:
    """Accuracy and tokens of one tier together; None where a figure is not defined."""

    aes: Interval | None
    """Against the reference."""
    tokens_per_right: Interval | None
    """Tokens spent for each right answer."""
    adaptation: Interval | None
    """Tokens at the hardest level over those at the easiest; None without numbered levels."""
    budget_area: Interval | None
    """A share: 1 if every answer were right at once."""
    reg: Interval | None = None
    """Below the frontier, summed over budgets; None without one."""


def efficiency(
    samples: Sequence[Sample], reference: Sequence[Sample], max_tokens: int, frontier: Frontier | None = None
) -> Efficiency:
    """What puts accuracy and tokens of one tier together.

    Args:
        samples: The tier's.
        reference: The reference tier's on the same problems; others, or none, give no AES.
        max_tokens: Where responses were cut off, the largest budget.
        frontier: Published accuracies on the same data set, for REG.
    """
    right, tokens = _both(samples)
    paired = samples is not reference and same_questions(samples, reference)
    return Efficiency(
        aes=of_means([right, tokens, *_both(reference)], aes, (0, 2)) if paired else None,
        tokens_per_right=of_means([tokens, right], np.divide, (1,)),
        adaptation=_adaptation(samples, tokens),
        budget_area=of_means([_within(samples, max_tokens)], lambda area: area, (0,)),
        reg=_reg(samples, frontier, max_tokens) if frontier else None,
    )


def aes(accuracy: Any, tokens: Any, reference_accuracy: Any, reference_tokens: Any) -> Any:
    """The accuracy-efficiency score; works on arrays.

    >>> round(float(aes(0.9, 50.0, 0.8, 100.0)), 3), round(float(aes(0.6, 50.0, 0.8, 100.0)), 3)
    (0.875, -0.75)
    """
    saved, gained, lost = AES_CONSTANTS
    change = accuracy / reference_accuracy - 1
    return saved * (1 - tokens / reference_tokens) + np.where(change >= 0, gained, lost) * change


def adaptive_saving(samples: Sequence[Sample], other: Sequence[Sample]) -> Interval | None:
    """How much more of the other tier's tokens is saved on the easier half of the levels than on the harder one.

    Both on the same problems. 0.3: 30 points more of the tokens. The middle one of an odd number of levels is in
    neither half. None without numbered levels.
    """
    numbers = _level_numbers(samples)
    if not numbers:
        return None
    levels = sorted(set(numbers))
    ends = [set(levels[: len(levels) // 2]), set(levels[-(len(levels) // 2) :])]
    columns = [
        [one * (number in end) for one, number in zip(means(side, "tokens"), numbers, strict=True)]
        for end in ends
        for side in (samples, other)
    ]
    return of_means(columns, lambda easy, easy_other, hard, hard_other: hard / hard_other - easy / easy_other)


def hypervolume(tiers: Samples, reference: str) -> Interval | None:
    """What the tiers dominate together; None where they were not measured on the same problems."""
    if reference not in tiers or not all(same_questions(one, tiers[reference]) for one in tiers.values()):
        return None
    names = [reference, *(name for name in tiers if name != reference)]
    found = [column for name in names for column in _both(tiers[name])]
    shares = range(0, len(found), 2)
    return of_means(found, lambda *each: dominated(each[::2], [one / each[1] for one in each[1::2]]), shares)


def dominated(accuracies: Sequence[Any], shares: Sequence[Any]) -> Any:
    """The area below and left of the points (accuracy, 1 - share of the reference's tokens); works on arrays.

    >>> round(float(dominated([0.9, 0.8], [1.0, 0.5])), 3), round(float(dominated([0.9, 0.8], [0.8, 0.5])), 3)
    (0.4, 0.42)
    """
    accuracy, saved = np.array(accuracies), np.clip(1 - np.array(shares), 0, None)
    order = np.argsort(-saved, axis=0)
    saved, best = (np.take_along_axis(values, order, axis=0) for values in (saved, accuracy))
    best = np.maximum.accumulate(best, axis=0)  # of the tiers that save at least as much
    below = np.concatenate([saved[1:], np.zeros_like(saved[:1])])
    return (best * (saved - below)).sum(axis=0)


@dataclass(frozen=True)
class Averages:
    """One figure over several data sets, 1 for the reference itself; None where the reference's is 0."""

    normalised_sum: Interval | None
    mean_of_ratios: Interval | None


@dataclass(frozen=True)
class Overall:
    """A tier over several data sets, relative to the reference."""

    accuracy: Averages
    tokens: Averages


def overall(tier: Samples, reference: Samples) -> Overall | None:
    """A tier's samples by data set against the reference's; None unless both have the same data sets and problems."""
    if tier.keys() != reference.keys() or not all(same_questions(tier[name], reference[name]) for name in tier):
        return None
    return Overall(_averages(tier, reference, "correct", (0, 1)), _averages(tier, reference, "tokens", ()))


class Point(NamedTuple):
    """What a tier delivers, and at what cost."""

    accuracy: float
    """Share of right responses, 0 to 1."""
    tokens: float
    """Generated tokens a response, or a share of the reference's."""

    def dominates(self, other: "Point") -> bool:
        """Whether this is at least as good on both counts, and better on one."""
        return self.accuracy >= other.accuracy and self.tokens <= other.tokens and self != other


def dominators(points: Mapping[str, Point]) -> dict[str, str]:
    """Each dominated tier with the tier that beats it; of several, the most accurate, then the one of fewest tokens.

    >>> dominators({"base": Point(0.96, 45), "a": Point(0.98, 38), "b": Point(0.96, 18)})
    {'base': 'a'}
    """
    beaten = {}
    for name, point in points.items():
        if better := [other for other in points if points[other].dominates(point)]:
            beaten[name] = max(better, key=lambda other: (points[other].accuracy, -points[other].tokens))
    return beaten


def front(points: Mapping[str, Point]) -> list[str]:
    """The Pareto front: the tiers that none dominates, fewest tokens first; of equal ones all."""
    beaten = dominators(points)
    return sorted((name for name in points if name not in beaten), key=lambda name: points[name].tokens)


def evenly_spread(tokens: Sequence[float], number: int) -> list[int]:
    """Which `number` of `tokens` (ascending) to take so that they are spread evenly in log tokens.

    First and last are taken; the sum of the squared gaps between neighbours is the least there is, as it is when all
    gaps are equal. One alone is the last.

    >>> evenly_spread([10, 11, 20, 40], 3)  # gaps in log2: 1 and 1
    [0, 2, 3]
    """
    last, places = len(tokens) - 1, [log(max(value, 1e-9)) for value in tokens]
    if number > last:
        return list(range(len(tokens)))
    between = combinations(range(1, last), number - 2) if number > 1 else ()
    ways = [(0, *middle, last) for middle in between] or [(last,)]
    return list(min(ways, key=lambda way: sum((places[b] - places[a]) ** 2 for a, b in pairwise(way))))


def _both(samples: Sequence[Sample]) -> list[list[float]]:
    """Right and tokens, each the means of problems, in order."""
    return [means(samples, "correct"), means(samples, "tokens")]


def _by_level(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    levels: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        levels[sample.level].append(sample)
    return dict(sorted(levels.items()))


def _within(samples: Sequence[Sample], end: float) -> list[float]:
    """The share of budgets up to `end` at which a response is right."""
    return means(samples, lambda one: max(0.0, 1 - one.tokens / end) if one.correct else 0.0)


def _accuracy_and_tokens(samples: Sequence[Sample]) -> dict[str, Interval]:
    return {"accuracy": accuracy(samples), "tokens": mean(means(samples, "tokens"))}


def _truncation_rate(samples: Sequence[Sample]) -> float:
    return round(fmean(sample.truncated for sample in samples), 6)


def _reg(samples: Sequence[Sample], frontier: Frontier, max_tokens: int) -> Interval | None:
    """Up to where both end; the frontier is straight between its budgets, as in the paper's figures."""
    end = min(frontier.budgets[-1], max_tokens)
    budgets = sorted({0.0, *(budget for budget in frontier.budgets if budget < end), end})
    best = float(np.trapezoid(np.interp(budgets, *frontier), budgets))
    return of_means([_within(samples, end)], lambda area: best - end * area, (0,))


def _level_numbers(samples: Sequence[Sample]) -> list[int]:
    """Of the problems, in order; empty where some have none, or all the same."""
    levels = {one.problem: re.search(r"(\d+)\s*$", one.level) for one in samples}
    numbers = [int(match[1]) for _, match in sorted(levels.items()) if match]
    return numbers if len(numbers) == len(levels) and len(set(numbers)) > 1 else []


def _adaptation(samples: Sequence[Sample], tokens: Sequence[float]) -> Interval | None:
    numbers = _level_numbers(samples)
    if not numbers:
        return None
    hardest, easiest = ([float(number == end) for number in numbers] for end in (max(numbers), min(numbers)))
    weighed = [[one * a for one, a in zip(tokens, at, strict=True)] for at in (hardest, easiest)]
    return of_means([*weighed, hardest, easiest], lambda hard, easy, m, n: (hard / m) / (easy / n))


def _averages(tier: Samples, reference: Samples, field: str, shares: tuple[int, ...]) -> Averages:
    """Problems are resampled within each data set; a reference against itself has no doubt."""
    rng = np.random.default_rng(0)
    pairs = [[means(group[name], field) for group in (tier, reference)] for name in sorted(tier)]
    drawn = np.stack([resampled(pair, () if tier is reference else shares, rng) for pair in pairs], axis=-1)
    own, base = np.concatenate([np.array([np.mean(pair, axis=1) for pair in pairs]).T[:, None], drawn], axis=1)
    fewest = min(len(pair[0]) for pair in pairs)
    with np.errstate(divide="ignore", invalid="ignore"):
        figures = own.sum(axis=-1) / base.sum(axis=-1), (own / base).mean(axis=-1)
    return Averages(*(limits(float(figure[0]), figure[1:], fewest) for figure in figures))
