"""`alphatier router`: trains what lets `auto` choose by the prompt. Importing this module loads no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from alphatier_training.errors import told

_place = click.Path(path_type=Path, exists=True)


@click.group()
def router() -> None:
    """Train and measure what lets `auto` choose a tier by the prompt.

    Example: alphatier router train models/tiny --samples runs/router --test heldout=runs/heldout
    """


@router.command()
@click.argument("family", type=click.Path(path_type=Path))
@click.option(
    "--samples",
    multiple=True,
    type=_place,
    help="A file or folder of samples to learn from; may be repeated. [FAMILY/work/samples]",
)
@click.option(
    "--test",
    multiple=True,
    metavar="[NAME=]PLACE",
    help="Samples of other problems to measure the router on; may be repeated.",
)
@click.option(
    "--seeds", default=1, show_default=True, type=click.IntRange(1), help="Routers to measure, each of 4/5."
)
@click.option("--tier", "tiers", multiple=True, metavar="NAME", help="Learn of these tiers alone. [all with samples]")
@click.option("--epochs", default=150, show_default=True, type=click.IntRange(1), help="Of each network.")
@click.option("--width", default=32, show_default=True, type=click.IntRange(1), help="Hidden units.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def train(
    family: Path,
    samples: tuple[Path, ...],
    test: tuple[str, ...],
    seeds: int,
    tiers: tuple[str, ...],
    as_json: bool,
    **tuning: int,
) -> None:
    """Learn what to expect of each tier of FAMILY from a prompt's text, and write router.json beside family.json.

    \b
    It learns from the samples that `alphatier evaluate` keeps: for each problem and tier, which of its responses
    were right, and their tokens. Learn from problems that the family's figures are not measured on, 8 samples or more
    a problem. A gateway that serves the family takes the router at its next reload; then `auto` chooses by the
    prompt.

    \b
    --test measures it with the goal beside each figure: how much of the gap between the best mix of two fixed
    tiers and an oracle it closes at equal tokens, calibration, quantiles, and what harmless rewordings change.

    \b
    Examples:
      alphatier evaluate models/tiny --data train.jsonl --samples 8 --out runs/router
      alphatier router train models/tiny --samples runs/router --test models/tiny/work/samples --seeds 3
    """
    with told():
        from alphatier_models import load_family
        from alphatier_models.files import family_file
        from alphatier_training.routing.training import Order, train_router

        folder = family_file(family).parent
        order = Order(samples or (folder / "work" / "samples",), tuple(map(_named, test)), seeds, tiers)
        document, tables = train_router(load_family(family), folder, order, tuning, Console(stderr=True))
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    for table in tables:
        Console().print(table)
    click.echo(_written(document))


@router.command()
@click.argument("family", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The PNG. [FAMILY/report/dial.png]")
def plot(family: Path, out: Path | None) -> None:
    """Draw the dial of FAMILY: accuracy against tokens, of its tiers and of `auto` at every price.

    The tiers' figures are those of family.json; those of auto are router.json's, on problems that the router was not
    trained on. Marks are `efficiency` beside auto: from 0, the most accurate, to 1, the fewest tokens.

    Example: alphatier router plot models/tiny
    """
    with told():
        from alphatier_models import load_family
        from alphatier_models.files import family_file
        from alphatier_training.routing.drawing import draw_dial

        folder = family_file(family).parent
        file = out or folder / "report" / "dial.png"
        click.echo(f"{file}: {draw_dial(load_family(family), folder, file)}")


def _written(document: Mapping[str, Any]) -> str:
    return f"The router is in {document['file']} ({document['bytes']:,} bytes), and family.json names it."


def _named(text: str) -> tuple[str, Path]:
    """`NAME=PLACE`, or a place alone, which is its own name."""
    name, equals, place = text.partition("=")
    path = Path(place if equals else name)
    if not path.exists():
        raise click.UsageError(f"--test: {path} does not exist; give a file or folder of samples.")
    return (name if equals else path.name), path
