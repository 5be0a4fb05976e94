"""What is run for a recipe: the processes of one tier's stage, the server of its rollouts, the command of each node.

    one process      python -m alphatier_training.run.worker OUT alpha-0.1
    several          accelerate launch ... -m alphatier_training.run.worker OUT alpha-0.1

What: command lines, as `alphatier train` starts them and `--dry-run` prints them; options are those of accelerate
1.15, its FSDP and DeepSpeed settings as in TRL's own accelerate_configs, and of vLLM's server as TRL 1.16 wants it.
What not: nothing is started here. `--multi_gpu` is accelerate's name for torch's launcher, which serves on a CPU too;
its `--cpu` would start one process only, or MPI's.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from alphatier_training.errors import LaunchError
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.base import PretrainedBase

WORKER = "alphatier_training.run.worker"

PORT = 29500
"""Where the processes of several nodes meet, unless told otherwise (torch's default)."""

_LOCAL = ("127.0.0.1", "localhost", "0.0.0.0", "::1")


@dataclass(frozen=True)
class Meeting:
    """Where the processes of several nodes find each other, and which node this is."""

    address: str
    """Host name or IP address of node 0, as the others reach it."""
    port: int = PORT
    node: int = 0

    @classmethod
    def parse(cls, address: str, node: int) -> "Meeting":
        """From `HOST` or `HOST:PORT`; LaunchError when it is neither."""
        host, colon, port = address.rpartition(":") if address.count(":") == 1 else (address, "", "")
        if not host or (colon and not port.isdigit()):
            raise LaunchError(f"--main-address {address}: give HOST or HOST:PORT of node 0, e.g. 10.0.0.1:{PORT}")
        return cls(host, int(port) if port else PORT, node)


def meeting_of(recipe: Recipe, address: str | None, node: int) -> Meeting | None:
    """Where the nodes of a run meet, None for a run on one; LaunchError when recipe and options contradict."""
    if recipe.compute.nodes == 1:
        if node or address is not None:
            raise LaunchError("compute.nodes is 1: leave out --node and --main-address, or set compute.nodes")
        return None
    if address is None:
        raise LaunchError(
            f"compute.nodes is {recipe.compute.nodes}: give --main-address HOST[:PORT] of node 0 on every node, and "
            "--node 1 and so on, on all but node 0; --dry-run prints each node's command"
        )
    return Meeting.parse(address, node)


def processes_of(recipe: Recipe) -> int:
    """The processes of one tier's RL, of all nodes."""
    return recipe.compute.processes * recipe.compute.nodes


def worker_command(recipe: Recipe, out: Path, stages: Sequence[str], meeting: Meeting | None) -> list[str]:
    """The command that runs `stages` on this node: one process, or as many as the recipe says for a tier's RL."""
    arguments = ["-m", WORKER, str(out), *stages]
    if processes_of(recipe) == 1 or not is_shared(stages):
        return [sys.executable, *arguments]
    return [*_accelerate(recipe, meeting), *arguments]


def is_shared(stages: Sequence[str]) -> bool:
    """Whether these stages are one tier's RL, the only kind that several processes share."""
    return len(stages) == 1 and stages[0].startswith("alpha-")


def _accelerate(recipe: Recipe, meeting: Meeting | None) -> list[str]:
    nodes = recipe.compute.nodes
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes_of(recipe))]
    command += ["--num_machines", str(nodes)]
    if meeting is None or nodes == 1:
        command += ["--main_process_port", "0"]  # any that is free
    else:
        command += ["--machine_rank", str(meeting.node), "--main_process_ip", meeting.address]
        command += ["--main_process_port", str(meeting.port), "--same_network"]
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


@dataclass(frozen=True)
class Step:
    """One command for a person to start."""

    where: str
    command: str
    why: str


def steps(recipe: Recipe, file: Path, out: Path) -> list[Step]:
    """What a person starts, in order, each on its machine."""
    train = ["alphatier", "train", str(file), "--out", str(out)]
    served = [_server(recipe, out)] if recipe.compute.generation.engine == "vllm_server" else []
    if recipe.compute.nodes == 1:
        return [*served, Step("here", shlex.join(train), "all stages; go on after a stop with the same command")]
    shared = f"all stages; {out} lies on a disk that all nodes see"
    first = Step("node 0", shlex.join([*train, "--main-address", "NODE0"]), shared)
    others = [
        Step(f"node {node}", shlex.join([*train, "--main-address", "NODE0", "--node", str(node)]), "its processes")
        for node in range(1, recipe.compute.nodes)
    ]
    return [*served, first, *others]


def tier_commands(recipe: Recipe, out: Path, stage: str) -> list[str]:
    """What `alphatier train` then starts by itself for one tier, one command a node."""
    nodes = recipe.compute.nodes
    meetings = [None] if nodes == 1 else [Meeting("NODE0", PORT, node) for node in range(nodes)]
    return [_readable(worker_command(recipe, out, [stage], meeting)) for meeting in meetings]


def _server(recipe: Recipe, out: Path) -> Step:
    """vLLM's own server with what TRL needs: weight transfer, and log-probabilities after the temperature."""
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
    local = where.hostname in _LOCAL
    first = recipe.compute.processes if local else 0
    number = generation.tensor_parallel * generation.data_parallel
    gpus = ",".join(str(gpu) for gpu in range(first, first + number))
    why = "generates the rollouts; the trainer sends it each update's weights"
    text = f"CUDA_VISIBLE_DEVICES={gpus} VLLM_SERVER_DEV_MODE=1 {shlex.join(command)}"
    return Step("here, besides" if local else str(where.hostname), text, why)


def _readable(command: Sequence[str]) -> str:
    """With `python` and `accelerate launch` as a person would type them."""
    text = shlex.join(["python", *command[1:]])
    return text.replace("python -m accelerate.commands.launch", "accelerate launch", 1)
