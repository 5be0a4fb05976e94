"""The stage `family`: family.json of what was trained and measured.

What: tiers with checksums, recipe, seed, efforts and figures, in `alphatier_models`' own types and
through its one writer. What not: no other file format, no torch.
"""

from pathlib import Path

from alphatier_models import Base, Evaluation, Family, Reasoning, Tier, directory_sha256, save_family, text_sha256
from alphatier_training.evaluation.figures import evaluation
from alphatier_training.evaluation.samples import DATASET, Plan, Sample, SampleFile
from alphatier_training.recipe import BASE_TIER, Recipe, tier_name
from alphatier_training.run.folder import RunFolder


def plan_of(recipe: Recipe, folder: RunFolder, tier: str) -> Plan:
    """How `tier` of this run is measured."""
    plan = recipe.evaluation
    weights = [directory_sha256(folder.base)]
    if tier != BASE_TIER:
        weights.append(directory_sha256(folder.tier(tier)))
    return Plan(
        family=recipe.name,
        tier=tier,
        weights=" ".join(weights),
        dataset=DATASET,
        levels=recipe.levels(),
        problems=plan.problems,
        samples_per_problem=plan.samples_per_problem,
        temperature=plan.temperature,
        top_p=plan.top_p,
        max_tokens=plan.max_new_tokens,
        seed=plan.seed,
    )


def samples_of(recipe: Recipe, folder: RunFolder, tier: str) -> list[Sample]:
    """Every response of `tier` in this run's evaluation."""
    return SampleFile(plan_of(recipe, folder, tier), folder.samples).read()


def write_family(recipe: Recipe, folder: RunFolder) -> Family:
    """Write family.json of the finished run."""
    family = Family(
        schema_version=1,
        name=recipe.name,
        reasoning=Reasoning(),
        base=Base(
            model=folder.base.name,
            sha256=directory_sha256(folder.base),
            chat_template_sha256=_template_sha256(folder.base),
        ),
        tiers=(_base_tier(recipe, folder), *(_tier(recipe, folder, alpha) for alpha in recipe.tiers.alphas)),
        efforts=recipe.tiers.efforts,
        default_tier=recipe.tiers.default,
        reference_tier=BASE_TIER,
    )
    save_family(family, folder.root)
    return family


def _base_tier(recipe: Recipe, folder: RunFolder) -> Tier:
    return Tier(
        name=BASE_TIER,
        layout="base",
        recipe_sha256=recipe.sha256(),
        seed=recipe.seed,
        evaluations=(_evaluation(recipe, folder, BASE_TIER),),
    )


def _tier(recipe: Recipe, folder: RunFolder, alpha: float) -> Tier:
    name = tier_name(alpha)
    return Tier(
        name=name,
        layout="adapter",
        path=name,
        sha256=directory_sha256(folder.tier(name)),
        alpha=alpha,
        recipe_sha256=recipe.sha256(),
        seed=recipe.seed,
        evaluations=(_evaluation(recipe, folder, name),),
    )


def _evaluation(recipe: Recipe, folder: RunFolder, tier: str) -> Evaluation:
    return evaluation(plan_of(recipe, folder, tier), samples_of(recipe, folder, tier))


def _template_sha256(base: Path) -> str:
    return text_sha256((base / "chat_template.jinja").read_text(encoding="utf-8"))
