"""How much a recipe asks for: rollouts, optimiser steps, responses and tokens of training and of evaluation.

What: exact counts from the recipe, and tokens between an expectation and an upper bound. What not: no seconds, no
bytes. A data set's size is its `limit`, or its lines where it is a JSONL file that exists; else it is unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alphatier_training.recipe import Recipe
from alphatier_training.recipe.problems import DataProblems, DataSet

ROLLOUTS_LIKE = "math500"
"""The data set whose mean tokens stand in for the training problems', where nothing closer is known."""


@dataclass(frozen=True)
class Tokens:
    """Generated tokens: as expected, and if every response were cut off."""

    expected: float
    at_most: float

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.expected + other.expected, self.at_most + other.at_most)

    def times(self, number: float) -> "Tokens":
        """As many tokens for each of `number`."""
        return Tokens(self.expected * number, self.at_most * number)


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of a response of the base, by data set; nothing known where empty."""

    by_data: Mapping[str, float]
    source: str

    def of(self, data: str, limit: int) -> Tokens:
        """One response to a problem of `data`, cut off at `limit`."""
        known = self.by_data
        mean = sum(known.values()) / len(known) if known else limit
        return Tokens(min(known.get(data, known.get(ROLLOUTS_LIKE, mean)), limit), limit)


@dataclass(frozen=True)
class Work:
    """What is run, of one family."""

    tiers: int
    rollouts: int
    """Of one tier."""
    updates: int
    """Optimiser steps of one tier."""
    responses: int
    """Of one rollout."""
    response: Tokens
    """Of one response in a rollout."""
    evaluations: Mapping[str, tuple[int, int, Tokens]]
    """By data set: problems, responses of one tier, their tokens."""
    selection: Tokens
    """Of choosing the training problems by the base's pass rate."""

    @property
    def rollout(self) -> Tokens:
        """Tokens of one rollout."""
        return self.response.times(self.responses)

    @property
    def training(self) -> Tokens:
        """Tokens of all rollouts of all tiers."""
        return self.rollout.times(self.rollouts * self.tiers)

    @property
    def evaluation(self) -> Tokens:
        """Tokens of measuring the base and every tier."""
        one = sum((tokens for _, _, tokens in self.evaluations.values()), Tokens(0, 0))
        return one.times(self.tiers + 1)


def work_of(recipe: Recipe, lengths: Lengths) -> Work:
    """The work of `recipe`, its responses as long as `lengths` says."""
    rl = recipe.rl
    return Work(
        tiers=len(recipe.tiers.alphas),
        rollouts=rl.steps,
        updates=rl.steps * rl.updates_per_rollout,
        responses=rl.prompts_per_rollout * rl.samples_per_prompt,
        response=lengths.of(training_data(recipe), rl.max_new_tokens),
        evaluations=_evaluations(recipe, lengths),
        selection=_selection(recipe, lengths),
    )


def training_data(recipe: Recipe) -> str:
    """The name of the first training data set."""
    return recipe.problems.data[0].name if isinstance(recipe.problems, DataProblems) else recipe.problems.source


def size_of(data: DataSet) -> int | None:
    """The number of problems, where it can be told without fetching anything."""
    if data.path is None or not Path(data.path).is_file():
        return data.limit
    with Path(data.path).open("rb") as lines:
        found = sum(1 for line in lines if line.strip())
    return min(found, data.limit or found)


def _evaluations(recipe: Recipe, lengths: Lengths) -> dict[str, tuple[int, int, Tokens]]:
    plan = recipe.evaluation
    if not plan.data:
        responses = plan.problems * plan.samples_per_problem
        one = lengths.of(training_data(recipe), plan.max_new_tokens)
        return {training_data(recipe): (plan.problems, responses, one.times(responses))}
    found = {}
    for data in plan.data:
        problems = min(size_of(data) or plan.problems, plan.problems)
        responses = problems * (data.samples_per_problem or plan.samples_per_problem)
        found[data.name] = (problems, responses, lengths.of(data.name, plan.max_new_tokens).times(responses))
    return found


def _selection(recipe: Recipe, lengths: Lengths) -> Tokens:
    if not isinstance(recipe.problems, DataProblems) or recipe.problems.pass_rate is None:
        return Tokens(0, 0)
    problems = sum(size_of(data) or 0 for data in recipe.problems.data)
    one = lengths.of(training_data(recipe), recipe.rl.max_new_tokens)
    return one.times(problems * recipe.problems.pass_rate.samples)
