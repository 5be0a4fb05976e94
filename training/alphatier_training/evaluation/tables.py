"""Measured rows as tables, for the terminal, Markdown and pages alike; and what `alphatier evaluate` found, as JSON.

What: one `Table` of text, and a function for each thing that is told of rows of one data set. Reports, choices and
sweeps show theirs by it too. What not: no figures are computed here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich import table as rich_table

from alphatier_models import Evaluation, Interval
from alphatier_training.evaluation.averages import Overall
from alphatier_training.evaluation.comparing import Comparison
from alphatier_training.evaluation.efficiency import AES_CONSTANTS, Efficiency, columns
from alphatier_training.evaluation.front import Point, dominators
from alphatier_training.evaluation.intervals import spread

if TYPE_CHECKING:
    from alphatier_training.evaluation.measuring import Measured

Rows = Mapping[str, Evaluation]
"""Row to its figures on one data set."""

Compared = Mapping[tuple[str, ...], Comparison]
"""Two rows, and where they are compared on a part of the problems that part, to their comparison."""


@dataclass(frozen=True)
class Table:
    """Text in cells; the first of a row names it."""

    title: str
    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]

    def rich(self) -> rich_table.Table:
        """For a terminal."""
        shown = rich_table.Table(
            title=self.title, caption=self.caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
        )
        for place, header in enumerate(self.headers):
            shown.add_column(header, no_wrap=True, justify="right" if place else "left")
        for row in self.rows:
            shown.add_row(*row)
        return shown

    def markdown(self) -> str:
        """Title, caption and table."""
        lines = [self.headers, ["---"] * len(self.headers), *self.rows]
        cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
        return f"**{self.title}.** {self.caption}.\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in cells)


@dataclass(frozen=True)
class Found:
    """Everything that was found about one family."""

    family: str
    reference: str
    datasets: Mapping[str, Sequence["Measured"]]
    """Data set to its rows."""
    comparisons: Mapping[str, Compared]
    """Data set to paired tests."""
    efficiency: Mapping[str, Mapping[str, Efficiency]]
    """Data set to the figures of each row that put accuracy and tokens together."""
    hypervolume: Mapping[str, Interval | None]
    """Data set to what the family's tiers dominate; None where the reference was not measured."""
    overall: Mapping[str, Overall]
    """Row to its figures over all data sets, relative to the reference's; empty for one data set."""


def tables(found: Found) -> list[rich_table.Table]:
    """A table of each data set, its levels, budgets and paired tests, and one over all data sets."""
    return [table.rich() for table in _tables(found) if table is not None]


def _tables(found: Found) -> Iterator[Table | None]:
    for name, measured in found.datasets.items():
        rows = {one.row.name: one.figures for one in measured}
        yield figures(f"Family {found.family} on {name}", rows, found.reference)
        yield levels(name, rows)
        yield budgets(name, rows)
        yield efficiency(name, found.efficiency[name], found.reference, found.hypervolume[name])
        yield tests(name, found.comparisons[name], found.reference)
    yield overall(found.overall, found.reference)


def document(found: Found) -> dict[str, Any]:
    """The same for scripts, every figure with its interval."""
    return {
        "family": found.family,
        "reference": found.reference,
        "aes_constants": AES_CONSTANTS,
        "datasets": {
            name: {
                "hypervolume": plain(found.hypervolume[name]),
                "rows": {
                    one.row.name: _row(one) | {"efficiency": plain(found.efficiency[name][one.row.name])}
                    for one in rows
                },
                "comparisons": [
                    {"first": first, "second": second} | plain(comparison)
                    for (first, second), comparison in found.comparisons[name].items()
                ],
            }
            for name, rows in found.datasets.items()
        },
        "overall": {row: plain(figures) for row, figures in found.overall.items()},
    }


def plain(value: Any) -> Any:
    """Records and intervals as what JSON has."""
    if isinstance(value, Interval):
        return value.model_dump()
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def figures(title: str, rows: Rows, reference: str, alphas: Mapping[str, float | None] | None = None) -> Table:
    """Accuracy and tokens; with tiers' alphas also which another beats on both, and which have no figures."""
    one, base, beaten = next(iter(rows.values())), rows.get(reference), dominators(places(rows))
    each = f", pass@1 of {one.samples_per_problem} responses each" if one.samples_per_problem > 1 else ""
    settings = one.sampling
    lines = []
    for name, found in rows.items():
        points, parts = found.token_percentiles, (found.tokens_correct, found.tokens_wrong)
        cells = [
            spread(found.accuracy, 100),
            spread(found.tokens),
            f"{found.tokens.mean / base.tokens.mean:.0%}" if base and base.tokens.mean else "-",
            f"{points.p50:.0f}/{points.p90:.0f}/{points.p99:.0f}",
            *(f"{part.mean:.1f}" if part else "-" for part in parts),
            f"{100 * found.truncation_rate:.1f}",
        ]
        front = f"dominated by {beaten[name]}" if name in beaten else "yes"
        lines.append([name, *([_alpha(alphas[name]), *cells, front] if alphas else cells)])
    headers = ["accuracy %", "tokens", f"of {reference}'s", "p50/90/99", "right", "wrong", "cut %"]
    if alphas:
        headers = ["alpha", *headers, "on the Pareto front"]
        missing = (name for name in alphas if name not in rows)
        lines += [[name, _alpha(alphas[name]), "not measured", *["-"] * (len(headers) - 2)] for name in missing]
    caption = (
        f"{one.problems} problems{each}, temperature {settings.temperature:g}, top_p {settings.top_p:g}, at most "
        f"{settings.max_tokens} tokens, seed {settings.seed}; means of generated tokens, of all, right and wrong "
        "responses; 95 % intervals"
    )
    return Table(title, caption, ["", *headers], lines)


