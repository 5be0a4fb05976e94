"""Figures that put accuracy and tokens together, of one tier or of a family, all computed from stored samples.

    AES               1 dL + 3 dA, or 1 dL - 5 |dA| where accuracy falls; dL = (L0 - L) / L0, dA = (A - A0) / A0
                      against the reference (O1-Pruner, arXiv 2501.12570; other papers have 1, 5 and 10)
    tokens a right    mean tokens / accuracy (cost of pass in tokens, arXiv 2504.13359)
    adaptation        mean tokens at the hardest level / at the easiest (ALP, arXiv 2506.05256)
    budget area       the mean of accuracy over all budgets up to `max_tokens`, where a longer response is wrong
    REG               the sum over those budgets of a published frontier's accuracy less the tier's (arXiv 2506.07104)
    hypervolume       the share of the square (accuracy, 1 - tokens / the reference's) that the tiers dominate

A = accuracy, L = mean tokens, of problems' means. Intervals resample problems, of all tiers together.
A frontier is a file of budgets and accuracies by data set, `{"aime24": [[0, 64, …], [0.02, 0.01, …]]}`, as
https://github.com/samjia2000/Optimal-Reasoning-Efficiency has them in data/frontiers.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alphatier_models import Interval
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.comparing import same_questions
from alphatier_training.evaluation.intervals import of_means, spread
from alphatier_training.evaluation.samples import Sample

AES_CONSTANTS = (1.0, 3.0, 5.0)
"""Weights of tokens saved, accuracy gained and accuracy lost."""


class Frontier(NamedTuple):
    """The best accuracy that anybody published at each budget, on one data set."""

    budgets: tuple[float, ...]
    """Tokens, rising."""
    accuracies: tuple[float, ...]


@dataclass(frozen=True)
class Efficiency:
    """The figures of one tier; None where one is not defined."""

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


class Column(NamedTuple):
    """How tables show one of the figures."""

    heading: str
    field: str
    scale: float = 1
    digits: int = 1

    def of(self, figures: Efficiency) -> Interval | None:
        """The figure."""
        found: Interval | None = getattr(figures, self.field)
        return found

    def cell(self, figures: Efficiency) -> str:
        """The figure as text, with its interval."""
        return spread(self.of(figures), self.scale, self.digits)


COLUMNS = (
    Column("AES", "aes", digits=2),
    Column("tokens a right answer", "tokens_per_right"),
    Column("hardest / easiest", "adaptation", digits=2),
    Column("budget area %", "budget_area", 100),
    Column("REG", "reg"),
)


def columns(found: Collection[Efficiency]) -> list[Column]:
    """The columns that have anything to show."""
    return [column for column in COLUMNS if any(column.of(figures) for figures in found)]


def efficiency(
    samples: Sequence[Sample], reference: Sequence[Sample], max_tokens: int, frontier: Frontier | None = None
) -> Efficiency:
    """The figures of one tier.

    Args:
        samples: The tier's.
        reference: The reference tier's on the same problems; others, or none, give no AES.
        max_tokens: Where responses were cut off, the largest budget.
        frontier: Published accuracies on the same data set, for REG.
    """
    right, tokens, area = _columns(samples, max_tokens)
    paired = samples is not reference and same_questions(samples, reference)
    return Efficiency(
        aes=of_means([right, tokens, *_columns(reference, max_tokens)[:2]], aes, (0, 2)) if paired else None,
        tokens_per_right=of_means([tokens, right], np.divide, (1,)),
        adaptation=_adaptation(samples, tokens),
        budget_area=of_means([area], lambda mean: mean, (0,)),
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


def read_frontiers(path: Path) -> dict[str, Frontier]:
    """The published frontiers in a file, by the names that it gives its data sets.

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
    return next((one for name, one in frontiers.items() if _plain(name) == _plain(dataset)), None)


def hypervolume(tiers: Mapping[str, Sequence[Sample]], reference: str) -> Interval | None:
    """What the tiers dominate together; None where they were not measured on the same problems."""
    if reference not in tiers or not all(same_questions(one, tiers[reference]) for one in tiers.values()):
        return None
    names = [reference, *(name for name in tiers if name != reference)]
    found = [column for name in names for column in _columns(tiers[name], 1)[:2]]
    shares = range(0, len(found), 2)
    return of_means(found, lambda *means: dominated(means[::2], [one / means[1] for one in means[1::2]]), shares)


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


def _columns(samples: Sequence[Sample], max_tokens: float) -> list[tuple[float, ...]]:
    """Right, tokens, and the share of budgets at which a response is right; each the means of problems, in order."""
    groups: dict[int, list[tuple[float, float, float]]] = {}
    for one in samples:
        within = max(0.0, 1 - one.tokens / max_tokens) if one.correct else 0.0
        groups.setdefault(one.problem, []).append((float(one.correct), float(one.tokens), within))
    return list(zip(*(np.mean(groups[problem], axis=0).tolist() for problem in sorted(groups)), strict=True))


def _reg(samples: Sequence[Sample], frontier: Frontier, max_tokens: int) -> Interval | None:
    """Up to where both end; the frontier is straight between its budgets, as in the paper's figures."""
    end = min(frontier.budgets[-1], max_tokens)
    budgets = sorted({0.0, *(budget for budget in frontier.budgets if budget < end), end})
    best = float(np.trapezoid(np.interp(budgets, *frontier), budgets))
    return of_means([_columns(samples, end)[2]], lambda area: best - end * area, (0,))


def _adaptation(samples: Sequence[Sample], tokens: Sequence[float]) -> Interval | None:
    levels = {one.problem: re.search(r"(\d+)\s*$", one.level) for one in samples}
    numbers = [int(match[1]) for _, match in sorted(levels.items()) if match]
    if len(numbers) < len(levels) or len(set(numbers)) < 2:
        return None
    hardest, easiest = ([float(number == end) for number in numbers] for end in (max(numbers), min(numbers)))
    weighed = [[one * a for one, a in zip(tokens, at, strict=True)] for at in (hardest, easiest)]
    return of_means([*weighed, hardest, easiest], lambda hard, easy, m, n: (hard / m) / (easy / n))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
