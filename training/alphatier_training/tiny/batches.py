"""The data of the base: problems with synthetic responses, drawn as training goes, as padded batches.

What: a batch is a function of the recipe, the process and the batch's number, so that a resumed run
sees what it would have seen. What not: how responses are written is in `traces`.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alphatier_training.recipe import Recipe
from alphatier_training.recipe.base import Phase, SupervisedBase
from alphatier_training.tiny.problems import generate, malformed_question
from alphatier_training.tiny.traces import REFUSAL, overthinking_trace

IGNORED = -100
"""The label of a position without loss (torch's cross-entropy)."""

BATCHES_A_CHUNK = 64
"""Batches drawn together, so that responses of like length share one."""

Example = tuple[list[int], list[int]]
"""Token ids and their labels."""


@dataclass(frozen=True)
class Batch:
    """Token ids padded on the right, and their labels."""

    input_ids: Tensor
    labels: Tensor


def batches(recipe: Recipe, tokenizer: Any, *, rank: int = 0, start: int = 0) -> Iterator[Batch]:
    """One process's share of the batches from number `start` on, the same whatever the start."""
    for number in range(start - start % BATCHES_A_CHUNK, recipe.supervised().steps, BATCHES_A_CHUNK):
        count = min(BATCHES_A_CHUNK, recipe.supervised().steps - number)
        yield from _chunk(recipe, tokenizer, rank, number)[max(0, start - number) : count]


def phase_at(plan: SupervisedBase, step: int) -> Phase:
    """The phase that `step` (from 0) belongs to; a phase may begin up to a chunk late."""
    return next(phase for phase in plan.phases if step < phase.until * plan.steps)


def prompt_ids(tokenizer: Any, questions: Sequence[str]) -> list[list[int]]:
    """The ids of users' questions through the chat template, each ready for its response."""
    conversations = [[{"role": "user", "content": question}] for question in questions]
    encoded = tokenizer.apply_chat_template(conversations, add_generation_prompt=True, return_dict=True)
    return [list(ids) for ids in encoded["input_ids"]]


def encode(tokenizer: Any, questions: Sequence[str], responses: Sequence[str]) -> list[Example]:
    """The ids of prompt, response and end token, and their labels (the prompt has none)."""
    prompts = prompt_ids(tokenizer, questions)
    answers = tokenizer(list(responses), add_special_tokens=False)["input_ids"]
    return [
        ([*prompt, *answer, tokenizer.eos_token_id], [IGNORED] * len(prompt) + [*answer, tokenizer.eos_token_id])
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def pad(examples: Sequence[Example], pad_token_id: int) -> Batch:
    """Examples as one batch. Padding on the right needs no mask: a causal model never looks at it."""
    longest = max(len(ids) for ids, _ in examples)
    ids = [ids + [pad_token_id] * (longest - len(ids)) for ids, _ in examples]
    labels = [labels + [IGNORED] * (longest - len(labels)) for _, labels in examples]
    return Batch(torch.tensor(ids), torch.tensor(labels))


def _chunk(recipe: Recipe, tokenizer: Any, rank: int, number: int) -> list[Batch]:
    """The chunk that begins at batch `number`. Its order is the same in every process, so that they keep step."""
    plan = recipe.supervised()
    size, phase = plan.batch_size // plan.processes, phase_at(plan, number)
    rng = random.Random(f"{recipe.seed}/base/{number}/{rank}")
    problems = generate(BATCHES_A_CHUNK * size, seed=rng.getrandbits(32), split="train", levels=phase.levels)
    pairs = [(problem.question, overthinking_trace(problem, rng, phase.traces)) for problem in problems]
    for place in range(len(pairs)):
        if rng.random() < phase.malformed:
            pairs[place] = (malformed_question(rng), REFUSAL)
    examples = encode(tokenizer, *zip(*pairs, strict=True))
    examples.sort(key=lambda example: len(example[0]))
    chunk = [pad(examples[at : at + size], tokenizer.pad_token_id) for at in range(0, len(examples), size)]
    random.Random(f"{recipe.seed}/order/{number}").shuffle(chunk)
    return chunk
