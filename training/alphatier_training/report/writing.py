"""The report of a family: one HTML page, the same as Markdown, its pictures, and the recipe.

OUT/report/report.html            everything in one file: no script, nothing fetched
OUT/report/report.md              the same text and tables beside the PNG files
OUT/report/report.json            every figure with its interval, as `alphatier evaluate --json` prints them
OUT/report/accuracy-tokens.png    one point a tier, 95 % intervals both ways, the Pareto front
OUT/report/levels.png             accuracy and tokens of each tier by level, where problems have levels
OUT/report/budgets.png            accuracy over budgets of tokens, where samples were found
OUT/report/lengths.png            histograms of right and wrong responses, where samples were found
OUT/report/training.png           what the RL runs logged, by step
OUT/report/recipe.json            the recipe with every default; its sha256 is the one in family.json

Pictures of further data sets have the data set's name at the end: accuracy-tokens-aime.png.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from alphatier_models import EFFORTS, Family
from alphatier_training.evaluation import tables
from alphatier_training.evaluation.comparing import Found, Line, Lines, Test, find
from alphatier_training.evaluation.figures import at_budgets, front, frontier_of
from alphatier_training.evaluation.tables import Table
from alphatier_training.recipe import Recipe
from alphatier_training.report import plots
from alphatier_training.report.evidence import Evidence, gather
from alphatier_training.run.folder import RunFolder, write_text

BUDGET_PARTS = (16, 8, 4, 2)
"""Of the longest response, budgets at which accuracy is told."""

PAPERS = {"penalty": "sigmoid", "gate": "always"}
"""The kinds that make the paper's reward; recipes of before these could be chosen have no other."""


class Picture(NamedTuple):
    """A figure, the stem of its file, and what it shows in words."""

    name: str
    figure: Figure
    description: str


Part = str | Table | Picture


class Section(NamedTuple):
    """A heading and what stands below it."""

    heading: str
    parts: Sequence[Part]


def write_report(family: Family, recipe: Recipe, folder: RunFolder) -> None:
    """Write the report of a finished run."""
    write_evidence(gather(family, folder.root, recipe=recipe.canonical_json()), folder.report)


