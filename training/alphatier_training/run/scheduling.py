"""Which processes run at once and on which GPUs, and each of them: started, followed by its reports, ended with us.

    one process      python -m alphatier_training.run.worker OUT alpha-0.1
    several          accelerate launch ... -m alphatier_training.run.worker OUT alpha-0.1

Every stage runs as soon as what it needs is done and places are free. On GPUs a stage is a process, which sees the
GPUs it has and no others. On a CPU a process takes a tier and its samples, or everything where it is the only one,
as importing the trainer costs as much as a few of its steps. No torch here: whether it can use the GPUs is asked in
preflight. The options are those of accelerate 1.15, and of vLLM's server as TRL 1.16 wants it.
"""

import asyncio
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import takewhile
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


@dataclass(frozen=True)
class Stage:
    """A step of the line from recipe to family."""

    name: str
    work: Callable[[Recipe, RunFolder, Reporter], None]
    """What it does, in a process."""
    needs: tuple[str, ...] = ()
    """The stages whose outputs it reads."""
    processes: int = 1
    """That share it, a GPU each."""
    within: str | None = None
    """The stage whose process takes it too on a CPU."""


@dataclass(frozen=True)
class Machine:
    """What a run has to work with."""

    gpus: tuple[str, ...] = ()
    """As CUDA_VISIBLE_DEVICES names them: numbers, UUIDs or MIG ids. None: stages run on the CPU."""
    cores: int = 1
    jobs: int | None = None
    """Processes at once, at most; None for as many as there are GPUs for, or cores."""

    @property
    def places(self) -> tuple[str, ...]:
        """Where processes run: GPUs by their names, or as many nameless places on a CPU."""
        return self.gpus or ("",) * (self.jobs or self.cores)

    @property
    def threads(self) -> int:
        """Of each process: a GPU's share of the cores, as DeepSpeed updates offloaded weights there; 1 on a CPU."""
        return max(1, self.cores // len(self.gpus)) if self.gpus else 1

    def tiers_at_once(self, recipe: Recipe) -> int:
        """How many tiers are trained beside each other."""
        fit = max(1, len(self.places) // recipe.compute.processes)
        return min(fit, self.jobs or fit, len(recipe.tiers.alphas))


def this_machine(device: str, environment: Mapping[str, str] = os.environ, *, jobs: int | None = None) -> Machine:
    """What this process may use; on `cpu`, a recipe's `compute.device`, no GPU, whatever there is.

    CUDA_VISIBLE_DEVICES is looked up in `environment`, where a scheduler such as SLURM sets it.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(() if device == "cpu" else _visible(environment), allowed, jobs)


def _visible(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The devices that are set, up to the first that is none, as CUDA reads them; else all that the driver lists."""
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = (name.strip() for name in chosen.split(","))
        return tuple(takewhile(lambda name: name not in ("", "-1", "NoDevFiles"), names))
    command = ("nvidia-smi", "--list-gpus")
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(map(str, range(sum(line.startswith("GPU ") for line in listed.splitlines()))))


def narrowed(machine: Machine, recipe: Recipe) -> Machine:
    """What of the machine a recipe takes: all GPUs, else the cores, or one process where the model may be large.

    That it may be unless the recipe says `device: cpu`. A `vllm_server` serves one trainer at a time, on GPUs of its
    own, so that only the first tier's are taken.

    Raises:
        TrainingError: a tier needs more GPUs than are visible.
    """
    compute, gpus = recipe.compute, machine.gpus
    if not gpus:
        return replace(machine, jobs=machine.jobs or (machine.cores if compute.device == "cpu" else 1))
    if compute.processes > len(gpus):
        raise TrainingError(
            f"compute.processes: a tier wants {compute.processes} GPUs, but {len(gpus)} are visible "
            f"({','.join(gpus)}). Lower it, or make more visible with CUDA_VISIBLE_DEVICES"
        )
    return replace(machine, gpus=gpus[: compute.processes]) if compute.generation.engine == "vllm_server" else machine


Unit = tuple[Stage, ...]
"""Stages that one process runs, in order, or several processes together where one stage is shared."""


def units_of(stages: Sequence[Stage], machine: Machine) -> list[Unit]:
    """The stages as processes, in the order in which they are wanted."""
    alone = machine.gpus or any(stage.processes > 1 for stage in stages)
    units: dict[str, Unit] = {}
    for stage in stages:
        taker = stage.name if alone else stage.within or stage.name if len(machine.places) > 1 else ""
        units[taker] = (*units.get(taker, ()), stage)
    return list(units.values())


async def run_stages(
    folder: RunFolder, stages: Sequence[Stage], machine: Machine, report: Reporter, locks: Sequence[int] = ()
) -> None:
    """Run all stages, which hold with what is done all that each needs; no process is left at the end.

    The processes hold the `locks`, descriptors of the stages' locks, too.

    Raises:
        TrainingError: one of them failed; those beside it have ended, and no other was started.
    """
    waiting, free = units_of(stages, machine), list(machine.places)
    running: dict[asyncio.Task[None], list[str]] = {}
    failures: list[BaseException] = []

    def taken_by(unit: Unit) -> int:
        return min(unit[0].processes, len(machine.places))

    def startable(unit: Unit) -> bool:
        needs = {need for stage in unit for need in stage.needs} - {stage.name for stage in unit}
        return taken_by(unit) <= len(free) and len(running) != machine.jobs and all(map(folder.is_done, needs))

    try:
        while waiting or running:
            while unit := next(filter(startable, waiting), None):
                waiting.remove(unit)
                taken, free = free[: taken_by(unit)], free[taken_by(unit) :]
                process = _run_unit(folder, unit, report, taken, machine.threads, locks)
                running[asyncio.create_task(process, name=unit[0].name)] = taken
            if not running:
                raise TrainingError(f"{waiting[0][0].name} cannot be started: what it needs is not done any more")
            for ended in (await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED))[0]:
                free = sorted([*free, *running.pop(ended)], key=machine.places.index)  # neighbours stay together
                if not (error := ended.exception()):
                    continue
                failures.append(error)
                waiting.clear()
                if running:
                    note = f"{error}\nWhat runs beside it goes on to its end; nothing else is started."
                    report(Report(ended.get_name(), 0, 0, note=note, warning=True))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if failures:
        raise failures[0]


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


async def _run_unit(
    folder: RunFolder, unit: Unit, report: Reporter, places: Sequence[str], threads: int, locks: Sequence[int]
) -> None:
    """Run stages, in order, to their end in a process, or in a launcher's several that share them.

    Its output holds the reports and what a launcher prints, which goes into the log as all of its errors do. It ends
    when this is cancelled, and when its input does, which is never written to: so it outlives us in no case.

    Raises:
        TrainingError: it failed; with its own message, or the end of its log.
    """
    stages = [stage.name for stage in unit]
    path = folder.log(stages[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    failures: list[Report] = []
    with path.open("ab", buffering=0) as log:
        process = await asyncio.create_subprocess_exec(
            *worker_command(folder.recipe(), folder.root, stages, unit[0].processes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            pass_fds=tuple(locks),
            start_new_session=True,
            env=_environment(places, threads),
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


def _environment(places: Sequence[str], threads: int) -> dict[str, str]:
    """As many threads as told, its GPUs alone, and the same hashes every time."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    seen = {"CUDA_VISIBLE_DEVICES": ",".join(places)} if any(places) else {}
    return os.environ | dict.fromkeys(names, str(threads)) | quiet | seen | {"PYTHONHASHSEED": "0"}
