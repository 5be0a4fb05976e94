"""The recipe in TRL's terms."""

from pathlib import Path
from typing import Any

import torch
from trl import RLOOConfig

from alphatier_training.recipe import Compute, Recipe
from alphatier_training.recipe.rl import Reinforcement
from alphatier_training.run.reporting import watchers


def trainer_config(recipe: Recipe, output: Path, *, on_cpu: bool) -> Any:
    """TRL's configuration of one RL run; `per_device` is one process's share."""
    rl, processes = recipe.rl, recipe.compute.processes
    responses = rl.prompts_per_rollout * rl.samples_per_prompt // processes
    update, tiers = responses // rl.updates_per_rollout, len(recipe.tiers.alphas) if rl.joint else 1
    micro, recompute = rl.micro_batch or update, recipe.compute.gradient_checkpointing
    return RLOOConfig(
        output_dir=str(output),
        seed=recipe.rl_seed(),
        max_steps=rl.steps * rl.updates_per_rollout,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=tiers * update // micro,
        steps_per_generation=tiers * responses // micro,
        num_generations=rl.samples_per_prompt,
        num_iterations=1,
        max_completion_length=rl.max_new_tokens,
        temperature=rl.temperature,
        top_p=1.0,
        top_k=0,
        beta=rl.kl.coefficient,
        epsilon=rl.loss.clip_range,
        normalize_advantages=False,
        mask_truncated_completions=False,
        learning_rate=rl.learning_rate,
        **_schedule(rl),
        warmup_steps=rl.warmup_steps * rl.updates_per_rollout,
        adam_beta1=rl.adam_betas[0],
        adam_beta2=rl.adam_betas[1],
        weight_decay=rl.weight_decay,
        max_grad_norm=rl.gradient_clip,
        shuffle_dataset=False,
        save_steps=rl.checkpoint_every * rl.updates_per_rollout,
        save_total_limit=None,
        use_cpu=on_cpu,
        bf16=not on_cpu and recipe.compute.precision != "float32",
        gradient_checkpointing=not on_cpu if recompute is None else recompute,
        dataloader_pin_memory=not on_cpu,
        logging_steps=rl.updates_per_rollout,
        logging_nan_inf_filter=False,
        report_to=watchers(),
        run_name=f"{recipe.name}/{output.name}",
        disable_tqdm=True,
        **_heldout(rl, processes),
        **_generation(recipe),
    )


def dtype_of(compute: Compute, *, on_cpu: bool, adapter: bool) -> torch.dtype:
    """The precision of the weights that are loaded.

    Weights that are trained in place of an adapter stay float32 under autocast: a step of 5e-6 is lost in
    bfloat16. DeepSpeed keeps such master weights by itself.
    """
    if compute.precision == "float32" or (compute.precision == "auto" and on_cpu):
        return torch.float32
    return torch.bfloat16 if adapter or compute.strategy.startswith("zero") else torch.float32


def _schedule(rl: Reinforcement) -> dict[str, Any]:
    """transformers' settings of the learning rate; its polynomial of power 1 is a line."""
    if rl.learning_rate_end == 1:
        return {"lr_scheduler_type": "constant_with_warmup"}
    end = rl.learning_rate * rl.learning_rate_end
    return {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": end}}


def _heldout(rl: Reinforcement, processes: int) -> dict[str, Any]:
    """TRL's settings of the held-out problems: tried in batches of a rollout's size, at most."""
    if rl.heldout is None:
        return {}
    prompts = min(rl.heldout.problems, rl.prompts_per_rollout) // processes
    return {
        "eval_strategy": "steps",
        "eval_steps": rl.heldout.every * rl.updates_per_rollout,
        "per_device_eval_batch_size": max(1, prompts) * rl.samples_per_prompt,
    }


def _generation(recipe: Recipe) -> dict[str, Any]:
    """TRL's settings of who generates the rollouts."""
    plan = recipe.compute.generation
    if plan.engine == "in_process":
        return {"use_vllm": False}
    if plan.engine == "vllm_server":
        return {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": plan.server}
    return {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_max_model_length": recipe.rl.max_prompt_tokens + recipe.rl.max_new_tokens,
        "vllm_gpu_memory_utilization": plan.memory_share,
        "vllm_tensor_parallel_size": plan.tensor_parallel,
        "vllm_enable_sleep_mode": plan.sleep,
    }
