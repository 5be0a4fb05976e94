"""What tiers are measured on: the built-in held-out problems, or a data set, and how each problem is asked.

What: problems, their checksum, the prompt. What not: no responses; a `Plan` says who answers a task and how.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from alphatier_models import SamplingSettings
from alphatier_training.builtin import generate
from alphatier_training.data.problem import Problem
from alphatier_training.data.prompting import message
from alphatier_training.data.reading import read_problems
from alphatier_training.evaluation.samples import DATASET, Plan
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.problems import DataSet


@dataclass(frozen=True)
class Task:
    """Problems, and how they are asked.

    Raises:
        TrainingError: the prompt is no template for a question.
    """

    name: str
    """What figures call the data set."""
    problems: tuple[Problem, ...]
    samples_per_problem: int = 1
    prompt: str = "{question}"
    system: str = ""
    levels: tuple[int, ...] = ()
    """Of the built-in problems; none for a data set."""

    def __post_init__(self) -> None:
        message(self.prompt, "")

    def plan(self, family: str, tier: str, weights: str, sampling: SamplingSettings, *, baseline: str = "") -> Plan:
        """How one tier answers this task."""
        return Plan(
            family=family,
            tier=tier,
            weights=weights,
            dataset=self.name,
            levels=self.levels,
            problems=len(self.problems),
            samples_per_problem=self.samples_per_problem,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            problems_sha256=checksum(self.problems),
            prompt=self.prompt,
            system=self.system,
            baseline=baseline,
        )


def heldout_task(
    problems: int, seed: int, levels: Sequence[int], *, samples: int = 1, prompt: str = "{question}", system: str = ""
) -> Task:
    """The built-in held-out problems, the same ones for the same seed."""
    drawn = tuple(generate(problems, seed=seed, split="heldout", levels=tuple(levels)))
    return Task(DATASET, drawn, samples, prompt, system, tuple(levels))


def data_task(
    data: DataSet, *, problems: int | None = None, samples: int = 1, prompt: str = "{question}", system: str = ""
) -> Task:
    """The first `problems` of a data set (all when None); its own `samples_per_problem` wins over `samples`.

    Raises:
        DataError: it cannot be read.
    """
    found = tuple(read_problems(data)[:problems])
    return Task(data.name, found, data.samples_per_problem or samples, prompt, system)


def recipe_tasks(recipe: Recipe) -> list[Task]:
    """What a recipe measures its tiers on."""
    plan, prompt = recipe.evaluation, recipe.problems.prompt
    if not plan.data:
        return [
            heldout_task(plan.problems, plan.seed, recipe.levels(), samples=plan.samples_per_problem, prompt=prompt)
        ]
    return [
        data_task(data, problems=plan.problems, samples=plan.samples_per_problem, prompt=prompt) for data in plan.data
    ]


def recipe_sampling(recipe: Recipe) -> SamplingSettings:
    """How a recipe's evaluation samples."""
    plan = recipe.evaluation
    return SamplingSettings(
        temperature=plan.temperature, top_p=plan.top_p, max_tokens=plan.max_new_tokens, seed=plan.seed
    )


def checksum(problems: Sequence[Problem]) -> str:
    """The sha256 of the problems' questions and answers, in their order."""
    text = json.dumps([[problem.question, problem.answer] for problem in problems], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
