"""What a recipe's `arithmetic` problems and `supervised` base stand for, and the Llama that is fast on a CPU.

The only way to `tiny`: each function imports the part of it that it needs when it is called.
"""

import random
from collections.abc import Sequence
from typing import Any, Literal

from alphatier_training.data.problem import Problem
from alphatier_training.recipe import Recipe
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import Reporter


def generate(
    count: int,
    *,
    seed: int,
    split: Literal["train", "heldout"],
    levels: Sequence[int] | None = None,
    strange: float = 0.0,
) -> list[Problem]:
    """Built-in problems, of all levels unless some are named; the same arguments give the same ones.

    A share `strange` of them, drawn one by one, is replaced by questions that are to be refused.
    """
    from alphatier_training.tiny import strange as others
    from alphatier_training.tiny import sums

    rng = random.Random(f"{seed}/{split}/strange")
    problems = sums.generate(count, seed=seed, split=split, levels=levels or all_levels())
    return [others.strange_problem(rng) if rng.random() < strange else problem for problem in problems]


def all_levels() -> tuple[int, ...]:
    """The levels of the built-in problems, from easy to hard."""
    from alphatier_training.tiny.sums import LEVELS

    return LEVELS


def way_of(response: str) -> str | None:
    """How a response to a built-in problem is worked, in words; None where it is in none of the known ways."""
    from alphatier_training.tiny import ways

    way = ways.way_of(response)
    return way and way.name


def train_base(recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    """Train the base from nothing, or go on from its checkpoint; errors are `tiny.base.train_base`'s."""
    from alphatier_training.tiny import base

    base.train_base(recipe, folder, report)


def fast_llama(config: Any) -> Any | None:
    """The class that is fast on a CPU for the model of `config`; None unless that is a Llama without biases."""
    if config.model_type != "llama" or config.attention_bias or config.mlp_bias:
        return None
    from alphatier_training.tiny.llama import FastLlama

    return FastLlama
