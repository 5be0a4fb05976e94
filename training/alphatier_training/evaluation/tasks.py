"""What tiers are measured on, and how each problem is asked: from a recipe, or from options.

A family is measured as it was before, or as its recipe says, unless an option says otherwise: figures compare.
What: problems, their checksum, the prompt, the sampling. What not: no responses; a `Plan` says who answers a task.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphatier_models import Evaluation, Family, SamplingSettings
from alphatier_training.builtin import all_levels, generate
from alphatier_training.data.problem import Problem, message
from alphatier_training.data.reading import read_problems
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.samples import DATASET, Plan
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.problems import DataProblems, DataSet, Format

ARITHMETIC = "arithmetic"
"""What `--data` calls the built-in held-out problems."""

PROBLEMS = 1000
"""Of the built-in problems."""

PAPER_PROMPT: str = DataProblems.model_fields["prompt"].default

LONGEST = 32_768
"""Tokens a response, at most, of a family that was never measured and a data set (the paper's longest cut-off)."""


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
            baseline=baseline,
            dataset=self.name,
            **{name: getattr(self, name) for name in ("levels", "samples_per_problem", "prompt", "system")},
            problems=len(self.problems),
            problems_sha256=checksum(self.problems),
            **sampling.model_dump(),
        )


@dataclass(frozen=True)
class Asked:
    """The options that say what is asked; None where none was given."""

    data: tuple[str, ...] = ()
    format: Format = "auto"
    prompt: str | None = None
    system: str = ""
    problems: int | None = None
    samples: tuple[str, ...] = ()
    """`N` for every data set, `NAME=N` for one; the paper's are gsm8k=1, math500=3, aime2024=10."""


def task_of(data: DataSet | None, problems: int | None, seed: int, levels: Sequence[int] = (), **how: Any) -> Task:
    """The first `problems` of a data set (all when None), whose own `samples_per_problem` wins; `how` is `Task`'s.

    Without a data set the built-in held-out problems of `levels`, the same ones for the same seed.

    Raises:
        TrainingError: it cannot be read.
    """
    if data is None:
        drawn = tuple(generate(problems or PROBLEMS, seed=seed, split="heldout", levels=tuple(levels)))
        return Task(DATASET, drawn, levels=tuple(levels), **how)
    if data.samples_per_problem:
        how["samples_per_problem"] = data.samples_per_problem
    return Task(data.name, tuple(read_problems(data)[:problems]), **how)


def recipe_tasks(recipe: Recipe) -> list[Task]:
    """What a recipe measures its tiers on."""
    plan, levels = recipe.evaluation, () if recipe.evaluation.data else recipe.levels()
    how: dict[str, Any] = {"samples_per_problem": plan.samples_per_problem, "prompt": recipe.problems.prompt}
    return [task_of(data, plan.problems, plan.seed, levels, **how) for data in plan.data or [None]]


def recipe_sampling(recipe: Recipe) -> SamplingSettings:
    """How a recipe's evaluation samples."""
    plan = recipe.evaluation
    same = plan.model_dump(include={"temperature", "top_p", "seed"})
    return SamplingSettings(max_tokens=plan.max_new_tokens, **same)


def sampling_of(
    family: Family, data: Sequence[str], given: Mapping[str, Any], recipe: Recipe | None = None
) -> SamplingSettings:
    """How to sample: as given, else as the family was measured before, else as its recipe says, else as the paper."""
    longest = LONGEST if any(text != ARITHMETIC for text in data) else 256
    default = SamplingSettings(temperature=0.6, top_p=0.95, max_tokens=longest, seed=7)
    if before := _before(family, [_name(text) for text in data] or [DATASET]):
        default = before.sampling
    elif recipe is not None:
        default = recipe_sampling(recipe)
    chosen = {name: value for name, value in given.items() if value is not None}
    return SamplingSettings(**default.model_dump() | chosen)


def tasks_of(family: Family, asked: Asked, seed: int, recipe: Recipe | None = None) -> list[Task]:
    """The data sets that are asked for; without any those of its recipe, or the built-in problems if it knows them.

    Raises:
        TrainingError: none is asked for and none known, one cannot be read, two have the same name, or the prompt is
            no template.
    """
    chosen = list(_chosen(family, asked, recipe))
    names = [data.name if data else DATASET for data in chosen]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise TrainingError(f"--data: two data sets are called {twice}; name one, as in --data {twice}-2=PATH.")
    samples, tasks = samples_of(asked.samples, names), []
    for name, data in zip(names, chosen, strict=True):
        prompt = _prompt(family, name, recipe) if asked.prompt is None else asked.prompt
        how: dict[str, Any] = {"samples_per_problem": samples[name], "prompt": prompt, "system": asked.system}
        tasks.append(task_of(data, asked.problems, seed, all_levels(), **how))
    return tasks


