"""Measured rows as tables, for the terminal, Markdown and pages alike, and as JSON.

What: one `Table` of text, and a function for each thing that is told of a data set. Choices and sweeps show theirs by
it too. What not: no figures are computed here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python
from rich import box
from rich import table as rich_table

from alphatier_models import Evaluation
from alphatier_training.evaluation.comparing import Found
from alphatier_training.evaluation.figures import AES_CONSTANTS, Point, dominators
from alphatier_training.evaluation.intervals import spread

Rows = Mapping[str, Evaluation]
"""Row to its figures on one data set."""

_TOGETHER = {
    "aes": ("AES", 1, 2),
    "tokens_per_right": ("tokens a right answer", 1, 1),
    "adaptation": ("hardest / easiest", 1, 2),
    "budget_area": ("budget area %", 100, 1),
    "reg": ("REG", 1, 1),
}
"""Fields of `Efficiency`: heading, scale, digits."""


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


def tables(found: Found) -> Iterator[Table]:
    """Of each data set its figures, levels, budgets and paired tests, and one table over all data sets."""
    for name, lines in found.datasets.items():
        rows = {row: line.figures for row, line in lines.items()}
        yield figures(f"Family {found.family} on {name}", rows, found.reference)
        yield from filter(
            None,
            (
                levels(name, rows),
                ways(found, name),
                budgets(name, rows),
                efficiency(found, name),
                headroom(found, name),
                tests(found, name),
            ),
        )
    yield from filter(None, [overall(found)])


def document(found: Found) -> dict[str, Any]:
    """The same for scripts, every figure with its interval."""
    return {
        "family": found.family,
        "reference": found.reference,
        "aes_constants": AES_CONSTANTS,
        "datasets": {
            name: {
                "hypervolume": plain(found.hypervolume[name]),
                "headroom": [one._asdict() | {"gain": plain(one.gain)} for one in found.headroom[name]],
                "rows": {
                    row: {
                        "tier": line.tier,
                        "baseline": row if row != line.tier else None,
                        "samples": str(line.file) if line.file else None,
                        **line.figures.model_dump(mode="json"),
                        "efficiency": plain(found.efficiency[name].get(row)),
                        "ways": plain(found.ways[name].get(row)),
                    }
                    for row, line in lines.items()
                },
                "comparisons": [
                    {"first": first, "second": second} | plain(comparison)
                    for (first, second, *_), comparison in found.comparisons[name].items()
                ],
            }
            for name, lines in found.datasets.items()
        },
        "overall": plain(found.overall),
    }


def plain(record: Any) -> Any:
    """Records and intervals as what JSON has."""
    return to_jsonable_python(record)


def figures(title: str, rows: Rows, reference: str, alphas: Mapping[str, float | None] | None = None) -> Table:
    """Accuracy and tokens; with tiers' alphas also which another beats on both, and which have no figures."""
    one, base, beaten = next(iter(rows.values())), rows.get(reference), dominators(places(rows))
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
    each = f", pass@1 of {one.samples_per_problem} responses each" if one.samples_per_problem > 1 else ""
    settings = one.sampling
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
    return _grid("By level", f"{dataset}: accuracy % / mean tokens", names, map(_level, names), cells)


def ways(found: Found, dataset: str) -> Table | None:
    """How each row works, by level; None where ways of working are not known."""
    rows = {f"{row}, {way}": shares for row, of in found.ways[dataset].items() for way, shares in of.items()}
    names = list(dict.fromkeys(level for shares in rows.values() for level in shares))
    cells = {row: {level: spread(one, 100, 0) for level, one in shares.items()} for row, shares in rows.items()}
    caption = (
        f"{dataset}: % of responses, by what is written before the answer: nothing, or lines of so many operations"
    )
    return _grid("Ways of working", caption, names, map(_level, names), cells)


def budgets(dataset: str, rows: Rows) -> Table | None:
    """Accuracy at fixed budgets; None where nobody asked."""
    limits = sorted({budget.max_tokens for found in rows.values() for budget in found.budgets})
    cells = {row: {at.max_tokens: spread(at.accuracy, 100) for at in found.budgets} for row, found in rows.items()}
    headers = (f"{limit} tokens" for limit in limits)
    return _grid("At fixed budgets", f"{dataset}: accuracy %; a longer response is wrong", limits, headers, cells)


