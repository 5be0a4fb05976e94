"""The rounds: every router in turn, started in front of a fresh stub, measured row by row, and ended."""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway import measure, real_engine
from benchmarks.gateway.goals import Round
from benchmarks.gateway.measure import ROWS, Bench, Figures, Subject, started
from benchmarks.gateway.processes import BenchmarkError
from benchmarks.gateway.targets import DIRECT, Target

GATEWAY_STARTS = 3


@dataclass
class Run:
    """One run of the benchmark; `failed` tells which router failed at what, while the others went on."""

    bench: Bench
    gateways: Sequence[Target]
    others: Sequence[Target]
    folder: Path
    failed: list[str] = field(default_factory=list)

    def measured(self, rows: Sequence[str], rounds: int) -> list[Round]:
        """The rounds of the usual rows, then those rows that only the gateways have."""
        usual = [row for row in rows if row in ROWS or row == "start"]
        result = [self._round(usual, number) for number in range(rounds if usual else 0)]
        for row in ("hold", "vllm"):
            try:
                result += self._gateways_only(row, rounds) if row in rows else []
            except BenchmarkError as error:
                self.failed.append(f"{row}: {error}")
        return result

    def _gateways_only(self, row: str, rounds: int) -> list[Round]:
        if row == "vllm":
            _say("a real vLLM; its start takes a minute")
            return real_engine.measure(self.bench, self.gateways[0], self.folder, rounds)
        return [{target.name: self._held(target)} for target in self.gateways]

    def _held(self, target: Target) -> Figures:
        _say(f"{target.name}: holding {self.bench.streams} streams open")
        with started(self.bench, target, self.folder) as subject:
            return measure.hold(subject)

    def _round(self, rows: Sequence[str], number: int) -> Round:
        """Every router once; who goes first changes from round to round."""
        targets = [None, *self.gateways, *self.others]
        first = number % len(targets)
        wanted = [row for row in rows if number == 0 or row != "leaving"]  # the clients of one round are enough
        return {
            target.name if target else DIRECT: self._target(target, wanted, number + 1)
            for target in targets[first:] + targets[:first]
        }

    def _target(self, target: Target | None, rows: Sequence[str], number: int) -> Figures:
        name = target.name if target else DIRECT
        _say(f"round {number}: {name}")
        figures: Figures = {}
        try:
            with started(self.bench, target, self.folder) as subject:
                for row in rows:
                    figures |= self._row(row, subject, f"{name}, round {number}, {row}")
                starts = [subject.start_seconds] if subject.start_seconds is not None else []
            if "start" in rows and starts:
                if target is not None and target in self.gateways:
                    starts += self._further_starts(target)
                figures["start_s"] = statistics.median(starts)
        except BenchmarkError as error:
            self.failed.append(f"{name}, round {number}: {error}")
        return figures

    def _row(self, row: str, subject: Subject, where: str) -> Figures:
        if row not in ROWS:
            return {}
        try:
            return ROWS[row](subject)
        except BenchmarkError as error:
            self.failed.append(f"{where}: {error}")
            return {}

    def _further_starts(self, target: Target) -> list[float]:
        """A start is short and scatters: the gateway is started more often than once a round."""
        seconds = []
        for _ in range(GATEWAY_STARTS - 1):
            with started(self.bench, target, self.folder) as subject:
                assert subject.start_seconds is not None
                seconds.append(subject.start_seconds)
        return seconds


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
