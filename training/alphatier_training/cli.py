"""`alphatier train` and `alphatier evaluate`. Importing this module loads neither torch nor trl."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.cli import evaluate
from alphatier_training.planning.hardware import DEVICES
from alphatier_training.run.cores import cores

if TYPE_CHECKING:
    from rich.console import Console

    from alphatier_training.recipe import Recipe

__all__ = ["evaluate", "train"]

_POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="The family's folder. [runs/<name>]")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at once. [all cores; 1 with compute.device auto]")
@click.option("--wandb", is_flag=True, help="Log to Weights & Biases too; its own variables say where.")
@click.option("--dry-run", is_flag=True, help="Only print recipe, work, memory, hours and the commands.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print JSON, for scripts.")
@click.option("--gpu", type=click.Choice(DEVICES), help="With --dry-run: what to estimate for. [h100, or cpu]")
@click.option("--tokens-per-second", type=_POSITIVE, help="With --dry-run: measured, of all engines together.")
@click.option("--mean-tokens", type=_POSITIVE, help="With --dry-run: measured, of the base's responses.")
@click.option("--main-address", metavar="HOST[:PORT]", help="With compute.nodes: node 0, as the others reach it.")
@click.option("--node", type=click.IntRange(min=0), default=0, help="With compute.nodes: which node this is. [0]")
def train(recipe: Path, out: Path | None, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Train the family that RECIPE describes: base, one tier an alpha, evaluation, family.json, report.

    \b
    Stop it with Ctrl-C, or kill it: the same command goes on from the last checkpoint.
    Finished stages are not run again. --dry-run says what it will take, and does nothing.

    Example: alphatier train training/recipes/tiny.yaml
    """
    from rich.console import Console

    from alphatier_training.recipe.reading import load_recipe

    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        plan = load_recipe(recipe)
        out = out or Path("runs") / plan.name
        if dry_run:
            _say(plan, recipe, out, as_json=as_json, **options)
        elif _run(plan, out, console, **options):
            click.echo(
                f"The family is in {out}, its report in {out / 'report' / 'report.html'}.\n"
                f"  alphatier family show {out}\n"
                f"  alphatier serve --family {out}"
            )
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        console.print("\nStopped; nothing is lost. Go on with the same command.")
        sys.exit(130)


def _run(
    plan: "Recipe",
    out: Path,
    console: "Console",
    *,
    jobs: int | None,
    wandb: bool,
    node: int,
    main_address: str | None,
    **_: Any,
) -> bool:
    """Train, or join the training of another node; whether the family is complete when this ends."""
    from alphatier_training.planning.launch import meeting_of
    from alphatier_training.run.joining import join_family
    from alphatier_training.run.pipeline import train_family
    from alphatier_training.run.watchers import log_to_wandb

    if wandb:
        log_to_wandb()
    meeting = meeting_of(plan, main_address, node)
    if meeting is not None and node:
        join_family(plan, out, meeting, console)
        return False
    train_family(plan, out, jobs or (1 if plan.compute.device == "auto" else cores()), console, meeting)
    return True


def _say(
    plan: "Recipe",
    recipe: Path,
    out: Path,
    *,
    as_json: bool,
    gpu: str | None,
    tokens_per_second: float | None,
    mean_tokens: float | None,
    **_: Any,
) -> None:
    """Print what a run would take."""
    from rich.console import Console

    from alphatier_training.planning.dry_run import as_text, dry_run, show
    from alphatier_training.planning.estimate import Asked, default_device

    asked = Asked(gpu or default_device(plan), tokens_per_second, mean_tokens)
    if as_json:
        click.echo(as_text(dry_run(plan, recipe, out, asked)))
    else:
        show(plan, recipe, out, asked, Console())


def _terminated(signum: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends a run as Ctrl-C does."""
    raise KeyboardInterrupt
