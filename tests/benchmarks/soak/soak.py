"""One soak from start to verdict: starts everything, keeps breaking it, and reads the books in the end."""

import contextlib
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from alphatier_server.limits.redis_commands import CONNECTIONS
from benchmarks.soak.audit import compare, read_seen
from benchmarks.soak.books import Books
from benchmarks.soak.breaking import Breaking
from benchmarks.soak.configuration import write_configuration
from benchmarks.soak.figures import Figures, Options
from benchmarks.soak.key_file import write_keys
from benchmarks.soak.keys import MARK
from benchmarks.soak.leftovers import PREFIX, leftovers
from benchmarks.soak.limits import Stores
from benchmarks.soak.processes import EngineProcess, GatewayProcess, Pulse, Trouble, start, stop
from benchmarks.soak.redis_chaos import KILL, held
from support.families import small_family
from support.gateway import metric_value
from support.redis_server import RedisServer, redis_server

PATIENCE = 30.0
"""After so many seconds a client calls its request stuck: a few silent engines in a row, and a busy machine."""
SETTLE_SECONDS = 20.0
GROWTH_BYTES = 8 * 2**20
"""How much more memory may be taken for good (`lasting_growth`): noise of the allocator, not a leak."""
LONG_ENOUGH = 50_000
"""So many requests show whether memory grows; fewer show how a fresh process warms up."""
GROWTH_OBJECTS = 200
"""How many more Python objects of the gateway's kinds may live in the end than after a tenth of the soak."""
SPARE_DESCRIPTORS = 3
"""So many more may be open in the end, beside the connections that are kept to Redis."""
SHARE_IN_FLIGHT = 0.75
"""Of all users' requests, so many are worked on at once; the others wait in the gateway's queue."""
REDIS_SECONDS = 1.0
"""So long after the last answer, when Redis answers again, nothing may be held there any more."""
IN_FLIGHT = ("alphatier_requests_in_flight", "alphatier_replica_requests_in_flight", "alphatier_queued_requests")


