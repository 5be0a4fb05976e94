"""What the report says, before it is Markdown or HTML: sections of text, tables and pictures.

What: the order of things, the words around them, and which pairs of tiers are tested. What not: no markup, no files.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from matplotlib.figure import Figure

from alphatier_models import Family, Tier
from alphatier_training.evaluation import tables
from alphatier_training.evaluation.efficiency import frontier_of
from alphatier_training.evaluation.figures import accuracy, cut_off
from alphatier_training.evaluation.findings import Found, Lines, Test, find
from alphatier_training.evaluation.samples import Sample
from alphatier_training.evaluation.tables import Table
from alphatier_training.report import curves, plots
from alphatier_training.report.evidence import Evidence


@dataclass(frozen=True)
class Picture:
    """A figure, the stem of its file, and what it shows in words."""

    name: str
    figure: Figure
    description: str


PAPERS = {"penalty": "sigmoid", "gate": "always"}
"""The kinds that make the paper's reward; recipes of before these could be chosen have no other."""

Part = str | Table | Picture | None


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    heading: str
    parts: Sequence[Part]


def sections(evidence: Evidence) -> Iterator[Section]:
    """The report, in order."""
    datasets, reference = evidence.datasets(), evidence.family.reference_tier
    lines = {dataset: evidence.lines(dataset) for dataset in datasets}
    tests = {dataset: list(_tests(evidence.family, lines[dataset])) for dataset in datasets}
    found = find(evidence.family.name, reference, lines, tests, evidence.frontiers)
    for number, dataset in enumerate(datasets):
        suffix = f"-{_slug(dataset)}" if number else ""
        yield _section(dataset, _dataset(evidence, found, dataset, suffix))
    if (table := tables.overall(found)) is not None:
        yield Section("All data sets together", [table])
    if evidence.curves:
        yield _section("Training", _training(evidence))


def summary(evidence: Evidence) -> str:
    """What the family is, in a sentence or two."""
    family = evidence.family
    alphas = ", ".join(f"{tier.alpha:g}" for tier in family.tiers if tier.alpha is not None)
    base = "one base model" if family.base.sha256 else family.base.model
    text = f"{len(family.tiers)} {'tier' if len(family.tiers) == 1 else 'tiers'} over {base}"
    return f"{text}, at the length penalties alpha {alphas}." if alphas else f"{text}."


def method(evidence: Evidence) -> str:
    """How the tiers were made, as far as family.json and the recipe tell."""
    made = {
        kind: [tier.name for tier in tiers]
        for kind, tiers in groupby(sorted(evidence.family.tiers, key=_made), _made)
    }
    said = []
    if made.get("trained"):
        said.append(
            f"Trained here by reinforcement learning, {', '.join(made['trained'])}; {_reward(evidence.recipe)}: the "
            "larger alpha, the more a long right response loses against a short one."
        )
    if made.get("blended"):
        said.append(f"Mixed from other tiers, not trained: {', '.join(made['blended'])}.")
    if made.get("foreign"):
        said.append(f"Not trained here: {', '.join(made['foreign'])}; their alphas are what family.json says.")
    return " ".join([*said, "A truncated response is wrong."])


def _tests(family: Family, lines: Lines) -> Iterator[Test]:
    """Each tier against the reference; the most thorough one against the tersest, also on the hardest level alone."""
    reference, rows = family.reference_tier, {name: line.figures for name, line in lines.items()}
    yield from ((name, reference) for name in rows if name != reference)
    trained = [tier for tier in family.tiers if tier.alpha is not None and tier.name in rows]
    by_alpha = [tier.name for tier in sorted(trained, key=lambda tier: tier.alpha or 0.0)]
    if len(by_alpha) > 1:
        ends = (by_alpha[0], by_alpha[-1])
        if reference not in ends:
            yield ends
        yield from ((*ends, hardest) for hardest in tables.level_names(rows)[-1:])


def _dataset(evidence: Evidence, found: Found, dataset: str, suffix: str) -> Iterator[Part]:
    lines, alphas = found.datasets[dataset], {tier.name: tier.alpha for tier in evidence.family.tiers}
    rows = {name: line.figures for name, line in lines.items()}
    samples = {name: line.samples for name, line in lines.items() if line.samples}
    spots = {name: [plots.Spot(rows[name].tokens, rows[name].accuracy)] if name in rows else [] for name in alphas}
    picture = plots.accuracy_tokens(f"{dataset}: tiers with 95 % intervals", spots, staircase=True)
    yield Picture(f"accuracy-tokens{suffix}", picture, plots.described(rows))
    yield tables.figures("Accuracy and tokens", rows, found.reference, alphas)
    if (levels := plots.by_level(rows, dataset, evidence.order())) is not None:
        words = "Two panels: accuracy and mean tokens of each tier by level; the figures are in the table below."
        yield Picture(f"levels{suffix}", levels, words)
        yield tables.levels(dataset, rows)
    yield tables.budgets(dataset, rows)
    if not samples:
        yield (
            "The responses were not found, so there are no histograms of lengths, no paired tests, and nothing that "
            "puts accuracy and tokens together."
        )
        return
    longest, frontier = (
        max(one.sampling.max_tokens for one in rows.values()),
        frontier_of(dataset, evidence.frontiers),
    )
    over_budgets = plots.over_budgets(samples, longest, dataset, evidence.order(), frontier)
    yield Picture(f"budgets{suffix}", over_budgets, _budgets_text(samples, longest))
    yield tables.efficiency(found, dataset, evidence.frontier_name)
    yield tables.tests(found, dataset)
    ranges = (
        f"{name} from {min(one.tokens for one in group)} to {max(one.tokens for one in group)} tokens"
        for name, group in samples.items()
    )
    words = f"Histograms of response lengths, right and wrong, a panel a tier: {'; '.join(ranges)}."
    yield Picture(f"lengths{suffix}", plots.lengths(samples, dataset), words)


def _budgets_text(samples: Mapping[str, Sequence[Sample]], longest: int) -> str:
    """What the picture shows, at an eighth, a quarter and a half of the longest budget."""
    parts = []
    for name, group in samples.items():
        at = {part: accuracy(cut_off(group, longest // part)).mean for part in (8, 4, 2)}
        parts.append(f"{name} {', '.join(f'{100 * share:.1f} % at {longest // part}' for part, share in at.items())}")
    return f"Accuracy over budgets, a line a tier: {'; '.join(parts)} tokens."


def _training(evidence: Evidence) -> Iterator[Part]:
    figure, zero = curves.training_curves(evidence.curves, evidence.order())
    steps = max(int(curve[-1]["step"]) for curve in evidence.curves.values())
    yield Picture("training", figure, f"What the RL runs of {', '.join(evidence.curves)} logged in {steps} steps.")
    still = f" 0 at every step, so not drawn: {', '.join(zero)}." if zero else ""
    yield (
        "Rollouts are on training problems, at the training's temperature. Faint lines are single steps, bold ones "
        f"running means over a tenth of the run.{still}"
    )
    for tier, curve in evidence.curves.items():
        if stopped := curve[-1].get("stopped"):
            yield f"{tier}: {stopped}."


def _section(heading: str, parts: Iterator[Part]) -> Section:
    return Section(heading, [part for part in parts if part is not None])


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


def _made(tier: Tier) -> str:
    if tier.layout == "base":
        return "base"
    if tier.blend:
        return "blended"
    return "trained" if tier.recipe_sha256 else "foreign"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
