"""The report's tables, as text in cells: tiers, levels, paired tests, several data sets together.

What: pure functions of the evidence, for report.md and report.html alike. What not: no markup.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from alphatier_models import Evaluation, Interval, Tier
from alphatier_training.choice.front import dominators
from alphatier_training.evaluation.averages import mean_of_ratios, normalised_sum, overall
from alphatier_training.evaluation.comparing import same_questions
from alphatier_training.evaluation.efficiency import AES_CONSTANTS, columns, efficiency, hypervolume
from alphatier_training.evaluation.figures import tokens_where
from alphatier_training.evaluation.intervals import spread
from alphatier_training.evaluation.samples import Sample
from alphatier_training.report.evidence import Evidence
from alphatier_training.report.plots import level_names, points
from alphatier_training.report.testing import Outcome, Test


@dataclass(frozen=True)
class Table:
    """Headers and rows; the first cell of a row names it."""

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


def tiers(evidence: Evidence, dataset: str) -> Table:
    """A row a tier, all levels together: accuracy, tokens, and whether another tier beats it on both."""
    measured, reference = evidence.measured(dataset), evidence.family.reference_tier
    beaten = dominators(points(measured))
    rows = [
        [
            name,
            _alpha(evidence.family.tier(name)),
            spread(figures.accuracy, 100),
            spread(figures.tokens),
            _share(figures, measured.get(reference)),
            f"dominated by {beaten[name]}" if name in beaten else "yes",
        ]
        for name, figures in measured.items()
    ]
    unmeasured = [tier for tier in evidence.family.tiers if tier.name not in measured]
    rows += [[tier.name, _alpha(tier), "not measured", "not measured", "-", "-"] for tier in unmeasured]
    return Table(
        "Means with their 95 % intervals; tokens are generated tokens a response. A tier is dominated when another "
        "is at least as accurate with no more tokens.",
        ["tier", "alpha", "accuracy %", "tokens", f"of {reference}'s", "on the Pareto front"],
        rows,
    )


def response_lengths(evidence: Evidence, dataset: str) -> Table:
    """A row a tier: percentiles, truncation, and where they are known the tokens of right and wrong responses."""
    measured, samples = evidence.measured(dataset), evidence.samples_on(dataset)
    split = {name: _right_and_wrong(figures, samples.get(name)) for name, figures in measured.items()}
    shown = any(right or wrong for right, wrong in split.values())
    rows = []
    for name, figures in measured.items():
        percentiles = figures.token_percentiles
        cells = [f"{value:.0f}" for value in (percentiles.p50, percentiles.p90, percentiles.p99)]
        cells.append(f"{100 * figures.truncation_rate:.1f}")
        rows.append([name, *cells, *([_mean(part) for part in split[name]] if shown else [])])
    headers = ["tier", "p50", "p90", "p99", "truncated %", *(["mean, right", "mean, wrong"] if shown else [])]
    return Table("Tokens of a response: percentiles, share cut off, means with 95 % intervals.", headers, rows)


def levels(evidence: Evidence, dataset: str) -> Table | None:
    """A row a tier, accuracy and tokens at each level; None where the problems have no levels."""
    measured = evidence.measured(dataset)
    names = level_names(measured)
    if not names:
        return None
    rows = []
    for tier, figures in measured.items():
        results = {
            level.level: f"{100 * level.accuracy.mean:.1f} % / {level.tokens.mean:.0f}" for level in figures.levels
        }
        rows.append([tier, *(results.get(name, "-") for name in names)])
    headers = ["tier", *(f"level {name}" if name.isdecimal() else name for name in names)]
    return Table("Accuracy / mean tokens at each level.", headers, rows)


def paired(evidence: Evidence, dataset: str, tests: Mapping[Test, Outcome]) -> Table | None:
    """A row a tier: its accuracy minus the reference's on the same problems; None without samples of both."""
    reference = evidence.family.reference_tier
    found = {test.first: one for test, one in tests.items() if test[::2] == (dataset, reference) and not test.level}
    if not found:
        return None
    rows = [
        [
            name,
            spread(one.difference.difference, 100),
            f"{one.difference.first_better} / {one.difference.second_better}",
            p_text(one.difference.p_value),
            p_text(one.corrected),
            _mean(one.difference.token_ratio, 100),
        ]
        for name, one in found.items()
    ]
    headers = ["tier", f"points above {reference}", f"solved by it / {reference} alone", "p", "p, Holm"]
    return Table(
        "Paired by problem, with 95 % intervals; with several responses a problem, solved means more often. p: exact "
        "paired permutation test; Holm's correction is over all tests of this report.",
        [*headers, f"tokens, % of {reference}'s"],
        rows,
    )


