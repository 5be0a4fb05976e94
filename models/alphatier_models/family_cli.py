"""`alphatier family`: show and check; the other commands are found here and live in modules of their own."""

import json
import sys
from importlib import import_module
from pathlib import Path

import click

from alphatier_models.errors import FamilyError, FamilyProblem
from alphatier_models.files import family_file, find_problems, load_family
from alphatier_models.schema import EFFORTS, Family, Interval, Tier

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
_path_argument = click.argument("path", type=click.Path(path_type=Path))


_NOT_MEASURED = "not measured"
_MODULES = {
    "add": "making_cli",
    "blend": "blend_cli",
    "default": "editing_cli",
    "efforts": "editing_cli",
    "new": "making_cli",
    "remove": "editing_cli",
    "rename": "editing_cli",
}
"""Commands in modules of their own, imported when they are asked for."""


class _Family(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_MODULES])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return super().get_command(ctx, cmd_name)
        command = getattr(import_module(f"alphatier_models.{_MODULES[cmd_name]}"), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Family)
def family() -> None:
    """Make a family of checkpoints or adapters, show and check it, change it, or make tiers between tiers."""


@family.command()
@_path_argument
@click.option("--fetch", is_flag=True, help="Fetch what is on the hub, and check it too.")
@_json_option
def check(path: Path, fetch: bool, as_json: bool) -> None:
    """Check the family at PATH: its schema, names, efforts, files and checksums.

    Prints every fault with its field and remedy; exit status 1 if there is any. With --fetch, models on the hub are
    brought into its cache as a whole, compared with the hub's checksums, and held against the base.

    Example: alphatier family check models/tiny
    """
    problems = find_problems(path)
    if fetch and not problems:
        from alphatier_models.making import hub_problems

        problems = list(hub_problems(load_family(path, checksums=False), family_file(path).parent))
    if as_json:
        click.echo(json.dumps({"ok": not problems, "problems": [vars(problem) for problem in problems]}, indent=2))
    elif problems:
        _print_problems(path, problems)
    else:
        loaded = load_family(path, checksums=False)
        click.echo(f"{family_file(path)}: family {loaded.name!r} with {len(loaded.tiers)} tiers is sound.")
    sys.exit(1 if problems else 0)


@family.command()
@_path_argument
@_json_option
def show(path: Path, as_json: bool) -> None:
    """Print the tiers of the family at PATH with their measured accuracy and tokens.

    Intervals are 95 %. Tokens are generated tokens a response, reasoning and answer together.

    Example: alphatier family show models/tiny
    """
    try:
        loaded = load_family(path, checksums=False)
    except FamilyError as error:
        _print_problems(path, error.problems)
        sys.exit(1)
    if as_json:
        click.echo(loaded.model_dump_json(indent=2))
    else:
        _print_table(loaded)


def _print_problems(path: Path, problems: list[FamilyProblem]) -> None:
    click.echo(f"{family_file(path)} is not a usable family:", err=True)
    for problem in problems:
        click.echo(f"  - {problem}", err=True)


def _print_table(family: Family) -> None:
    from rich.console import Console
    from rich.table import Table

    first = next((e for tier in family.tiers if (e := tier.evaluation()) is not None), None)
    measured = f"{first.dataset}, {first.problems} problems a tier, 95 % intervals" if first else None
    table = Table(title=f"Family {family.name}", caption=measured)
    table.add_column("tier", no_wrap=True)
    for column in ("alpha", "accuracy %", "tokens", f"of {family.reference_tier}"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("chosen by effort")
    for tier in family.tiers:
        table.add_row(*_row(family, tier))
    Console().print(table)


def _row(family: Family, tier: Tier) -> list[str]:
    evaluation = tier.evaluation()
    reference = family.tier(family.reference_tier).evaluation(evaluation.dataset) if evaluation else None
    efforts: list[str] = [effort for effort in EFFORTS if family.efforts[effort] == tier.name]
    if tier.name == family.default_tier:
        efforts.append("(default)")
    return [
        tier.name,
        _alpha(tier),
        _interval(evaluation.accuracy, 100) if evaluation else _NOT_MEASURED,
        _interval(evaluation.tokens, 1) if evaluation else _NOT_MEASURED,
        f"{evaluation.tokens.mean / reference.tokens.mean:.0%}" if evaluation and reference else "-",
        ", ".join(efforts),
    ]


def _alpha(tier: Tier) -> str:
    if tier.alpha is None:
        return "blend" if tier.blend else "-"
    return f"{tier.alpha:g}"


def _interval(interval: Interval, scale: float) -> str:
    return f"{interval.mean * scale:.1f} ({interval.low * scale:.1f}-{interval.high * scale:.1f})"
