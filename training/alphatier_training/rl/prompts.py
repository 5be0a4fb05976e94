"""The prompts of an RL run: the same for every tier, in the same order."""

import json
from typing import Any

from datasets import Dataset

from alphatier_training.builtin import generate
from alphatier_training.data.problem import Problem
from alphatier_training.data.prompting import message
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.problems import ArithmeticProblems
from alphatier_training.run.folder import RunFolder


def prompts(recipe: Recipe, folder: RunFolder, tokenizer: Any) -> Any:
    """The rollouts' prompts as a data set: `prompt` (a conversation), `answer`, `prompt_tokens`."""
    chosen = problems_of(recipe, folder)
    messages = (message(recipe.problems.prompt, problem.question) for problem in chosen)
    conversations = [[{"role": "user", "content": text}] for text in messages]
    encoded = tokenizer.apply_chat_template(conversations, add_generation_prompt=True, return_dict=True)["input_ids"]
    return Dataset.from_list(
        [
            {"prompt": conversation, "answer": problem.answer, "prompt_tokens": len(ids)}
            for conversation, problem, ids in zip(conversations, chosen, encoded, strict=True)
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