def write_evidence(evidence: Evidence, out: Path) -> None:
    """Write the report of what is known about a family into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    if evidence.recipe is not None:
        write_text(out / "recipe.json", evidence.recipe)
    with plots.drawing():
        found = _found(evidence)
        report = [Section(heading, list(filter(None, parts))) for heading, parts in _sections(evidence, found)]
        for part in (part for section in report for part in section.parts):
            if isinstance(part, Picture):
                plots.save_png(part.figure, out / f"{part.name}.png")
        write_text(out / "report.json", json.dumps(tables.document(found), indent=1) + "\n")
        write_text(out / "report.md", _markdown(evidence, report))
        write_text(out / "report.html", _page(evidence, report))


def _found(evidence: Evidence) -> Found:
    """All that the rows say together; where samples were found, at a few budgets too."""
    tests = {dataset: list(_tests(evidence.family, lines)) for dataset, lines in evidence.datasets.items()}
    datasets = {
        dataset: {name: _at_budgets(line) for name, line in lines.items()}
        for dataset, lines in evidence.datasets.items()
    }
    return find(evidence.family.name, evidence.family.reference_tier, datasets, tests, evidence.frontiers)


def _at_budgets(line: Line) -> Line:
    """The row with figures at parts of its longest budget, where family.json names no budgets."""
    if not line.samples or line.figures.budgets:
        return line
    budgets = [line.figures.sampling.max_tokens // part for part in BUDGET_PARTS]
    within = at_budgets(line.samples, [budget for budget in budgets if budget])
    return replace(line, figures=line.figures.model_copy(update={"budgets": within}))


def _sections(evidence: Evidence, found: Found) -> Iterator[tuple[str, Iterator[Part | None]]]:
    """The report, in order; parts that a family has nothing for are None."""
    for number, dataset in enumerate(evidence.datasets):
        suffix = f"-{re.sub(r'[^a-z0-9]+', '-', dataset.lower()).strip('-')}" if number else ""
        yield dataset, _dataset(evidence, found, dataset, suffix)
    if (table := tables.overall(found)) is not None:
        yield "All data sets together", iter([table])
    if evidence.curves:
        yield "Training", _training(evidence)
    yield "Efforts", iter([_efforts(evidence.family)])
    yield "Origin", iter([_origin(evidence)])


def _tests(family: Family, lines: Lines) -> Iterator[Test]:
    """Each tier against the reference; the most thorough one against the tersest, also on the hardest level alone."""
    reference = family.reference_tier
    yield from ((name, reference) for name in lines if name != reference)
    trained = [tier for tier in family.tiers if tier.alpha is not None and tier.name in lines]
    by_alpha = [tier.name for tier in sorted(trained, key=lambda tier: tier.alpha or 0.0)]
    if len(by_alpha) > 1:
        ends = (by_alpha[0], by_alpha[-1])
        if reference not in ends:
            yield ends
        levels = tables.level_names({name: line.figures for name, line in lines.items()})
        yield from ((*ends, hardest) for hardest in levels[-1:])


def _dataset(evidence: Evidence, found: Found, dataset: str, suffix: str) -> Iterator[Part | None]:
    lines, order = found.datasets[dataset], evidence.order()
    rows = {name: line.figures for name, line in lines.items()}
    taken = {name: line for name, line in lines.items() if line.samples}
    series = {name: {"": rows[name]} if name in rows else {} for name in order}
    picture = plots.accuracy_tokens(f"{dataset}: tiers with 95 % intervals", series, staircase=True)
    points = tables.places(rows)
    spots = "; ".join(f"{name} {100 * at.accuracy:.1f} % at {at.tokens:.1f} tokens" for name, at in points.items())
    words = f"Accuracy against mean tokens: {spots}. On the Pareto front: {', '.join(front(points))}."
    yield Picture(f"accuracy-tokens{suffix}", picture, words)
    alphas = {tier.name: tier.alpha for tier in evidence.family.tiers}
    yield tables.figures("Accuracy and tokens", rows, found.reference, alphas)
    if (levels := plots.by_level(lines, dataset, order)) is not None:
        words = "Two panels: accuracy and mean tokens of each tier by level; the figures are in the table below."
        yield Picture(f"levels{suffix}", levels, words)
        yield tables.levels(dataset, rows)
    yield tables.ways(found, dataset)
    yield tables.budgets(dataset, rows)
    if not taken:
        yield (
            "The responses were not found, so there are no histograms of lengths, no paired tests, and nothing that "
            "puts accuracy and tokens together."
        )
        return
    budgets = plots.over_budgets(taken, dataset, order, frontier_of(dataset, evidence.frontiers))
    words = "Accuracy over budgets of tokens, a line a tier; the figures are in the table At fixed budgets."
    yield Picture(f"budgets{suffix}", budgets, words)
    yield tables.efficiency(found, dataset, evidence.frontier_name)
    yield tables.headroom(found, dataset)
    yield tables.tests(found, dataset)
    tokens = {name: [sample.tokens for sample in line.samples] for name, line in taken.items()}
    ranges = "; ".join(f"{name} from {min(each)} to {max(each)} tokens" for name, each in tokens.items())
    words = f"Histograms of response lengths, right and wrong, a panel a tier: {ranges}."
    yield Picture(f"lengths{suffix}", plots.lengths(taken, dataset), words)


def _training(evidence: Evidence) -> Iterator[Part]:
    figure, zero = plots.training_curves(evidence.curves, evidence.order())
    steps = max(int(curve[-1]["step"]) for curve in evidence.curves.values())
    yield Picture("training", figure, f"What the RL runs of {', '.join(evidence.curves)} logged in {steps} steps.")
    still = f" 0 at every step, so not drawn: {', '.join(zero)}." if zero else ""
    yield (
        "Rollouts are on training problems, at the training's temperature. Faint lines are single steps, bold ones "
        f"running means over a tenth of the run.{still}"
    )
    yield from (
        f"{tier}: {curve[-1]['stopped']}." for tier, curve in evidence.curves.items() if curve[-1].get("stopped")
    )


def _efforts(family: Family) -> Table:
    caption = (
        f"The tier that answers when a client sends OpenAI's reasoning_effort. Without one it is "
        f"{family.default_tier}; savings are counted against {family.reference_tier}"
    )
    return Table("By effort", caption, ["effort", *EFFORTS], [["tier", *(family.efforts[one] for one in EFFORTS)]])


def _summary(family: Family) -> str:
    alphas = ", ".join(f"{tier.alpha:g}" for tier in family.tiers if tier.alpha is not None)
    base = "one base model" if family.base.sha256 else family.base.model
    text = f"{len(family.tiers)} {'tier' if len(family.tiers) == 1 else 'tiers'} over {base}"
    return f"{text}, at the length penalties alpha {alphas}." if alphas else f"{text}."


def _method(evidence: Evidence) -> str:
    """How the tiers were made, as far as family.json and the recipe tell."""
    made = [tier for tier in evidence.family.tiers if tier.layout != "base"]
    blended = [tier.name for tier in made if tier.blend]
    trained = [tier.name for tier in made if tier.recipe_sha256 and not tier.blend]
    foreign = [tier.name for tier in made if not tier.recipe_sha256 and not tier.blend]
    said = []
    if trained:
        said.append(
            f"Trained here by reinforcement learning, {', '.join(trained)}; {_reward(evidence.recipe)}: the "
            "larger alpha, the more a long right response loses against a short one."
        )
    if blended:
        said.append(f"Mixed from other tiers, not trained: {', '.join(blended)}.")
    if foreign:
        said.append(f"Not trained here: {', '.join(foreign)}; their alphas are what family.json says.")
    return " ".join([*said, "A truncated response is wrong."])


def _reward(recipe: str | None) -> str:
    if recipe is None:
        return "with what reward says a recipe that was not found"
    method = json.loads(recipe)["rl"]
    penalty, gate = (method.get(name, {}).get("kind", usual) for name, usual in PAPERS.items())
    if (penalty, gate) != tuple(PAPERS.values()):
        return f"the reward is the recipe's, of the penalty {penalty} and the gate {gate}"
    return (
        "the reward is correct × (1 − alpha × sigmoid(standardised length)) of “Training Language Models to Reason "
        "Efficiently” (arXiv 2502.04463)"
    )


def _origin(evidence: Evidence) -> str:
    """Which recipe made the family, in a sentence."""
    tiers = evidence.family.tiers
    sha256 = next((tier.recipe_sha256 for tier in tiers if tier.recipe_sha256), None)
    if sha256 is None:
        return "family.json names no recipe."
    where = "recipe.json, beside this report" if evidence.recipe else "its file was not found"
    seeds = sorted({tier.seed for tier in tiers if tier.seed is not None})
    seed = f", seed {', '.join(map(str, seeds))}" if seeds else ""
    return f"Recipe sha256 {sha256} ({where}){seed}."


def _markdown(evidence: Evidence, report: Sequence[Section]) -> str:
    """The text of report.md; its pictures are the PNG files next to it."""
    blocks = [f"# Family {evidence.family.name}", _summary(evidence.family), _method(evidence)]
    for heading, parts in report:
        blocks.append(f"## {heading}")
        for part in parts:
            shown = f"![{part.description}]({part.name}.png)" if isinstance(part, Picture) else part
            blocks.append(shown.markdown() if isinstance(shown, Table) else shown)
    return "\n\n".join(blocks) + "\n"


def _page(evidence: Evidence, report: Sequence[Section]) -> str:
    """The text of report.html, which needs nothing but itself: SVG pictures and style sheet are inside, no script."""
    source = (files("alphatier_training.report") / "page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["svg"] = lambda part: Markup(plots.to_svg(part.figure, part.name, part.description))
    return environment.from_string(source).render(
        family=evidence.family,
        summary=_summary(evidence.family),
        method=_method(evidence),
        sections=report,
        recipe=evidence.recipe,
    )
