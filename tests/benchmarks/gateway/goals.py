"""What the gateway is to reach: each goal's figure from the rounds, its target and its floor.

A ratio is taken within each round, the two sides measured minutes apart at most; the figure is the median over the
rounds, shown with the smallest and the largest.
"""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from benchmarks.gateway.measure import Figures
from benchmarks.gateway.targets import DIRECT, GATEWAY, OTHER_PYTHON, PLAIN

Round = dict[str, Figures]
"""Figures by router's name."""

Figure = Callable[[Round, str], float | None]
"""The figure of the router of that name in a round."""

Verdict = Literal["target", "floor", "MISSED", "not measured"]


@dataclass(frozen=True)
class Goal:
    """One line of the table. `most` means that smaller is better."""

    router: str
    row: str
    what: str
    unit: str
    most: bool
    target: float | None
    floor: float
    figure: Figure


@dataclass(frozen=True)
class Judged:
    """A goal with what was measured."""

    goal: Goal
    values: tuple[float, ...]
    verdict: Verdict

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None


def judge(goal: Goal, rounds: Iterable[Round]) -> Judged:
    """The goal's figure in each round that has it, and how its median compares."""
    values = tuple(value for measured in rounds if (value := goal.figure(measured, goal.router)) is not None)
    if not values:
        return Judged(goal, values, "not measured")
    return Judged(goal, values, _verdict(goal, statistics.median(values)))


def _verdict(goal: Goal, value: float) -> Verdict:
    def reached(limit: float) -> bool:
        return value <= limit if goal.most else value >= limit

    if goal.target is not None and reached(goal.target):
        return "target"
    return "floor" if reached(goal.floor) else "MISSED"


def _own(key: str) -> Figure:
    return lambda measured, name: measured.get(name, {}).get(key)


def _against(other: str, key: str) -> Figure:
    """The gateway's figure divided by the other's of the same round."""

    def figure(measured: Round, name: str) -> float | None:
        mine, its = measured.get(name, {}).get(key), measured.get(other, {}).get(key)
        return mine / its if mine is not None and its else None

    return figure


def _added(key: str) -> Figure:
    """What the gateway adds to asking the stub directly."""

    def figure(measured: Round, name: str) -> float | None:
        mine, its = measured.get(name, {}).get(key), measured.get(DIRECT, {}).get(key)
        return mine - its if mine is not None and its is not None else None

    return figure


ROUTER = "vllm-router"
_LINES: tuple[tuple[str, str, str, Literal[">=", "<="], float | None, float, Figure], ...] = (
    ("requests", "answers/s, 64 connections", f"× {ROUTER}", ">=", 1.0, 0.8, _against(ROUTER, "rps_64")),
    ("requests", "… against LiteLLM", "× litellm", ">=", None, 80, _against("litellm", "rps_64")),
    ("requests", "CPU a request, 64 connections", f"× {ROUTER}", "<=", 1.0, 1.3, _against(ROUTER, "cpu_us_64")),
    ("requests", "CPU a request, 1 connection", f"× {ROUTER}", "<=", 1.0, 1.3, _against(ROUTER, "cpu_us_1")),
    ("streams", "CPU a chunk, 64 at 5 ms", f"× {ROUTER}", "<=", 1.2, 1.4, _against(ROUTER, "cpu_us_chunk_64")),
    ("streams", "chunks delivered, 64 at 5 ms", "× direct", ">=", 0.99, 0.99, _against(DIRECT, "chunks_s_64")),
    ("streams", "p99 of the gap, 64 at 5 ms", "× direct", "<=", 1.05, 1.15, _against(DIRECT, "gap_p99_ms_64")),
    ("first-token", "added to first token, 32 at once, p50", "ms", "<=", 2, 4, _added("first_p50_ms")),
    ("first-token", "added to first token, 32 at once, p99", "ms", "<=", None, 10, _added("first_p99_ms")),
    ("leaving", "client gone → aborted, not streamed, slowest", "ms", "<=", 5, 50, _own("left_whole_max_ms")),
    ("leaving", "client gone → aborted, streamed, slowest", "ms", "<=", 5, 50, _own("left_streamed_max_ms")),
    ("leaving", "client gone, never noticed, not streamed", "", "<=", 0, 0, _own("left_whole_never")),
    ("leaving", "client gone, never noticed, streamed", "", "<=", 0, 0, _own("left_streamed_never")),
    ("memory", "resident memory after load", "MB", "<=", 60, 80, _own("memory_mb")),
    ("start", "start to first answer", "s", "<=", 0.6, 1, _own("start_s")),
    ("hold", "streams held open at once", "", ">=", 5000, 5000, _own("held")),
    ("hold", "of these dropped", "", "<=", 0, 0, _own("held_dropped")),
    ("hold", "of these silent for 5 s at the end", "", "<=", 0, 0, _own("held_silent")),
    ("vllm", "tokens/s of a real vLLM, saturated", "× direct", ">=", 0.99, 0.97, _against(DIRECT, "vllm_tokens_s")),
)
GOALS = tuple(
    Goal(router, row, what, unit, sense == "<=", target, floor, figure)
    for router in (GATEWAY, OTHER_PYTHON, PLAIN)
    for row, what, unit, sense, target, floor, figure in _LINES
)
