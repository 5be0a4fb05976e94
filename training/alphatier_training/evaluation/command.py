"""What `alphatier evaluate` does with its options: measure, compare, print."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from alphatier_models import Family, load_family
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
from alphatier_training.evaluation.measuring import Measured, take_samples, to_measure, write_figures
from alphatier_training.evaluation.samples import Sample
from alphatier_training.evaluation.tables import Found, document, tables
from alphatier_training.evaluation.tasks import Asked, sampling_of, tasks_of
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import Display


def measure(
    path: Path,
    console: Console,
    asked: Asked,
    sampling: Mapping[str, Any],
    engine: Engine,
    *,
    tiers: Sequence[str],
    baselines: Sequence[str],
    budgets: Sequence[int],
    compare: Sequence[tuple[str, str]],
    frontier: Path | None,
    out: Path | None,
    fresh: bool,
) -> Found:
    """Take the samples that are missing, and compute figures and comparisons.

    Args:
        path: The family.
        console: Shows how far it is.
        asked: What is asked.
        sampling: Temperature and so on; None for as before.
        engine: Who answers.
        tiers: Names; empty for all.
        baselines: Rows more.
        budgets: Lengths, tokens, at which accuracy is asked for.
        compare: Pairs of rows; empty for each row with the reference.
        frontier: A file of published frontiers.
        out: A folder for the samples.
        fresh: Whether those that it holds are taken again.
    """
    family, folder = load_family(path), family_file(path).parent
    recipe = RunFolder(folder).recipe() if RunFolder(folder).recipe_file.is_file() else None
    settings = sampling_of(family, asked.data, sampling, recipe)
    rows = _rows(family, tiers, baselines)
    pairs = _pairs(family, rows, compare)
    frontiers = read_frontiers(frontier) if frontier else {}
    out = out or Path("runs") / "evaluate" / family.name
    tasks = tasks_of(family, asked, settings.seed, recipe)
    wanted = [to_measure(family, row, task, settings, engine, out, budgets) for task in tasks for row in rows]
    if fresh:
        for one in wanted:
            one.file.unlink(missing_ok=True)
    with Display(list(dict.fromkeys(one.stage for one in wanted)), console) as display:
        take_samples(family, folder, wanted, engine, display)
    return _found(family, wanted, pairs, frontiers)


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


def _rows(family: Family, tiers: Sequence[str], baselines: Sequence[str]) -> list[Row]:
    for name in tiers:
        check_tier(name, family)
    names = tiers or [tier.name for tier in family.tiers]
    rows = [*map(tier_row, names), *(baseline_row(text, family) for text in baselines)]
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
    family: Family, measured: Sequence[Measured], pairs: Sequence[tuple[str, str]], frontiers: Mapping[str, Frontier]
) -> Found:
    reference, names = family.reference_tier, dict.fromkeys(one.task.name for one in measured)
    datasets = {name: [one for one in measured if one.task.name == name] for name in names}
    samples = {name: {one.row.name: one.samples for one in found} for name, found in datasets.items()}
    tiers = dict.fromkeys(one.row.name for one in measured if one.row.name == one.row.tier)  # without baselines
    return Found(
        family.name,
        reference,
        datasets,
        _compared(samples, pairs),
        {name: _efficiency(found, reference, frontier_of(name, frontiers)) for name, found in datasets.items()},
        {name: hypervolume({row: rows[row] for row in tiers}, reference) for name, rows in samples.items()},
        _overall(samples, reference),
    )


def _efficiency(rows: Sequence[Measured], reference: str, frontier: Frontier | None) -> dict[str, Efficiency]:
    against = next((one.samples for one in rows if one.row.name == reference), ())
    return {one.row.name: efficiency(one.samples, against, one.plan.max_tokens, frontier) for one in rows}


def _compared(
    samples: Mapping[str, Mapping[str, Sequence[Sample]]], pairs: Sequence[tuple[str, str]]
) -> dict[str, dict[tuple[str, ...], Comparison]]:
    """The paired tests of each data set, corrected for all of them together."""
    tests = [(name, pair) for name in samples for pair in pairs]
    found = corrected([compare(samples[name][first], samples[name][second]) for name, (first, second) in tests])
    by_test = dict(zip(tests, found, strict=True))
    return {name: {pair: by_test[name, pair] for pair in pairs} for name in samples}


def _overall(samples: Mapping[str, Mapping[str, Sequence[Sample]]], reference: str) -> dict[str, Overall]:
    """Each row over all data sets against the reference; empty for one data set, or without the reference."""
    rows = next(iter(samples.values()))
    if len(samples) < 2 or reference not in rows:
        return {}
    by_row = {row: {name: found[row] for name, found in samples.items()} for row in rows}
    return {row: overall(found, by_row[reference]) for row, found in by_row.items()}
