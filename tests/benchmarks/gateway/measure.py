"""One round of one router: each row's figures as plain numbers. Where to compare them is goals.py's matter."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gateway import asked, wrk
from benchmarks.gateway.processes import BenchmarkError, Cores, Process, free_port, running, wait_for_answer
from benchmarks.gateway.programs import Programs, finished_load, told_aborts
from benchmarks.gateway.targets import AUTO_MODEL, MODELS, Address, Target

START_LIMIT_SECONDS = 90
LEAVE_LIMIT_SECONDS = 2.5
SETTLE_LIMIT_SECONDS = 5.0
HOLD_MS = 15_000
EFFORT = "low"
Figures = dict[str, float]


@dataclass(frozen=True)
class Bench:
    """What every measurement needs."""

    programs: Programs
    cores: Cores
    key: str
    seconds: float
    leavers: int
    streams: int
    explicit: bool = False
    """Whether all ask for the tier by its name, so that the gateway has nothing to decide or to rewrite."""
    wrk: bool = False
    """Whether wrk makes the load of what is not streamed."""


@dataclass
class Subject:
    """A router that runs (or nothing: then the stub is asked directly), and the stub behind it."""

    bench: Bench
    engine: str
    port: int
    process: Process | None
    start_seconds: float | None
    model: str

    @property
    def effort(self) -> dict[str, str]:
        """The field that lets the gateway decide."""
        return {} if self.bench.explicit or self.model == AUTO_MODEL else {"reasoning_effort": EFFORT}

    def chat(self, **fields: Any) -> bytes:
        """A chat completion that this router understands; the gateway has to decide the tier by the effort."""
        return asked.chat(self.model, self.bench.key, **self.effort, **fields)

    def stream(self, pause_ms: float, chunks: int = 128, **fields: Any) -> bytes:
        """The same, streamed."""
        more = {**self.effort, **fields}
        return asked.stream(self.model, self.bench.key, pause_ms=pause_ms, chunks=chunks, **more)

    def load(self, mode: str, request: bytes, **options: float) -> tuple[dict[str, Any], float]:
        """Run the load; its figures, and the CPU seconds that the router spent meanwhile."""
        self._settle()
        before = self.cpu_seconds()
        result = self._loaded(mode, request, **options)
        spent = self.cpu_seconds() - before
        wanted = "first" if b'"stream": true' in request else "latency"
        if wanted not in result:
            log = self.process.tail() if self.process and (result["bad"] or result["broken"]) else ""
            counts = {name: result.get(name) for name in ("sent", "completed", "bad", "broken", "unfinished")}
            raise BenchmarkError(f"no good answer in time to {mode} {options}: {counts} {log}")
        return result, spent

    def _loaded(self, mode: str, request: bytes, **options: Any) -> dict[str, Any]:
        if self.bench.wrk and mode == "closed" and b'"stream": true' not in request:
            return wrk.load(self.bench.programs.folder, self.port, request, **options)
        return self.bench.programs.load(mode, self.port, request, **options)

    def _settle(self) -> None:
        """Wait until the router has done with the load before: a slow one works on what its clients gave up."""
        deadline = time.monotonic() + SETTLE_LIMIT_SECONDS
        spent, before = 1.0, self.cpu_seconds()
        while spent > 0.02 and time.monotonic() < deadline:
            time.sleep(0.2)
            spent, before = self.cpu_seconds() - before, self.cpu_seconds()

    def cpu_seconds(self) -> float:
        """CPU time of the router so far; 0 where there is none."""
        return self.process.cpu_seconds() if self.process else 0.0


@contextmanager
def started(bench: Bench, target: Target | None, folder: Path) -> Iterator[Subject]:
    """The target in front of a fresh stub, once it has given its first good answer."""
    with bench.programs.stub(MODELS) as engine:
        if target is None:
            yield Subject(bench, engine, int(engine.rpartition(":")[2]), None, None, MODELS[0])
            return
        at = Address(free_port(), engine, bench.key, folder)
        log = folder / f"{target.name}.log"
        with running(target.command(at), bench.cores.router, log, target.environment) as process:
            model = MODELS[0] if bench.explicit else target.asked_for
            subject = Subject(bench, engine, at.port, process, None, model)
            subject.start_seconds = wait_for_answer(process, at.port, subject.chat(), START_LIMIT_SECONDS)
            time.sleep(0.5)  # background work of the start, such as a first health check, is over
            yield subject


def requests(subject: Subject) -> Figures:
    """Not streamed, at 1, 16 and 64 connections: answers a second, latency, CPU time an answer."""
    figures: Figures = {}
    for connections in (1, 16, 64):
        request = subject.chat()
        got, cpu = subject.load("closed", request, connections=connections, seconds=subject.bench.seconds)
        figures |= {
            f"rps_{connections}": got["counted"] / got["seconds"],
            f"p50_ms_{connections}": got["latency"]["p50"],
            f"p99_ms_{connections}": got["latency"]["p99"],
            f"cpu_us_{connections}": 1e6 * cpu / got["completed"],
            f"failed_{connections}": got["bad"] + got["broken"] + got["unfinished"],
        }
    return figures


def streams(subject: Subject) -> Figures:
    """Paced streams, 64 at 5 ms and 32 at 10 ms: events delivered, gaps between them, CPU time an event."""
    figures: Figures = {}
    for connections, pause_ms in ((64, 5), (32, 10)):
        request = subject.stream(pause_ms=pause_ms)
        got, cpu = subject.load("closed", request, connections=connections, seconds=2 * subject.bench.seconds)
        figures |= {
            f"chunks_s_{connections}": got["events_counted"] / got["seconds"],
            f"gap_p50_ms_{connections}": got["gap"]["p50"],
            f"gap_p99_ms_{connections}": got["gap"]["p99"],
            f"cpu_us_chunk_{connections}": 1e6 * cpu / got["events"],
            f"broken_streams_{connections}": got["bad"] + got["broken"] + got["unfinished"],
        }
    return figures


def first_token(subject: Subject) -> Figures:
    """32 streams that start at once, again and again: time to their first event."""
    request = subject.stream(pause_ms=10, chunks=8)
    got, _ = subject.load("burst", request, connections=32, total=25)
    return {"first_p50_ms": got["first"]["p50"], "first_p99_ms": got["first"]["p99"]}


def leaving(subject: Subject) -> Figures:
    """Clients that leave while the engine works: the time until the engine's connection closes."""
    # The load generator writes each client's number over the zeros.
    whole = subject.chat(seed=10_000_000, stop=["whole-00000000"])
    streamed = subject.stream(pause_ms=10, chunks=4000, stop=["streamed-00000000"])
    return {**_left(subject, "whole", whole), **_left(subject, "streamed", streamed)}