def together_on(evidence: Evidence, dataset: str) -> Table | None:
    """A row a tier: what puts its accuracy and its tokens together; None without samples."""
    samples, reference = evidence.samples_on(dataset), evidence.family.reference_tier
    if not samples:
        return None
    longest = max(figures.sampling.max_tokens for figures in evidence.measured(dataset).values())
    found = {name: efficiency(own, samples.get(reference, ()), longest) for name, own in samples.items()}
    shown = columns(found.values())
    rows = [[name, *(_mean(column.of(own), column.scale) for column in shown)] for name, own in found.items()]
    area = hypervolume(samples, reference)
    constants = "/".join(f"{constant:g}" for constant in AES_CONSTANTS)
    return Table(
        f"With 95 % intervals. AES (constants {constants}) is against {reference}; the budget area is the mean of "
        f"accuracy over all budgets up to {longest} tokens."
        + (f" The family's hypervolume in accuracy and tokens saved is {spread(area, 100)} %." if area else ""),
        ["tier", *(column.heading for column in shown)],
        rows,
    )


def budgets(evidence: Evidence, dataset: str) -> Table | None:
    """A row a tier: accuracy when responses are cut off at fixed numbers of tokens; None where nobody asked."""
    measured = evidence.measured(dataset)
    limits = sorted({budget.max_tokens for figures in measured.values() for budget in figures.budgets})
    if not limits:
        return None
    rows = []
    for name, figures in measured.items():
        at = {budget.max_tokens: spread(budget.accuracy, 100) for budget in figures.budgets}
        rows.append([name, *(at.get(limit, "-") for limit in limits)])
    headers = ["tier", *(f"at most {limit} tokens" for limit in limits)]
    return Table("Accuracy in % at fixed budgets; a response that is cut off is wrong.", headers, rows)


def together(evidence: Evidence) -> Table | None:
    """All data sets in one row a tier; None when there is one data set, or the reference lacks one."""
    datasets, reference = evidence.datasets(), evidence.family.reference_tier
    by_set = [evidence.measured(dataset) for dataset in datasets]
    if len(datasets) < 2 or any(reference not in measured for measured in by_set):
        return None
    rows = []
    for name in evidence.order():
        if all(name in measured for measured in by_set):
            accuracy = fmean(measured[name].accuracy.mean for measured in by_set)
            rows.append([name, f"{100 * accuracy:.1f}", *_token_averages(evidence, name)])
    return Table(
        f"Over all data sets, relative to {reference}. The sum is led by the data set with the longest responses; "
        "the mean of ratios counts each the same.",
        ["tier", "mean accuracy %", "tokens, normalised sum, %", "tokens, mean of ratios, %"],
        rows,
    )


def _token_averages(evidence: Evidence, name: str) -> list[str]:
    """Both ways of putting tokens together; with intervals where the samples are there."""
    sets, reference = evidence.datasets(), evidence.family.reference_tier
    tier, base = (
        {dataset: evidence.samples.get((who, dataset), ()) for dataset in sets} for who in (name, reference)
    )
    if all(tier[dataset] and same_questions(tier[dataset], base[dataset]) for dataset in sets):
        found = overall(tier, base).tokens
        return [_mean(found.normalised_sum, 100), _mean(found.mean_of_ratios, 100)]
    pairs = [[evidence.measured(dataset)[who].tokens.mean for who in (name, reference)] for dataset in sets]
    mine, theirs = zip(*pairs, strict=True)
    return [f"{100 * float(average(mine, theirs)):.1f}" for average in (normalised_sum, mean_of_ratios)]


def comparison_sentence(outcome: Outcome, first: str, second: str, where: str) -> str:
    """What the paired test says."""
    difference = outcome.difference
    return (
        f"On {where} ({difference.problems} problems), accuracy of {first} minus {second}: "
        f"{spread(difference.difference, 100)} points; {first} alone is right on {difference.first_better}, "
        f"{second} alone on {difference.second_better}; exact permutation test p = {p_text(difference.p_value)}, "
        f"corrected {p_text(outcome.corrected)}."
    )


def p_text(value: float | None) -> str:
    """A p-value in two digits; a dash where there is none."""
    return "-" if value is None else f"{value:.2g}"


def _alpha(tier: Tier) -> str:
    return "-" if tier.alpha is None else f"{tier.alpha:g}"


def _share(figures: Evaluation, reference: Evaluation | None) -> str:
    return f"{figures.tokens.mean / reference.tokens.mean:.0%}" if reference and reference.tokens.mean else "-"


def _right_and_wrong(
    figures: Evaluation, samples: Sequence[Sample] | None
) -> tuple[Interval | None, Interval | None]:
    """Mean tokens of right and of wrong responses: from the figures where they have them, else from samples."""
    kept = [getattr(figures, field, None) for field in ("tokens_correct", "tokens_wrong")]
    if any(kept) or samples is None:
        return kept[0], kept[1]
    return tokens_where(samples, correct=True), tokens_where(samples, correct=False)


def _mean(interval: Interval | None, scale: float = 1) -> str:
    return spread(interval, scale) if interval else "-"
