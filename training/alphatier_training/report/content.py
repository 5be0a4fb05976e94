"""What the report says, before it is Markdown or HTML: sections of text, tables and pictures.

What: the order of things, the words around them, and which pairs of tiers are tested. What not: no markup, no files.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from matplotlib.figure import Figure

from alphatier_models import Evaluation, Tier
from alphatier_training.evaluation import tables
from alphatier_training.evaluation.averages import overall
from alphatier_training.evaluation.comparing import Comparison, compare, corrected, same_questions
from alphatier_training.evaluation.efficiency import efficiency, frontier_of, hypervolume
from alphatier_training.evaluation.figures import by_level, tokens_where
from alphatier_training.evaluation.samples import Sample
from alphatier_training.evaluation.tables import Compared, Table
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
    tests = compared(evidence)
    for number, dataset in enumerate(evidence.datasets()):
        suffix = f"-{_slug(dataset)}" if number else ""
        yield _section(dataset, _dataset(evidence, dataset, suffix, tests.get(dataset, {})))
    if (table := _together(evidence)) is not None:
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


def compared(evidence: Evidence) -> dict[str, Compared]:
    """Every paired test of the report by data set, with Holm's correction over all of them.

    Each tier against the reference; the most thorough trained tier against the tersest, on all problems and on the
    hardest level. Only tiers that were asked the same questions.
    """
    tests = [(dataset, *test) for dataset in evidence.datasets() for test in _tests(evidence, dataset)]
    found = corrected([compare(one, other) for _, _, one, other in tests])
    by_set: dict[str, dict[tuple[str, ...], Comparison]] = {}
    for (dataset, key, *_), test in zip(tests, found, strict=True):
        by_set.setdefault(dataset, {})[key] = test
    return {**by_set}


def _tests(evidence: Evidence, dataset: str) -> Iterator[tuple[tuple[str, ...], Sequence[Sample], Sequence[Sample]]]:
    samples, reference = evidence.samples_on(dataset), evidence.family.reference_tier
    for name, group in samples.items():
        if name != reference and same_questions(group, samples.get(reference, ())):
            yield (name, reference), group, samples[reference]
    trained = [tier for tier in evidence.family.tiers if tier.alpha is not None and tier.name in samples]
    ends = [tier.name for tier in sorted(trained, key=lambda tier: tier.alpha or 0.0)][:: max(1, len(trained) - 1)]
    if len(ends) < 2 or not same_questions(*(samples[name] for name in ends)):
        return
    thorough, terse = (samples[name] for name in ends)
    if reference not in ends:
        yield (*ends,), thorough, terse
    for hardest in tables.level_names(evidence.measured(dataset))[-1:]:
        yield (*ends, f"level {hardest}"), by_level(thorough)[hardest], by_level(terse)[hardest]


def _dataset(evidence: Evidence, dataset: str, suffix: str, tests: Compared) -> Iterator[Part]:
    samples, reference = evidence.samples_on(dataset), evidence.family.reference_tier
    rows = {name: _split(found, samples.get(name, ())) for name, found in evidence.measured(dataset).items()}
    alphas = {tier.name: tier.alpha for tier in evidence.family.tiers}
    spots = {name: [plots.Spot(rows[name].tokens, rows[name].accuracy)] if name in rows else [] for name in alphas}
    picture = plots.accuracy_tokens(f"{dataset}: tiers with 95 % intervals", spots, staircase=True)
    yield Picture(f"accuracy-tokens{suffix}", picture, plots.described(rows))
    yield tables.figures("Accuracy and tokens", rows, reference, alphas)
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
    longest = max(found.sampling.max_tokens for found in rows.values())
    frontier = frontier_of(dataset, evidence.frontiers)
    both = {name: efficiency(own, samples.get(reference, ()), longest, frontier) for name, own in samples.items()}
    yield tables.efficiency(dataset, both, reference, hypervolume(samples, reference), evidence.frontier_name)
    yield tables.tests(dataset, tests, reference)
    ranges = (
        f"{name} from {min(one.tokens for one in group)} to {max(one.tokens for one in group)} tokens"
        for name, group in samples.items()
    )
    words = f"Histograms of response lengths, right and wrong, a panel a tier: {'; '.join(ranges)}."
    yield Picture(f"lengths{suffix}", plots.lengths(samples, dataset), words)


def _split(found: Evaluation, samples: Sequence[Sample]) -> Evaluation:
    """The figures with the tokens of right and of wrong responses, which an older family.json lacks."""
    if found.tokens_correct or found.tokens_wrong or not samples:
        return found
    sides = {
        "tokens_correct": tokens_where(samples, correct=True),
        "tokens_wrong": tokens_where(samples, correct=False),
    }
    return found.model_copy(update=sides)


def _together(evidence: Evidence) -> Table | None:
    """Over several data sets, the tiers that were asked the same of each as the reference."""
    datasets, reference = evidence.datasets(), evidence.family.reference_tier
    samples = {
        name: {dataset: evidence.samples.get((name, dataset), ()) for dataset in datasets}
        for name in evidence.order()
    }
    base = samples[reference]
    alike = {
        name: own
        for name, own in samples.items()
        if all(base[dataset] and same_questions(own[dataset], base[dataset]) for dataset in datasets)
    }
    found = {name: overall(own, base) for name, own in alike.items()} if len(datasets) > 1 else {}
    return tables.overall(found, reference)


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
