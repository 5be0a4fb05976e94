"""What the report says, before it is Markdown or HTML: sections of text, tables and pictures.

What: the order of things, and the words around them. What not: no markup, no files.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from alphatier_training.choice.front import front
from alphatier_training.evaluation.samples import Sample
from alphatier_training.report import curves, lengths, plots, tables
from alphatier_training.report.evidence import Evidence
from alphatier_training.report.tables import Table
from alphatier_training.report.testing import Outcome, Test, outcomes, thorough_and_terse


@dataclass(frozen=True)
class Picture:
    """A figure, the stem of its file, and what it shows in words."""

    name: str
    figure: Figure
    description: str


Part = str | Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    heading: str
    parts: Sequence[Part]


def sections(evidence: Evidence) -> Iterator[Section]:
    """The report, in order."""
    tests = outcomes(evidence)
    for number, dataset in enumerate(evidence.datasets()):
        suffix = f"-{_slug(dataset)}" if number else ""
        yield Section(dataset, list(_dataset(evidence, dataset, suffix)))
        comparisons = list(_comparisons(evidence, dataset, tests))
        if comparisons:
            yield Section(f"Paired tests on {dataset}", comparisons)
    if (table := tables.together(evidence)) is not None:
        yield Section("All data sets together", [table])
    if evidence.curves:
        yield Section("Training", list(_training(evidence)))


def summary(evidence: Evidence) -> str:
    """What the family is, in a sentence or two."""
    family = evidence.family
    alphas = ", ".join(f"{tier.alpha:g}" for tier in family.tiers if tier.alpha is not None)
    base = "one base model" if family.base.sha256 else family.base.model
    text = f"{len(family.tiers)} {'tier' if len(family.tiers) == 1 else 'tiers'} over {base}"
    return f"{text}, trained at the length penalties alpha {alphas}." if alphas else f"{text}."


METHOD = (
    "Each tier was trained by reinforcement learning with the reward correct × (1 − alpha × sigmoid(standardised "
    "length)) of “Training Language Models to Reason Efficiently” (arXiv 2502.04463): the larger alpha, the "
    "more a long right response loses against a short one. A truncated response is wrong."
)


def _dataset(evidence: Evidence, dataset: str, suffix: str) -> Iterator[Part]:
    measured, order = evidence.measured(dataset), evidence.order()
    one = next(iter(measured.values()))
    each = "one response each" if one.samples_per_problem == 1 else f"{one.samples_per_problem} responses each"
    yield (
        f"{one.problems} held-out problems a tier, {each}, temperature {one.sampling.temperature:g}, top_p "
        f"{one.sampling.top_p:g}, at most {one.sampling.max_tokens} tokens, seed {one.sampling.seed}."
    )
    yield Picture(f"accuracy-tokens{suffix}", plots.pareto(measured, dataset, order), _pareto_text(measured))
    yield tables.tiers(evidence, dataset)
    by_levels, table = plots.by_level(measured, dataset, order), tables.levels(evidence, dataset)
    if by_levels is not None and table is not None:
        words = "Two panels: accuracy and mean tokens of each tier by level; the figures are in the table below."
        yield Picture(f"levels{suffix}", by_levels, words)
        yield table
    if (at_budgets := tables.budgets(evidence, dataset)) is not None:
        yield at_budgets
    if (efficiency := tables.together_on(evidence, dataset)) is not None:
        yield efficiency
    samples = {name: group for name, group in evidence.samples_on(dataset).items() if group}
    yield tables.response_lengths(evidence, dataset)
    if samples:
        yield Picture(f"lengths{suffix}", lengths.lengths(samples, dataset), _lengths_text(samples))
    else:
        yield "The responses were not found, so there are no histograms of lengths and no paired tests."


def _pareto_text(measured: plots.Measured) -> str:
    best = front(plots.points(measured))
    places = "; ".join(
        f"{name} {100 * figures.accuracy.mean:.1f} % at {figures.tokens.mean:.1f} tokens"
        for name, figures in measured.items()
    )
    return f"Accuracy against mean tokens: {places}. On the Pareto front: {', '.join(best)}."


def _lengths_text(samples: dict[str, Sequence[Sample]]) -> str:
    parts = (
        f"{tier} from {min(sample.tokens for sample in group)} to {max(sample.tokens for sample in group)} tokens"
        for tier, group in samples.items()
    )
    return f"Histograms of response lengths, right and wrong, a panel a tier: {'; '.join(parts)}."


def _comparisons(evidence: Evidence, dataset: str, tests: Mapping[Test, Outcome]) -> Iterator[Part]:
    if (table := tables.paired(evidence, dataset, tests)) is not None:
        yield table
    if (ends := thorough_and_terse(evidence, dataset)) is None:
        return
    yield f"The most thorough trained tier, {ends[0]}, against the tersest, {ends[1]}:"
    between = (test for test in tests if test[:3] == (dataset, *ends))
    for test in sorted(between, key=lambda test: test.level, reverse=True):
        where = f"the hardest level, {test.level}" if test.level else f"all of {dataset}"
        yield tables.comparison_sentence(tests[test], *ends, where)


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


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
