"""The whole of `alphatier train`: claim the folder, run the stages in processes, write family and report.

What: order, resumption, one lock. What not: no torch in this process; stages are `stages.run_stage`.
"""

from pathlib import Path

from rich.console import Console

from alphatier_training.recipe import Recipe
from alphatier_training.run.display import Display
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.processes import run_wave
from alphatier_training.run.reporting import Report
from alphatier_training.run.stages import all_stages, waves

FINAL = "family and report"


def train_family(recipe: Recipe, out: Path, jobs: int, console: Console) -> None:
    """Train, measure and describe the family of `recipe` in `out`, going on from what is there."""
    folder = RunFolder(out)
    with folder.locked() as lock:
        folder.claim(recipe)
        with Display([*all_stages(recipe), FINAL], console) as display:
            for stage in all_stages(recipe):
                if folder.is_done(stage):
                    display.already_done(stage)
            for wave in waves(recipe, folder, jobs):
                run_wave(folder, wave, lock, display)
            _finish(recipe, folder, display)


def _finish(recipe: Recipe, folder: RunFolder, display: Display) -> None:
    """Write family.json and the report; quick, so done again by every run."""
    from alphatier_training.report.writing import write_report
    from alphatier_training.run.assembly import write_family

    display(Report(FINAL, 0, 2, "steps", "reading samples"))
    family = write_family(recipe, folder)
    display(Report(FINAL, 1, 2))
    write_report(family, recipe, folder)
    display(Report(FINAL, 2, 2, finished=True))
