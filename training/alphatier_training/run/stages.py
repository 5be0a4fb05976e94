"""The stages of a training run: what they are called, what each needs, which are chosen, and how one is run.

    base -> problems (with data sets) -> alpha-0   -> samples-alpha-0
                                      -> alpha-0.4 -> samples-alpha-0.4 ...
         -> samples-base
    family-and-report, when all of these are done

Heavy imports are inside the functions, so that choosing stages needs no torch.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from alphatier_training.errors import LaunchError
from alphatier_training.recipe import BASE_TIER, Recipe, tier_name
from alphatier_training.recipe.base import PretrainedBase
from alphatier_training.recipe.problems import ArithmeticProblems
from alphatier_training.run import ranks
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import Report, Reporter

SAMPLES = "samples-"

PROBLEMS = "problems"
"""The stage that chooses the training problems of a recipe with data sets of its own."""

FINAL = "family-and-report"
"""The stage that `alphatier train` runs itself, in no process of its own."""


@dataclass(frozen=True)
class Selection:
    """Which stages a command runs; without any of these, all. What is done already is never run again."""

    only: tuple[str, ...] = ()
    """These stages."""
    start: str | None = None
    """This stage and those after it, in the order of `all_stages`."""
    tier: str | None = None
    """One tier and its samples, and the stages that it needs."""
    evaluate: bool = True
    """False: no samples, and a family without figures."""

    def is_whole(self) -> bool:
        """Whether all stages are meant, but perhaps for the samples."""
        return not (self.only or self.start or self.tier)


EVERYTHING = Selection()


def all_stages(recipe: Recipe) -> list[str]:
    """Every stage that runs in a process of its own: the RL first, as nothing waits for the samples."""
    tiers = [tier_name(alpha) for alpha in recipe.tiers.alphas]
    return [*shared_stages(recipe), *tiers, *(SAMPLES + name for name in (BASE_TIER, *tiers))]


def shared_stages(recipe: Recipe) -> list[str]:
    """The stages that every tier needs."""
    return [BASE_TIER] if isinstance(recipe.problems, ArithmeticProblems) else [BASE_TIER, PROBLEMS]


def needs(recipe: Recipe, stage: str) -> list[str]:
    """The stages whose outputs `stage` reads."""
    if stage == FINAL:
        return all_stages(recipe)
    if stage.startswith(SAMPLES):
        return [stage.removeprefix(SAMPLES)]
    shared = shared_stages(recipe)
    return shared[: shared.index(stage)] if stage in shared else shared


def chosen_stages(recipe: Recipe, selection: Selection) -> list[str]:
    """The stages that are asked for, in order; `FINAL` is the last where it is among them.

    Raises:
        LaunchError: the recipe has no such stage or tier, or two options exclude each other.
    """
    order = [*all_stages(recipe), FINAL]
    if sum(map(bool, (selection.only, selection.start, selection.tier))) > 1:
        raise LaunchError("--only, --from and --tier exclude each other; give one of them")
    if selection.tier is not None:
        tiers = [BASE_TIER, *(tier_name(alpha) for alpha in recipe.tiers.alphas)]
        _known("--tier", selection.tier, tiers)
        order = list(dict.fromkeys([*shared_stages(recipe), selection.tier, SAMPLES + selection.tier]))
    for stage in selection.only:
        _known("--only", stage, order)
    if selection.start is not None:
        _known("--from", selection.start, order)
        order = order[order.index(selection.start) :]
    if selection.only:
        order = [stage for stage in order if stage in selection.only]
    return [stage for stage in order if selection.evaluate or not stage.startswith(SAMPLES)]


def check_needs(recipe: Recipe, chosen: list[str], done: Callable[[str], bool]) -> None:
    """LaunchError when a chosen stage that is to be run needs another that is neither done nor chosen."""
    for stage in chosen:
        if stage == FINAL or done(stage):
            continue
        missing = [need for need in needs(recipe, stage) if need not in chosen and not done(need)]
        if missing:
            raise LaunchError(
                f"{stage} needs {', '.join(missing)}, which is not done. Run it first (--only {missing[0]}), or "
                "leave out --only and --from"
            )


def _known(option: str, name: str, names: list[str]) -> None:
    if name not in names:
        raise LaunchError(f"{option} {name}: the recipe has no such one; it has {', '.join(names)}")


def run_stage(stage: str, recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    """Run one stage in this process, unless it is done already, and mark it done."""
    if folder.is_done(stage):
        return
    started = time.monotonic()
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    report(Report(stage, 0, 0, note=f"starting on GPU {gpus}" if gpus else "starting"))
    _run(stage, recipe, folder, report)
    ranks.barrier()
    if ranks.is_main():
        folder.mark_done(stage, time.monotonic() - started, ranks.memory())
    report(Report(stage, 1, 1, finished=True))


def _run(stage: str, recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    if stage == BASE_TIER:
        _make_base(recipe, folder, report)
    elif stage == PROBLEMS:
        from alphatier_training.rl.choosing import choose_problems

        choose_problems(recipe, folder, report)
    elif stage.startswith(SAMPLES):
        _sample(stage.removeprefix(SAMPLES), recipe, folder, report)
    else:
        from alphatier_training.tier import train_tier

        train_tier(recipe, folder, _alpha(recipe, stage), report)


def _make_base(recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    if isinstance(recipe.base, PretrainedBase):
        from alphatier_training.base.pretrained import fetch_base

        fetch_base(recipe.base, folder)
    else:
        from alphatier_training.builtin import train_base

        train_base(recipe, folder, report)


def _sample(tier: str, recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    from alphatier_training.base.reference import load_reference, weights_of
    from alphatier_training.evaluation.answers import Answers, Progress
    from alphatier_training.evaluation.engine import recipe_engine, sample
    from alphatier_training.evaluation.samples import SampleFile
    from alphatier_training.evaluation.tasks import recipe_tasks
    from alphatier_training.run.assembly import plans_of

    tasks = recipe_tasks(recipe)
    model, adapter = weights_of(recipe, folder, tier)
    plans = plans_of(recipe, folder, load_reference(folder).as_base(), tier, tasks)
    progress = Progress(SAMPLES + tier, sum(plan.total() for plan in plans), report)
    asked = [
        (Answers(plan, task.problems, SampleFile(plan, folder.samples), progress), adapter)
        for task, plan in zip(tasks, plans, strict=True)
    ]
    sample(asked, model, recipe_engine(recipe))


def _alpha(recipe: Recipe, tier: str) -> float:
    return next(alpha for alpha in recipe.tiers.alphas if tier_name(alpha) == tier)
