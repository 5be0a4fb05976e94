"""The stage of one tier: TRL's RLOO trainer with the paper's reward at one alpha, on a LoRA adapter.

What: prompts, reward, settings and callbacks handed to `trl.RLOOTrainer` through its public seams;
its own checkpoints; the adapter, the only thing kept of the run besides its curve.
What not: no loss or loop of its own. Run by `alphatier train`.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, PrinterCallback, TrainerCallback
from trl import RLOOConfig, RLOOTrainer

from alphatier_training.arithmetic.problems import generate
from alphatier_training.grading import is_correct
from alphatier_training.method.rollout_reward import LengthPenalisedReward, check_groups_whole
from alphatier_training.recipe import Recipe, tier_name
from alphatier_training.recipe.rl import Lora
from alphatier_training.rl.policy import device_of, load_policy
from alphatier_training.run.folder import RunFolder, replacing, write_text
from alphatier_training.run.reporting import Report, Reporter

COMPLETE = "complete"
"""A file in a checkpoint's folder, written when all of the checkpoint is there."""

BASE_REFERENCE = "../base"
"""Where an adapter says that its base is; a family can be moved as a whole."""


def train_tier(recipe: Recipe, folder: RunFolder, alpha: float, report: Reporter) -> None:
    """Train the tier of `alpha`, or go on from its last checkpoint, and put its adapter into the family."""
    name = tier_name(alpha)
    torch.set_num_threads(1)
    trainer = build_trainer(recipe, folder, alpha, report)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder.checkpoints(name)))
    curve = [entry for entry in trainer.state.log_history if "tokens" in entry]
    write_text(folder.curve(name), json.dumps(curve, indent=1) + "\n")
    with replacing(folder.tier(name)) as new:
        save_adapter(trainer.model, new)


def build_trainer(recipe: Recipe, folder: RunFolder, alpha: float, report: Reporter) -> Any:
    """The trainer of one tier, ready to train."""
    device = device_of(recipe.compute.device)
    tokenizer = AutoTokenizer.from_pretrained(folder.base, padding_side="left")
    name = tier_name(alpha)
    config = trainer_config(recipe, folder.checkpoints(name), on_cpu=device == "cpu")
    check_groups_whole(config.per_device_train_batch_size, config.steps_per_generation, config.num_generations)
    trainer = RLOOTrainer(
        model=load_policy(folder.base, device),
        reward_funcs=LengthPenalisedReward(
            alpha, recipe.rl.samples_per_prompt, (tokenizer.eos_token_id,), is_correct
        ),
        args=config,
        train_dataset=prompts(recipe),
        processing_class=tokenizer,
        peft_config=_lora(recipe.rl.lora) if recipe.rl.lora else None,
        callbacks=[_Reports(name, config.max_steps, report), _MarksCheckpoints()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def prompts(recipe: Recipe) -> Any:
    """The prompts of a run, each used once; every tier sees the same ones in the same order."""
    problems = generate(
        recipe.rl.steps * recipe.rl.prompts_per_rollout,
        seed=recipe.seed,
        split="train",
        levels=recipe.levels(),
    )
    return Dataset.from_list(
        [{"prompt": [{"role": "user", "content": p.question}], "answer": p.answer} for p in problems]
    )


def trainer_config(recipe: Recipe, output: Path, *, on_cpu: bool) -> Any:
    """The recipe in TRL's terms."""
    rl = recipe.rl
    responses = rl.prompts_per_rollout * rl.samples_per_prompt
    update = responses // rl.updates_per_rollout
    micro = rl.micro_batch or update
    return RLOOConfig(
        output_dir=str(output),
        seed=recipe.seed,
        max_steps=rl.steps * rl.updates_per_rollout,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=update // micro,
        steps_per_generation=responses // micro,
        num_generations=rl.samples_per_prompt,
        num_iterations=1,
        max_completion_length=rl.max_new_tokens,
        temperature=rl.temperature,
        top_p=1.0,
        top_k=0,
        beta=rl.kl.coefficient,
        epsilon=rl.loss.clip_range,
        normalize_advantages=rl.advantage == "whiten",
        mask_truncated_completions=False,
        learning_rate=rl.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=rl.warmup_steps * rl.updates_per_rollout,
        adam_beta1=rl.adam_betas[0],
        adam_beta2=rl.adam_betas[1],
        weight_decay=rl.weight_decay,
        max_grad_norm=rl.gradient_clip,
        shuffle_dataset=False,
        save_steps=rl.checkpoint_every * rl.updates_per_rollout,
        save_total_limit=2,
        use_cpu=on_cpu,
        bf16=not on_cpu,
        gradient_checkpointing=not on_cpu,
        dataloader_pin_memory=not on_cpu,
        logging_steps=rl.updates_per_rollout,
        report_to="none",
        disable_tqdm=True,
    )


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint below `folder`; half-written ones are deleted."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    for path in [path for path in found if not (path / COMPLETE).is_file()]:
        shutil.rmtree(path)
    complete = [path for path in found if (path / COMPLETE).is_file()]
    return str(complete[-1]) if complete else None


def save_adapter(model: Any, folder: Path) -> None:
    """Write a stock PEFT adapter over `../base`, without the model card that PEFT adds."""
    model.peft_config["default"].base_model_name_or_path = BASE_REFERENCE
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)


def _lora(lora: Lora) -> Any:
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.scale, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )


class _Reports(TrainerCallback):  # type: ignore[misc]  # transformers has no types for mypy
    """Tells how far the run is, with the last rollout's figures."""

    def __init__(self, stage: str, steps: int, report: Reporter) -> None:
        self._stage, self._steps, self._report = stage, steps, report

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_unused: Any) -> None:
        """Report after each update."""
        if "tokens" in logs:
            note = f"right {logs['accuracy']:.0%}, {logs['tokens']:.0f} tokens"
            self._report(Report(self._stage, state.global_step, self._steps, "steps", note))


class _MarksCheckpoints(TrainerCallback):  # type: ignore[misc]  # transformers has no types for mypy
    """Marks a checkpoint once all of it is written."""

    def on_save(self, args: Any, state: Any, control: Any, **_unused: Any) -> None:
        """Called by the trainer after the last file."""
        write_text(Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE, "")
