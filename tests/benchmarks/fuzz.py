"""Fuzzes the gateway for a given time of the processor, with the generators that the tests use for seconds.

    nice -n 15 python tests/benchmarks/fuzz.py --cpu-minutes 240

Requests and streams go as bytes through a real gateway, over the accelerator and over plain ASGI; bodies and relays
are fuzzed in the process. Each round is a run of pytest with fresh random seeds; the time is what it and all of its
processes took. It ends with status 1 when a round failed; its report, with the smallest example, is in `--keep`.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    "requests": ("test_fuzz_requests.py", "no_bytes_at_all"),
    "streams": ("test_fuzz_streams.py", "any_bytes_become"),
    "bodies": ("test_fuzz_bodies.py", "a_body_is"),
    "relay": ("test_fuzz_relay.py", "break or short_cut or any_cut"),
}
"""What to fuzz: file, and which of its tests (pytest's -k)."""
LARGER = 20
"""How many times as many examples a round tries as the test by itself."""
_EXAMPLES = re.compile(r"(\d+) passing, (\d+) failing, and (\d+) invalid")


@dataclass
class Round:
    """A run of pytest."""

    kind: str
    report: Path
    process: "subprocess.Popen[bytes]"

    def examples(self) -> int:
        """How many were tried, as Hypothesis counts them."""
        found = _EXAMPLES.findall(self.report.read_text(errors="replace"))
        return sum(int(passing) + int(failing) for passing, failing, _ in found)


@dataclass
class Figures:
    """What all rounds did."""

    cpu_seconds: float = 0.0
    rounds: Counter[str] = field(default_factory=Counter)
    examples: Counter[str] = field(default_factory=Counter)
    failed: list[Path] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """In words."""
        for kind, count in sorted(self.examples.items()):
            yield f"{kind}: {count:,} examples in {self.rounds[kind]} rounds"
        yield f"{self.cpu_seconds / 60:.1f} minutes of the processor, {len(self.failed)} rounds failed"
        yield from map(str, self.failed)


@click.command()
@click.option("--cpu-minutes", default=60.0, show_default=True, help="Time of the processor, of all processes.")
@click.option("--jobs", default=4, show_default=True, help="Rounds at once; most of a round is waiting.")
@click.option("--only", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Repeat for several.")
@click.option("--core", type=int, help="Run all of it on this processor. [default: any]")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for the reports. [default: a temporary one]")
def main(cpu_minutes: float, jobs: int, kinds: tuple[str, ...], core: int | None, keep: Path | None) -> None:
    """Fuzz the gateway for a while."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    if core is not None:
        os.sched_setaffinity(0, {core})
    folder = keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    figures, names = Figures(), cycle(kinds or KINDS)
    running: dict[int, Round] = {}
    try:
        while running or figures.cpu_seconds < cpu_minutes * 60:
            while len(running) < jobs and figures.cpu_seconds < cpu_minutes * 60:
                started = _start(next(names), folder)
                running[started.process.pid] = started
            _take(running, figures)
            (folder / "figures.txt").write_text("\n".join([*figures.lines(), ""]))
    finally:
        for each in running.values():
            each.process.send_signal(signal.SIGINT)
    print("\n".join(figures.lines()))
    sys.exit(1 if figures.failed else 0)


def _start(kind: str, folder: Path) -> Round:
    file, chosen = KINDS[kind]
    report = folder / f"{kind}-{time.time_ns()}.txt"
    command = [sys.executable, "-m", "pytest", f"tests/server/{file}", "-k", chosen, "-q"]
    command += ["-p", "no:cacheprovider", "--timeout", "0", "--hypothesis-show-statistics"]
    environment = {**os.environ, "ALPHATIER_FUZZ": str(LARGER)}
    with report.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=stream)
    return Round(kind, report, process)


def _take(running: dict[int, Round], figures: Figures) -> None:
    """Wait for the end of a round and count it."""
    pid, status, usage = os.wait4(-1, 0)
    ended = running.pop(pid)
    ended.process.returncode = os.waitstatus_to_exitcode(status)
    figures.cpu_seconds += usage.ru_utime + usage.ru_stime
    figures.rounds[ended.kind] += 1
    figures.examples[ended.kind] += ended.examples()
    if status:
        figures.failed.append(ended.report)
    else:
        ended.report.unlink()


if __name__ == "__main__":
    main()
