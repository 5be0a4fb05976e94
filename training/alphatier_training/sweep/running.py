"""Running a sweep: the base once, then every variant over it, each an ordinary training run in its own folder.

    OUT/base-run/              the recipe's base, and its samples
    OUT/kimi/seed-42/          a run, resumable like any
    OUT/sweep.md, sweep.json   the table

What not: no training of its own (`train`).
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from alphatier_training.errors import TrainingError
from alphatier_training.recipe import BASE_TIER, Recipe
from alphatier_training.run.folder import RunFolder, replacing
from alphatier_training.run.scheduling import Machine
from alphatier_training.sweep.variants import Run
from alphatier_training.train import SAMPLES, Selection, train_family

BASE_RUN = "base-run"


def run_sweep(
    recipe: Recipe,
    todo: Sequence[Run],
    out: Path,
    machine: Machine,
    console: Console,
    *,
    base: Path | None = None,
) -> None:
    """Train and measure every run of the sweep that is not finished.

    Args:
        recipe: Whose base is trained, when `base` is not given.
        todo: The runs.
        out: The sweep's folder.
        machine: The GPUs, or cores, that there are, and the processes at once.
        console: For progress.
        base: A family or a run with the same base, instead of training it here.
    """
    source = RunFolder(base or out / BASE_RUN)
    if base is None:
        train_family(recipe, source.root, machine, console, Selection(tier=BASE_TIER))
    elif not source.base.is_dir():
        raise TrainingError(f"{base} holds no base/. Give a family, or a run of `alphatier train`, with --base.")
    for number, run in enumerate(todo, start=1):
        console.print(f"[{number}/{len(todo)}] {run.variant}, seed {run.seed}", highlight=False)
        folder = RunFolder(run.folder(out))
        if not (folder.root / "family.json").is_file():
            _adopt_base(run.recipe, source, folder)
        train_family(run.recipe, folder.root, machine, console)


def _adopt_base(recipe: Recipe, source: RunFolder, folder: RunFolder) -> None:
    """Give a run its base, and what was measured of it, as if its own stage had made them."""
    folder.claim(recipe)
    if folder.is_done(BASE_TIER):
        return
    if source.base.is_dir():
        with replacing(folder.base) as new:
            shutil.copytree(source.base, new, dirs_exist_ok=True)
    for name in ("base.json", "samples"):
        _copy(source.work / name, folder.work / name)
    folder.mark_done(BASE_TIER, 0.0)
    if source.is_done(SAMPLES + BASE_TIER):
        folder.mark_done(SAMPLES + BASE_TIER, 0.0)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("alpha-*"))
    elif source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
