"""`alphatier family`: show and check; the other commands are found here and live in modules of their own."""

import json
import sys
from importlib import import_module
from pathlib import Path

import click

from alphatier_models.between import figures_at, unknown
from alphatier_models.errors import FamilyError, FamilyProblem
from alphatier_models.figures import datasets, headings, row, settings
from alphatier_models.files import family_file, find_problems, load_family
from alphatier_models.schema import Family

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
_path_argument = click.argument("path", type=click.Path(path_type=Path))


_MODULES = {
    "add": "making_cli",
    "blend": "blend_cli",
    "card": "card_cli",
    "default": "editing_cli",
    "efforts": "editing_cli",
    "export": "gated_cli",
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
        afar = sum(tier.hub is not None for tier in loaded.tiers) if not fetch else 0
        unseen = f" {afar} of them are on the hub and were not looked at (--fetch)." if afar else ""
        click.echo(f"{family_file(path)}: family {loaded.name!r} with {len(loaded.tiers)} tiers is sound.{unseen}")
    sys.exit(1 if problems else 0)


@family.command()
@_path_argument
@click.option("--alpha", type=float, help="Only what is known of this alpha, which may lie between measured ones.")
@_json_option
def show(path: Path, alpha: float | None, as_json: bool) -> None:
    """Print the tiers of the family at PATH with their measured accuracy and tokens.

    Intervals are 95 %. Tokens are generated tokens a response, reasoning and answer together. A family whose tiers
    come from one gated adapter has every alpha in between too: --alpha tells what to expect of one, between its
    measured neighbours, and says that it was not measured.

    \b
    Examples:
      alphatier family show models/tiny
      alphatier family show models/tiny --alpha 0.37
    """
    try:
        loaded = load_family(path, checksums=False)
    except FamilyError as error:
        _print_problems(path, error.problems)
        sys.exit(1)
    if alpha is not None:
        _print_alpha(loaded, alpha, as_json=as_json)
    elif as_json:
        click.echo(loaded.model_dump_json(indent=2))
    else:
        _print_table(loaded)


def _print_problems(path: Path, problems: list[FamilyProblem]) -> None:
    click.echo(f"{family_file(path)} is not a usable family:", err=True)
    for problem in problems:
        click.echo(f"  - {problem}", err=True)


def _print_alpha(family: Family, alpha: float, *, as_json: bool) -> None:
    found = figures_at(family, alpha)
    if found is None:
        message = f"Nothing is known of alpha {alpha:g} of {family.name}: {unknown(family)}."
        raise click.ClickException(message)
    click.echo(found.model_dump_json(indent=2) if as_json else f"alpha {alpha:g}: {found}, on {found.dataset}")


def _print_table(family: Family) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    dataset = next(iter(datasets(family)), None)
    notes = [settings(family, dataset)] if dataset else []
    if family.gated is not None:
        notes.append(f"alphas 0 to {family.gated.largest:g} besides: --alpha, `alphatier family export`")
    table = Table(title=f"Family {family.name}", caption="; ".join(notes) or None, box=SIMPLE_HEAD, pad_edge=False)
    first, *figures, last = headings(family)
    table.add_column(first, no_wrap=True)
    for column in figures:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column(last)
    for tier in family.tiers:
        table.add_row(*row(family, tier, dataset))
    Console().print(table)
