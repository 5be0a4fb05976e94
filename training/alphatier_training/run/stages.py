"""The stages of a training run: what they are called, what each needs, and how one is run.

    base -> problems (with data sets) -> samples-base
         -> alpha-0   -> samples-alpha-0
         -> alpha-0.4 -> samples-alpha-0.4 ...

Heavy imports are inside the functions, so that planning needs no torch.
"""

import time
from collections.abc import Sequence

from alphatier_training.planning.launch import processes_of
from alphatier_training.recipe import BASE_TIER, Recipe, tier_name
from alphatier_training.recipe.base import PretrainedBase
from alphatier_training.recipe.problems import ArithmeticProblems
from alphatier_training.run import ranks
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import Report, Reporter

SAMPLES = "samples-"

PROBLEMS = "problems"
"""The stage that chooses the training problems of a recipe with data sets of its own."""


def all_stages(recipe: Recipe) -> list[str]:
    """Every stage that runs in a process of its own, in an order that respects what each needs."""
    return [stage for lane in lanes(recipe) for stage in lane]


def lanes(recipe: Recipe) -> list[list[str]]:
    """Stages that belong together: a model, then its samples. All but the first need only the first."""
    choosing = [] if isinstance(recipe.problems, ArithmeticProblems) else [PROBLEMS]
    tiers = [[name, SAMPLES + name] for name in map(tier_name, recipe.tiers.alphas)]
    return [[BASE_TIER, *choosing, SAMPLES + BASE_TIER], *tiers]


def waves(recipe: Recipe, folder: RunFolder, jobs: int) -> list[list[list[str]]]:
    """The unfinished stages as waves of processes: all of a wave run at once, each its list in order.

    A process takes several tiers, as importing the trainer costs as much as a few of its steps. Where several
    processes share a tier, its training is a wave of its own.
    """
    unfinished = [[stage for stage in lane if not folder.is_done(stage)] for lane in lanes(recipe)]
    first, *others = unfinished
    tiers = [lane for lane in others if lane]
    if processes_of(recipe) > 1:
        return _without_empty([[first], *([[stage]] for lane in tiers for stage in lane)])
    if jobs == 1:
        return _without_empty([[[stage for lane in unfinished for stage in lane]]])
    processes = [[stage for lane in tiers[start::jobs] for stage in lane] for start in range(jobs)]
    return _without_empty([[first], processes])


def run_stage(stage: str, recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    """Run one stage in this process, unless it is done already, and mark it done."""
    if folder.is_done(stage):
        return
    started = time.monotonic()
    report(Report(stage, 0, 0, note="starting"))
    _run(stage, recipe, folder, report)
    ranks.barrier()
    if ranks.is_main():
        folder.mark_done(stage, time.monotonic() - started)
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
        from alphatier_training.rl.tier import train_tier

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
    from alphatier_training.evaluation.progress import Progress
    from alphatier_training.evaluation.samples import SampleFile
    from alphatier_training.evaluation.sampling import sample_model
    from alphatier_training.evaluation.tasks import recipe_tasks
    from alphatier_training.rl.policy import device_of
    from alphatier_training.run.assembly import plans_of

    tasks, device = recipe_tasks(recipe), device_of(recipe.compute.device)
    model, adapter = weights_of(recipe, folder, tier)
    plans = plans_of(recipe, folder, load_reference(folder).as_base(), tier, tasks)
    progress = Progress(SAMPLES + tier, sum(plan.total() for plan in plans), report)
    for task, plan in zip(tasks, plans, strict=True):
        sample_model(plan, task.problems, SampleFile(plan, folder.samples), model, adapter, device, progress)


def _alpha(recipe: Recipe, tier: str) -> float:
    return next(alpha for alpha in recipe.tiers.alphas if tier_name(alpha) == tier)


def _without_empty(plan: Sequence[Sequence[list[str]]]) -> list[list[list[str]]]:
    waves = [[process for process in wave if process] for wave in plan]
    return [wave for wave in waves if wave]