class Soak:
    """The processes and the figures of one soak."""

    def __init__(self, options: Options, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._figures = Figures(requests=options.requests)
        self._resident: list[int] = []
        self._most_descriptors = 0
        self._serving_since = 0.0
        self._redis: RedisServer | None = None
        self._spare = SPARE_DESCRIPTORS

    def run(self, progress: Callable[[int], None]) -> Figures:
        """Do it. `progress` is told how many requests are finished. Raises Trouble."""
        small_family(self._folder / "toy")
        with (self._folder / "engines.log").open("w") as log, contextlib.ExitStack() as stack:
            engines = [EngineProcess(f"engine-{number}", log) for number in range(self._options.engines)]
            for engine in engines:
                stack.callback(engine.close)
                engine.start()
            if self._options.redis:
                self._redis = stack.enter_context(redis_server(self._folder))
            command = self._command(self._configuration([engine.url for engine in engines]))
            self._serving_since = time.monotonic()
            gateway = GatewayProcess(self._folder, command)
            stack.callback(gateway.process.kill)
            pulse = Pulse(gateway)
            pulse.start()
            stack.callback(pulse.end)
            self._rounds(gateway, engines, log, progress)
            pulse.end()
            self._figures.slowest_pulse_seconds = pulse.slowest
            self._figures.longest_block_seconds = pulse.longest_block
            self._figures.exit_status = stop(gateway.process, signal.SIGTERM, 60)
            gateway.pipe.join(10)
            self._judge_end(gateway)
        return self._figures

    def _command(self, configuration: Path) -> list[str]:
        if self._options.asgi:
            return ["asgi", str(configuration)]
        return ["serve", "--port", "0", "--config", str(configuration), *self._options.gateway]

    def _configuration(self, engines: Sequence[str]) -> Path:
        write_keys(self._folder / "keys.toml")
        file = self._folder / "gateway.toml"
        users = self._options.clients * self._options.users
        url = None if self._redis is None else self._redis.url
        write_configuration(file, engines, url, max(1, int(users * SHARE_IN_FLIGHT)))
        return file

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
        self._spare = SPARE_DESCRIPTORS + (CONNECTIONS if self._options.redis else 0)
        after = self._until_calm(gateway.descriptors, before + self._spare)
        figures.descriptors = (before, self._most_descriptors, after)
        self._judge_log(gateway, metrics)
        requests = (line for line in gateway.lines() if line.get("event") == "request")
        log_lines = (line for line in requests if not line["request_id"].startswith(PREFIX))
        seconds = time.monotonic() - self._serving_since
        stores = Stores(redis_kills=figures.redis_faults.get(KILL, 0)) if self._options.redis else None
        scarce = figures.scarcities > 0
        self._judge_books(
            compare(self._options.seed, read_seen(seen), log_lines, metrics, seconds, stores, scarce=scarce)
        )

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
        breaking = Breaking(options, gateway, engines, self._redis, first)
        try:
            while any(client.poll() is None for client in clients):
                self._look(gateway)
                done = first + sum(_last_number(file.with_suffix(".progress")) for file in files)
                breaking.step(done)
                progress(done)
                time.sleep(0.05)
        finally:
            breaking.end()
            for client in clients:
                client.kill()
                client.wait(10)
        breaking.note(self._figures)
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
            return sum(metric_value(metrics, name) for name in IN_FLIGHT)

        if left := self._until_calm(in_flight, 0):
            self._figures.wrong.append(f"{left:g} requests are in flight although nobody asks")
        self._settle_redis()
        self._until_calm(lambda: sum(engine.figures()["open"] for engine in engines), 0)

    def _settle_redis(self) -> None:
        if self._redis is None:
            return
        redis, started = self._redis, time.monotonic()
        left: list[str] = self._until_calm(lambda: list(held(redis)), [])
        took = time.monotonic() - started
        self._figures.redis_settled_seconds = max(self._figures.redis_settled_seconds, took)
        if left or took > REDIS_SECONDS:
            self._figures.wrong.append(f"{took:.1f} s after the last answer Redis holds {left}")

    def _until_calm(self, figure: Callable[[], Any], enough: Any) -> Any:
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

    def _judge_log(self, gateway: GatewayProcess, metrics: str) -> None:
        """What was lost of the log was counted, and told when it could be told."""
        dropped = int(metric_value(metrics, "alphatier_log_lines_dropped_total"))
        self._figures.log_lines_dropped = dropped
        told = sum(line.get("lost", 0) for line in gateway.lines())
        if told != dropped:
            self._figures.wrong.append(f"{dropped} lines of the log were lost, it tells of {told}")
        if dropped and not self._options.log_faults:
            self._figures.wrong.append(f"{dropped} lines of the log were lost")

    def _judge_books(self, books: Books) -> None:
        figures = self._figures
        figures.requests_not_logged, figures.turned_away = books.not_logged, books.turned_away
        if books.turned_away and not self._options.scarcity:
            figures.wrong.append(f"{books.turned_away} connections were closed without a word")
        figures.results, figures.outcomes = dict(books.results), dict(books.outcomes)
        figures.answered, figures.refused = dict(books.answered), dict(books.refused)
        figures.most_streams = books.most_streams
        figures.unrecorded, figures.slowest_overrun_seconds = books.unrecorded, books.slowest_overrun
        figures.healthy, figures.healthy_answered = books.healthy, books.answered_whole
        figures.wrong += books.wrong
        if figures.requests != sum(books.results.values()):
            figures.wrong.append(f"{sum(books.results.values())} of {figures.requests} requests were asked")
        before, _, after = figures.descriptors
        if after > before + self._spare:
            figures.wrong.append(f"{after} descriptors are open in the end, {before} were at the start")

    def _judge_end(self, gateway: GatewayProcess) -> None:
        # Uvicorn ends by the signal that told it to.
        if self._figures.exit_status != (-signal.SIGTERM if self._options.asgi else 0):
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
