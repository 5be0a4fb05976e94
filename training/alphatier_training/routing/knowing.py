"""What the tiers of a family did on problems, from the samples that `alphatier evaluate` keeps.

Files belong together where the same problems were asked in the same way. What not: no training.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alphatier_models import Family, Tier
from alphatier_training.data.problem import message
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.samples import Plan, Sample, SampleFile, read_plan


@dataclass(frozen=True)
class Known:
    """What the tiers did on each problem: right (0 or 1) and tokens are [tiers, problems, samples]."""

    tiers: tuple[str, ...]
    prompts: tuple[str, ...]
    levels: tuple[str, ...]
    right: Any
    tokens: Any

    def take(self, problems: Any) -> "Known":
        """The same of some problems, by number."""
        prompts, levels = (tuple(own[int(at)] for at in problems) for own in (self.prompts, self.levels))
        return Known(self.tiers, prompts, levels, self.right[:, problems], self.tokens[:, problems])

    def by_accuracy(self) -> "Known":
        """The same with the most accurate tier first."""
        order = np.argsort(-self.right.mean(axis=(1, 2)), kind="stable")
        return self.ordered([self.tiers[int(at)] for at in order])

    def ordered(self, names: Sequence[str]) -> "Known":
        """The same with the tiers in this order."""
        order = [self.tiers.index(name) for name in names]
        return Known(tuple(names), self.prompts, self.levels, self.right[order], self.tokens[order])

    def __len__(self) -> int:
        return len(self.prompts)


def read_known(family: Family, places: Sequence[Path], only: Sequence[str] = ()) -> Known:
    """What is known of the family's tiers from files of samples, and folders of such files.

    A tier counts where it was asked all problems, with the weights that it has now (or at an endpoint, under its
    name); `only` names those that must. Where problems were asked differently often, all count the same.

    Raises:
        TrainingError: fewer than two tiers were asked the same problems.
    """
    files = [file for place in places for file in (sorted(place.glob("*.jsonl")) if place.is_dir() else [place])]
    sets: dict[tuple[str, str, str], dict[str, tuple[Plan, list[Sample]]]] = defaultdict(dict)
    for file in files:
        plan = read_plan(file)
        if (tier := _tier_of(family, plan)) is not None and (not only or tier.name in only):
            read = SampleFile(plan, file.parent)
            read.path = file
            samples = read.read()
            if len(samples) == plan.total():
                sets[plan.problems_sha256, plan.prompt, plan.system][tier.name] = plan, samples
    everywhere = [tier.name for tier in family.listed if sets and all(tier.name in own for own in sets.values())]
    if len(everywhere) < 2 or any(name not in everywhere for name in only):
        where = ", ".join(map(str, places)) or "no place"
        raise TrainingError(
            f"{where}: samples of all problems are there for {' and '.join(everywhere) or 'no tier'} of "
            f"{family.name}, and a router needs two tiers. "
            "Take them: alphatier evaluate FAMILY --samples 8 --out FOLDER"
        )
    return _joined([{name: own[name] for name in everywhere} for own in sets.values()], everywhere)


def _tier_of(family: Family, plan: Plan) -> Tier | None:
    """The tier that answered, if it is the family's as it is now."""
    if plan.family != family.name or plan.baseline or plan.tier not in {tier.name for tier in family.listed}:
        return None
    tier = family.tier(plan.tier)
    weights = tier.identity or family.base.identity
    return tier if plan.weights.startswith("http") or plan.weights.split()[-1:] == [weights] else None


def _joined(sets: Sequence[dict[str, tuple[Plan, list[Sample]]]], tiers: Sequence[str]) -> Known:
    most = max(plan.samples_per_problem for own in sets for plan, _ in own.values())
    parts = [np.array([[*_rows(*own[name], most)] for name in tiers]) for own in sets]  # [tier, problem, 2, sample]
    whole = np.concatenate(parts, axis=1)
    firsts = [(plan, one) for own in sets for plan, samples in [own[tiers[0]]] for one in samples if not one.sample]
    prompts = tuple(message(plan.prompt, one.question) for plan, one in firsts)
    return Known(tuple(tiers), prompts, tuple(one.level for _, one in firsts), whole[:, :, 0], whole[:, :, 1])


def _rows(plan: Plan, samples: Sequence[Sample], most: int) -> Iterator[Any]:
    """Right and tokens of each problem, repeated to `most` samples."""
    number = plan.samples_per_problem
    repeated = np.arange(most) % number
    for start in range(0, len(samples), number):
        own = samples[start : start + number]
        yield np.array([[float(one.correct) for one in own], [max(1, one.tokens) for one in own]])[:, repeated]