def samples_of(given: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Responses a problem of each data set: 1 but where `N` or `NAME=N` says otherwise, the latter first.

    >>> samples_of(["2", "aime2024=10"], ["gsm8k", "aime2024"])
    {'gsm8k': 2, 'aime2024': 10}

    Raises:
        TrainingError: one is no number, or names no data set.
    """
    found: dict[str, int] = {}
    for text in given:
        name, _, number = text.rpartition("=")
        if not number.isdecimal() or int(number) < 1:
            raise TrainingError(f"--samples {text}: write N or NAME=N, e.g. --samples 1 --samples aime2024=10.")
        if name and name not in names:
            raise TrainingError(f"--samples {text}: no data set is called {name}; there are {', '.join(names)}.")
        found[name] = int(number)
    return {name: found.get(name, found.get("", 1)) for name in names}


def training_task(
    family: Family, text: str | None, *, form: Format, prompt: str | None, problems: int, samples: int, seed: int
) -> Task:
    """Training problems for a baseline: the built-in ones, or a data set's `train` split.

    Raises:
        TrainingError: the data set cannot be read, or the prompt is no template.
    """
    wording = _prompt(family, _name(text or ARITHMETIC)) if prompt is None else prompt
    if text is None:
        drawn = tuple(generate(problems, seed=seed, split="train"))
        return Task("arithmetic-train", drawn, samples, wording, levels=all_levels())
    return task_of(data_set(text, form, "train"), problems, seed, samples_per_problem=samples, prompt=wording)


def data_set(text: str, form: Format = "auto", default_split: str = "test") -> DataSet:
    """The data set that `[NAME=]PATH` or `[NAME=]hub:ID[:CONFIG[:SPLIT]]` means; a hub's split is `test` by default.

    >>> data_set("hub:openai/gsm8k:main").split
    'test'
    """
    name, place = _name(text), text.partition("=")[2] or text  # a path that holds a `=` needs a name
    if not place.startswith("hub:"):
        return DataSet(name=name, path=place, format=form)
    hub, config, split = (*place.removeprefix("hub:").split(":"), "", "")[:3]
    if not hub or place.count(":") > 3:
        raise TrainingError(f"--data {text}: write hub:ID[:CONFIG[:SPLIT]], e.g. hub:openai/gsm8k:main:test.")
    return DataSet(name=name, hub=hub, config=config or None, split=split or default_split, format=form)


def checksum(problems: Sequence[Problem]) -> str:
    """The sha256 of the problems' questions and answers, in their order."""
    text = json.dumps([[problem.question, problem.answer] for problem in problems], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _chosen(family: Family, asked: Asked, recipe: Recipe | None) -> Iterator[DataSet | None]:
    """The data sets; None stands for the built-in problems."""
    measured = list(dict.fromkeys(one.dataset for tier in family.tiers for one in tier.evaluations))
    if asked.data:
        yield from (None if text == ARITHMETIC else data_set(text, asked.format) for text in asked.data)
    elif recipe is not None and recipe.evaluation.data:
        yield from recipe.evaluation.data
    elif recipe is not None or DATASET in measured:
        yield None
    else:
        before = f"was measured on {', '.join(measured)}" if measured else "was never measured"
        raise TrainingError(
            f"{family.name} {before}: say where the problems are, e.g. --data "
            f"{(measured or ['gsm8k'])[0]}=test.jsonl or --data hub:HuggingFaceH4/MATH-500. The built-in sums are "
            "--data arithmetic."
        )


def _prompt(family: Family, name: str, recipe: Recipe | None = None) -> str:
    """As the family was measured before, else its recipe's, else the question alone or the paper's for a data set."""
    if before := _before(family, [name]):
        return before.prompt or "{question}"
    if recipe is not None:
        return recipe.problems.prompt
    return "{question}" if name == DATASET else PAPER_PROMPT


def _before(family: Family, names: Sequence[str]) -> Evaluation | None:
    """An earlier evaluation: on one of these data sets, else on any."""
    there = [evaluation for tier in family.tiers for evaluation in tier.evaluations]
    return next((one for one in there if one.dataset in names), there[0] if there else None)


def _name(text: str) -> str:
    """What figures call the data set: its given name, else made of the file's or the hub's."""
    if text == ARITHMETIC:
        return DATASET
    given, _, place = text.rpartition("=")
    if not given:
        given = place.split(":")[1] if place.startswith("hub:") else Path(place).stem
    name = re.sub(r"[^a-z0-9._-]+", "-", given.rpartition("/")[2].lower()).strip("._-")
    return name[:63] or "data"
