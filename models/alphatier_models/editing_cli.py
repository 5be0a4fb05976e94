"""`alphatier family remove`, `rename`, `efforts` and `default`: small changes of family.json."""

import json
from collections.abc import Callable
from pathlib import Path

import click

from alphatier_models.editing import removed, renamed, with_default, with_efforts
from alphatier_models.files import change_family, family_file
from alphatier_models.making_cli import efforts_of, told
from alphatier_models.schema import EFFORTS, Family

_path = click.argument("path", type=click.Path(path_type=Path))
_json = click.option("--json", "as_json", is_flag=True, help="Print the family as JSON, for scripts.")


@click.command()
@_path
@click.argument("tier")
@click.option("--to", "heir", metavar="TIER", help="Where its efforts, and the default, lead from now on.")
@_json
def remove(path: Path, tier: str, heir: str | None, as_json: bool) -> None:
    """Take TIER out of the family at PATH. Its files stay: delete them when no gateway serves them.

    Example: alphatier family remove mine alpha-0.4 --to alpha-0.2
    """
    _change(path, lambda family: removed(family, tier, heir), as_json)


@click.command()
@_path
@click.argument("old")
@click.argument("new")
@_json
def rename(path: Path, old: str, new: str, as_json: bool) -> None:
    """Call the tier OLD of the family at PATH NEW; efforts, default and blends follow.

    Example: alphatier family rename mine alpha-0.4 terse
    """
    _change(path, lambda family: renamed(family, old, new), as_json)


@click.command()
@_path
@click.argument("pairs", nargs=-1, required=True, metavar="EFFORT=TIER...")
@_json
def efforts(path: Path, pairs: tuple[str, ...], as_json: bool) -> None:
    """Let efforts (none, minimal, low, medium, high, xhigh, max) lead to other tiers of the family at PATH.

    Example: alphatier family efforts mine low=alpha-0.4 medium=alpha-0.2
    """
    _change(path, lambda family: with_efforts(family, efforts_of(pairs, "EFFORT=TIER")), as_json)


@click.command()
@_path
@click.argument("tier")
@_json
def default(path: Path, tier: str, as_json: bool) -> None:
    """Let requests to the family at PATH that choose no tier get TIER.

    Example: alphatier family default mine alpha-0.2
    """
    _change(path, lambda family: with_default(family, tier), as_json)


def _change(path: Path, change: Callable[[Family], Family], as_json: bool) -> None:
    with told():
        family = change_family(path, change)
    if as_json:
        click.echo(json.dumps(family.model_dump(mode="json", exclude_none=True), indent=2))
        return
    leads = " ".join(f"{effort}={family.efforts[effort]}" for effort in EFFORTS)
    click.echo(f"{family_file(path)}: {', '.join(tier.name for tier in family.tiers)}")
    click.echo(f"efforts: {leads}; default {family.default_tier}, reference {family.reference_tier}")
