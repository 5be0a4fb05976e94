"""The baseline `shortest-sft`: the base fine-tuned on its own shortest correct responses (rejection sampling).

    sample k responses a training problem -> keep the shortest correct one of each -> supervised fine-tuning

The paper's baseline of that name (arXiv 2502.04463, section 4); Kimi k1.5 calls it shortest rejection sampling
(arXiv 2501.12599). What: a LoRA adapter over the family's base, by `trl.SFTTrainer` on tokens of ours, so that the
prompt is the one that evaluation uses. What not: no evaluation; `alphatier evaluate --baseline DIR` measures it.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from alphatier_models import Family, SamplingSettings
from alphatier_training import checkpoints
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.engine import Engine, sample
from alphatier_training.evaluation.measuring import BASELINE_FILE, Row, weights_of
from alphatier_training.evaluation.samples import Answers, Plan, Progress, Sample, SampleFile
from alphatier_training.evaluation.tasks import Task
from alphatier_training.rl.policy import device_of, load_policy
from alphatier_training.run.folder import replacing, write_text
from alphatier_training.run.reporting import Report, Reporter

NAME = "shortest-sft"

SAMPLING, TUNING = "samples", "fine-tuning"
"""The stages, as the display calls them."""

IGNORED = -100
"""The label of a position without loss (torch's cross-entropy)."""


@dataclass(frozen=True)
class Settings:
    """What decides the baseline, besides base and problems."""

    sampling: SamplingSettings
    epochs: int = 2
    batch_size: int = 32
    learning_rate: float = 1e-3
    """AdamW's peak rate, falling linearly to 0 (`rl.learning_rate`'s default)."""
    rank: int = 16
    scale: int = 32
    """LoRA's own alpha."""


def make(
    family: Family, folder: Path, task: Task, settings: Settings, out: Path, device: str, report: Reporter
) -> Path:
    """Make the baseline's adapter in OUT/shortest-sft, going on from what OUT/work holds.

    `device` is `cpu`, or `auto` for a GPU where there is one; then vLLM samples where it is installed.

    Raises:
        TrainingError: the base solves no problem, or OUT holds one with other settings.
    """
    target, work = out / NAME, out / "work" / NAME
    base = next((tier.name for tier in family.tiers if tier.layout == "base"), None)
    if base is None:
        raise TrainingError(
            f"{family.name} has no tier that is the untouched base; the baseline starts from it. Add one."
        )
    plan = task.plan(family.name, base, family.base.identity, settings.sampling, baseline=NAME)
    values = {"plan": plan.header(), **asdict(settings), "sampling": settings.sampling.model_dump()}
    described = json.loads(json.dumps({"method": NAME, "base": family.base.identity, "settings": values}))
    if target.exists():
        there = target / BASELINE_FILE
        found = json.loads(there.read_text(encoding="utf-8")) if there.is_file() else {}
        if described.items() <= found.items():
            return target
        raise TrainingError(f"{target} holds a baseline made with other settings; give another --out, or delete it.")
    model, _ = weights_of(family, folder, Row(NAME, base, NAME))
    file, progress = SampleFile(plan, work / "samples"), Progress(SAMPLING, plan.total(), report)
    sample([(Answers(plan, task.problems, file, progress), None)], model, Engine(device=device))
    report(Report(SAMPLING, plan.total(), plan.total(), "responses", finished=True))
    samples = file.read()
    kept = shortest_correct(samples)
    if not kept:
        raise TrainingError(
            f"{family.name}'s base solves none of the {plan.problems} problems; there is nothing to learn."
        )
    trainer = _trainer(model, device_of(device), _examples(model, task, plan, kept), settings, work, report)
    last = checkpoints.newest(
        work / "checkpoints", lambda text: report(Report(TUNING, 0, 0, note=text, warning=True))
    )
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    named = os.path.relpath(model, target) if family.base.sha256 else family.base.model
    trainer.model.peft_config["default"].base_model_name_or_path = named
    with replacing(target) as new:
        trainer.model.save_pretrained(new, save_embedding_layers=False)
        (new / "README.md").unlink(missing_ok=True)
        write_text(new / BASELINE_FILE, json.dumps(described | counts(samples, kept), indent=1) + "\n")
    shutil.rmtree(work / "checkpoints", ignore_errors=True)
    report(Report(TUNING, 1, 1, finished=True))
    return target


def shortest_correct(samples: Sequence[Sample]) -> list[Sample]:
    """The shortest right response of each problem that has one; of equals, the first."""
    right = sorted((one for one in samples if one.correct), key=lambda one: (one.problem, one.tokens, one.sample))
    return list({one.problem: one for one in reversed(right)}.values())[::-1]


def counts(samples: Sequence[Sample], kept: Sequence[Sample]) -> dict[str, float]:
    """What the selection did."""
    sampled, learnt = (round(fmean(one.tokens for one in group), 3) for group in (samples, kept))
    return {"kept": len(kept), "tokens_sampled": sampled, "tokens_kept": learnt}


def _examples(model: Path, task: Task, plan: Plan, kept: Sequence[Sample]) -> Any:
    """Token ids of prompt, response and end token, and labels for the response alone."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    conversations = [plan.messages(task.problems[one.problem]) for one in kept]
    prompts = tokenizer.apply_chat_template(conversations, add_generation_prompt=True, return_dict=True)["input_ids"]
    responses = tokenizer([one.response for one in kept], add_special_tokens=False)["input_ids"]
    pairs = [(prompt, [*ids, tokenizer.eos_token_id]) for prompt, ids in zip(prompts, responses, strict=True)]
    labels = [[IGNORED] * len(prompt) + ids for prompt, ids in pairs]
    return Dataset.from_dict({"input_ids": [prompt + ids for prompt, ids in pairs], "labels": labels})


def _trainer(model: Path, device: str, examples: Any, settings: Settings, work: Path, report: Reporter) -> Any:
    """TRL's, which takes the whole batch at once on a CPU and adds up single responses on a GPU."""
    on_cpu = device == "cpu"
    config = SFTConfig(
        output_dir=str(work / "checkpoints"),
        seed=settings.sampling.seed,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size if on_cpu else 1,
        gradient_accumulation_steps=1 if on_cpu else settings.batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        max_length=None,
        use_cpu=on_cpu,
        bf16=not on_cpu,
        gradient_checkpointing=not on_cpu,
        dataloader_pin_memory=not on_cpu,
        save_steps=0.1,
        save_total_limit=2,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=load_policy(model, device, dtype=torch.float32 if on_cpu else torch.bfloat16, place=False),
        args=config,
        train_dataset=examples,
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(
            r=settings.rank, lora_alpha=settings.scale, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[_Watches(report)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class _Watches(TrainerCallback):  # type: ignore[misc]  # transformers has no types for mypy
    """Tells how far the run is, and marks a checkpoint once all of it is written."""

    def __init__(self, report: Reporter) -> None:
        self._report = report

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_unused: Any) -> None:
        """Report after each step."""
        if "loss" in logs:
            note = f"loss {float(logs['loss']):.3f}"
            self._report(Report(TUNING, state.global_step, state.max_steps, "steps", note))

    def on_save(self, args: Any, state: Any, control: Any, **_unused: Any) -> None:
        """Called by the trainer after the last file."""
        checkpoints.mark_whole(Path(args.output_dir) / f"checkpoint-{state.global_step}")
