"""The whole of `alphatier train`: claim the folder, run the chosen stages in processes, write family and report.

What: order, resumption, one lock a stage. What not: no torch in this process; stages are `stages.run_stage`.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from alphatier_models import FAMILY_FILE
from alphatier_training.recipe import Recipe
from alphatier_training.run.display import Display
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.machine import Machine
from alphatier_training.run.reporting import Report
from alphatier_training.run.scheduling import Room, Schedule, room_of
from alphatier_training.run.stages import (
    EVERYTHING,
    FINAL,
    Selection,
    check_needs,
    chosen_stages,
    shared_stages,
)
from alphatier_training.run.storage import clear_storage_errors

FOREVER = float("inf")

PATIENCE = 15.0
"""How long a stage may be held by what a kill left behind, seconds."""


def train_family(
    recipe: Recipe,
    out: Path,
    machine: Machine,
    console: Console,
    selection: Selection = EVERYTHING,
    jobs: int | None = None,
) -> list[str]:
    """Run the chosen stages of `recipe` in `out`, going on from what is there.

    A run of one tier shares the folder with those of others: it waits for the base where another run makes it, and
    the last one to end writes family and report.

    Args:
        recipe: What to make.
        out: The run's folder.
        machine: The GPUs, or cores, that there are.
        console: For progress.
        selection: Which stages.
        jobs: Processes at once; None for as many as there are GPUs for, or cores.

    Returns:
        The stages of the family that are not done.

    Raises:
        LaunchError: options, recipe and machine contradict each other.
        StageError: a stage failed.
    """
    folder = RunFolder(out)
    chosen, room = chosen_stages(recipe, selection), room_of(recipe, machine, jobs)
    shared = [stage for stage in chosen if stage in shared_stages(recipe)] if selection.tier else []
    check_needs(recipe, chosen, folder.is_done)
    with clear_storage_errors(out):
        folder.claim(recipe)
        with Display([*chosen, *({FINAL} - set(chosen))], console) as display:
            for stage in filter(folder.is_done, chosen):
                display.already_done(stage)
            for stages, patience in ((shared, FOREVER), ([one for one in chosen if one not in shared], PATIENCE)):
                _run(recipe, folder, stages, room, display, patience)
            if FINAL in chosen or selection.tier:
                _finish(recipe, folder, display, measured=selection.evaluate)
    return _left(recipe, folder, measured=selection.evaluate)


def _run(
    recipe: Recipe, folder: RunFolder, stages: Sequence[str], room: Room, display: Display, patience: float
) -> None:
    """Run the stages that are not done, but for the last, and hold their locks meanwhile."""

    def left() -> list[str]:
        return [stage for stage in stages if stage != FINAL and not folder.is_done(stage)]

    def waiting(stage: str) -> None:
        display(Report(stage, 0, 0, note="another run works on it: waiting"))

    with folder.locked(left(), patience, waiting) as locks:
        Schedule(recipe, folder, left(), room, display, locks).run()


def _left(recipe: Recipe, folder: RunFolder, *, measured: bool) -> list[str]:
    order = chosen_stages(recipe, Selection(evaluate=measured))
    return [stage for stage in order if not (folder.is_done(stage) or (stage == FINAL and not measured))]


def _finish(recipe: Recipe, folder: RunFolder, display: Display, *, measured: bool) -> None:
    """Write family.json and the report, once: tiers may be chosen and measured again afterwards.

    Nothing while other runs are still at it. A family that is not measured yet has no report, and gets its figures
    when it is.
    """
    from alphatier_training.report.writing import write_report
    from alphatier_training.run.assembly import write_family

    with folder.locked([FINAL], FOREVER):
        written = (folder.root / FAMILY_FILE).is_file() if not measured else folder.is_done(FINAL)
        if written or set(_left(recipe, folder, measured=measured)) - {FINAL}:
            return
        started = time.monotonic()
        display(Report(FINAL, 0, 2, "steps", "reading samples" if measured else "without figures"))
        family = write_family(recipe, folder, measured=measured)
        if measured:
            display(Report(FINAL, 1, 2, "steps", "writing the report"))
            write_report(family, recipe, folder)
            folder.mark_done(FINAL, time.monotonic() - started)
        display(Report(FINAL, 2, 2, finished=True))
