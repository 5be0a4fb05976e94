"""What `alphatier evaluate` does with its options: measure, compare, print."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from alphatier_models import Family, Interval, load_family
from alphatier_models.files import family_file
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.averages import Overall, overall
from alphatier_training.evaluation.baselines import Row, baseline_row, check_names, check_tier, tier_row
from alphatier_training.evaluation.comparing import Comparison, compare, corrected
from alphatier_training.evaluation.efficiency import (
    Efficiency,
    Frontier,
    efficiency,
    frontier_of,
    hypervolume,
    read_frontiers,
)
from alphatier_training.evaluation.engine import Engine
from alphatier_training.evaluation.measuring import (
    Measured,
    Source,
    check_budget,
    jobs,
    measured,
    take_samples,
    write_figures,
)
from alphatier_training.evaluation.options import Asked, sampling_of, tasks_of
from alphatier_training.evaluation.tables import Found, document, tables
from alphatier_training.run.reporting import Display


@dataclass(frozen=True)
class Wanted:
    """The options that say who is measured, and what is made of it."""

    tiers: tuple[str, ...] = ()
    """Names; empty for all."""
    baselines: tuple[str, ...] = ()
    budgets: tuple[int, ...] = ()
    compare: tuple[tuple[str, str], ...] = ()
    """Pairs of rows; empty for each row with the reference."""
    frontier: Path | None = None
    """A file of published frontiers."""


def measure(
    path: Path,
    console: Console,
    asked: Asked,
    wanted: Wanted,
    sampling: dict[str, Any],
    *,
    engine: Engine,
    out: Path | None,
    fresh: bool,
) -> Found:
    """Take the samples that are missing, and compute figures and comparisons."""
    family = load_family(path)
    settings = sampling_of(family, asked.data, sampling)
    rows = _rows(family, wanted)
    pairs = _pairs(family, rows, wanted.compare)
    frontiers = read_frontiers(wanted.frontier) if wanted.frontier else {}
    for budget in wanted.budgets:
        check_budget(budget, settings.max_tokens)
    source = Source(family, family_file(path).parent, engine)
    todo = jobs(source, rows, tasks_of(family, asked, settings.seed), settings)
    out = out or Path("runs") / "evaluate" / family.name
    if fresh:
        for job in todo:
            job.plan.file(out).unlink(missing_ok=True)
    with Display(list(dict.fromkeys(job.stage for job in todo)), console) as display:
        take_samples(source, todo, out, display)
    return _found(family, [measured(job, out, wanted.budgets) for job in todo], pairs, frontiers)


def write(path: Path, found: Found) -> None:
    """Put the tiers' figures into family.json."""
    write_figures(family_file(path).parent, [row for rows in found.datasets.values() for row in rows])


def show(found: Found, *, as_json: bool) -> None:
    """Print tables, or JSON with each row's figures and its file of samples."""
    if as_json:
        click.echo(json.dumps(document(found), indent=2))
        return
    shown = tables(found)
    wide = Console(width=1000)
    console = Console(width=max(Console().width, *(wide.measure(table).maximum for table in shown)))
    for table in shown:
        console.print(table)
    files = dict.fromkeys(str(row.file) for rows in found.datasets.values() for row in rows)
    click.echo(f"Samples: {', '.join(files)}")


def _rows(family: Family, wanted: Wanted) -> list[Row]:
    for name in wanted.tiers:
        check_tier(name, family)
    names = wanted.tiers or [tier.name for tier in family.tiers]
    rows = [*map(tier_row, names), *(baseline_row(text, family) for text in wanted.baselines)]
    check_names(rows)
    return rows


def _pairs(family: Family, rows: Sequence[Row], given: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    names = [row.name for row in rows]
    for name in (name for pair in given for name in pair):
        if name not in names:
            raise TrainingError(f"--compare {name}: it is not measured here; there are {', '.join(names)}.")
    if given or family.reference_tier not in names:
        return list(given)
    return [(name, family.reference_tier) for name in names if name != family.reference_tier]


def _found(
    family: Family, rows: Sequence[Measured], pairs: Sequence[tuple[str, str]], frontiers: Mapping[str, Frontier]
) -> Found:
    names = list(dict.fromkeys(row.job.task.name for row in rows))
    datasets = {name: [row for row in rows if row.job.task.name == name] for name in names}
    comparisons = _compared(datasets, pairs)
    reference = family.reference_tier
    return Found(
        family.name,
        reference,
        datasets,
        comparisons,
        {name: _efficiency(found, reference, frontier_of(name, frontiers)) for name, found in datasets.items()},
        {name: _hypervolume(found, reference) for name, found in datasets.items()},
        _overall(reference, datasets),
    )


def _efficiency(rows: Sequence[Measured], reference: str, frontier: Frontier | None) -> dict[str, Efficiency]:
    against = next((row.samples for row in rows if row.job.row.name == reference), ())
    return {row.job.row.name: efficiency(row.samples, against, row.job.plan.max_tokens, frontier) for row in rows}


def _hypervolume(rows: Sequence[Measured], reference: str) -> Interval | None:
    """Of the tiers alone, without baselines."""
    tiers = {row.job.row.name: row.samples for row in rows if row.job.row.name == row.job.row.tier}
    return hypervolume(tiers, reference)


def _compared(
    datasets: Mapping[str, Sequence[Measured]], pairs: Sequence[tuple[str, str]]
) -> dict[str, dict[tuple[str, ...], Comparison]]:
    """The paired tests of each data set, corrected for all of them together."""
    samples = {(name, row.job.row.name): row.samples for name, rows in datasets.items() for row in rows}
    tests = [(name, pair) for name in datasets for pair in pairs]
    found = corrected([compare(samples[name, first], samples[name, second]) for name, (first, second) in tests])
    by_test = dict(zip(tests, found, strict=True))
    return {name: {pair: by_test[name, pair] for pair in pairs} for name in datasets}


def _overall(reference: str, datasets: dict[str, list[Measured]]) -> dict[str, Overall]:
    samples: dict[str, dict[str, Sequence[Any]]] = {}
    for name, rows in datasets.items():
        for row in rows:
            samples.setdefault(row.job.row.name, {})[name] = row.samples
    if len(datasets) < 2 or reference not in samples:
        return {}
    return {row: overall(found, samples[reference]) for row, found in samples.items()}
