"""Responses from a model in this process: the fast sampler for a Llama on a CPU, else `generate()`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoTokenizer, GenerationConfig

from alphatier_training.data.problem import Problem
from alphatier_training.evaluation.samples import Completion, Plan, Sample, SampleFile, graded, missing
from alphatier_training.grading import is_correct
from alphatier_training.rl.policy import FastLlama, load_policy
from alphatier_training.run.reporting import Report, Reporter

BATCH = 250
"""Responses sampled together. Part of the result, as a batch shares its random numbers."""


def sample_model(
    plan: Plan, file: SampleFile, folder: str | Path, adapter: Path | None, device: str, report: Reporter
) -> None:
    """Take the samples of `plan` that are not in `file` yet, batch by batch.

    The same plan gives the same samples on the same machine, however often it was interrupted.

    Args:
        plan: What to sample.
        file: Where the samples go.
        folder: The model, a folder or a hub id.
        adapter: The LoRA adapter over it, if any.
        device: `cpu` or `cuda`.
        report: Told after each batch.
    """
    present = file.read()
    todo, done, right = set(missing(plan, present)), len(present), sum(sample.correct for sample in present)
    if not todo:
        return
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = _load(folder, adapter, device)
    problems = plan.held_out()
    for batch in _batches(plan, todo):
        torch.manual_seed(_seed(plan, batch[0]))
        completions = complete(model, tokenizer, [problems[number].question for number, _ in batch], plan)
        pairs = zip(batch, completions, strict=True)
        samples = [_grade(pair, problems[pair[0]], completion) for pair, completion in pairs if pair in todo]
        file.append(samples)
        done, right = done + len(samples), right + sum(sample.correct for sample in samples)
        report(Report(f"samples-{plan.tier}", done, plan.total(), "responses", f"right {right / done:.0%}"))


def _grade(pair: tuple[int, int], problem: Problem, completion: Completion) -> Sample:
    return graded(pair, problem, completion, correct=is_correct(completion.text, problem.answer))


@torch.no_grad()
def complete(model: Any, tokenizer: Any, questions: Sequence[str], plan: Plan) -> list[Completion]:
    """Sample one response to each question (torch's global generator)."""
    inputs = tokenizer.apply_chat_template(
        [[{"role": "user", "content": question}] for question in questions],
        add_generation_prompt=True,
        return_dict=True,
        padding=True,
        return_tensors="pt",
    ).to(model.device)
    output = model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        generation_config=_settings(model, plan),
    )
    ends = _end_ids(model)
    return [_completion(tokenizer, row, ends) for row in output[:, inputs["input_ids"].shape[1] :].tolist()]


def _completion(tokenizer: Any, ids: list[int], ends: set[int]) -> Completion:
    end = next((index for index, token in enumerate(ids) if token in ends), None)
    kept = ids if end is None else ids[: end + 1]
    return Completion(tokenizer.decode(kept, skip_special_tokens=True), len(kept), truncated=end is None)


def _settings(model: Any, plan: Plan) -> Any:
    given = model.generation_config
    return GenerationConfig(
        max_new_tokens=plan.max_tokens,
        do_sample=plan.temperature > 0,
        temperature=plan.temperature or None,
        top_p=plan.top_p,
        top_k=0,
        eos_token_id=given.eos_token_id,
        pad_token_id=given.pad_token_id,
    )


def _end_ids(model: Any) -> set[int]:
    ends = model.generation_config.eos_token_id
    return {ends} if isinstance(ends, int) else set(ends)


def _load(folder: str | Path, adapter: Path | None, device: str) -> Any:
    model = load_policy(folder, device)
    if isinstance(model, FastLlama):
        torch.set_num_threads(1)  # a tiny model gains nothing from more, and rounding stays the same everywhere
    return (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()


def _batches(plan: Plan, todo: set[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """The plan's batches of (problem, sample) in which something is missing; whole, as they share their seed."""
    pairs = [(problem, sample) for sample in range(plan.samples_per_problem) for problem in range(plan.problems)]
    for start in range(0, len(pairs), BATCH):
        batch = pairs[start : start + BATCH]
        if not todo.isdisjoint(batch):
            yield batch


def _seed(plan: Plan, first: tuple[int, int]) -> int:
    return (plan.seed * 1_000_003 + first[1]) * 1_000_003 + first[0]
