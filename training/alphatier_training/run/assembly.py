"""What of a run is measured, and family.json of what was trained and measured.

What: samples by the recipe's engine; tiers with checksums, recipe, seed, efforts and figures, in `alphatier_models`'
own types and through its one writer. What not: no other file format.
"""

from collections.abc import Sequence
from pathlib import Path

from alphatier_models import (
    FAMILY_FILE,
    Base,
    Family,
    GatedAdapter,
    Reasoning,
    Tier,
    directory_sha256,
    load_family,
    save_family,
)
from alphatier_training.evaluation.engine import recipe_engine, sample
from alphatier_training.evaluation.figures import evaluation
from alphatier_training.evaluation.samples import Answers, Plan, Progress, Sample, SampleFile
from alphatier_training.evaluation.tasks import Task, recipe_sampling, recipe_tasks
from alphatier_training.recipe import BASE_TIER, GATED, Recipe, tier_name
from alphatier_training.run.base import load_reference
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import Reporter


def take_samples(recipe: Recipe, folder: RunFolder, tier: str, stage: str, report: Reporter) -> None:
    """Take what is missing of the responses of `tier`, by the recipe's engine; `stage` is what reports call it."""
    base, tasks = load_reference(folder), recipe_tasks(recipe)
    own = folder.tier(tier) if tier != BASE_TIER else None
    model, adapter = (Path(base.path), own) if recipe.rl.lora or not own else (own, None)
    plans = plans_of(recipe, folder, base.as_base(), tier, tasks)
    progress = Progress(stage, sum(plan.total() for plan in plans), report)
    asked = [
        (Answers(plan, task.problems, SampleFile(plan, folder.samples), progress), adapter)
        for task, plan in zip(tasks, plans, strict=True)
    ]
    sample(asked, model, recipe_engine(recipe))


def plans_of(recipe: Recipe, folder: RunFolder, base: Base, tier: str, tasks: Sequence[Task]) -> list[Plan]:
    """How `tier` of this run is measured, a plan a data set."""
    weights = [base.identity]
    if tier != BASE_TIER:
        weights.append(directory_sha256(folder.tier(tier)))
    sampling = recipe_sampling(recipe)
    return [task.plan(recipe.name, tier, " ".join(weights), sampling) for task in tasks]


def samples_of(recipe: Recipe, folder: RunFolder, tier: str) -> list[Sample]:
    """Every response of `tier` on the first data set of this run's evaluation."""
    plan = plans_of(recipe, folder, load_reference(folder).as_base(), tier, recipe_tasks(recipe))[0]
    return SampleFile(plan, folder.samples).read()


def write_family(recipe: Recipe, folder: RunFolder, *, measured: bool = True) -> Family:
    """Write family.json of the finished run; not `measured`, tiers have no figures.

    Of a family.json that is there all but the figures is kept.
    """
    base = load_reference(folder).as_base()
    tasks = recipe_tasks(recipe) if measured else []
    made = [_tier(recipe, folder, base, alpha, tasks) for alpha in (None, *recipe.tiers.alphas)]
    if (folder.root / FAMILY_FILE).is_file():
        there = load_family(folder.root)
        tiers = {tier.name: tier for tier in (*there.tiers, *made)}
        family = there.model_copy(update={"tiers": tuple(tiers[tier.name] for tier in there.tiers)})
    else:
        family = Family(
            schema_version=1,
            name=recipe.name,
            reasoning=_reasoning(recipe),
            base=base,
            tiers=tuple(made),
            gated=_gated(recipe, folder),
            efforts=recipe.tiers.efforts,
            default_tier=recipe.tiers.default,
            reference_tier=BASE_TIER,
        )
    save_family(family, folder.root)
    return family


def _tier(recipe: Recipe, folder: RunFolder, base: Base, alpha: float | None, tasks: Sequence[Task]) -> Tier:
    """The tier of `alpha`, or the base for None, with its figures on `tasks`."""
    name = BASE_TIER if alpha is None else tier_name(alpha)
    plans = plans_of(recipe, folder, base, name, tasks)
    return Tier(
        name=name,
        layout="base" if alpha is None else "adapter" if recipe.rl.lora else "checkpoint",
        path=None if alpha is None else name,
        sha256=None if alpha is None else directory_sha256(folder.tier(name)),
        alpha=alpha,
        recipe_sha256=recipe.sha256(),
        seed=recipe.seed,
        evaluations=tuple(evaluation(plan, SampleFile(plan, folder.samples).read()) for plan in plans),
    )


def _gated(recipe: Recipe, folder: RunFolder) -> GatedAdapter | None:
    if recipe.rl.gated is None:
        return None
    sha256 = directory_sha256(folder.tier(GATED))
    return GatedAdapter(path=GATED, sha256=sha256, largest=recipe.rl.gated.largest)


def _reasoning(recipe: Recipe) -> Reasoning | None:
    if recipe.base.kind == "supervised":
        return Reasoning()
    if recipe.base.think_start is None or recipe.base.think_end is None:
        return None
    return Reasoning(start=recipe.base.think_start, end=recipe.base.think_end)