def _left(subject: Subject, kind: str, request: bytes) -> Figures:
    before = told_aborts(subject.engine)["begun"]
    every = {"total": subject.bench.leavers, "after_ms": 40, "every_ms": 20}
    got = subject.bench.programs.load("leave", subject.port, request, **every)
    names = {f"{kind}-{number:08d}": at for number, at in enumerate(got["left"]) if at}
    noticed = _noticed(subject.engine, names)
    reached = min(len(names), told_aborts(subject.engine)["begun"] - before)
    delays = sorted((at - names[name]) / 1e6 for name, at in noticed.items())
    figures: Figures = {f"left_{kind}": reached, f"left_{kind}_never": reached - len(delays)}
    if delays:
        middle, last = delays[len(delays) // 2], delays[-1]
        figures |= {f"left_{kind}_p50_ms": middle, f"left_{kind}_max_ms": last}
    return figures


def _noticed(engine: str, names: dict[str, int]) -> dict[str, int]:
    """When the stub's connections closed, by the request's name; waits for the last ones for a while."""
    deadline = time.monotonic() + LEAVE_LIMIT_SECONDS
    while True:
        noticed = {name: at for name, at in told_aborts(engine)["aborted"] if name in names}
        if len(noticed) == len(names) or time.monotonic() > deadline:
            return noticed
        time.sleep(0.05)


def memory(subject: Subject) -> Figures:
    """Resident memory after the load of the rows before this one (and one of its own)."""
    if subject.process is None:
        return {}
    subject.load("closed", subject.chat(), connections=64, seconds=1)
    subject.load("closed", subject.stream(pause_ms=5), connections=64, seconds=1)
    return {"memory_mb": subject.process.resident_mb()}


def hold(subject: Subject) -> Figures:
    """Many streams open at once, a token a second each: how many lived, and what each cost in memory."""
    count = subject.bench.streams
    request = subject.stream(pause_ms=1000, chunks=10_000)
    before = subject.process.resident_mb() if subject.process else 0.0
    load = subject.bench.programs.start_load(
        "hold", subject.port, request, connections=count, seconds=90, after_ms=HOLD_MS
    )
    most = _most_memory(load, subject.process)
    got = finished_load(load)
    return {
        "held": got["most_open"],
        "held_at_engine": told_aborts(subject.engine)["most_open"],
        "held_dropped": count - got["unfinished"],
        "held_silent": got["silent"],
        "held_gap_max_ms": got["gap"]["max"],
        "held_kb_each": 1e3 * (most - before) / count,
    }


def _most_memory(load: "subprocess.Popen[str]", process: Process | None) -> float:
    most = 0.0
    while load.poll() is None:
        most = max(most, process.resident_mb() if process else 0.0)
        time.sleep(0.1)
    return most


ROWS: dict[str, Callable[[Subject], Figures]] = {
    "requests": requests,
    "streams": streams,
    "first-token": first_token,
    "leaving": leaving,
    "memory": memory,
}
