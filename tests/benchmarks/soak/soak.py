"""One soak from start to verdict: starts everything, keeps breaking it, and reads the books in the end."""

import contextlib
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.soak.audit import compare, read_seen
from benchmarks.soak.books import Books
from benchmarks.soak.figures import Figures, Options
from benchmarks.soak.key_file import write_keys
from benchmarks.soak.keys import MARK
from benchmarks.soak.leftovers import PREFIX, leftovers
from benchmarks.soak.processes import Chaos, EngineProcess, GatewayProcess, Pulse, Trouble, start, stop
from support.families import small_family
from support.gateway import metric_value

ENGINE_TIMEOUT = 1.5
"""The gateway's limit for a silent engine, in seconds; short, so that stalls end within the soak."""
PATIENCE = 30.0
"""After so many seconds a client calls its request stuck: a few silent engines in a row, and a busy machine."""
SETTLE_SECONDS = 20.0
GROWTH_BYTES = 8 * 2**20
"""How much more memory may be taken for good (`lasting_growth`): noise of the allocator, not a leak."""
LONG_ENOUGH = 50_000
"""So many requests show whether memory grows; fewer show how a fresh process warms up."""
GROWTH_OBJECTS = 200
"""How many more Python objects of the gateway's kinds may live in the end than after a tenth of the soak."""