def efficiency(found: Found, dataset: str, frontier: str = "the frontier") -> Table | None:
    """What puts accuracy and tokens together; None without samples. `frontier` is what REG is the area below."""
    of_rows, area = found.efficiency[dataset], found.hypervolume[dataset]
    constants = "/".join(f"{constant:g}" for constant in AES_CONSTANTS)
    caption = (
        f"{dataset}; AES with {constants} against {found.reference}; budget area: mean accuracy over all budgets"
    )
    caption += f"; REG: area below {frontier}" if any(one.reg for one in of_rows.values()) else ""
    caption += f"; the family's hypervolume {spread(area, 100)} %" if area else ""
    shown = {field: how for field, how in _TOGETHER.items() if any(getattr(one, field) for one in of_rows.values())}
    rows = [
        [row, *(spread(getattr(one, field), scale, digits) for field, (_, scale, digits) in shown.items())]
        for row, one in of_rows.items()
    ]
    headers = ["", *(heading for heading, *_ in shown.values())]
    return Table("Accuracy and tokens together", caption, headers, rows) if rows else None


def headroom(found: Found, dataset: str) -> Table | None:
    """What choosing a tier by problem could gain; None where it is unknown."""
    caption = (
        f"{dataset}: accuracy % at so many tokens a problem; the oracle chooses the tier by one half of a problem's "
        "samples and is measured on the other, the mix asks two tiers whatever the problem"
    )
    rows = [
        [f"{one.tokens:.1f} tokens", f"{100 * one.mix:.1f}", f"{100 * one.oracle:.1f}", spread(one.gain, 100)]
        for one in found.headroom[dataset]
    ]
    headers = ["", "best mix of two tiers", "oracle", "gain, points"]
    return Table("Headroom for a choice by problem", caption, headers, rows) if rows else None


def tests(found: Found, dataset: str) -> Table | None:
    """Paired tests; None where there are none."""
    compared, reference = found.comparisons[dataset], found.reference
    rows = []
    for (first, second, *level), one in compared.items():
        name = ", ".join([first if second == reference else f"{first} : {second}", *map(_level, level)])
        better = f"{one.first_better} / {one.second_better}"
        tokens = spread(one.token_ratio, 100), p_text(one.token_p_value)
        rows.append([name, spread(one.difference, 100), better, p_text(one.p_value), *tokens])
    title = f"Paired tests against {reference}" if any(test[1] == reference for test in compared) else "Paired tests"
    caption = (
        f"{dataset}: accuracy less the other's, problems that each solves more often, tokens in % of the other's; "
        "permutation tests, p by Holm's correction over all tests here"
    )
    headers = ["", "accuracy, points", "better / worse", "p", "tokens, %", "p of tokens"]
    if any(one.adaptive_saving for one in compared.values()):
        caption += "; share of tokens saved on the easier half of the levels less that on the harder half, points"
        headers.append("easier less harder")
        for row, one in zip(rows, compared.values(), strict=True):
            row.append(spread(one.adaptive_saving, 100))
    return Table(title, caption, headers, rows) if rows else None


def overall(found: Found) -> Table | None:
    """All data sets together, both ways; None for one data set."""
    caption = (
        f"In % of {found.reference}'s. normalised_sum: sum over the data sets / {found.reference}'s, led by the "
        "longest; mean_of_ratios: each data set counts the same"
    )
    pairs = [(part, how) for part in ("accuracy", "tokens") for how in ("normalised_sum", "mean_of_ratios")]
    rows = [
        [row, *(spread(getattr(getattr(one, part), how), 100) for part, how in pairs)]
        for row, one in found.overall.items()
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


def _level(name: str) -> str:
    return f"level {name}" if name.isdecimal() else name


def _alpha(alpha: float | None) -> str:
    return "-" if alpha is None else f"{alpha:g}"
