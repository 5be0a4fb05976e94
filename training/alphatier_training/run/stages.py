"""The stages of a training run: what they are called, what each needs, and how one is run.

    base -> samples-base
         -> alpha-0   -> samples-alpha-0
         -> alpha-0.4 -> samples-alpha-0.4 ...

Heavy imports are inside the functions, so that planning needs no torch.
"""

import time
from collections.abc import Sequence

from alphatier_training.recipe import BASE_TIER, Recipe, tier_name
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import Report, Reporter

SAMPLES = "samples-"


def all_stages(recipe: Recipe) -> list[str]:
    """Every stage that runs in a process of its own, in an order that respects what each needs."""
    return [stage for lane in lanes(recipe) for stage in lane]


def lanes(recipe: Recipe) -> list[list[str]]:
    """Stages that belong together: a model, then its samples. All but the first need only the first."""
    return [[name, SAMPLES + name] for name in (BASE_TIER, *map(tier_name, recipe.tiers.alphas))]


def waves(recipe: Recipe, folder: RunFolder, jobs: int) -> list[list[list[str]]]:
    """The unfinished stages as waves of processes: all of a wave run at once, each its list in order.

    A process takes several tiers, as importing the trainer costs as much as a few of its steps.
    """
    unfinished = [[stage for stage in lane if not folder.is_done(stage)] for lane in lanes(recipe)]
    first, *others = unfinished
    tiers = [lane for lane in others if lane]
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
    folder.mark_done(stage, time.monotonic() - started)
    report(Report(stage, 1, 1, finished=True))


def _run(stage: str, recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    if stage == BASE_TIER:
        from alphatier_training.base.supervised import train_base

        train_base(recipe, folder, report)
    elif stage.startswith(SAMPLES):
        _sample(stage.removeprefix(SAMPLES), recipe, folder, report)
    else:
        from alphatier_training.rl.tier import train_tier

        train_tier(recipe, folder, _alpha(recipe, stage), report)


def _sample(tier: str, recipe: Recipe, folder: RunFolder, report: Reporter) -> None:
    from alphatier_training.evaluation.samples import SampleFile
    from alphatier_training.evaluation.sampling import sample_model
    from alphatier_training.rl.policy import device_of
    from alphatier_training.run.assembly import plan_of

    plan = plan_of(recipe, folder, tier)
    adapter = None if tier == BASE_TIER else folder.tier(tier)
    sample_model(
        plan, SampleFile(plan, folder.samples), folder.base, adapter, device_of(recipe.compute.device), report
    )


def _alpha(recipe: Recipe, tier: str) -> float:
    return next(alpha for alpha in recipe.tiers.alphas if tier_name(alpha) == tier)


def _without_empty(plan: Sequence[Sequence[list[str]]]) -> list[list[list[str]]]:
    waves = [[process for process in wave if process] for wave in plan]
    return [wave for wave in waves if wave]
