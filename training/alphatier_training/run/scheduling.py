"""Which processes run at once, and on which GPUs: every stage as soon as what it needs is done and places are free.

On GPUs a stage is a process, which sees the GPUs it has and no others. On a CPU a process takes a tier and its
samples, or everything where it is the only one, as importing the trainer costs as much as a few of its steps.
No torch here: whether it can use the GPUs is asked in preflight.
"""

import asyncio
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from alphatier_training.errors import TrainingError
from alphatier_training.recipe import Recipe
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.processes import run_process
from alphatier_training.run.reporting import Report, Reporter


@dataclass(frozen=True)
class Stage:
    """A step of the line from recipe to family."""

    name: str
    needs: tuple[str, ...] = ()
    """The stages whose outputs it reads."""
    work: Callable[[Recipe, RunFolder, Reporter], None] | None = None
    """What it does, in a process of its own; None for what `alphatier train` does itself."""
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


@dataclass(frozen=True)
class Room:
    """Where the processes of a recipe run."""

    places: tuple[str, ...]
    """GPUs by their names, or as many nameless places on a CPU."""
    jobs: int | None = None
    """Processes at once, at most."""
    threads: int = 1
    """Of each process: a GPU's share of the cores, as DeepSpeed updates offloaded weights there; 1 on a CPU."""

    @property
    def on_gpus(self) -> bool:
        """Whether places are GPUs."""
        return self.places[0] != ""

    def tiers_at_once(self, recipe: Recipe) -> int:
        """How many tiers are trained beside each other."""
        fit = max(1, len(self.places) // recipe.compute.processes)
        return min(fit, self.jobs or fit, len(recipe.tiers.alphas))


def room_of(recipe: Recipe, machine: Machine) -> Room:
    """All GPUs that are visible, else the cores, or one process of a model that may be large (`device: auto`).

    A `vllm_server` serves one trainer at a time, on GPUs of its own, so that only the first tier's are taken.

    Raises:
        TrainingError: a tier needs more GPUs than are visible.
    """
    if not machine.gpus:
        return Room(("",) * (machine.jobs or (machine.cores if recipe.compute.device == "cpu" else 1)))
    wanted = recipe.compute.processes
    if wanted > len(machine.gpus):
        raise TrainingError(
            f"compute.processes: a tier wants {wanted} GPUs, but {len(machine.gpus)} are visible "
            f"({','.join(machine.gpus)}). Lower it, or make more visible with CUDA_VISIBLE_DEVICES"
        )
    served = recipe.compute.generation.engine == "vllm_server"
    threads = max(1, machine.cores // len(machine.gpus))
    return Room(machine.gpus[:wanted] if served else machine.gpus, machine.jobs, threads)


Unit = tuple[Stage, ...]
"""Stages that one process runs, in order, or several processes together where one stage is shared."""


def units_of(stages: Sequence[Stage], room: Room) -> list[Unit]:
    """The stages as processes, in the order in which they are wanted."""
    alone = room.on_gpus or any(stage.processes > 1 for stage in stages)
    units: dict[str, Unit] = {}
    for stage in stages:
        taker = stage.name if alone else stage.within or stage.name if len(room.places) > 1 else ""
        units[taker] = (*units.get(taker, ()), stage)
    return list(units.values())


async def run_stages(
    folder: RunFolder, stages: Sequence[Stage], room: Room, report: Reporter, locks: Sequence[int] = ()
) -> None:
    """Run all stages, which hold with what is done all that each needs; no process is left at the end.

    The processes hold the `locks`, descriptors of the stages' locks, too.

    Raises:
        TrainingError: one of them failed; those beside it have ended, and no other was started.
    """
    waiting, free = units_of(stages, room), list(room.places)
    running: dict[asyncio.Task[None], list[str]] = {}
    failures: list[BaseException] = []

    def taken_by(unit: Unit) -> int:
        return min(unit[0].processes, len(room.places))

    def startable(unit: Unit) -> bool:
        needs = {need for stage in unit for need in stage.needs} - {stage.name for stage in unit}
        return taken_by(unit) <= len(free) and len(running) != room.jobs and all(map(folder.is_done, needs))

    try:
        while waiting or running:
            while unit := next(filter(startable, waiting), None):
                waiting.remove(unit)
                taken, free = free[: taken_by(unit)], free[taken_by(unit) :]
                process = run_process(
                    folder,
                    [stage.name for stage in unit],
                    report,
                    processes=unit[0].processes,
                    gpus=taken if room.on_gpus else (),
                    threads=room.threads,
                    locks=locks,
                )
                running[asyncio.create_task(process, name=unit[0].name)] = taken
            if not running:
                raise TrainingError(f"{waiting[0][0].name} cannot be started: what it needs is not done any more")
            for ended in (await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED))[0]:
                free = sorted([*free, *running.pop(ended)], key=room.places.index)  # neighbours stay together
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
