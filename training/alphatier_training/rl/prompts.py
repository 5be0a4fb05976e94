"""The prompts of an RL run: the same for every tier, in the same order.

What: the stage `problems`, which reads a recipe's data sets, looks for evaluation problems among them, measures the
base's pass rates where the recipe filters by them (resumable, like any samples), and writes the chosen ones to
OUT/work/problems.jsonl with what became of the others in OUT/work/selection.json; and prompts as TRL takes them.
What not: the filters themselves are `data.selection`'s.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer

from alphatier_models import SamplingSettings
from alphatier_training.builtin import generate
from alphatier_training.data.contamination import find_overlaps
from alphatier_training.data.problem import Problem, message
from alphatier_training.data.reading import read_problems
from alphatier_training.data.selection import pass_rates, select
from alphatier_training.evaluation.engine import recipe_engine, sample
from alphatier_training.evaluation.samples import Answers, Progress, SampleFile
from alphatier_training.evaluation.tasks import Task
from alphatier_training.recipe import BASE_TIER, Recipe
from alphatier_training.recipe.problems import ArithmeticProblems, DataProblems
from alphatier_training.recipe.rl import Gated
from alphatier_training.run.base import load_reference
from alphatier_training.run.folder import PROBLEMS, RunFolder, write_text
from alphatier_training.run.reporting import Report, Reporter


def choose_problems(recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    """Choose the training problems of a recipe with data sets of its own.

    Raises:
        TrainingError: a data set cannot be read, or no problem is left.
    """
    plan, count = recipe.problems, _needed(recipe)
    if not isinstance(plan, DataProblems):
        raise TypeError("the built-in problems are not chosen but drawn")
    problems = [problem for data in plan.data for problem in read_problems(data)]
    measured = {data.name: read_problems(data) for data in (*recipe.evaluation.data, *plan.contamination.against)}
    overlaps = find_overlaps(problems, measured, plan.contamination.ngram)
    tokenizer = AutoTokenizer.from_pretrained(load_reference(folder).path)
    words = max((recipe.rl.penalty.asked(number, recipe.rl_seed())[1] for number in range(count)), key=len)

    def fits(problem: Problem) -> bool:
        (ids,) = _encoded(tokenizer, [message(plan.prompt, problem.question) + words])[1]
        return len(ids) <= recipe.rl.max_prompt_tokens

    chosen, selection = select(
        problems,
        plan,
        needed=count,
        seed=recipe.rl_seed(),
        overlaps=overlaps,
        fits=fits,
        rates=lambda kept: _rates(recipe, plan, folder, kept, report),
    )
    found = [asdict(overlap) for overlap in overlaps]
    write_text(folder.work / "selection.json", json.dumps(asdict(selection) | {"overlaps": found}, indent=1) + "\n")
    write_text(folder.problems, "".join(json.dumps(asdict(problem)) + "\n" for problem in chosen))
    doubtful = bool(overlaps) and not plan.contamination.drop
    report(Report(PROBLEMS, 1, 1, note=selection.summary(), warning=doubtful))


def prompts(recipe: Recipe, folder: RunFolder, tokenizer: Any) -> Any:
    """The rollouts' prompts as a data set: `prompt` (a conversation), `answer`, `prompt_tokens`, `target_tokens`.

    Where all tiers are trained at once also `alpha`; of a joint run each rollout's prompts are there for every tier.
    """
    if isinstance(recipe.problems, ArithmeticProblems):
        levels, strange = recipe.problems.levels, recipe.problems.strange
        problems = generate(_needed(recipe), seed=recipe.rl_seed(), split="train", levels=levels, strange=strange)
    else:
        lines = folder.problems.read_text(encoding="utf-8").splitlines()
        problems = [Problem(**json.loads(line)) for line in lines]
    return _asked(recipe, problems, tokenizer)


def heldout_prompts(recipe: Recipe, tokenizer: Any) -> Any | None:
    """The same of `rl.heldout`, and `heldout`; None where the recipe has none.

    Raises:
        TrainingError: its data set cannot be read.
    """
    plan = recipe.rl.heldout
    if plan is None:
        return None
    if plan.data is not None:
        return _asked(recipe, read_problems(plan.data)[: plan.problems], tokenizer, heldout=True)
    drawn = generate(plan.problems, seed=recipe.rl_seed(), split="heldout", levels=recipe.levels())
    return _asked(recipe, drawn, tokenizer, heldout=True)


def _needed(recipe: Recipe) -> int:
    """Prompts that a run uses."""
    return recipe.rl.steps * recipe.rl.prompts_per_rollout


def draw_alphas(plan: Gated, count: int, rng: random.Random) -> list[float]:
    """The alphas of a rollout's prompts, in any order: some near 0, the others one in each of as many equal parts."""
    low = [rng.random() * plan.shared_below for _ in range(round(plan.shared * count))]
    ends = [plan.shared_below, *(end for gap in plan.gaps for end in gap), plan.largest]
    pieces = list(zip(ends[::2], ends[1::2], strict=True))
    parts, length = count - len(low), sum(end - start for start, end in pieces)
    high = [_along(pieces, (number + rng.random()) / parts * length) for number in range(parts)]
    return rng.sample([*low, *high], count)


def _along(pieces: Sequence[tuple[float, float]], way: float) -> float:
    """The place after `way` along pieces of a line."""
    for start, end in pieces:
        if way <= end - start:
            return start + way
        way -= end - start
    return pieces[-1][1]


def _asked(recipe: Recipe, chosen: Sequence[Problem], tokenizer: Any, **same: bool) -> Any:
    """Problems as prompts, each with the target that the penalty draws for it."""
    targets = [recipe.rl.penalty.asked(number, recipe.rl_seed()) for number in range(len(chosen))]
    messages = [
        message(recipe.problems.prompt, problem.question) + words
        for problem, (_, words) in zip(chosen, targets, strict=True)
    ]
    conversations, encoded = _encoded(tokenizer, messages)
    columns: dict[str, list[Any]] = {
        "prompt": conversations,
        "answer": [problem.answer for problem in chosen],
        "prompt_tokens": list(map(len, encoded)),
        "target_tokens": [target for target, _ in targets],
        **{name: [value] * len(chosen) for name, value in same.items()},
    }
    size = recipe.rl.prompts_per_rollout
    if recipe.rl.gated:
        rng = random.Random(f"{recipe.rl_seed()}/alphas")
        drawn = (draw_alphas(recipe.rl.gated, size, rng) for _ in range(0, len(chosen), size))
        columns["alpha"] = list(islice(chain.from_iterable(drawn), len(chosen)))
    if recipe.rl.joint:
        starts, alphas = range(0, len(chosen), size), recipe.tiers.alphas
        order = [row for start in starts for _ in alphas for row in range(len(chosen))[start : start + size]]
        of = [alpha for start in starts for alpha in alphas for _ in chosen[start : start + size]]
        columns = {name: [values[row] for row in order] for name, values in columns.items()} | {"alpha": of}
    return Dataset.from_dict(columns)


def _encoded(tokenizer: Any, messages: Sequence[str]) -> tuple[list[Any], list[list[int]]]:
    """Conversations of one message each, and their tokens, chat template included."""
    conversations = [[{"role": "user", "content": text}] for text in messages]
    encoded = tokenizer.apply_chat_template(conversations, add_generation_prompt=True, return_dict=True)
    return conversations, encoded["input_ids"]


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
