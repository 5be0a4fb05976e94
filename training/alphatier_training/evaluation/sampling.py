"""Responses from a model in this process: the fast sampler for a Llama on a CPU, else `generate()`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoTokenizer, GenerationConfig

from alphatier_training.evaluation.samples import Answers, Plan
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
    model = load_policy(folder, device)
    model = (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()
    pairs = [(problem, sample) for sample in range(plan.samples_per_problem) for problem in range(plan.problems)]
    rows = batch_rows(plan.max_tokens)
    for batch in (pairs[start : start + rows] for start in range(0, len(pairs), rows)):
        if todo.isdisjoint(batch):
            continue
        first = batch[0]  # a batch is taken whole, as it shares this seed
        torch.manual_seed((plan.seed * 1_000_003 + first[1]) * 1_000_003 + first[0])
        responses = complete(model, tokenizer, [answers.messages(pair) for pair in batch], plan)
        taken = zip(batch, responses, strict=True)
        answers.add([answers.sample(pair, *response) for pair, response in taken if pair in todo])


def batch_rows(max_tokens: int) -> int:
    """Responses of at most `max_tokens` sampled together. Part of the result: a batch shares its random numbers."""
    return max(1, min(BATCH, BATCH_TOKENS // (max_tokens + PROMPT_TOKENS)))


@torch.no_grad()
def complete(
    model: Any, tokenizer: Any, conversations: Sequence[list[dict[str, str]]], plan: Plan
) -> list[tuple[str, int, bool]]:
    """One response to each conversation: its text, its tokens, whether it is cut off (torch's global generator)."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    inputs = tokenizer.apply_chat_template(
        conversations, add_generation_prompt=True, return_dict=True, padding=True, return_tensors="pt"
    ).to(model.device)
    ends = end_token_ids(model, tokenizer)
    settings = GenerationConfig(
        max_new_tokens=plan.max_tokens,
        do_sample=plan.temperature > 0,
        temperature=plan.temperature or None,
        top_p=plan.top_p if plan.temperature else None,
        top_k=0 if plan.temperature else None,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
    )
    output = model.generate(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], generation_config=settings
    )
    found = []
    for ids in output[:, inputs["input_ids"].shape[1] :].tolist():
        kept = next((ids[: place + 1] for place, token in enumerate(ids) if token in ends), ids)
        found.append((tokenizer.decode(kept, skip_special_tokens=True), len(kept), kept[-1] not in ends))
    return found
