"""Which processes run at once, and on which GPUs: every stage as soon as what it needs is done and places are free.

On GPUs a stage is a process, which sees the GPUs it has and no others. On a CPU a process takes a tier and its
samples, or everything where it is the only one, as importing the trainer costs as much as a few of its steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alphatier_training.errors import LaunchError, StageError
from alphatier_training.recipe import BASE_TIER, Recipe
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.launch import is_shared
from alphatier_training.run.machine import Machine
from alphatier_training.run.processes import Worker, first_ended, signals_held
from alphatier_training.run.reporting import Report, Reporter
from alphatier_training.run.stages import PROBLEMS, SAMPLES, needs


@dataclass(frozen=True)
class Unit:
    """Stages that one process runs, in order, or several processes together for one tier's RL."""

    stages: tuple[str, ...]
    places: int = 1
    """GPUs, or processes at once on a CPU."""


def places_of(recipe: Recipe, machine: Machine, jobs: int | None) -> list[str]:
    """Where processes run: GPUs by their names, or as many nameless places on a CPU.

    A `vllm_server` serves one trainer at a time, on GPUs of its own, so that only the first tier's are taken.

    Raises:
        LaunchError: a tier needs more GPUs than are visible.
    """
    if not machine.gpus:
        return [""] * (jobs or (machine.cores if recipe.compute.device == "cpu" else 1))
    wanted = recipe.compute.processes
    if wanted > len(machine.gpus):
        raise LaunchError(
            f"compute.processes: a tier wants {wanted} GPUs, but {len(machine.gpus)} are visible "
            f"({','.join(machine.gpus)}). Lower it, or make more visible with CUDA_VISIBLE_DEVICES"
        )
    served = recipe.compute.generation.engine == "vllm_server"
    return list(machine.gpus[:wanted] if served else machine.gpus)


def units_of(recipe: Recipe, stages: Sequence[str], places: Sequence[str]) -> list[Unit]:
    """The stages as processes, in the order in which they are wanted."""
    alone = places[0] != "" or recipe.compute.processes > 1
    lanes: dict[str, list[str]] = {}
    for stage in stages:
        lane = stage if alone else _lane(stage) if len(places) > 1 else ""
        lanes.setdefault(lane, []).append(stage)
    wanted = min(recipe.compute.processes, len(places))
    return [Unit(tuple(lane), wanted if is_shared(lane) else 1) for lane in lanes.values()]


def run_units(
    recipe: Recipe,
    folder: RunFolder,
    units: Sequence[Unit],
    places: Sequence[str],
    report: Reporter,
    *,
    jobs: int | None = None,
    threads: int = 1,
    locks: Sequence[int] = (),
) -> None:
    """Run all units, as many at once as there are places; whatever happens, no process is left when this ends.

    Args:
        recipe: Says what each stage needs.
        folder: The run's folder.
        units: What is run; together with what is done they hold all that each needs.
        places: As of `places_of`.
        report: Told how far the stages are.
        jobs: Processes at once, at most.
        threads: Of each process.
        locks: The locks of the stages, which the processes hold too.

    Raises:
        StageError: one of them failed; those beside it have ended, and no other was started.
    """
    waiting, running, free = list(units), dict[Worker, list[str]](), list(places)
    failure: StageError | None = None
    try:
        while running or (waiting and failure is None):
            room = len(free) if len(running) != jobs and failure is None else 0
            if unit := _startable(recipe, waiting, folder.is_done, room):
                waiting.remove(unit)
                taken, free = free[: unit.places], free[unit.places :]
                with signals_held():
                    gpus = [place for place in taken if place]
                    worker = Worker(folder, unit.stages, report, gpus=gpus, threads=threads, locks=locks)
                    running[worker] = taken
                continue
            if not running:
                raise LaunchError(f"{waiting[0].stages[0]} cannot be started: what it needs is not done any more")
            ended = first_ended(list(running))
            free = sorted([*free, *running.pop(ended)], key=list(places).index)  # neighbours stay together
            try:
                ended.finish()
            except StageError as error:
                failure = failure or error
                if running:
                    note = f"{error}\nWhat runs beside it goes on to its end; nothing else is started."
                    report(Report(ended.stages[0], 0, 0, note=note, warning=True))
    finally:
        for worker in running:
            worker.stop()
    if failure is not None:
        raise failure


def _startable(recipe: Recipe, waiting: Sequence[Unit], done: Callable[[str], bool], free: int) -> Unit | None:
    """The first that fits and finds what it needs done, or in itself."""
    for unit in waiting:
        outside = (need for stage in unit.stages for need in needs(recipe, stage) if need not in unit.stages)
        if unit.places <= free and all(map(done, outside)):
            return unit
    return None


def _lane(stage: str) -> str:
    """What is run in one process on a CPU: base and problems; a tier and its samples."""
    if stage == SAMPLES + BASE_TIER:
        return stage
    return BASE_TIER if stage == PROBLEMS else stage.removeprefix(SAMPLES)
