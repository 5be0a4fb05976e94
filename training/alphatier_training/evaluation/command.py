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
from alphatier_training.evaluation.baselines import Row, baseline_row, check_names, check_tier, tier_row
from alphatier_training.evaluation.efficiency import read_frontiers
from alphatier_training.evaluation.engine import Engine
from alphatier_training.evaluation.findings import Found, Line, document, find
from alphatier_training.evaluation.measuring import take_samples, to_measure, write_figures
from alphatier_training.evaluation.tables import tables
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
    names = dict.fromkeys(one.task.name for one in wanted)
    datasets = {
        name: {
            one.row.name: Line(one.row.tier, one.figures, one.samples, one.file)
            for one in wanted
            if one.task.name == name
        }
        for name in names
    }
    return find(family.name, family.reference_tier, datasets, dict.fromkeys(names, pairs), frontiers)


def write(path: Path, found: Found) -> None:
    """Put the tiers' figures into family.json."""
    measured = [(row, line) for lines in found.datasets.values() for row, line in lines.items()]
    write_figures(family_file(path).parent, [(row, line.figures) for row, line in measured if row == line.tier])


def show(found: Found, *, as_json: bool) -> None:
    """Print tables, or JSON with each row's figures and its file of samples."""
    if as_json:
        click.echo(json.dumps(document(found), indent=2))
        return
    shown = [table.rich() for table in tables(found)]
    wide = Console(width=1000)
    console = Console(width=max(Console().width, *(wide.measure(table).maximum for table in shown)))
    for table in shown:
        console.print(table)
    files = dict.fromkeys(str(line.file) for lines in found.datasets.values() for line in lines.values())
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
