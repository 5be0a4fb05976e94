"""Responses from a model in this process: the fast sampler for a Llama on a CPU, else `generate()`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoTokenizer, GenerationConfig

from alphatier_training.evaluation.answers import Answers
from alphatier_training.evaluation.samples import Completion, Pair, Plan
from alphatier_training.rl.policy import end_token_ids, load_policy

BATCH = 250
"""Responses sampled together, at most."""

BATCH_TOKENS = 1 << 18
"""Tokens of a batch, prompts and responses, at most: 7.5 GB of cache for a 1.5B Qwen2."""

PROMPT_TOKENS = 512
"""What a prompt is taken to need of them."""


def sample_model(answers: Answers, folder: str | Path, adapter: Path | None, device: str) -> None:
    """Take what is missing, batch by batch.

    The same plan gives the same samples on the same machine, however often it was interrupted.

    Args:
        answers: What to sample, and where it goes.
        folder: The model, a folder or a hub id.
        adapter: The LoRA adapter over it, if any.
        device: `cpu` or `cuda`.
    """
    plan, todo = answers.plan, set(answers.missing)
    if not todo:
        return
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = _load(folder, adapter, device)
    for batch in _batches(plan, todo):
        torch.manual_seed(_seed(plan, batch[0]))
        completions = complete(model, tokenizer, [answers.messages(pair) for pair in batch], plan)
        taken = zip(batch, completions, strict=True)
        answers.add([(pair, completion) for pair, completion in taken if pair in todo])


@torch.no_grad()
def complete(
    model: Any, tokenizer: Any, conversations: Sequence[list[dict[str, str]]], plan: Plan
) -> list[Completion]:
    """Sample one response to each conversation (torch's global generator)."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    inputs = tokenizer.apply_chat_template(
        conversations, add_generation_prompt=True, return_dict=True, padding=True, return_tensors="pt"
    ).to(model.device)
    settings = _settings(model, tokenizer, plan)
    output = model.generate(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], generation_config=settings
    )
    ends = set(settings.eos_token_id)
    return [_completion(tokenizer, row, ends) for row in output[:, inputs["input_ids"].shape[1] :].tolist()]


def _completion(tokenizer: Any, ids: list[int], ends: set[int]) -> Completion:
    end = next((index for index, token in enumerate(ids) if token in ends), None)
    kept = ids if end is None else ids[: end + 1]
    return Completion(tokenizer.decode(kept, skip_special_tokens=True), len(kept), truncated=end is None)


def _settings(model: Any, tokenizer: Any, plan: Plan) -> Any:
    return GenerationConfig(
        max_new_tokens=plan.max_tokens,
        do_sample=plan.temperature > 0,
        temperature=plan.temperature or None,
        top_p=plan.top_p if plan.temperature else None,
        top_k=0 if plan.temperature else None,
        eos_token_id=end_token_ids(model, tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )


def _load(folder: str | Path, adapter: Path | None, device: str) -> Any:
    model = load_policy(folder, device)
    return (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()


def batch_rows(max_tokens: int) -> int:
    """Responses of at most `max_tokens` sampled together. Part of the result: a batch shares its random numbers."""
    return max(1, min(BATCH, BATCH_TOKENS // (max_tokens + PROMPT_TOKENS)))


def _batches(plan: Plan, todo: set[Pair]) -> Iterator[list[Pair]]:
    """The plan's batches of (problem, sample) in which something is missing; whole, as they share their seed."""
    pairs = [(problem, sample) for sample in range(plan.samples_per_problem) for problem in range(plan.problems)]
    rows = batch_rows(plan.max_tokens)
    for start in range(0, len(pairs), rows):
        batch = pairs[start : start + rows]
        if not todo.isdisjoint(batch):
            yield batch


def _seed(plan: Plan, first: Pair) -> int:
    return (plan.seed * 1_000_003 + first[1]) * 1_000_003 + first[0]
