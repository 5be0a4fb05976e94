"""The command line of the soak; `--help` says what each option does."""

import dataclasses
import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.progress import progress
from benchmarks.soak.figures import Figures, Options
from benchmarks.soak.processes import Trouble
from benchmarks.soak.soak import Soak, work_folder

SHOWN_FAULTS = 20


@click.command()
@click.option("--requests", default=200_000, show_default=True, type=click.IntRange(100), help="How many to ask.")
@click.option("--seed", default=0, show_default=True, help="Another seed draws other requests and other faults.")
@click.option("--engines", default=4, show_default=True, type=click.IntRange(2), help="Engines behind the gateway.")
@click.option("--clients", default=2, show_default=True, type=click.IntRange(1), help="Client processes.")
@click.option("--users", default=64, show_default=True, type=click.IntRange(1), help="Connections a client process.")
@click.option(
    "--gateway", multiple=True, metavar="OPTION", help="Given to `alphatier serve`; repeat: --gateway=--workers"
)
@click.option("--asgi", is_flag=True, help="The gateway as an ASGI application under plain uvicorn.")
@click.option("--redis/--no-redis", default=True, help="Count limits in a redis-server. [default: redis]")
@click.option("--log-faults/--no-log-faults", default=True, help="The log is stuck, and full. [default: log-faults]")
@click.option("--scarcity/--no-scarcity", default=True, help="Run out of descriptors. [default: scarcity]")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Sent with every request.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for the logs. [default: removed]")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def main(
    requests: int,
    seed: int,
    engines: int,
    clients: int,
    users: int,
    gateway: tuple[str, ...],
    asgi: bool,
    redis: bool,
    log_faults: bool,
    scarcity: bool,
    headers: tuple[str, ...],
    keep: Path | None,
    as_json: bool,
) -> None:
    """Ask the gateway very many requests while its engines break and its clients leave, then check the books."""
    options = Options(requests, seed, engines, clients, users, gateway, asgi, redis, log_faults, scarcity, headers)
    try:
        with work_folder(keep) as folder, progress("soak", requests) as tell:
            figures = Soak(options, folder).run(lambda done: tell(done, f"{done:,} of {requests:,} requests"))
    except Trouble as trouble:
        raise click.ClickException(str(trouble)) from trouble
    if as_json:
        print(json.dumps(dataclasses.asdict(figures)))
    else:
        show(figures)
    sys.exit(1 if figures.wrong else 0)


def show(figures: Figures) -> None:
    """Print the figures as a table, then what did not hold."""
    console = Console()
    table = Table("figure", "value", title="soak")
    for name, value in dataclasses.asdict(figures).items():
        if name != "wrong":
            table.add_row(name.replace("_", " "), _shown(name, value))
    console.print(table)
    for text in figures.wrong[:SHOWN_FAULTS]:
        console.print(f"WRONG: {text}", markup=False)
    count = len(figures.wrong)
    console.print(f"{count} things did not hold" if count else "everything held", style="red" if count else "green")


def _shown(name: str, value: object) -> str:
    if name.startswith("resident") and isinstance(value, int):
        return f"{value / 2**20:.1f} MiB"
    if name.startswith("resident") and isinstance(value, list):
        return " ".join(f"{part / 2**20:.0f}" for part in value) + " MiB"
    if isinstance(value, dict):
        return ", ".join(f"{count:,} {key}" for key, count in sorted(value.items()))
    if isinstance(value, tuple | list):
        return " -> ".join(f"{part:,}" for part in value)
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
