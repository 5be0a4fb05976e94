"""`alphatier train`: the line of stages, which of them are run, and the family that comes of them.

    base -> problems (with data sets) -> alpha-0   -> samples-alpha-0
                                      -> alpha-0.4 -> samples-alpha-0.4 ...
         -> samples-base
    family-and-report, when all of these are done

What: every stage but the last runs in a process (`run.scheduling`), leaves its outputs in the run's folder, and then
a mark that it is done; so the same command goes on wherever it was stopped. What not: no torch in this process; a
stage imports what it needs when it is run (`run.worker`).
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from alphatier_models import FAMILY_FILE
from alphatier_training.errors import TrainingError, clear_storage_errors
from alphatier_training.recipe import BASE_TIER, Recipe, tier_name
from alphatier_training.recipe.base import PretrainedBase
from alphatier_training.recipe.problems import DataProblems
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import Display, Report, Reporter
from alphatier_training.run.scheduling import Machine, Stage, narrowed, run_stages

SAMPLES = "samples-"

FINAL = "family-and-report"
"""The stage that `alphatier train` runs itself, in no process of its own."""

FOREVER = float("inf")

PATIENCE = 15.0
"""How long a stage may be held by what a kill left behind, seconds."""


def line_of(recipe: Recipe) -> list[Stage]:
    """Every stage, in order: the RL before the samples, as nothing but the report waits for these."""
    shared = shared_stages(recipe)
    tiers = [
        Stage(tier_name(alpha), _names(shared), partial(_train_tier, alpha), processes=recipe.compute.processes)
        for alpha in recipe.tiers.alphas
    ]
    samples = [
        Stage(SAMPLES + tier, (tier,), partial(_sample, tier), within=None if tier == BASE_TIER else tier)
        for tier in (BASE_TIER, *_names(tiers))
    ]
    line = [*shared, *tiers, *samples]
    return [*line, Stage(FINAL, _names(line))]


def shared_stages(recipe: Recipe) -> list[Stage]:
    """The stages that every tier needs."""
    base = Stage(BASE_TIER, (), _make_base)
    problems = Stage("problems", (BASE_TIER,), _choose_problems, within=BASE_TIER)
    return [base, problems] if isinstance(recipe.problems, DataProblems) else [base]


@dataclass(frozen=True)
class Selection:
    """Which stages a command runs; without any of these, all. What is done already is never run again."""

    only: tuple[str, ...] = ()
    """These stages."""
    start: str | None = None
    """This stage and those after it, in the order of `line_of`."""
    tier: str | None = None
    """One tier and its samples, and the stages that it needs."""
    evaluate: bool = True
    """False: no samples, and a family without figures."""


EVERYTHING = Selection()


def train_family(
    recipe: Recipe,
    out: Path,
    machine: Machine,
    console: Console,
    selection: Selection = EVERYTHING,
    *,
    looked: bool = True,
) -> list[str]:
    """Run the chosen stages of `recipe` in the folder `out`, going on from what is there; gives what is left to do.

    A run of one tier shares the folder with those of others: it waits for the base where another run makes it, and
    the last one to end writes family and report. `looked` says that what is in the way (`run.preflight`) is known.

    Raises:
        TrainingError: options, recipe and machine contradict each other, or a stage failed.
    """
    folder, chosen = RunFolder(out), chosen_stages(recipe, selection)
    folder.check(recipe)
    check_needs(chosen, folder)
    todo = [stage.name for stage in chosen if not folder.is_done(stage.name)]
    if todo and not looked:
        from alphatier_training.run.preflight import check

        check(recipe, out, machine, todo)
    machine = narrowed(machine, recipe)
    waited_for = shared_stages(recipe) if selection.tier else []
    others = [stage for stage in chosen if stage.name not in _names(waited_for)]
    with clear_storage_errors(out):
        folder.claim(recipe)
        with Display([*_names(others), *_names(waited_for), FINAL], console) as display:
            for stage in chosen:
                if folder.is_done(stage.name):
                    display(Report(stage.name, 1, 1, note="done before", finished=True))
            _run(folder, waited_for, machine, display, FOREVER)
            _run(folder, others, machine, display, PATIENCE)
            if FINAL in _names(chosen) or selection.tier:
                _finish(recipe, folder, display, measured=selection.evaluate)
    return _left(recipe, folder, measured=selection.evaluate)


def _run(folder: RunFolder, stages: Sequence[Stage], machine: Machine, display: Display, patience: float) -> None:
    """Run the stages that are not done, but for the last, and hold their locks meanwhile."""

    def left() -> list[Stage]:
        return [stage for stage in stages if stage.name != FINAL and not folder.is_done(stage.name)]

    def held(stage: str) -> None:
        display(Report(stage, 0, 0, note="another run works on it: waiting"))

    with folder.locked(_names(left()), patience, held) as locks:
        asyncio.run(run_stages(folder, left(), machine, display, locks))


def _finish(recipe: Recipe, folder: RunFolder, display: Display, *, measured: bool) -> None:
    """Write family.json and the report, once, as tiers may be chosen and measured again afterwards.

    Nothing while other runs are still at it; of a family that is not measured yet no report.
    """
    from alphatier_training.report.writing import write_report
    from alphatier_training.run.assembly import write_family

    with folder.locked([FINAL], FOREVER):
        written = folder.is_done(FINAL) if measured else (folder.root / FAMILY_FILE).is_file()
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


def _left(recipe: Recipe, folder: RunFolder, *, measured: bool) -> list[str]:
    """The stages of the family that are not done; without measuring there is no mark of the last."""
    names = _names(chosen_stages(recipe, Selection(evaluate=measured)))
    return [name for name in names if not folder.is_done(name) and (measured or name != FINAL)]


def chosen_stages(recipe: Recipe, selection: Selection) -> list[Stage]:
    """The stages that are asked for, in order; `FINAL` is the last where it is among them.

    Raises:
        TrainingError: the recipe has no such stage or tier, or two options exclude each other.
    """
    line, shared = line_of(recipe), _names(shared_stages(recipe))
    names, tiers = _names(line), [BASE_TIER, *map(tier_name, recipe.tiers.alphas)]
    only, start, tier = selection.only, selection.start, selection.tier
    if sum(map(bool, (only, start, tier))) > 1:
        raise TrainingError("--only, --from and --tier exclude each other; give one of them")
    for option, given, known in (("--only", only, names), ("--from", [start], names), ("--tier", [tier], tiers)):
        for name in filter(None, given):
            if name not in known:
                raise TrainingError(f"{option} {name}: the recipe has no such one; it has {', '.join(known)}")
    wanted: Iterable[str] = only or names
    if start:
        wanted = names[names.index(start) :]
    elif tier:
        wanted = (*shared, tier, SAMPLES + tier)
    dropped = () if selection.evaluate else [SAMPLES + tier for tier in tiers]
    return [stage for stage in line if stage.name in wanted and stage.name not in dropped]


def check_needs(chosen: Sequence[Stage], folder: RunFolder) -> None:
    """TrainingError when a chosen stage that is to be run needs another that is neither done nor chosen."""
    known = _names(chosen)
    for stage in chosen:
        if stage.name == FINAL or folder.is_done(stage.name):
            continue
        missing = [need for need in stage.needs if need not in known and not folder.is_done(need)]
        if missing:
            raise TrainingError(
                f"{stage.name} needs {', '.join(missing)}, which is not done. Run it first (--only {missing[0]}), or "
                "leave out --only and --from"
            )


def _names(stages: Iterable[Stage]) -> tuple[str, ...]:
    return tuple(stage.name for stage in stages)


def _make_base(recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    if isinstance(recipe.base, PretrainedBase):
        from alphatier_training.run.base import fetch_base

        fetch_base(recipe.base, folder)
    else:
        from alphatier_training.builtin import train_base

        train_base(recipe, folder, report)


def _choose_problems(recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    from alphatier_training.rl.choosing import choose_problems

    choose_problems(recipe, folder, report)


def _train_tier(alpha: float, recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    from alphatier_training.tier import train_tier

    train_tier(recipe, folder, alpha, report)


def _sample(tier: str, recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    from alphatier_training.evaluation.answers import Answers, Progress
    from alphatier_training.evaluation.engine import recipe_engine, sample
    from alphatier_training.evaluation.samples import SampleFile
    from alphatier_training.evaluation.tasks import recipe_tasks
    from alphatier_training.run.assembly import plans_of
    from alphatier_training.run.base import load_reference, weights_of

    tasks = recipe_tasks(recipe)
    model, adapter = weights_of(recipe, folder, tier)
    plans = plans_of(recipe, folder, load_reference(folder).as_base(), tier, tasks)
    progress = Progress(SAMPLES + tier, sum(plan.total() for plan in plans), report)
    asked = [
        (Answers(plan, task.problems, SampleFile(plan, folder.samples), progress), adapter)
        for task, plan in zip(tasks, plans, strict=True)
    ]
    sample(asked, model, recipe_engine(recipe))
