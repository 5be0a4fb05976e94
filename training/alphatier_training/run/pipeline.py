"""The whole of `alphatier train`: claim the folder, run the stages in processes, write family and report.

What: order, resumption, one lock. What not: no torch in this process; stages are `stages.run_stage`.
"""

import time
from pathlib import Path

from rich.console import Console

from alphatier_training.planning.launch import Meeting
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.problems import DataProblems
from alphatier_training.run.display import Display
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.joining import called
from alphatier_training.run.processes import run_wave
from alphatier_training.run.reporting import Report
from alphatier_training.run.stages import all_stages, lanes, waves
from alphatier_training.run.storage import clear_storage_errors

FINAL = "family-and-report"


def train_family(recipe: Recipe, out: Path, jobs: int, console: Console, meeting: Meeting | None = None) -> None:
    """Train, measure and describe the family of `recipe` in `out`, going on from what is there.

    Args:
        recipe: What to make.
        out: The run's folder.
        jobs: Processes at once, where none shares a tier.
        console: For progress.
        meeting: Where the processes of several nodes meet; this is node 0.
    """
    folder = RunFolder(out)
    _read_files(recipe)
    with clear_storage_errors(out), folder.locked() as lock:
        folder.claim(recipe)
        with Display([*all_stages(recipe), FINAL], console) as display:
            for stage in (*all_stages(recipe), FINAL):
                if folder.is_done(stage):
                    display.already_done(stage)
            for wave in waves(recipe, folder, jobs):
                with called(folder, recipe, wave):
                    run_wave(folder, wave, display, lock=lock, meeting=meeting)
            if not folder.is_done(FINAL):
                _finish(recipe, folder, display)


def train_base_only(recipe: Recipe, out: Path, jobs: int, console: Console) -> None:
    """Make and measure only the base of `recipe` in `out`, for runs that share it."""
    folder = RunFolder(out)
    with clear_storage_errors(out), folder.locked() as lock:
        folder.claim(recipe)
        with Display(lanes(recipe)[0], console) as display:
            first = [stage for stage in lanes(recipe)[0] if not folder.is_done(stage)]
            if first:
                run_wave(folder, [first], display, lock=lock)


def _read_files(recipe: Recipe) -> None:
    """Read the recipe's files of problems, so that a fault in one is told before hours of training and not after.

    Raises:
        DataError: one of them cannot be read.
    """
    from alphatier_training.data.reading import read_problems

    chosen = recipe.problems
    trained = (*chosen.data, *chosen.contamination.against) if isinstance(chosen, DataProblems) else ()
    for data in (*trained, *recipe.evaluation.data):
        if data.path is not None:
            read_problems(data)


def _finish(recipe: Recipe, folder: RunFolder, display: Display) -> None:
    """Write family.json and the report, once: tiers may be chosen and measured again afterwards."""
    from alphatier_training.report.writing import write_report
    from alphatier_training.run.assembly import write_family

    started = time.monotonic()
    display(Report(FINAL, 0, 2, "steps", "reading samples"))
    family = write_family(recipe, folder)
    display(Report(FINAL, 1, 2))
    write_report(family, recipe, folder)
    folder.mark_done(FINAL, time.monotonic() - started)
    display(Report(FINAL, 2, 2, finished=True))
