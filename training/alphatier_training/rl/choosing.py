"""The stage `problems`: which problems of a recipe's data sets its RL runs use, and in which order.

What: reads, measures prompts with the base's tokenizer, looks for evaluation problems among them, measures the
base's pass rates where the recipe filters by them (resumable, like any samples), and writes the chosen ones to
OUT/work/problems.jsonl with what became of the others in OUT/work/selection.json.
What not: the filters themselves are `data.selection`'s.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from alphatier_models import SamplingSettings
from alphatier_training.data.contamination import Overlap, find_overlaps
from alphatier_training.data.problem import Problem, message
from alphatier_training.data.reading import read_problems
from alphatier_training.data.selection import pass_rates, select
from alphatier_training.evaluation.engine import recipe_engine, sample
from alphatier_training.evaluation.samples import Answers, Progress, SampleFile
from alphatier_training.evaluation.tasks import Task
from alphatier_training.recipe import BASE_TIER, Recipe
from alphatier_training.recipe.problems import DataProblems
from alphatier_training.rl.prompts import needed
from alphatier_training.run.base import load_reference
from alphatier_training.run.folder import PROBLEMS, RunFolder, write_text
from alphatier_training.run.reporting import Report, Reporter


def choose_problems(recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    """Choose the training problems of a recipe with data sets of its own.

    Raises:
        TrainingError: a data set cannot be read, or no problem is left.
    """
    plan = recipe.problems
    if not isinstance(plan, DataProblems):
        raise TypeError("the built-in problems are not chosen but drawn")
    problems = [problem for data in plan.data for problem in read_problems(data)]
    overlaps = _overlaps(recipe, plan, problems)
    tokenizer = AutoTokenizer.from_pretrained(load_reference(folder).path)
    words = max((recipe.rl.penalty.asked(number, recipe.rl_seed())[1] for number in range(needed(recipe))), key=len)

    chosen, selection = select(
        problems,
        plan,
        needed=needed(recipe),
        seed=recipe.rl_seed(),
        overlaps=overlaps,
        fits=lambda problem: prompt_tokens(tokenizer, plan.prompt, problem, words) <= recipe.rl.max_prompt_tokens,
        rates=lambda kept: _rates(recipe, plan, folder, kept, report),
    )
    found = [asdict(overlap) for overlap in overlaps]
    write_text(folder.work / "selection.json", json.dumps(asdict(selection) | {"overlaps": found}, indent=1) + "\n")
    write_text(folder.problems, "".join(json.dumps(asdict(problem)) + "\n" for problem in chosen))
    doubtful = bool(overlaps) and not plan.contamination.drop
    report(Report(PROBLEMS, 1, 1, note=selection.summary(), warning=doubtful))


def prompt_tokens(tokenizer: Any, prompt: str, problem: Problem, words: str) -> int:
    """The tokens of a problem's prompt and of the `words` that a penalty adds to it, chat template included."""
    conversation = [{"role": "user", "content": message(prompt, problem.question) + words}]
    return len(tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=True)["input_ids"])


def _overlaps(recipe: Recipe, plan: DataProblems, problems: Sequence[Problem]) -> list[Overlap]:
    measured = {data.name: read_problems(data) for data in (*recipe.evaluation.data, *plan.contamination.against)}
    return find_overlaps(problems, measured, plan.contamination.ngram)


def _rates(
    recipe: Recipe, plan: DataProblems, folder: RunFolder, problems: Sequence[Problem], report: Reporter
) -> list[float]:
    """How often the base solves each problem, sampled as in a rollout, by the evaluation's engine."""
    assert plan.pass_rate is not None
    rl, base = recipe.rl, load_reference(folder)
    task = Task("training", tuple(problems), plan.pass_rate.samples, plan.prompt)
    sampling = SamplingSettings(
        temperature=rl.temperature, top_p=1.0, max_tokens=rl.max_new_tokens, seed=recipe.rl_seed()
    )
    wanted = task.plan(recipe.name, BASE_TIER, base.as_base().identity, sampling)
    file = SampleFile(wanted, folder.work / "pass-rate")
    answers = Answers(wanted, task.problems, file, Progress(PROBLEMS, wanted.total(), report))
    sample([(answers, None)], Path(base.path), recipe_engine(recipe))
    return pass_rates(((one.problem, one.correct) for one in file.read()), len(problems))
