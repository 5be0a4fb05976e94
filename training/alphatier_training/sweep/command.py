"""`alphatier sweep`: variants of a recipe over one base, with several seeds, in one table."""

import json
import sys
from pathlib import Path

import click

from alphatier_training.errors import TrainingError


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("variants", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="The sweep's folder. [runs/sweep-<name>]"
)
@click.option("--base", type=click.Path(path_type=Path, file_okay=False), help="A family to take the base from.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at once. [as for train]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def sweep(recipe: Path, variants: Path, out: Path | None, base: Path | None, jobs: int | None, as_json: bool) -> None:
    """Train variants of RECIPE over its base, each with several seeds, and compare them.

    \b
    VARIANTS is a YAML file: alphas, seeds, and changes of the recipe's `rl` section by name. Every run is an
    ordinary one, so the same command goes on after a stop.

    Example: alphatier sweep training/recipes/tiny.yaml training/recipes/sweeps/penalties.yaml
    """
    from rich.console import Console

    from alphatier_training.recipe.reading import load_recipe
    from alphatier_training.run.folder import write_text
    from alphatier_training.run.machine import this_machine
    from alphatier_training.run.preflight import check
    from alphatier_training.run.stages import all_stages
    from alphatier_training.sweep.running import run_sweep
    from alphatier_training.sweep.variants import load_sweep, runs

    console = Console(stderr=True)
    try:
        plan = load_recipe(recipe)
        todo = list(runs(plan, load_sweep(variants)))
        out = out or Path("runs") / f"sweep-{plan.name}"
        machine = this_machine(plan.compute.device)
        check(plan, out, machine, all_stages(plan), jobs)
        run_sweep(plan, todo, out, machine, console, base=base, jobs=jobs)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        console.print("\nStopped; nothing is lost. Go on with the same command.")
        sys.exit(130)
    from alphatier_training.sweep.table import draw, markdown, rows

    table = rows(todo, out)
    text = "\n".join(markdown(table)) + "\n"
    write_text(out / "sweep.md", text)
    write_text(out / "sweep.json", json.dumps([row.as_json() for row in table], indent=1) + "\n")
    draw(table, out / "sweep.png")
    click.echo(json.dumps([row.as_json() for row in table], indent=1) if as_json else text)
