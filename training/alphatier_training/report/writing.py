"""The report of a run: accuracy against tokens with 95 % intervals, the same for each level, and the numbers.

OUT/report/report.md              tables, and the paired test on the hardest level
OUT/report/accuracy-tokens.png    one point a tier
OUT/report/levels.png             accuracy and tokens of each tier by level
OUT/report/training.png           accuracy and tokens of the rollouts, by step
OUT/report/recipe.json            the recipe with every default; its sha256 is the one in family.json
"""

import json
from collections.abc import Iterator, Mapping, Sequence

from alphatier_models import Evaluation, Family
from alphatier_training.evaluation.figures import Comparison, by_level, compare, spread
from alphatier_training.recipe import Recipe, tier_name
from alphatier_training.report import plots
from alphatier_training.run.assembly import samples_of
from alphatier_training.run.folder import RunFolder, write_text


def write_report(family: Family, recipe: Recipe, folder: RunFolder) -> None:
    """Write the report of a finished run."""
    measured = measured_tiers(family)
    folder.report.mkdir(parents=True, exist_ok=True)
    plots.accuracy_against_tokens(measured, folder.report / "accuracy-tokens.png")
    plots.by_level(measured, folder.report / "levels.png")
    plots.training_curves(_curves(recipe, folder), folder.report / "training.png")
    write_text(folder.report / "recipe.json", recipe.canonical_json())
    write_text(folder.report / "report.md", "\n".join(_lines(family, recipe, folder)) + "\n")


def measured_tiers(family: Family) -> dict[str, Evaluation]:
    """The first evaluation of each tier that has one."""
    found = ((tier.name, tier.evaluation()) for tier in family.tiers)
    return {name: evaluation for name, evaluation in found if evaluation is not None}


def tier_table(measured: Mapping[str, Evaluation], reference: str) -> Iterator[str]:
    """A Markdown table: a row a tier, all levels together."""
    yield "| tier | accuracy % | tokens | of the base's | p50 / p90 / p99 | truncated % |"
    yield "|---|---|---|---|---|---|"
    for tier, figures in measured.items():
        share = figures.tokens.mean / measured[reference].tokens.mean if reference in measured else 1
        points = figures.token_percentiles
        yield (
            f"| {tier} | {spread(figures.accuracy, 100)} | {spread(figures.tokens)} | {share:.0%} "
            f"| {points.p50:.0f} / {points.p90:.0f} / {points.p99:.0f} | {100 * figures.truncation_rate:.1f} |"
        )


def level_table(measured: Mapping[str, Evaluation]) -> Iterator[str]:
    """A Markdown table: a row a tier, accuracy and tokens at each level."""
    levels = [level.level for level in next(iter(measured.values())).levels]
    yield "| tier | " + " | ".join(f"level {level}" for level in levels) + " |"
    yield "|---|" + "---|" * len(levels)
    for tier, figures in measured.items():
        cells = (f"{100 * level.accuracy.mean:.1f} % / {level.tokens.mean:.0f}" for level in figures.levels)
        yield f"| {tier} | " + " | ".join(cells) + " |"


def comparison_sentence(comparison: Comparison, first: str, second: str, where: str) -> str:
    """What the paired test says."""
    return (
        f"On {where} ({comparison.problems} problems), accuracy of {first} minus {second}: "
        f"{spread(comparison.difference, 100)} points; {first} alone is right on {comparison.first_better}, "
        f"{second} alone on {comparison.second_better}; exact sign test p = {comparison.p_value:.2g}."
    )


def _lines(family: Family, recipe: Recipe, folder: RunFolder) -> Iterator[str]:
    measured = measured_tiers(family)
    one = next(iter(measured.values()))
    yield f"# Family {family.name}\n"
    yield (
        f"{one.problems} held-out problems a tier, {one.samples_per_problem} responses each, temperature "
        f"{one.sampling.temperature}, top_p {one.sampling.top_p}, at most {one.sampling.max_tokens} tokens. "
        "95 % intervals in brackets. A truncated response is wrong."
    )
    yield "\n![accuracy against tokens](accuracy-tokens.png)\n"
    yield from tier_table(measured, family.reference_tier)
    yield "\n## By level: accuracy / tokens\n\n![by level](levels.png)\n"
    yield from level_table(measured)
    yield "\n## Thorough against terse\n"
    yield from _paired(recipe, folder)
    yield "\n## Training\n\n![rollouts by step](training.png)\n"
    yield f"Recipe sha256 `{recipe.sha256()}` (recipe.json), seed {recipe.seed}."


def _paired(recipe: Recipe, folder: RunFolder) -> Iterator[str]:
    thorough, terse = tier_name(min(recipe.tiers.alphas)), tier_name(max(recipe.tiers.alphas))
    if thorough == terse:
        yield "There is only one trained tier."
        return
    first, second = samples_of(recipe, folder, thorough), samples_of(recipe, folder, terse)
    hardest = str(max(recipe.levels()))
    on_hardest = compare(by_level(first)[hardest], by_level(second)[hardest])
    yield comparison_sentence(on_hardest, thorough, terse, f"the hardest level, {hardest}") + "\n"
    yield comparison_sentence(compare(first, second), thorough, terse, "all levels")


def _curves(recipe: Recipe, folder: RunFolder) -> dict[str, Sequence[Mapping[str, float]]]:
    names = [tier_name(alpha) for alpha in recipe.tiers.alphas]
    return {name: json.loads(folder.curve(name).read_text(encoding="utf-8")) for name in names}