class Soak:
    """The processes and the figures of one soak."""

    def __init__(self, options: Options, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._figures = Figures(requests=options.requests)
        self._resident: list[int] = []
        self._most_descriptors = 0
        self._serving_since = 0.0

    def run(self, progress: Callable[[int], None]) -> Figures:
        """Do it. `progress` is told how many requests are finished. Raises Trouble."""
        small_family(self._folder / "toy")
        with (self._folder / "engines.log").open("w") as log, contextlib.ExitStack() as stack:
            engines = [EngineProcess(f"engine-{number}", log) for number in range(self._options.engines)]
            for engine in engines:
                stack.callback(engine.close)
                engine.start()
            write_keys(self._folder / "keys.toml")
            serve = ["--engine-timeout", str(ENGINE_TIMEOUT), "--client-timeout", "5"]
            serve += ["--keys", str(self._folder / "keys.toml"), *self._options.gateway]
            self._serving_since = time.monotonic()
            gateway = GatewayProcess(self._folder, self._folder / "toy", [e.url for e in engines], serve)
            stack.callback(gateway.process.kill)
            pulse = Pulse(gateway)
            pulse.start()
            stack.callback(pulse.end)
            self._rounds(gateway, engines, log, progress)
            pulse.end()
            self._figures.slowest_pulse_seconds = pulse.slowest
            self._figures.longest_block_seconds = pulse.longest_block
            self._figures.exit_status = stop(gateway.process, signal.SIGTERM, 60)
            self._judge_end(gateway)
        return self._figures

    def _rounds(
        self, gateway: GatewayProcess, engines: list[EngineProcess], log: IO[str], progress: Callable[[int], None]
    ) -> None:
        """A short round to reach the steady state, then the long one; the books cover both."""
        figures, total = self._figures, self._options.requests
        first = total // 10
        before = gateway.descriptors()
        started, processor = time.monotonic(), gateway.processor_seconds()
        seen = self._ask(gateway, engines, log, 0, first, progress)
        self._settle(gateway, engines)
        census = gateway.census()
        self._resident.clear()
        seen += self._ask(gateway, engines, log, first, total, progress)
        figures.seconds = time.monotonic() - started
        self._settle(gateway, engines)
        self._judge_growth(census, gateway.census())
        figures.processor_seconds = gateway.processor_seconds() - processor
        metrics = gateway.metrics()
        figures.retries = metric_value(metrics, "alphatier_retries_total")
        figures.wrong += leftovers(gateway.url)
        self._judge_engines(engines)
        for engine in engines:
            engine.kill()
        after = self._until_calm(gateway.descriptors, before + 3)
        figures.descriptors = (before, self._most_descriptors, after)
        log_lines = (line for line in gateway.requests() if not line["request_id"].startswith(PREFIX))
        seconds = time.monotonic() - self._serving_since
        self._judge_books(compare(self._options.seed, read_seen(seen), log_lines, metrics, seconds))

    def _ask(
        self,
        gateway: GatewayProcess,
        engines: list[EngineProcess],
        log: IO[str],
        first: int,
        end: int,
        progress: Callable[[int], None],
    ) -> list[Path]:
        """Let the clients ask requests `first` to `end` while engines break; the files of what they saw."""
        options, step = self._options, self._options.clients
        counts = [len(range(first + each, end, step)) for each in range(step)]
        files = [self._folder / f"seen-{first}-{each}.jsonl" for each in range(step)]
        clients = []
        for each, (count, file) in enumerate(zip(counts, files, strict=True)):
            arguments = ["--url", gateway.url, "--seed", str(options.seed), "--first", str(first + each)]
            arguments += ["--count", str(count), "--step", str(step), "--users", str(options.users)]
            arguments += ["--patience", str(PATIENCE), "--out", str(file)]
            for header in options.headers:
                arguments += ["--header", header]
            with file.with_suffix(".progress").open("w") as told:
                clients.append(start("client", *arguments, stdout=told, stderr=log))
        chaos = Chaos(engines, options.seed + first)
        try:
            while any(client.poll() is None for client in clients):
                self._look(gateway)
                chaos.step()
                progress(first + sum(_last_number(file.with_suffix(".progress")) for file in files))
                time.sleep(0.1)
        finally:
            chaos.end()
            for client in clients:
                client.kill()
                client.wait(10)
        self._figures.kills += chaos.kills
        self._figures.freezes += chaos.freezes
        if any(client.returncode for client in clients):
            raise Trouble(f"a client failed: {(self._folder / 'engines.log').read_text()[-3000:]}")
        return files

    def _look(self, gateway: GatewayProcess) -> None:
        if gateway.process.poll() is not None:
            raise Trouble(f"the gateway ended by itself:\n{gateway.log.read_text()[-3000:]}")
        self._resident.append(gateway.resident())
        self._most_descriptors = max(self._most_descriptors, gateway.descriptors())

    def _settle(self, gateway: GatewayProcess, engines: list[EngineProcess]) -> None:
        """Wait until the gateway has noticed that everybody is gone."""

        def in_flight() -> float:
            metrics = gateway.metrics()
            names = ("alphatier_requests_in_flight", "alphatier_replica_requests_in_flight")
            return sum(metric_value(metrics, name) for name in names)

        if left := self._until_calm(in_flight, 0):
            self._figures.wrong.append(f"{left:g} requests are in flight although nobody asks")
        self._until_calm(lambda: sum(engine.figures()["open"] for engine in engines), 0)

    def _until_calm(self, figure: Callable[[], float], enough: float) -> Any:
        deadline = time.monotonic() + SETTLE_SECONDS
        while (value := figure()) > enough and time.monotonic() < deadline:
            time.sleep(0.1)
        return value

    def _judge_engines(self, engines: list[EngineProcess]) -> None:
        for engine in engines:
            figures = engine.figures()
            if figures["open"]:
                jobs = ", ".join(figures["jobs"][:5])
                self._figures.wrong.append(f"{engine.name} works on {figures['open']} requests for nobody: {jobs}")
            if figures["wrong"]:
                self._figures.wrong.append(f"{engine.name} got {figures['wrong']} requests that were mixed up")

    def _judge_growth(self, early: dict[str, int], late: dict[str, int]) -> None:
        figures = self._figures
        half = len(self._resident) // 2
        if half:
            figures.resident_first_half = int(statistics.median(self._resident[:half]))
            figures.resident_second_half = int(statistics.median(self._resident[half:]))
        tenth = len(self._resident) // 10
        if tenth:
            tenths = (self._resident[start : start + tenth] for start in range(0, tenth * 10, tenth))
            figures.resident_by_tenth = [int(statistics.median(part)) for part in tenths]
        growth = lasting_growth(figures.resident_by_tenth)
        if growth > GROWTH_BYTES and figures.requests >= LONG_ENOUGH:
            figures.wrong.append(f"memory grew by {growth / 2**20:.1f} MiB and did not come back")
        own = {kind for kind in late if "." in kind or kind == "tasks"}
        figures.tasks = (early.get("tasks", 0), late.get("tasks", 0))
        figures.objects = tuple(sum(each.get(kind, 0) for kind in own) for each in (early, late))  # type: ignore[assignment]
        for kind in sorted(own):
            if (more := late[kind] - early.get(kind, 0)) > GROWTH_OBJECTS:
                figures.wrong.append(f"{more} more objects of {kind} live after the soak than after its first tenth")

    def _judge_books(self, books: Books) -> None:
        figures = self._figures
        figures.results, figures.outcomes = dict(books.results), dict(books.outcomes)
        figures.answered, figures.refused = dict(books.answered), dict(books.refused)
        figures.most_streams = books.most_streams
        figures.unrecorded, figures.slowest_overrun_seconds = books.unrecorded, books.slowest_overrun
        figures.healthy, figures.healthy_answered = books.healthy, books.answered_whole
        figures.wrong += books.wrong
        if figures.requests != sum(books.results.values()):
            figures.wrong.append(f"{sum(books.results.values())} of {figures.requests} requests were asked")
        before, _, after = figures.descriptors
        if after > before + 3:
            figures.wrong.append(f"{after} descriptors are open in the end, {before} were at the start")

    def _judge_end(self, gateway: GatewayProcess) -> None:
        if self._figures.exit_status != 0:
            self._figures.wrong.append(f"the gateway ended with status {self._figures.exit_status}")
        if MARK in gateway.log.read_text():
            self._figures.wrong.append("an API key stands in the gateway's log")
        complaints = gateway.complaints()
        if complaints:
            self._figures.wrong.append(f"{len(complaints)} faults in the gateway's log, e.g. {complaints[0][:300]}")


def lasting_growth(tenths: Sequence[int]) -> int:
    """From the third to fifth tenth of a soak to the lowest of its last three: what is given back is no leak.

    >>> lasting_growth([95, 107, 108, 115, 116, 116, 116, 122, 117, 112])
    -3
    >>> lasting_growth(range(100, 200, 10))
    40
    """
    return int(min(tenths[-3:]) - statistics.median(tenths[2:5])) if len(tenths) == 10 else 0


def _last_number(file: Path) -> int:
    lines = file.read_text().split()
    return int(lines[-1]) if lines else 0


@contextlib.contextmanager
def work_folder(keep: Path | None) -> Iterator[Path]:
    """A folder for logs: the one given, or one that is removed."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
    else:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            yield Path(folder)
