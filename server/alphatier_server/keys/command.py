"""`alphatier keys`: make, list and revoke API keys of a key file. Light at import."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

_file_option = click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("keys.toml"),
    show_default=True,
    help="The key file; `alphatier serve --keys FILE` uses it.",
)
_amount = click.IntRange(1)


@click.group()
def keys() -> None:
    """API keys of the gateway: who may ask, which tiers, how much.

    \b
    Examples:
      alphatier keys new alice --tiers alpha-0.4 --requests-per-minute 60
      alphatier keys list
      alphatier keys revoke alice
      alphatier serve --keys keys.toml
    """


@keys.command()
@click.argument("name")
@_file_option
@click.option("--tiers", help="Allowed tiers, with commas: family:tier, tier, family:* or *. [default: all]")
@click.option("--default-tier", help="Tier for requests that choose none. [default: the first of --tiers]")
@click.option("--requests-per-minute", type=_amount)
@click.option("--requests-burst", type=_amount, help="Requests that may come at once. [default: a minute's worth]")
@click.option("--tokens-per-minute", type=_amount, help="Prompt and completion tokens together.")
@click.option("--tokens-burst", type=_amount, help="Tokens that may be used at once. [default: a minute's worth]")
@click.option("--concurrent-requests", type=_amount)
@click.option("--concurrent-streams", type=_amount)
@click.option(
    "--priority",
    type=click.Choice(["high", "normal", "low"]),
    help="Who goes first when the gateway is overloaded. [default: normal]",
)
@click.option(
    "--brownout/--no-brownout",
    default=None,
    help="Whether open choices slide to terser tiers under load. [default: yes]",
)
@click.option("--expires-days", type=click.IntRange(1, 36_500), help="End of the key, in days from today.")
@click.option("--admin", is_flag=True, help="The key may use the admin API.")
def new(name: str, file: Path, tiers: str | None, expires_days: int | None, **rest: Any) -> None:
    """Make a key called NAME and print it: once, for the file holds only its hash."""
    from pydantic import ValidationError

    from alphatier_server.keys.file import add_key, new_key
    from alphatier_server.keys.ring import ApiKey, digest_of, first_fault

    secret = new_key()
    entry = {key: value for key, value in rest.items() if value is not None}
    if tiers is not None:
        entry["tiers"] = tuple(tier.strip() for tier in tiers.split(","))
    if expires_days is not None:
        entry["expires"] = (datetime.now(UTC) + timedelta(days=expires_days)).replace(microsecond=0)
    try:
        key = ApiKey(name=name, hash=digest_of(secret), **entry)
    except ValidationError as error:
        raise click.ClickException(first_fault(error)) from None
    with _faults_told():
        add_key(file, key)
    click.echo(f"{name} is in {file}. Its key is shown only this once:", err=True)
    click.echo(secret)


@keys.command("list")
@_file_option
def list_keys(file: Path) -> None:
    """Show the keys of a file: names, tiers and limits."""
    from rich.console import Console
    from rich.table import Table

    from alphatier_server.keys.file import read_keys

    if not file.exists():
        raise click.ClickException(f"There is no {file}; `alphatier keys new NAME --file {file}` makes it.")
    with _faults_told():
        keys_in_file = read_keys(file)
    table = Table(
        "name", "state", "tiers", "default", "req/min", "tok/min", "at once", "streams", "priority", box=None
    )
    now = datetime.now(UTC)
    for key in keys_in_file:
        expired = key.expires is not None and key.expires <= now
        state = "revoked" if key.disabled else "expired" if expired else "admin" if key.admin else "ok"
        amounts = (key.requests_per_minute, key.tokens_per_minute, key.concurrent_requests, key.concurrent_streams)
        shown = ["-" if amount is None else str(amount) for amount in amounts]
        tiers, default = ", ".join(key.tiers or ("all",)), key.chosen_default() or "-"
        table.add_row(key.name, state, tiers, default, *shown, key.priority)
    Console(highlight=False).print(table)


@keys.command()
@click.argument("name")
@_file_option
def revoke(name: str, file: Path) -> None:
    """End the key called NAME. Running gateways follow within two seconds."""
    from alphatier_server.keys.file import revoke_key

    with _faults_told():
        revoke_key(file, name)
    click.echo(f"{name} is revoked in {file}.", err=True)


@contextmanager
def _faults_told() -> Iterator[None]:
    from alphatier_server.errors import KeyFileError

    try:
        yield
    except KeyFileError as error:
        raise click.ClickException(str(error)) from error