def places(rows: Rows) -> dict[str, Point]:
    """Each row's place in the plane of accuracy and tokens."""
    return {name: Point(found.accuracy.mean, found.tokens.mean) for name, found in rows.items()}


def level_names(rows: Rows) -> list[str]:
    """The levels that the data set's problems name, in order; none where they name fewer than two."""
    names = dict.fromkeys(level.level for found in rows.values() for level in found.levels if level.level)
    order = sorted(names, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))
    return order if len(order) > 1 else []


def levels(dataset: str, rows: Rows) -> Table | None:
    """Accuracy and tokens at each level; None without levels."""
    names = level_names(rows)
    cells = {
        row: {level.level: f"{100 * level.accuracy.mean:.1f} / {level.tokens.mean:.1f}" for level in found.levels}
        for row, found in rows.items()
    }
    headers = (f"level {name}" if name.isdecimal() else name for name in names)
    return _grid("By level", f"{dataset}: accuracy % / mean tokens", names, headers, cells)


def budgets(dataset: str, rows: Rows) -> Table | None:
    """Accuracy at fixed budgets; None where nobody asked."""
    limits = sorted({budget.max_tokens for found in rows.values() for budget in found.budgets})
    cells = {
        row: {budget.max_tokens: spread(budget.accuracy, 100) for budget in found.budgets}
        for row, found in rows.items()
    }
    headers = (f"{limit} tokens" for limit in limits)
    return _grid("At fixed budgets", f"{dataset}: accuracy %; a longer response is wrong", limits, headers, cells)


def efficiency(
    dataset: str, found: Mapping[str, Efficiency], reference: str, area: Interval | None, frontier: str = ""
) -> Table | None:
    """What puts accuracy and tokens together; None without samples."""
    constants = "/".join(f"{constant:g}" for constant in AES_CONSTANTS)
    caption = f"{dataset}; AES with {constants} against {reference}; budget area: mean accuracy over all budgets"
    caption += f"; REG: area below {frontier or 'the frontier'}" if any(one.reg for one in found.values()) else ""
    caption += f"; the family's hypervolume {spread(area, 100)} %" if area else ""
    shown = columns(found.values())
    rows = [[row, *(column.cell(one) for column in shown)] for row, one in found.items()]
    headers = ["", *(column.heading for column in shown)]
    return Table("Accuracy and tokens together", caption, headers, rows) if rows else None


def tests(dataset: str, compared: Compared, reference: str) -> Table | None:
    """Paired tests; None where there are none."""
    rows = [
        [
            _name(key, reference),
            spread(test.difference, 100),
            f"{test.first_better} / {test.second_better}",
            p_text(test.p_value),
            spread(test.token_ratio, 100),
            p_text(test.token_p_value),
        ]
        for key, test in compared.items()
    ]
    title = f"Paired tests against {reference}" if any(key[1] == reference for key in compared) else "Paired tests"
    caption = (
        f"{dataset}: accuracy less the other's, problems that each solves more often, tokens in % of the other's; "
        "exact permutation tests, p by Holm's correction over all tests here"
    )
    headers = ["", "accuracy, points", "better / worse", "p", "tokens, %", "p of tokens"]
    return Table(title, caption, headers, rows) if rows else None


def overall(found: Mapping[str, Overall], reference: str) -> Table | None:
    """All data sets together, both ways; None for one data set."""
    caption = (
        f"In % of {reference}'s. normalised_sum: sum over the data sets / {reference}'s, led by the longest; "
        "mean_of_ratios: each data set counts the same"
    )
    pairs = [(part, how) for part in ("accuracy", "tokens") for how in ("normalised_sum", "mean_of_ratios")]
    rows = [
        [row, *(spread(getattr(getattr(one, part), how), 100) for part, how in pairs)] for row, one in found.items()
    ]
    headers = ["", *(f"{part}, {how}" for part, how in pairs)]
    return Table("All data sets together", caption, headers, rows) if rows else None


def p_text(value: float | None) -> str:
    """A p-value in two digits; a dash where there is none."""
    if value is None:
        return "-"
    return "<1e-4" if value < 1e-4 else f"{value:.2g}"


def _grid(
    title: str, caption: str, keys: Sequence[Any], headers: Iterable[str], cells: Mapping[str, Mapping[Any, str]]
) -> Table | None:
    rows = [[row, *(there.get(key, "-") for key in keys)] for row, there in cells.items()]
    return Table(title, caption, ["", *headers], rows) if keys else None


def _name(key: tuple[str, ...], reference: str) -> str:
    first, second, *part = key
    return ", ".join([first if second == reference else f"{first} : {second}", *part])


def _row(one: "Measured") -> dict[str, Any]:
    row = one.row
    return {
        "tier": row.tier,
        "baseline": row.name if row.name != row.tier else None,
        "samples": str(one.file),
        **one.figures.model_dump(mode="json"),
    }


def _alpha(alpha: float | None) -> str:
    return "-" if alpha is None else f"{alpha:g}"
