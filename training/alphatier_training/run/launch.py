"""What is run for a recipe: the processes of one stage, and the server of its rollouts.

    one process      python -m alphatier_training.run.worker OUT alpha-0.1
    several          accelerate launch ... -m alphatier_training.run.worker OUT alpha-0.1

What: command lines, with the options of accelerate 1.15, and of vLLM's server as TRL 1.16 wants it.
What not: nothing is started here. `--multi_gpu` is accelerate's name for torch's launcher, which serves on a CPU too;
its `--cpu` would start one process only, or MPI's.
"""

import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
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
    """accelerate's launcher. How processes share the model is one of TRL's own accelerate_configs."""
    compute = recipe.compute
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1"]
    command += ["--num_processes", str(processes), "--main_process_port", "0"]  # any that is free
    if compute.strategy == "replicate":  # the trainer's own configuration tells the precision
        return [*command, "--mixed_precision", "no", "--dynamo_backend", "no", "--multi_gpu"]
    trl = find_spec("trl")
    config = Path(trl.origin).parent if trl and trl.origin else Path("trl")
    name = "fsdp2" if compute.strategy == "fsdp" else compute.strategy
    command += ["--config_file", str(config / "accelerate_configs" / f"{name}.yaml")]
    command += ["--mixed_precision", "no" if compute.precision == "float32" else "bf16"]
    return [*command, *(["--offload_optimizer_device", "cpu"] if compute.offload_optimiser else [])]
