"""The command line of the overload benchmark; `--help` says what each option does."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
import httpx
from rich.console import Console
from rich.table import Table

from alphatier_server.keys.file import add_key
from alphatier_server.keys.ring import ApiKey, digest_of
from benchmarks.overload.load import Load, Seen
from benchmarks.progress import Tell, progress
from support.families import small_family
from support.processes import serving, until

TESTS = Path(__file__).parents[2]
KEYS = [f"sk-at-overload-{number}" for number in range(10)]
GREEDY = KEYS[0]
TIMES = (1, 2, 4)
TELL_SECONDS = 0.5


@click.command()
@click.option("--slots", default=20, show_default=True, help="Requests that the engine works on at once.")
@click.option("--service", default=0.1, show_default=True, help="Seconds that it takes for each.")
@click.option("--wait", default=1.0, show_default=True, help="Longest wait in the gateway's queue, in seconds.")
@click.option("--ahead", default=2, show_default=True, help="Requests sent to the engine beyond its slots.")
@click.option("--warm", default=3.0, show_default=True, help="Seconds of each load before it counts.")
@click.option("--seconds", default=20.0, show_default=True, help="Seconds of each load that count.")
@click.option("--greed", default=0.5, show_default=True, help="Share of all requests that the greedy key asks.")
def main(slots: int, service: float, wait: float, ahead: int, warm: float, seconds: float, greed: float) -> None:
    """Offer an engine 1, 2 and 4 times what it can do, through the gateway, by ten keys of which one is greedy.

    The short form, of half a minute: --warm 1 --seconds 4
    """
    capacity = slots / service
    warm_alone, warm_behind = warm + 2 * service, warm + 2 * wait
    total = warm_alone + len(TIMES) * warm_behind + (1 + len(TIMES)) * seconds
    rows: dict[int, Seen] = {}
    with (
        progress("overload", total) as tell,
        tempfile.TemporaryDirectory() as name,
        engine(slots, service) as engine_url,
    ):
        clients = Clients(greed, seconds, tell)
        direct = clients.ask("the engine alone", engine_url, capacity * 2, warm_alone)
        own = sum(direct.answered.values()) / seconds
        config = prepared(Path(name), engine_url, slots + ahead, wait, int(capacity * wait))
        with serving(Path(name), "--config", str(config), logs=Path(name)) as gateway:
            for times in TIMES:
                doing = f"offered {times} times what the engine can do"
                rows[times] = clients.ask(doing, gateway.url, capacity * times, warm_behind)
    show(rows, own, service, wait)


class Clients:
    """Ask at one rate after the other, and tell how far they are, in seconds."""

    def __init__(self, greed: float, seconds: float, tell: Tell) -> None:
        self._greed = greed
        self._seconds = seconds
        self._tell = tell
        self._done = 0.0

    def ask(self, doing: str, url: str, rate: float, warm: float) -> Seen:
        """Ask at `rate` a second in all; what is seen after the first `warm` seconds."""
        others = rate * (1 - self._greed) / (len(KEYS) - 1)
        rates = dict.fromkeys(KEYS, others) | {GREEDY: rate * self._greed}
        seen = asyncio.run(self._told(doing, Load(url, rates, warm, self._seconds, seed=1), warm + self._seconds))
        self._done += warm + self._seconds
        return seen

    async def _told(self, doing: str, load: Load, lasts: float) -> Seen:
        running, began = asyncio.create_task(load.run()), time.monotonic()
        while not running.done():
            self._tell(self._done + min(time.monotonic() - began, lasts), doing)
            await asyncio.wait([running], timeout=TELL_SECONDS)
        return running.result()


@contextmanager
def engine(slots: int, service: float) -> Iterator[str]:
    """In a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--port", str(port), "--slots", str(slots), "--seconds", str(service)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "benchmarks.overload.engine", *options]
    process = subprocess.Popen(command, env=environment, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(url), 30, process=process)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def prepared(folder: Path, engine_url: str, most: int, wait: float, queue: int) -> Path:
    """A family, keys, and the gateway's configuration."""
    small_family(folder / "toy")
    for number, key in enumerate(KEYS):
        add_key(folder / "keys.toml", ApiKey(name=f"key-{number}", hash=digest_of(key)))
    config = folder / "gateway.toml"
    config.write_text(
        f'families = ["toy"]\nchecksums = false\n[[engines]]\nurl = "{engine_url}"\n'
        f'[access]\nkeys_file = "keys.toml"\n[log]\nlevel = "warning"\n'
        f"[overload]\nmax_in_flight_per_replica = {most}\nmax_queue = {queue}\nmax_queue_seconds = {wait}\n"
    )
    return config


def show(rows: Mapping[int, Seen], own: float, service: float, wait: float) -> None:
    """A row a load. A wait is what an answer took beyond the engine's own time."""
    table = Table(title=f"overload: the engine's own throughput is {own:.1f} a second; longest wait {wait:g} s")
    columns = ("offered", "answered/s", "of own", "wait p50", "wait p99", "greedy key", "may have", "fewest")
    for column in (*columns, "429", "503", "refused p50", "live p99", "live max", "other"):
        table.add_column(column, justify="right")
    for times, seen in rows.items():
        total = sum(seen.answered.values())
        waits = [latency - service for latency in seen.latencies]
        share = seen.answered[GREEDY] / total
        demand = {key: seen.offered[key] / seen.seconds for key in KEYS}
        table.add_row(
            f"{times}x",
            f"{total / seen.seconds:.1f}",
            f"{total / seen.seconds / own:.3f}",
            f"{quantile(waits, 0.5):.3f}",
            f"{quantile(waits, 0.99):.3f}",
            f"{share:.3f}",
            f"{fair_share(demand, own)[GREEDY]:.3f}",
            f"{min(seen.answered[key] for key in KEYS) / total:.3f}",
            str(seen.shed[429]),
            str(seen.shed[503]),
            f"{quantile(seen.refusals, 0.5):.3f}",
            f"{quantile(seen.probes, 0.99) * 1000:.1f} ms",
            f"{max(seen.probes) * 1000:.1f} ms",
            str(dict(seen.other) or "-"),
        )
    Console(width=170).print(table)


def fair_share(demand: Mapping[str, float], capacity: float) -> dict[str, float]:
    """Each key's max-min fair share of all that is answered: what it asks, or an equal part of what others leave."""
    given: dict[str, float] = {}
    left, open_keys = min(capacity, sum(demand.values())), sorted(demand, key=lambda key: demand[key])
    total = left
    for place, key in enumerate(open_keys):
        given[key] = min(demand[key], left / (len(open_keys) - place))
        left -= given[key]
    return {key: amount / total for key, amount in given.items()}


def quantile(values: list[float], share: float) -> float:
    """Of the sorted values, by rank; NaN where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
