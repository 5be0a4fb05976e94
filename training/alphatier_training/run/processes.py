"""The process that runs stages, or the several that share one, seen from outside: started, followed, ended with us.

    one process      python -m alphatier_training.run.worker OUT alpha-0.1
    several          accelerate launch ... -m alphatier_training.run.worker OUT alpha-0.1

The options are those of accelerate 1.15, and of vLLM's server as TRL 1.16 wants it. What runs inside is `run.worker`.
"""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from alphatier_training.errors import TrainingError
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.base import PretrainedBase
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import Report, Reporter, parse_report

WORKER = "alphatier_training.run.worker"

STOP_SECONDS = 5.0
"""How long a process may take to end before it is killed."""

_LOG_LINES = 15


def worker_command(recipe: Recipe, out: Path, stages: Sequence[str], processes: int = 1) -> list[str]:
    """The command that runs `stages`: one process, or several that share them."""
    launcher = [sys.executable, *(_accelerate(recipe, processes) if processes > 1 else [])]
    return [*launcher, "-m", WORKER, str(out), *stages]


def _accelerate(recipe: Recipe, processes: int) -> list[str]:
    """accelerate's launcher; how processes share the model is one of TRL's own accelerate_configs.

    `--multi_gpu` is its name for torch's launcher, which serves on a CPU too; `--cpu` would start one process only.
    """
    compute = recipe.compute
    command = ["-m", "accelerate.commands.launch", "--num_machines", "1", "--num_processes", str(processes)]
    command += ["--main_process_port", "0"]  # any that is free
    if compute.strategy == "replicate":  # the trainer's own configuration tells the precision
        return [*command, "--mixed_precision", "no", "--dynamo_backend", "no", "--multi_gpu"]
    trl = find_spec("trl")
    configs = Path(trl.origin if trl and trl.origin else "trl").parent / "accelerate_configs"
    name = "fsdp2" if compute.strategy == "fsdp" else compute.strategy
    command += ["--config_file", str(configs / f"{name}.yaml")]
    command += ["--mixed_precision", "no" if compute.precision == "float32" else "bf16"]
    return [*command, *(["--offload_optimizer_device", "cpu"] if compute.offload_optimiser else [])]


def server_command(recipe: Recipe, out: Path) -> str:
    """What starts the engine of `vllm_server`: vLLM's own server with what TRL needs.

    That is weight transfer, and log-probabilities after the temperature. On this machine it takes the GPUs after the
    trainers'.
    """
    generation, where = recipe.compute.generation, urlsplit(recipe.compute.generation.server)
    base = recipe.base if isinstance(recipe.base, PretrainedBase) else None
    command = ["vllm", "serve", base.model if base else str(out / "base"), "--port", str(where.port or 80)]
    command += ["--revision", base.revision] if base and base.revision else []
    command += ["--tensor-parallel-size", str(generation.tensor_parallel)]
    command += ["--data-parallel-size", str(generation.data_parallel)] if generation.data_parallel > 1 else []
    command += ["--max-model-len", str(recipe.rl.max_prompt_tokens + recipe.rl.max_new_tokens)]
    command += ["--dtype", "float32" if recipe.compute.precision == "float32" else "bfloat16"]
    command += ["--weight-transfer-config", '{"backend": "nccl"}', "--logprobs-mode", "processed_logprobs"]
    command += ["--max-logprobs", "-1"]
    local = where.hostname in ("127.0.0.1", "localhost", "0.0.0.0", "::1")
    first, number = recipe.compute.processes if local else 0, generation.tensor_parallel * generation.data_parallel
    gpus = ",".join(map(str, range(first, first + number)))
    return f"CUDA_VISIBLE_DEVICES={gpus} VLLM_SERVER_DEV_MODE=1 {shlex.join(command)}"


async def run_process(
    folder: RunFolder,
    stages: Sequence[str],
    report: Reporter,
    *,
    processes: int = 1,
    gpus: Sequence[str] = (),
    threads: int = 1,
    locks: Sequence[int] = (),
) -> None:
    """Run stages, in order, to their end in a process, or in a launcher's several that share them.

    Its output holds the reports and what a launcher prints, which goes into the log as all of its errors do. It ends
    when this is cancelled, and when its input does, which is never written to: so it outlives us in no case.

    Args:
        folder: The run's folder.
        stages: What it runs.
        report: Told how far they are.
        processes: That share the stages.
        gpus: The only GPUs that it sees; none for a CPU.
        threads: Of each process, unless a stage says otherwise.
        locks: Descriptors of locks, which it holds too.

    Raises:
        TrainingError: it failed; with its own message, or the end of its log.
    """
    path = folder.log(stages[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    failures: list[Report] = []
    with path.open("ab", buffering=0) as log:
        process = await asyncio.create_subprocess_exec(
            *worker_command(folder.recipe(), folder.root, stages, processes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            pass_fds=tuple(locks),
            start_new_session=True,
            env=_environment(gpus, threads),
            limit=2**20,
        )
        assert process.stdout is not None
        output = process.stdout

        async def follow() -> None:
            async for line in output:
                told = parse_report(line)
                if told is None:
                    with suppress(OSError):  # the disk may be full, and the reports must still be read
                        log.write(line)
                else:
                    (failures.append if told.failed else report)(told)

        following = asyncio.create_task(follow())
        try:
            await process.wait()
        finally:
            await _end(process)
            await following
    if process.returncode and failures:
        raise TrainingError(f"{failures[0].stage}: {failures[0].note}\nThe whole story is in {path}")
    if process.returncode:
        ended = f"ended with status {process.returncode}"
        if process.returncode == -signal.SIGKILL:
            ended = "was killed (SIGKILL), by the system where memory ran out"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        raise TrainingError(
            f"{', '.join(stages)}: the process {ended}. The end of its log, {path}:\n"
            + "".join(f"    {line}\n" for line in lines)
            + "Run the same command again to go on from the last checkpoint."
        )


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the process if it is still there; what outlived a launcher ends with the input, and the reports with it."""
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
    assert process.stdin is not None
    process.stdin.close()
    with suppress(OSError):
        await process.stdin.wait_closed()


def _environment(gpus: Sequence[str], threads: int) -> dict[str, str]:
    """As many threads as told, its GPUs alone, and the same hashes every time."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    seen = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
    return os.environ | dict.fromkeys(names, str(threads)) | quiet | seen | {"PYTHONHASHSEED": "0"}
