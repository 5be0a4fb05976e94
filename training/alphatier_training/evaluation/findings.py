"""What the rows of a data set say together: paired tests, accuracy and tokens in one figure, all data sets in one.

What: from rows' figures and samples to a `Found`, for `alphatier evaluate` and for reports alike, and its JSON.
What not: no text; tables of it are made by `tables`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from alphatier_models import Evaluation, Interval
from alphatier_training.evaluation.averages import Overall, overall
from alphatier_training.evaluation.comparing import Comparison, compare, corrected, same_questions
from alphatier_training.evaluation.efficiency import (
    AES_CONSTANTS,
    Efficiency,
    Frontier,
    efficiency,
    frontier_of,
    hypervolume,
)
from alphatier_training.evaluation.samples import Sample


@dataclass(frozen=True)
class Line:
    """One row of one data set: a tier, or what was done to one."""

    tier: str
    figures: Evaluation
    samples: Sequence[Sample] = ()
    """What the figures are of; empty where they were not found."""
    file: Path | None = None
    """Where the samples are."""


Lines = Mapping[str, Line]
"""Row to what was measured of it."""

Test = tuple[str, ...]
"""Two rows, and the level if it is of that level's problems only."""


@dataclass(frozen=True)
class Found:
    """Everything that was found about one family."""

    family: str
    reference: str
    datasets: Mapping[str, Lines]
    comparisons: Mapping[str, Mapping[Test, Comparison]]
    """Data set to paired tests, corrected for all of them together."""
    efficiency: Mapping[str, Mapping[str, Efficiency]]
    """Data set to the figures of each row with samples that put accuracy and tokens together."""
    hypervolume: Mapping[str, Interval | None]
    """Data set to what the family's tiers dominate; None without the reference's samples."""
    overall: Mapping[str, Overall]
    """Row to its figures over all data sets, relative to the reference's; empty for one data set."""


def find(
    family: str,
    reference: str,
    datasets: Mapping[str, Lines],
    tests: Mapping[str, Sequence[Test]],
    frontiers: Mapping[str, Frontier],
) -> Found:
    """All that the rows say together; rows that were not asked the same questions are not compared.

    Args:
        family: Its name.
        reference: The row that the others are compared with.
        datasets: The rows of each data set.
        tests: What is tested on each data set.
        frontiers: Published ones, by the names that they give the data sets.
    """
    taken = {name: {row: line for row, line in lines.items() if line.samples} for name, lines in datasets.items()}
    return Found(
        family,
        reference,
        datasets,
        _comparisons(taken, tests),
        {name: _efficiency(lines, reference, frontier_of(name, frontiers)) for name, lines in taken.items()},
        {name: hypervolume(_tiers(lines), reference) for name, lines in taken.items()},
        _overall(taken, reference),
    )


def document(found: Found) -> dict[str, Any]:
    """The same for scripts, every figure with its interval."""
    return {
        "family": found.family,
        "reference": found.reference,
        "aes_constants": AES_CONSTANTS,
        "datasets": {
            name: {
                "hypervolume": plain(found.hypervolume[name]),
                "rows": {row: _row(found, name, row, line) for row, line in lines.items()},
                "comparisons": [
                    {"first": first, "second": second} | plain(comparison)
                    for (first, second, *_), comparison in found.comparisons.get(name, {}).items()
                ],
            }
            for name, lines in found.datasets.items()
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


def _comparisons(
    datasets: Mapping[str, Lines], tests: Mapping[str, Sequence[Test]]
) -> Mapping[str, Mapping[Test, Comparison]]:
    sides = {
        (name, test): [
            [one for one in datasets[name][row].samples if not test[2:] or one.level == test[2]] for row in test[:2]
        ]
        for name, asked in tests.items()
        for test in asked
        if all(row in datasets[name] for row in test[:2])
    }
    alike = {key: both for key, both in sides.items() if same_questions(*both)}
    found = dict(zip(alike, corrected([compare(*both) for both in alike.values()]), strict=True))
    return {name: {test: one for (where, test), one in found.items() if where == name} for name in datasets}


def _efficiency(lines: Lines, reference: str, frontier: Frontier | None) -> dict[str, Efficiency]:
    against = lines[reference].samples if reference in lines else ()
    longest = max((line.figures.sampling.max_tokens for line in lines.values()), default=0)
    return {row: efficiency(line.samples, against, longest, frontier) for row, line in lines.items()}


def _tiers(lines: Lines) -> dict[str, Sequence[Sample]]:
    """Of the tiers alone, without baselines."""
    return {row: line.samples for row, line in lines.items() if row == line.tier}


def _overall(datasets: Mapping[str, Lines], reference: str) -> dict[str, Overall]:
    """Of the rows that were asked the same as the reference on every data set."""
    if len(datasets) < 2 or any(reference not in lines for lines in datasets.values()):
        return {}
    rows = [row for row in next(iter(datasets.values())) if all(row in lines for lines in datasets.values())]
    by_row = {row: {name: lines[row].samples for name, lines in datasets.items()} for row in rows}
    base = by_row[reference]
    alike = {row: own for row, own in by_row.items() if all(same_questions(own[name], base[name]) for name in base)}
    return {row: overall(own, base) for row, own in alike.items()}


def _row(found: Found, dataset: str, row: str, line: Line) -> dict[str, Any]:
    return {
        "tier": line.tier,
        "baseline": row if row != line.tier else None,
        "samples": str(line.file),
        **line.figures.model_dump(mode="json"),
        "efficiency": plain(found.efficiency[dataset].get(row)),
    }
