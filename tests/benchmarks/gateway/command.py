"""The command line: which routers, which rows, how often; then the rounds, interleaved."""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from rich.console import Console

from benchmarks.gateway import report
from benchmarks.gateway.goals import GOALS, Round, judge
from benchmarks.gateway.measure import ROWS, Bench
from benchmarks.gateway.peers import PEERS, install, present
from benchmarks.gateway.processes import BenchmarkError, Cores, allow_open_files
from benchmarks.gateway.programs import compiled
from benchmarks.gateway.rounds import Run
from benchmarks.gateway.targets import Target, gateways

ROW_NAMES = (*ROWS, "start", "hold", "vllm")
BUSY_LOAD = 0.5
PEERS_FOLDER = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "alphatier-benchmark-peers"


def _names(known: Sequence[str]) -> Callable[[click.Context, click.Parameter, str | None], tuple[str, ...]]:
    """A check of an option's comma-separated names."""

    def check(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...]:
        names = tuple(name.strip() for name in (value or "").split(",") if name.strip())
        unknown = [name for name in names if name not in known]
        if unknown:
            raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}.")
        return names

    return check


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Each router once a round.")
@click.option(
    "--peers",
    "peer_names",
    default="nginx,vllm-router",
    show_default=True,
    callback=_names(tuple(PEERS)),
    metavar="A,B",
    help=f"Routers to compare with: {', '.join(PEERS)}.",
)
@click.option(
    "--only",
    "rows",
    callback=_names(ROW_NAMES),
    metavar="ROW,ROW",
    help=f"Only these rows: {', '.join(ROW_NAMES)}. [default: all but vllm]",
)
@click.option("--seconds", default=2.0, show_default=True, help="Length of one load; streams take twice as long.")
@click.option(
    "--leavers", default=200, show_default=True, type=click.IntRange(1), help="Clients that leave, of each kind."
)
@click.option("--streams", default=5000, show_default=True, type=click.IntRange(1), help="Streams held open at once.")
@click.option("--cores", default="1,0", show_default=True, help="Core of the router, core of everything else.")
@click.option(
    "--peers-folder",
    default=PEERS_FOLDER,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Virtual environments of the peers: FOLDER/NAME.",
)
@click.option("--auto", is_flag=True, help="The gateway is asked for `auto` as well, which weighs each prompt.")
@click.option("--explicit", is_flag=True, help="All name the tier outright: nothing to decide, nothing to rewrite.")
@click.option("--no-keys", is_flag=True, help="The gateway asks nobody for a key, and so has no limits.")
@click.option("--wrk", is_flag=True, help="wrk makes the load that is not streamed (apt-get install wrk).")
@click.option(
    "--python",
    "other_python",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Measure the gateway under this Python as well; the project must be installed in it.",
)
@click.option("--install-peers", is_flag=True, help="First install the chosen peers that are missing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the tables.")
def main(
    rounds: int,
    peer_names: tuple[str, ...],
    rows: tuple[str, ...],
    seconds: float,
    leavers: int,
    streams: int,
    cores: str,
    peers_folder: Path,
    auto: bool,
    explicit: bool,
    no_keys: bool,
    wrk: bool,
    other_python: Path | None,
    install_peers: bool,
    as_json: bool,
) -> None:
    """Measure the gateway beside other routers, all in front of the same stub engine, in turns.

    Figures of one run compare; figures of two runs do not. The exit status says whether everything ran, not
    whether a goal was reached.

    \b
    Examples:
      python tests/benchmarks/gateway
      python tests/benchmarks/gateway --install-peers --peers nginx,vllm-router,smg,sglang-router,litellm
      python tests/benchmarks/gateway --only requests --rounds 5
      python tests/benchmarks/gateway --only requests --auto
      python tests/benchmarks/gateway --only vllm --rounds 7
    """
    signal.signal(signal.SIGTERM, _ended)
    chosen = rows or tuple(name for name in ROW_NAMES if name != "vllm")
    try:
        bound = Cores.parse(cores)
        os.sched_setaffinity(0, {bound.others})
        if install_peers:
            install(peer_names, peers_folder)
        with tempfile.TemporaryDirectory(prefix="alphatier-benchmark-") as name:
            folder = Path(name)
            mine = gateways(folder, other_python=other_python, keyed=not no_keys, auto=auto)
            others, notes = present(peer_names, peers_folder)
            notes += _busy()
            if "hold" in chosen:
                allow_open_files(2 * streams + 500)
            programs = compiled(folder, bound.others)
            bench = Bench(programs, bound, mine.key, seconds, leavers, streams, explicit, wrk)
            run = Run(bench, mine.targets, others, folder)
            measured = run.measured(chosen, rounds)
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from error
    _print(measured, [*mine.targets, *others], [*notes, *run.failed], chosen, as_json)
    if run.failed:
        raise SystemExit(1)


def _ended(number: int, _frame: object) -> None:
    """SIGTERM ends what was started too, as Ctrl-C does."""
    raise SystemExit(128 + number)


def _busy() -> list[str]:
    """A line for the reader when something else was running before the benchmark began."""
    load = os.getloadavg()[0]
    return [f"the machine was not idle: load {load:.1f} before the start"] if load > BUSY_LOAD else []


def _print(
    measured: list[Round], targets: list[Target], notes: list[str], rows: tuple[str, ...], as_json: bool
) -> None:
    versions = {target.name: target.version for target in targets}
    judged = [judge(goal, measured) for goal in GOALS if goal.row in rows and goal.router in versions]
    if as_json:
        print(json.dumps(report.as_json(measured, judged, versions, notes), indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"{report.machine()}\n{versions}", markup=False)
    report.print_tables(console, measured)
    report.print_goals(console, judged)
    for note in notes:
        console.print(note, style="yellow", markup=False)
