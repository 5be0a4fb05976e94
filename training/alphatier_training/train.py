"""`alphatier train`: the line of stages, and which of them are run.

    base -> problems (with data sets) -> alpha-0, alpha-0.4, ...   one RL run a tier
                                         gated -> alpha-0, ...     or one for all of them (or `joint`)
    family, when the tiers are done: they can be served
    samples-base, samples-alpha-0, ...   as soon as each of these is done
    report, when family and samples are done: it adds the figures

What: every stage runs in a process (`run.scheduling`), leaves its outputs in the run's folder, and then a mark that
it is done; so the same command goes on wherever it was stopped. What not: no torch in this process; a stage imports
what it needs when it is run (`run.worker`).
"""

import asyncio
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from rich.console import Console

from alphatier_models import FAMILY_FILE
from alphatier_training.errors import TrainingError, clear_storage_errors
from alphatier_training.recipe import BASE_TIER, GATED, SIDE_BY_SIDE, Recipe, tier_name
from alphatier_training.recipe.base import PretrainedBase
from alphatier_training.recipe.problems import DataProblems
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import Display, Report, Reporter
from alphatier_training.run.scheduling import Machine, Stage, narrowed, run_stages

SAMPLES = "samples-"

JOINT = ("family", "report")
"""What all tiers make together, each on whichever machine; left out while one of them is missing."""

FOREVER = float("inf")

PATIENCE = 15.0
"""How long a stage may be held by what a kill left behind, seconds."""


def line_of(recipe: Recipe) -> list[Stage]:
    """Every stage, in order: the RL before the samples, as nothing but the report waits for these."""
    shared = shared_stages(recipe)
    if one := recipe.one_run():
        tiers = [Stage(tier_name(alpha), partial(_export, alpha), (one,)) for alpha in recipe.tiers.alphas]
    else:
        tiers = [
            Stage(tier_name(alpha), partial(_train_tier, alpha), _names(shared), processes=recipe.compute.processes)
            for alpha in recipe.tiers.alphas
        ]
    samples = [
        Stage(SAMPLES + tier, partial(_sample, tier), (tier,), within=None if tier == BASE_TIER else tier)
        for tier in (BASE_TIER, *_names(tiers))
    ]
    family = Stage("family", _write_family, (BASE_TIER, *_names(tiers)))
    report = Stage("report", _write_report, ("family", *_names(samples)))
    return [*shared, *tiers, family, *samples, report]


def shared_stages(recipe: Recipe) -> list[Stage]:
    """The stages that every tier needs."""
    base = Stage(BASE_TIER, _make_base)
    problems = Stage("problems", _choose_problems, (BASE_TIER,), within=BASE_TIER)
    stages = [base, problems] if isinstance(recipe.problems, DataProblems) else [base]
    if one := recipe.one_run():
        stages.append(Stage(one, partial(_train_tier, None), _names(stages), processes=recipe.compute.processes))
    return stages


@dataclass(frozen=True)
class Selection:
    """Which stages a command runs; without any of these, all. What is done already is never run again."""

    only: tuple[str, ...] = ()
    """These stages."""
    start: str | None = None
    """This stage and those after it, in the order of `line_of`."""
    tier: str | None = None
    """One tier and its samples, the stages that it needs, and `JOINT` where it is the last."""
    evaluate: bool = True
    """False: no samples and no report, a family without figures."""


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

    A run of one tier shares the folder with those of others: it waits for the base where another run makes it, the
    last one to have trained writes the family, and the last one to end the report. `looked` says that what is in the
    way is known (`run.preflight`).

    Raises:
        TrainingError: options, recipe and machine contradict each other, or a stage failed.
    """
    folder, chosen = RunFolder(out), chosen_stages(recipe, selection)
    folder.check(recipe)
    check_needs(chosen, folder)
    if not looked and (todo := _names(_left(chosen, folder))):
        from alphatier_training.run.preflight import check

        check(recipe, out, machine, todo)
    machine = narrowed(machine, recipe)
    others_too = (*_names(shared_stages(recipe)), *JOINT) if selection.tier else ()
    rounds = groupby(chosen, lambda stage: FOREVER if stage.name in others_too else PATIENCE)
    with clear_storage_errors(out):
        folder.claim(recipe)
        with Display(_names(chosen), console) as display:
            for stage in chosen:
                if folder.is_done(stage.name):
                    display(Report(stage.name, 1, 1, note="done before", finished=True))
            for patience, stages in rounds:
                _run(list(stages), folder, machine, display, patience)
    family = chosen_stages(recipe, Selection(evaluate=selection.evaluate))
    return [stage.name for stage in family if not folder.is_done(stage.name)]


def _run(stages: Sequence[Stage], folder: RunFolder, machine: Machine, display: Display, patience: float) -> None:
    """Run what is left of the stages, and hold their locks meanwhile."""

    def held(stage: str) -> None:
        display(Report(stage, 0, 0, note="another run works on it: waiting"))

    with folder.locked(_names(_left(stages, folder)), patience, held) as locks:
        asyncio.run(run_stages(folder, _left(stages, folder), machine, display, locks))


def _left(stages: Sequence[Stage], folder: RunFolder) -> list[Stage]:
    """Those that are not done, without the joint ones that need what is neither done nor among them."""
    left: list[Stage] = []
    for stage in stages:
        ready = all(need in _names(left) or folder.is_done(need) for need in stage.needs)
        if not folder.is_done(stage.name) and (ready or stage.name not in JOINT):
            left.append(stage)
    return left


def chosen_stages(recipe: Recipe, selection: Selection) -> list[Stage]:
    """The stages that are asked for, in order.

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
        wanted = (*shared, tier, SAMPLES + tier, *JOINT)
    dropped = () if selection.evaluate else ("report", *(SAMPLES + tier for tier in tiers))
    return [stage for stage in line if stage.name in wanted and stage.name not in dropped]


def check_needs(chosen: Sequence[Stage], folder: RunFolder) -> None:
    """TrainingError when a chosen stage that is to be run needs another that is neither done nor chosen."""
    for stage in _left(chosen, folder):
        missing = [need for need in stage.needs if need not in _names(chosen) and not folder.is_done(need)]
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
    from alphatier_training.rl.prompts import choose_problems

    choose_problems(recipe, folder, report)


def _train_tier(alpha: float | None, recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    from alphatier_training.tier import train_tier

    train_tier(recipe, folder, alpha, report)


def _export(alpha: float, recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    from alphatier_models.gated import export
    from alphatier_training.run.folder import replacing

    name = tier_name(alpha)
    with replacing(folder.tier(name)) as new:
        if recipe.rl.joint:
            shutil.copytree(folder.tier(SIDE_BY_SIDE) / name, new, dirs_exist_ok=True)
        else:
            export(folder.tier(GATED), alpha, new)


def _sample(tier: str, recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    from alphatier_training.run.assembly import take_samples

    take_samples(recipe, folder, tier, SAMPLES + tier, report)


def _write_family(recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    from alphatier_training.run.assembly import write_family

    if not (folder.root / FAMILY_FILE).is_file():  # which may have figures, by `alphatier evaluate`
        write_family(recipe, folder, measured=False)


def _write_report(recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    from alphatier_training.report.writing import write_report
    from alphatier_training.run.assembly import write_family

    write_report(write_family(recipe, folder), recipe, folder)
