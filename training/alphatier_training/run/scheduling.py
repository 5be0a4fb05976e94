"""Which processes run at once, and on which GPUs: every stage as soon as what it needs is done and places are free.

On GPUs a stage is a process, which sees the GPUs it has and no others. On a CPU a process takes a tier and its
samples, or everything where it is the only one, as importing the trainer costs as much as a few of its steps.
"""

from collections.abc import Sequence
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


@dataclass(frozen=True)
class Room:
    """Where processes run."""

    places: tuple[str, ...]
    """GPUs by their names, or as many nameless places on a CPU."""
    jobs: int | None = None
    """Processes at once, at most."""
    threads: int = 1
    """Of each process."""

    def on_gpus(self) -> bool:
        """Whether places are GPUs."""
        return self.places[0] != ""

    def tiers_at_once(self, recipe: Recipe) -> int:
        """How many tiers are trained beside each other."""
        fit = max(1, len(self.places) // recipe.compute.processes)
        return min(fit, self.jobs or fit, len(recipe.tiers.alphas))


def room_of(recipe: Recipe, machine: Machine, jobs: int | None = None) -> Room:
    """All GPUs that are visible, else the cores, or one process of a model that may be large (`device: auto`).

    A `vllm_server` serves one trainer at a time, on GPUs of its own, so that only the first tier's are taken.

    Raises:
        LaunchError: a tier needs more GPUs than are visible.
    """
    if not machine.gpus:
        return Room(("",) * (jobs or (machine.cores if recipe.compute.device == "cpu" else 1)))
    wanted = recipe.compute.processes
    if wanted > len(machine.gpus):
        raise LaunchError(
            f"compute.processes: a tier wants {wanted} GPUs, but {len(machine.gpus)} are visible "
            f"({','.join(machine.gpus)}). Lower it, or make more visible with CUDA_VISIBLE_DEVICES"
        )
    served = recipe.compute.generation.engine == "vllm_server"
    return Room(machine.gpus[:wanted] if served else machine.gpus, jobs, machine.threads())


def units_of(recipe: Recipe, stages: Sequence[str], room: Room) -> list[Unit]:
    """The stages as processes, in the order in which they are wanted."""
    alone = room.on_gpus() or recipe.compute.processes > 1
    lanes: dict[str, list[str]] = {}
    for stage in stages:
        lane = stage if alone else _lane(stage) if len(room.places) > 1 else ""
        lanes.setdefault(lane, []).append(stage)
    wanted = min(recipe.compute.processes, len(room.places))
    return [Unit(tuple(lane), wanted if is_shared(lane) else 1) for lane in lanes.values()]


class Schedule:
    """Stages that wait and workers that run; whatever happens, no process is left when `run` ends."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        stages: Sequence[str],
        room: Room,
        report: Reporter,
        locks: Sequence[int] = (),
    ) -> None:
        """Plan it.

        Args:
            recipe: Says what each stage needs.
            folder: The run's folder.
            stages: What is run; together with what is done they hold all that each needs.
            room: Where.
            report: Told how far the stages are.
            locks: The locks of the stages, which the processes hold too.
        """
        self._recipe, self._folder, self._room = recipe, folder, room
        self._report, self._locks = report, locks
        self._waiting, self._free = units_of(recipe, stages, room), list(room.places)
        self._running: dict[Worker, list[str]] = {}
        self._failure: StageError | None = None

    def run(self) -> None:
        """Run all stages.

        Raises:
            StageError: one of them failed; those beside it have ended, and no other was started.
        """
        try:
            while self._waiting or self._running:
                self._start()
                self._take(first_ended(list(self._running)))
        finally:
            for worker in self._running:
                worker.stop()
        if self._failure is not None:
            raise self._failure

    def _start(self) -> None:
        """Start what fits."""
        while len(self._running) != self._room.jobs and (
            unit := next(filter(self._is_startable, self._waiting), None)
        ):
            self._waiting.remove(unit)
            taken, self._free = self._free[: unit.places], self._free[unit.places :]
            gpus = taken if self._room.on_gpus() else []
            with signals_held():
                worker = Worker(
                    self._folder,
                    unit.stages,
                    self._report,
                    gpus=gpus,
                    threads=self._room.threads,
                    locks=self._locks,
                )
                self._running[worker] = taken
        if not self._running:
            stage = self._waiting[0].stages[0]
            raise LaunchError(f"{stage} cannot be started: what it needs is not done any more")

    def _is_startable(self, unit: Unit) -> bool:
        """Whether it fits, and finds what it needs done, or in itself."""
        fits = unit.places <= len(self._free) and len(self._running) != self._room.jobs
        wanted = {need for stage in unit.stages for need in needs(self._recipe, stage)} - set(unit.stages)
        return fits and all(map(self._folder.is_done, wanted))

    def _take(self, ended: Worker) -> None:
        """Free what a worker held; after a failure nothing else is started."""
        freed = [*self._free, *self._running.pop(ended)]
        self._free = sorted(freed, key=self._room.places.index)  # neighbours stay together
        try:
            ended.finish()
        except StageError as error:
            self._failure = self._failure or error
            self._waiting.clear()
            if self._running:
                note = f"{error}\nWhat runs beside it goes on to its end; nothing else is started."
                self._report(Report(ended.stages[0], 0, 0, note=note, warning=True))


def _lane(stage: str) -> str:
    """What is run in one process on a CPU: base and problems; a tier and its samples."""
    if stage == SAMPLES + BASE_TIER:
        return stage
    return BASE_TIER if stage == PROBLEMS else stage.removeprefix(SAMPLES)
