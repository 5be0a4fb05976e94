"""`alphatier sweep`: variants of a recipe over one base, with several seeds, in one table."""

import json
from pathlib import Path

import click

from alphatier_training.errors import told


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("variants", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="The sweep's folder. [runs/sweep-<name>]"
)
@click.option("--base", type=click.Path(path_type=Path, file_okay=False), help="A family to take the base from.")
@click.option(
    "--curve",
    "against",
    metavar="VARIANT",
    multiple=True,
    help="Hold the others against this one; may be repeated. [those that change only alphas]",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at once. [as for train]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def sweep(
    recipe: Path,
    variants: Path,
    out: Path | None,
    base: Path | None,
    against: tuple[str, ...],
    jobs: int | None,
    as_json: bool,
) -> None:
    """Train variants of RECIPE over its base, each with several seeds, and compare them.

    \b
    VARIANTS is a YAML file: alphas, seeds, and changes of the recipe's `rl` section by name. Every run is an
    ordinary one, so the same command goes on after a stop. The alphas of the variants that change nothing else
    make a curve of accuracy against tokens; each other variant is tested against it at its own number of tokens,
    by seed and problem.

    Example: alphatier sweep training/recipes/tiny.yaml training/recipes/sweeps/penalties.yaml
    """
    from rich.console import Console

    from alphatier_training.recipe.reading import load_recipe
    from alphatier_training.run.folder import write_text
    from alphatier_training.run.preflight import check
    from alphatier_training.run.scheduling import this_machine
    from alphatier_training.sweep.running import run_sweep
    from alphatier_training.sweep.variants import load_sweep, runs
    from alphatier_training.train import line_of

    console = Console(stderr=True)
    with told():
        plan, asked = load_recipe(recipe), load_sweep(variants)
        todo, curves = list(runs(plan, asked)), asked.curve(against)
        out = out or Path("runs") / f"sweep-{plan.name}"
        machine = this_machine(plan.compute.device, jobs=jobs)
        check(plan, out, machine, [stage.name for stage in line_of(plan)])
        run_sweep(plan, todo, out, machine, console, base=base)
    from alphatier_training.sweep.table import draw, rows, table, verdict

    found, curve = rows(todo, out, curves), next(iter(curves), None)
    text = "\n\n".join(filter(None, [table(found, curve).markdown(), verdict(found, curve)]))
    document = json.dumps([row.as_json() for row in found], indent=1)
    write_text(out / "sweep.md", text + "\n")
    write_text(out / "sweep.json", document + "\n")
    draw(found, curve, out / "sweep.png")
    click.echo(document if as_json else text)
