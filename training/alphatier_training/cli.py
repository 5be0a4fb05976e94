"""`alphatier train` and `alphatier evaluate`. Importing this module loads neither torch nor trl."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from alphatier_training.errors import TrainingError


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="The family's folder. [runs/<name>]")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes at once, one core each. [all cores]")
def train(recipe: Path, out: Path | None, jobs: int | None) -> None:
    """Train the family that RECIPE describes: base, one tier an alpha, evaluation, family.json, report.

    \b
    Stop it with Ctrl-C, or kill it: the same command goes on from the last checkpoint.
    Finished stages are not run again.

    Example: alphatier train training/recipes/tiny.yaml
    """
    from rich.console import Console

    from alphatier_training.recipe.reading import load_recipe
    from alphatier_training.run.pipeline import train_family

    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        plan = load_recipe(recipe)
        out = out or Path("runs") / plan.name
        train_family(plan, out, jobs or _cores(), console)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        console.print("\nStopped; nothing is lost. Go on with the same command.")
        sys.exit(130)
    click.echo(
        f"The family is in {out}, its report in {out / 'report' / 'report.md'}.\n"
        f"  alphatier family show {out}\n"
        f"  alphatier serve --family {out}"
    )


@click.command()
@click.argument("family", type=click.Path(path_type=Path))
@click.option("--tier", "tiers", multiple=True, metavar="NAME", help="Measure only this tier; may be repeated. [all]")
@click.option("--problems", type=click.IntRange(min=1), default=1000, show_default=True, help="Held-out problems.")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Responses a problem.")
@click.option("--temperature", type=click.FloatRange(min=0), help="[as measured before, else 0.6]")
@click.option("--top-p", type=click.FloatRange(min=0, max=1, min_open=True), help="[as measured before, else 0.95]")
@click.option("--max-tokens", type=click.IntRange(min=1), help="A longer response is wrong. [as before, else 256]")
@click.option("--seed", type=int, help="Of the problems and of the sampling. [as measured before, else 7]")
@click.option("--endpoint", metavar="URL", help="Ask an OpenAI-compatible endpoint (…/v1), not this process.")
@click.option("--device", type=click.Choice(["cpu", "auto"]), default="cpu", help="auto takes a GPU. [cpu]")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="For the samples. [runs/evaluate/<name>]"
)
@click.option("--fresh", is_flag=True, help="Take every sample again, even those that --out holds already.")
@click.option("--write", is_flag=True, help="Put the figures into family.json.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def evaluate(family: Path, as_json: bool, write: bool, **options: Any) -> None:
    """Measure the tiers of FAMILY on held-out problems: accuracy and tokens, with 95 % intervals.

    \b
    Every response is kept as a JSON line; the same command goes on from there after a stop.
    The key for --endpoint is the environment's OPENAI_API_KEY.

    Example: alphatier evaluate models/tiny --tier alpha-0.4 --problems 200
    """
    from rich.console import Console

    from alphatier_models import FamilyError
    from alphatier_training.evaluation.command import measure, show

    console = Console(stderr=True)
    try:
        result = measure(family, console, **options)
    except (TrainingError, FamilyError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        console.print("\nStopped; the samples taken are kept. Go on with the same command.")
        sys.exit(130)
    if write:
        result.write()
    show(result, as_json=as_json)


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _terminated(signum: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends a run as Ctrl-C does."""
    raise KeyboardInterrupt
