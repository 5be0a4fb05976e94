"""What `alphatier evaluate` found, as tables for people and as JSON for scripts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from rich import box
from rich.table import Table

from alphatier_models import Interval
from alphatier_training.evaluation.averages import Overall
from alphatier_training.evaluation.comparing import Comparison
from alphatier_training.evaluation.efficiency import AES_CONSTANTS, Efficiency, columns
from alphatier_training.evaluation.measuring import Measured

Compared = Mapping[tuple[str, str], Comparison]
"""Two rows to their comparison."""


AVERAGES = {
    "normalised_sum": "sum over the data sets / the reference's",
    "mean_of_ratios": "mean of the data sets' ratios to the reference",
}
"""The two ways to average over data sets, as `averages` names them."""


@dataclass(frozen=True)
class Found:
    """Everything that was found about one family."""

    family: str
    reference: str
    datasets: Mapping[str, Sequence[Measured]]
    """Data set to its rows."""
    comparisons: Mapping[str, Compared]
    """Data set to paired tests."""
    efficiency: Mapping[str, Mapping[str, Efficiency]]
    """Data set to the figures of each row that put accuracy and tokens together."""
    hypervolume: Mapping[str, Interval | None]
    """Data set to what the family's tiers dominate; None where the reference was not measured."""
    overall: Mapping[str, Overall]
    """Row to its figures over all data sets, relative to the reference's; empty for one data set."""


def tables(found: Found) -> list[Table]:
    """A table of each data set, its budgets and its paired tests, and one over all data sets."""
    shown = []
    for name, rows in found.datasets.items():
        shown.append(_figures(found.family, rows))
        if any(len(row.figures.levels) > 1 for row in rows):
            shown.append(_levels(name, rows))
        if any(row.figures.budgets for row in rows):
            shown.append(_budgets(name, rows))
        shown.append(_efficiency(found, name))
        if found.comparisons[name]:
            shown.append(_tests(name, found.comparisons[name]))
    return [*shown, *_overall(found)] if found.overall else shown


def document(found: Found) -> dict[str, Any]:
    """The same for scripts, every figure with its interval."""
    return {
        "family": found.family,
        "reference": found.reference,
        "aes_constants": AES_CONSTANTS,
        "datasets": {
            name: {
                "hypervolume": _plain(found.hypervolume[name]),
                "rows": {
                    one.job.row.name: _row(one) | {"efficiency": _plain(found.efficiency[name][one.job.row.name])}
                    for one in rows
                },
                "comparisons": [
                    {"first": first, "second": second} | _plain(comparison)
                    for (first, second), comparison in found.comparisons[name].items()
                ],
            }
            for name, rows in found.datasets.items()
        },
        "overall": {row: _plain(figures) for row, figures in found.overall.items()},
    }


def _row(one: Measured) -> dict[str, Any]:
    row = one.job.row
    return {
        "tier": row.tier,
        "baseline": row.name if row.name != row.tier else None,
        "samples": str(one.file),
        **one.figures.model_dump(mode="json"),
    }


def _plain(value: Any) -> Any:
    """Records and intervals as what JSON has."""
    if isinstance(value, Interval):
        return value.model_dump()
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    return {key: _plain(part) for key, part in value.items()} if isinstance(value, dict) else value


def _figures(family: str, rows: Sequence[Measured]) -> Table:
    one = rows[0].figures
    each = f"pass@1 of {one.samples_per_problem} responses each, " if one.samples_per_problem > 1 else ""
    caption = f"{one.dataset}, {one.problems} problems, {each}temperature {one.sampling.temperature}, 95 % intervals"
    headings = ("accuracy %", "tokens", "p50/90/99", "right", "wrong", "cut %")
    table = _table(f"Family {family}", caption, headings)
    for row in rows:
        points, parts = row.figures.token_percentiles, (row.figures.tokens_correct, row.figures.tokens_wrong)
        table.add_row(
            row.job.row.name,
            _short(row.figures.accuracy, 100),
            _short(row.figures.tokens),
            f"{points.p50:.0f}/{points.p90:.0f}/{points.p99:.0f}",
            *(f"{part.mean:.1f}" if part else "-" for part in parts),
            f"{100 * row.figures.truncation_rate:.1f}",
        )
    return table


def _levels(name: str, rows: Sequence[Measured]) -> Table:
    levels = [level.level for level in rows[0].figures.levels]
    table = _table("By level: accuracy % / tokens", name, (f"level {level}" for level in levels))
    for row in rows:
        cells = (f"{100 * level.accuracy.mean:.1f} / {level.tokens.mean:.1f}" for level in row.figures.levels)
        table.add_row(row.job.row.name, *cells)
    return table


def _budgets(name: str, rows: Sequence[Measured]) -> Table:
    budgets = sorted({budget.max_tokens for row in rows for budget in row.figures.budgets})
    headings = (f"{budget} tokens" for budget in budgets)
    table = _table("At fixed budgets: accuracy %", f"{name}; a longer response is wrong", headings)
    for row in rows:
        at = {budget.max_tokens: budget for budget in row.figures.budgets}
        cells = (_short(at[budget].accuracy, 100) if budget in at else "-" for budget in budgets)
        table.add_row(row.job.row.name, *cells)
    return table


def _efficiency(found: Found, name: str) -> Table:
    area = found.hypervolume[name]
    family = f"; the family's hypervolume {_short(area, 100)} %" if area else ""
    constants = "/".join(f"{constant:g}" for constant in AES_CONSTANTS)
    caption = f"{name}; AES with {constants} against {found.reference}{family}"
    shown = columns(found.efficiency[name].values())
    table = _table("Accuracy and tokens together", caption, (column.heading for column in shown))
    for row, figures in found.efficiency[name].items():
        values = ((column.of(figures), column.scale) for column in shown)
        table.add_row(row, *(_short(value, scale) if value else "-" for value, scale in values))
    return table


def _tests(name: str, compared: Compared) -> Table:
    seconds = {second for _, second in compared}
    title = f"Paired tests against {seconds.pop()}" if len(seconds) == 1 else "Paired tests"
    caption = f"{name}: paired permutation tests, p by Holm's correction over all tests here"
    table = _table(title, caption, ("accuracy, points", "better/worse", "p", "tokens, % of its", "p"))
    for (first, second), test in compared.items():
        table.add_row(
            f"{first} : {second}" if seconds else first,
            _short(test.difference, 100),
            f"{test.first_better}/{test.second_better}",
            _p(test.p_value),
            _short(test.token_ratio, 100) if test.token_ratio else "-",
            _p(test.token_p_value),
        )
    return table


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<1e-4" if value < 1e-4 else f"{value:.2g}"


def _overall(found: Found) -> list[Table]:
    both = []
    for how, caption in AVERAGES.items():
        table = _table(f"{how}, % of {found.reference}'s", caption, ("accuracy", "tokens"))
        for row, figures in found.overall.items():
            parts = (getattr(part, how) for part in (figures.accuracy, figures.tokens))
            table.add_row(row, *(_short(part, 100) if part else "-" for part in parts))
        both.append(table)
    return both


def _short(interval: Interval, scale: float = 1) -> str:
    """A mean with its 95 % interval, for a narrow table."""
    mean, low, high = (scale * value for value in (interval.mean, interval.low, interval.high))
    return f"{mean:.1f} ({low:.1f}-{high:.1f})" if low >= 0 else f"{mean:.1f} ({low:.1f}, {high:.1f})"


def _table(title: str, caption: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
