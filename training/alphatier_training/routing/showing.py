"""A router's figures as a table: what was to be reached, and what was."""

from collections.abc import Callable, Sequence
from math import nan
from statistics import fmean
from typing import NamedTuple

from rich.table import Table

from alphatier_training.evaluation.intervals import spread
from alphatier_training.routing.measuring import Quality


class _Row(NamedTuple):
    label: str
    goal: str
    digits: int
    value: Callable[[Quality], float]
    shown: Callable[[Quality], str] | None = None
    """Of one seed; None: the value."""


_ROWS = (
    _Row(
        "gap closed at equal tokens, %",
        ">= 50 (shifted 25)",
        1,
        lambda one: 100 * one.gap_closed.mean if one.gap_closed else nan,
        lambda one: spread(one.gap_closed, 100),
    ),
    _Row(
        "router - mix where least, points",
        ">= 0",
        2,
        lambda one: 100 * one.below_mix.mean,
        lambda one: spread(one.below_mix, 100, 2),
    ),
    _Row(
        "against the thorough tier, points",
        ">= -0.5",
        2,
        lambda one: 100 * one.thorough_accuracy.mean,
        lambda one: spread(one.thorough_accuracy, 100, 2),
    ),
    _Row("its tokens there, %", "<= 70", 1, lambda one: 100 * one.thorough_tokens),
    _Row("ECE", "<= 0.03", 4, lambda one: one.ece),
    _Row(
        "p90: at or below it, worst level, %",
        "88 to 92",
        1,
        lambda one: 100 * min(above for _, above in one.coverage.values()),
        lambda one: "\n".join(
            f"{level}: {100 * below:.1f} to {100 * above:.1f}" for level, (below, above) in one.coverage.items()
        ),
    ),
    _Row("pinball against one p90, % less", ">= 20", 1, lambda one: 100 * one.pinball),
    _Row(
        "same tier after rewording, worst, %",
        ">= 95",
        1,
        lambda one: 100 * min(one.same_tier.values()),
        lambda one: "\n".join(f"{name}: {100 * share:.1f}" for name, share in one.same_tier.items()),
    ),
    _Row("unlike the training data, %", "", 1, lambda one: 100 * one.unlike),
)


def table_of(name: str, measured: Sequence[Quality]) -> Table:
    """One row a figure: its goal, the mean over seeds, and each seed's."""
    first = measured[0]
    table = Table(title=f"{name}: {first.problems:,} problems x {first.samples} samples", title_justify="left")
    for heading in ("", "goal", "mean", *(f"seed {number}" for number in range(len(measured)))):
        table.add_column(heading)
    for row in _ROWS:
        mean = f"{fmean(row.value(one) for one in measured):.{row.digits}f}"
        shown = [f"{row.value(one):.{row.digits}f}" if row.shown is None else row.shown(one) for one in measured]
        table.add_row(row.label, row.goal, mean, *shown)
    return table
