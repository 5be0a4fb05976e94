"""`alphatier train` and `alphatier evaluate`. Importing this module loads neither torch nor trl."""

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alphatier_training.errors import TrainingError, told
from alphatier_training.evaluation.cli import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

__all__ = ["evaluate", "train"]


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="The family's folder. [runs/<name>]")
@click.option("--tier", metavar="NAME", help="Only this tier, e.g. alpha-0.1 or base, and what it needs.")
@click.option("--only", multiple=True, metavar="STAGE", help="Only this stage; may be repeated.")
@click.option("--from", "start", metavar="STAGE", help="Only this stage and those after it in --list-stages.")
@click.option("--skip-evaluation", is_flag=True, help="Take no samples: a family without figures.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at once. [as many as GPUs allow; on a CPU cores]")
@click.option("--wandb", is_flag=True, help="Log to Weights & Biases too; its own variables say where.")
@click.option("--skip-preflight", is_flag=True, help="Begin without looking at what is in the way.")
@click.option("--list-stages", is_flag=True, help="Only list the stages, and which are done.")
@click.option("--dry-run", is_flag=True, help="Only say what would be run, and what is in its way.")
@click.option("--smoke", is_flag=True, help="Only try it: two rollouts, and what the run takes at that pace.")
@click.option("--json", "as_json", is_flag=True, help="With one of the last three: print JSON, for scripts.")
def train(
    recipe: Path,
    out: Path | None,
    tier: str | None,
    only: tuple[str, ...],
    start: str | None,
    skip_evaluation: bool,
    jobs: int | None,
    wandb: bool,
    skip_preflight: bool,
    list_stages: bool,
    dry_run: bool,
    smoke: bool,
    as_json: bool,
) -> None:
    """Train the family that RECIPE describes: base, one tier an alpha, evaluation, family.json, report.

    \b
    What can be known to be wrong is said at the start: GPUs, packages, disk, hub, data.
    Stop it with Ctrl-C, or kill it: the same command goes on from the last checkpoint.
    Finished stages are not run again. Several GPUs train several tiers at once.

    \b
    Examples:
      alphatier train training/recipes/tiny.yaml
      alphatier train RECIPE --out /shared/run --tier alpha-0.1     # one machine of several
      alphatier train RECIPE --skip-evaluation && alphatier evaluate runs/NAME --write
    """
    from rich.console import Console

    from alphatier_training.recipe.reading import load_recipe
    from alphatier_training.run.folder import RunFolder
    from alphatier_training.run.reporting import log_to_wandb
    from alphatier_training.run.scheduling import this_machine
    from alphatier_training.train import Selection, chosen_stages, train_family

    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends a run as Ctrl-C does
    with told():
        plan = load_recipe(recipe)
        out, machine = out or Path("runs") / plan.name, this_machine(plan.compute.device, jobs=jobs)
        selection = Selection(only, start, tier, not skip_evaluation)
        chosen = chosen_stages(plan, selection)
        if list_stages or dry_run or smoke:
            from alphatier_training.run import trial

            if list_stages:
                _print(trial.stage_list(plan, out, chosen), trial.show_stages, as_json=as_json)
            elif dry_run:
                found = trial.dry_run(plan, out, machine, chosen)
                _print(found, trial.show_dry_run, as_json=as_json)
                sys.exit(1 if found["faults"] else 0)
            elif only or start or tier:
                raise TrainingError("--smoke chooses its stages itself; leave out --only, --from and --tier")
            else:
                _print(trial.smoke(plan, out, machine, console), trial.show_pace, as_json=as_json)
            return
        if wandb:
            log_to_wandb()
        missing = train_family(plan, out, machine, console, selection, looked=skip_preflight)
    if missing:
        click.echo(f"In {out}. Not done yet, for a family: {', '.join(missing)}.")
    elif skip_evaluation:
        click.echo(f"The family is in {out}, not measured yet.\n  alphatier evaluate {out} --write")
    else:
        click.echo(
            f"The family is in {out}, its report in {RunFolder(out).report / 'report.html'}.\n"
            f"  alphatier family show {out}\n"
            f"  alphatier serve --family {out}"
        )


def _print(found: Any, show: "Callable[[Any, Console], None]", *, as_json: bool) -> None:
    from rich.console import Console

    click.echo(json.dumps(found, indent=1)) if as_json else show(found, Console())
