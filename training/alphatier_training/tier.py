"""The stage of one tier: TRL's RLOO trainer with the paper's reward at one alpha.

What: model, prompts, reward, settings and callbacks handed to `EfficiencyTrainer`; its checkpoints; the adapter
or checkpoint that the tier is, and the run's curve.
What not: no loss of its own (`trainer`). Run by `alphatier train`.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoTokenizer, PrinterCallback

from alphatier_models.gated import GATE, Gate
from alphatier_training.checkpoints import COMPLETE, drop_half_written, in_order, newest, step_of
from alphatier_training.errors import TrainingError
from alphatier_training.grading import are_correct
from alphatier_training.joint import adapter_name
from alphatier_training.recipe import Recipe, tier_name
from alphatier_training.rl.config import dtype_of, trainer_config
from alphatier_training.rl.engine import clear_generation_errors
from alphatier_training.rl.keeping import MEASURED, KeepsTheBest, RolloutFile, best
from alphatier_training.rl.policy import device_of, end_token_ids, load_policy
from alphatier_training.rl.prompts import heldout_prompts, prompts
from alphatier_training.rl.rollout_reward import LengthPenalisedReward
from alphatier_training.rl.watching import Reports, StopsWhenCollapsed, StopsWhenDiverged, curve_of
from alphatier_training.run.base import BaseReference, load_reference
from alphatier_training.run.folder import RunFolder, replacing, write_text
from alphatier_training.run.reporting import Report, Reporter, forget_after
from alphatier_training.trainer import EfficiencyTrainer

_MODEL_SUFFIXES = (".json", ".safetensors", ".jinja", ".txt", ".model")
_NOT_THE_MODELS = ("trainer_state.json", COMPLETE, MEASURED)
_TOKENIZER_FILES = ("tokenizer*", "*.jinja", "generation_config.json", "special_tokens_map.json", "vocab*", "merges*")


def train_tier(recipe: Recipe, folder: RunFolder, alpha: float | None, report: Reporter) -> None:
    """Train the tier of `alpha`, or go on from its last whole checkpoint, and put it into the family.

    None is the one run of all alphas.

    A run that the alarm stops gives its best checkpoint; the curve's last entry says why.

    Raises:
        TrainingError: it collapsed before there was a checkpoint; loss, gradient, weights or probabilities were not
            finite; or the engine that generates the rollouts failed.
    """
    name = _name_of(recipe, alpha)
    if device_of(recipe.compute.device) == "cpu":  # on GPUs the optimiser may be on the CPU, and needs its cores
        torch.set_num_threads(1)
    tensorboard = folder.work / "tensorboard" / name
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(tensorboard)
    trainer = build_trainer(recipe, folder, alpha, report)
    alarm = next(one for one in trainer.callback_handler.callbacks if isinstance(one, StopsWhenCollapsed))
    with trainer.accelerator.main_process_first():  # which deletes what is half-written
        last = newest(folder.checkpoints(name), lambda text: report(_warning(recipe, name, 0, text)))
    if trainer.accelerator.is_main_process:
        since = step_of(last) if last else 0
        forget_after(tensorboard, since)
        _rollouts(recipe, folder, name).forget_after(since)
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    except BaseException:
        if trainer.accelerator.is_main_process:
            drop_half_written(folder.checkpoints(name))
        raise
    curve = curve_of(trainer.state.log_history)
    if alarm.reason:
        source = _kept_instead(folder, name, alarm.reason, curve)
        report(_warning(recipe, name, len(curve), curve[-1]["stopped"]))
    else:
        source = in_order(folder.checkpoints(name))[-1]  # of the last step, whatever its number
    if trainer.accelerator.is_main_process:
        _write_tier(source, recipe, load_reference(folder), folder.tier(name))
        write_text(folder.curve(name), json.dumps(curve, indent=1) + "\n")
    trainer.accelerator.wait_for_everyone()


def build_trainer(recipe: Recipe, folder: RunFolder, alpha: float | None, report: Reporter) -> EfficiencyTrainer:
    """The trainer of one tier, ready to train."""
    device = device_of(recipe.compute.device)
    on_cpu = device == "cpu"
    base, name, method = load_reference(folder), _name_of(recipe, alpha), recipe.rl
    tokenizer = AutoTokenizer.from_pretrained(base.path, padding_side="left")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    config = trainer_config(recipe, folder.checkpoints(name), on_cpu=on_cpu)
    dtype = dtype_of(recipe.compute, on_cpu=on_cpu, adapter=method.lora is not None)
    model = load_policy(base.path, device, dtype=dtype, place=False)
    lora = method.lora and LoraConfig(
        r=method.lora.rank,
        lora_alpha=method.lora.scale,
        lora_dropout=method.lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )

    def keep_step(checkpoint: Path) -> None:
        target = folder.work / "steps" / name / f"step-{step_of(checkpoint)}"
        _write_tier(checkpoint, recipe, base, target)

    with clear_generation_errors(config):  # the trainer greets the engine
        trainer = EfficiencyTrainer(
            method=method,
            alphas=recipe.tiers.alphas,
            rollouts=_rollouts(recipe, folder, name),
            model=model,
            reward_funcs=LengthPenalisedReward(alpha or 0.0, method, end_token_ids(model, tokenizer), are_correct),
            args=config,
            train_dataset=prompts(recipe, folder, tokenizer),
            eval_dataset=heldout_prompts(recipe, tokenizer),
            processing_class=tokenizer,
            peft_config=lora,
            callbacks=[
                Reports(name, method, report),
                StopsWhenDiverged(),
                StopsWhenCollapsed(method),
                KeepsTheBest(method, keep_step if method.keep_steps else None),
            ],
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _write_tier(source: Path, recipe: Recipe, base: BaseReference, target: Path) -> None:
    """A stock PEFT adapter, or a stock checkpoint with the base's tokenizer, of the trainer's checkpoint `source`.

    Of a joint run a folder of adapters, by the tiers' names.
    """
    with replacing(target) as finished:
        if recipe.rl.joint:
            for alpha in recipe.tiers.alphas:
                _write_adapter(source / adapter_name(alpha), base, finished / tier_name(alpha))
        elif recipe.rl.lora:
            _write_adapter(source, base, finished)
            if recipe.rl.gated:
                write_text(finished / GATE, Gate(largest=recipe.rl.gated.largest).model_dump_json() + "\n")
        else:
            _copy_model(source, finished)
            for file in (file for pattern in _TOKENIZER_FILES for file in Path(base.path).glob(pattern)):
                if not (finished / file.name).exists():
                    shutil.copyfile(file, finished / file.name)


def _write_adapter(source: Path, base: BaseReference, target: Path) -> None:
    _copy_model(source, target)
    config = target / "adapter_config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = base.seen_from_an_adapter
    write_text(config, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def _copy_model(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for file in _model_files(source):
        shutil.copyfile(file, target / file.name)


def _model_files(folder: Path) -> list[Path]:
    """The files of a model or an adapter, without the trainer's own and PEFT's model card."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix in _MODEL_SUFFIXES]
    if (folder / "adapter_config.json").is_file():
        return [file for file in files if file.name.startswith("adapter_")]
    return [file for file in files if file.name not in _NOT_THE_MODELS]


def _name_of(recipe: Recipe, alpha: float | None) -> str:
    return recipe.one_run() or "" if alpha is None else tier_name(alpha)


def _rollouts(recipe: Recipe, folder: RunFolder, name: str) -> RolloutFile:
    return RolloutFile(folder.work / "rollouts" / f"{name}.jsonl", recipe.rl.rollouts_saved)


def _warning(recipe: Recipe, name: str, rollouts: int, text: str) -> Report:
    return Report(name, rollouts, recipe.rl.steps, "rollouts", text, warning=True)


def _kept_instead(folder: RunFolder, name: str, reason: str, curve: list[dict[str, Any]]) -> Path:
    """The best checkpoint of a run that collapsed; its curve then ends with the reason."""
    found = best(folder.checkpoints(name))
    remedy = "Lower rl.learning_rate, use another rl.penalty, or see rl.alarm"
    if found is None:
        raise TrainingError(
            f"collapsed at rollout {len(curve)}, before its first checkpoint: {reason}. {remedy}; "
            "then train into another folder (--out)."
        )
    curve[-1]["stopped"] = f"stopped by the alarm: {reason}. The tier is {found.name}. {remedy}"
    return found
