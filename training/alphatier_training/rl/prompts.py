"""The prompts of an RL run: the same for every tier, in the same order."""

import json
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from alphatier_training.builtin import generate
from alphatier_training.data.problem import Problem, message
from alphatier_training.data.reading import read_problems
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.problems import ArithmeticProblems
from alphatier_training.run.folder import RunFolder


def prompts(recipe: Recipe, folder: RunFolder, tokenizer: Any) -> Any:
    """The rollouts' prompts as a data set: `prompt` (a conversation), `answer`, `prompt_tokens`, `target_tokens`."""
    return _asked(recipe, problems_of(recipe, folder), tokenizer)


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


def _asked(recipe: Recipe, chosen: Sequence[Problem], tokenizer: Any, **columns: bool) -> Any:
    targets = [recipe.rl.penalty.asked(number, recipe.rl_seed()) for number in range(len(chosen))]
    messages = [
        message(recipe.problems.prompt, problem.question) + words
        for problem, (_, words) in zip(chosen, targets, strict=True)
    ]
    conversations = [[{"role": "user", "content": text}] for text in messages]
    encoded = tokenizer.apply_chat_template(conversations, add_generation_prompt=True, return_dict=True)["input_ids"]
    return Dataset.from_list(
        [
            {
                "prompt": conversation,
                "answer": problem.answer,
                "prompt_tokens": len(ids),
                "target_tokens": target,
                **columns,
            }
            for conversation, problem, ids, (target, _) in zip(conversations, chosen, encoded, targets, strict=True)
        ]
    )


def problems_of(recipe: Recipe, folder: RunFolder) -> list[Problem]:
    """The problems of the run, one a prompt: drawn from the generator, or chosen by the stage `problems`."""
    if isinstance(recipe.problems, ArithmeticProblems):
        return generate(needed(recipe), seed=recipe.rl_seed(), split="train", levels=recipe.problems.levels)
    lines = folder.problems.read_text(encoding="utf-8").splitlines()
    return [Problem(**json.loads(line)) for line in lines]


def needed(recipe: Recipe) -> int:
    """Prompts that a run uses."""
    return recipe.rl.steps * recipe.rl.prompts_per_rollout
