"""What is run for a recipe: the processes of one stage, and the server of its rollouts.

    one process      python -m alphatier_training.run.worker OUT alpha-0.1
    several          accelerate launch ... -m alphatier_training.run.worker OUT alpha-0.1

What: command lines; options are those of accelerate 1.15, its FSDP and DeepSpeed settings as in TRL's own
accelerate_configs, and of vLLM's server as TRL 1.16 wants it.
What not: nothing is started here. `--multi_gpu` is accelerate's name for torch's launcher, which serves on a CPU too;
its `--cpu` would start one process only, or MPI's.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from alphatier_training.recipe import Recipe
from alphatier_training.recipe.base import PretrainedBase

WORKER = "alphatier_training.run.worker"

_LOCAL = ("127.0.0.1", "localhost", "0.0.0.0", "::1")


def worker_command(recipe: Recipe, out: Path, stages: Sequence[str], processes: int = 1) -> list[str]:
    """The command that runs `stages`: one process, or several that share them."""
    arguments = ["-m", WORKER, str(out), *stages]
    return [sys.executable, *arguments] if processes == 1 else [*_accelerate(recipe, processes), *arguments]


def server_command(recipe: Recipe, out: Path) -> str:
    """What starts the engine of `vllm_server`: vLLM's own server with what TRL needs.

    That is weight transfer, and log-probabilities after the temperature. On this machine it takes the GPUs after the
    trainers'.
    """
    generation, where = recipe.compute.generation, urlsplit(recipe.compute.generation.server)
    base = recipe.base.model if isinstance(recipe.base, PretrainedBase) else str(out / "base")
    command = ["vllm", "serve", base, "--port", str(where.port or 80)]
    if isinstance(recipe.base, PretrainedBase) and recipe.base.revision:
        command += ["--revision", recipe.base.revision]
    command += ["--tensor-parallel-size", str(generation.tensor_parallel)]
    if generation.data_parallel > 1:
        command += ["--data-parallel-size", str(generation.data_parallel)]
    command += ["--max-model-len", str(recipe.rl.max_prompt_tokens + recipe.rl.max_new_tokens)]
    command += ["--dtype", "float32" if recipe.compute.precision == "float32" else "bfloat16"]
    command += ["--weight-transfer-config", '{"backend": "nccl"}', "--logprobs-mode", "processed_logprobs"]
    command += ["--max-logprobs", "-1"]
    first = recipe.compute.processes if where.hostname in _LOCAL else 0
    number = generation.tensor_parallel * generation.data_parallel
    gpus = ",".join(str(gpu) for gpu in range(first, first + number))
    return f"CUDA_VISIBLE_DEVICES={gpus} VLLM_SERVER_DEV_MODE=1 {shlex.join(command)}"


def readable(command: Sequence[str]) -> str:
    """With `python` and `accelerate launch` as a person would type them."""
    text = shlex.join(["python", *command[1:]])
    return text.replace("python -m accelerate.commands.launch", "accelerate launch", 1)


def _accelerate(recipe: Recipe, processes: int) -> list[str]:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1"]
    command += ["--num_processes", str(processes), "--main_process_port", "0"]  # any that is free
    return [*command, "--mixed_precision", _mixed(recipe), "--dynamo_backend", "no", *_strategy(recipe)]


def _mixed(recipe: Recipe) -> str:
    """DeepSpeed and FSDP are told here; without them the trainer's own configuration says it."""
    return "no" if recipe.compute.strategy == "replicate" or recipe.compute.precision == "float32" else "bf16"


def _strategy(recipe: Recipe) -> list[str]:
    """How the processes share the model."""
    compute = recipe.compute
    if compute.strategy == "replicate":
        return ["--multi_gpu"]
    if compute.strategy == "fsdp":
        return [
            "--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP",
            "--fsdp_reshard_after_forward", "true", "--fsdp_state_dict_type", "FULL_STATE_DICT",
            "--fsdp_cpu_ram_efficient_loading", "true", "--fsdp_offload_params", "false",
        ]  # fmt: skip
    options = ["--use_deepspeed", "--zero_stage", compute.strategy[-1], "--deepspeed_multinode_launcher", "standard"]
    options += ["--offload_optimizer_device", "cpu" if compute.offload_optimiser else "none"]
    if compute.strategy == "zero3":
        options += ["--offload_param_device", "none", "--zero3_init_flag", "true", "--zero3_save_16bit_model", "true"]
    return options
