"""Responses from a model in this process: the fast sampler for a Llama on a CPU, else `generate()`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoTokenizer, GenerationConfig

from alphatier_training.data.problem import Problem
from alphatier_training.evaluation.progress import Progress
from alphatier_training.evaluation.samples import Completion, Pair, Plan, Sample, SampleFile, graded, missing
from alphatier_training.grading import are_correct
from alphatier_training.rl.policy import end_token_ids, load_policy

BATCH = 250
"""Responses sampled together, at most."""

BATCH_TOKENS = 1 << 18
"""Tokens of a batch, prompts and responses, at most: 7.5 GB of cache for a 1.5B Qwen2."""

PROMPT_TOKENS = 512
"""What a prompt is taken to need of them."""


def sample_model(
    plan: Plan,
    problems: Sequence[Problem],
    file: SampleFile,
    folder: str | Path,
    adapter: Path | None,
    device: str,
    progress: Progress,
) -> None:
    """Take the samples of `plan` that are not in `file` yet, batch by batch.

    The same plan gives the same samples on the same machine, however often it was interrupted.

    Args:
        plan: What to sample.
        problems: The plan's problems.
        file: Where the samples go.
        folder: The model, a folder or a hub id.
        adapter: The LoRA adapter over it, if any.
        device: `cpu` or `cuda`.
        progress: Told of what is there, and after each batch.
    """
    present = file.read()
    todo = set(missing(plan, present))
    progress.add(present)
    if not todo:
        return
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = _load(folder, adapter, device)
    for batch in _batches(plan, todo):
        torch.manual_seed(_seed(plan, batch[0]))
        completions = complete(model, tokenizer, [plan.messages(problems[number]) for number, _ in batch], plan)
        taken = [(pair, completion) for pair, completion in zip(batch, completions, strict=True) if pair in todo]
        samples = _graded(problems, taken)
        file.append(samples)
        progress.add(samples)


def _graded(problems: Sequence[Problem], taken: Sequence[tuple[Pair, Completion]]) -> list[Sample]:
    answers = [problems[pair[0]].answer for pair, _ in taken]
    verdicts = are_correct([completion.whole for _, completion in taken], answers)
    return [
        graded(pair, problems[pair[0]], completion, correct=correct)
        for (pair, completion), correct in zip(taken, verdicts, strict=True)
    ]


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
