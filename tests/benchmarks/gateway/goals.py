"""What the gateway is to reach: each goal's figure from the rounds, its target and its floor.

A ratio is taken within each round, the two sides measured minutes apart at most; the figure is the median over the
rounds, shown with the smallest and the largest.
"""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from benchmarks.gateway.measure import Figures
from benchmarks.gateway.targets import DIRECT, GATEWAY

Round = dict[str, Figures]
"""Figures by router's name."""

PRODUCTION_STACK_RPS = 1068
"""Chat completions a second at 64 connections of vLLM's production-stack router on one core, as measured for this
project's reference figures on a 2-core machine; it is not on the package index, so it is no peer here."""

Verdict = Literal["target", "floor", "MISSED", "not measured"]


@dataclass(frozen=True)
class Goal:
    """One line of the table. `most` means that smaller is better."""

    row: str
    what: str
    unit: str
    most: bool
    target: float | None
    floor: float
    figure: Callable[[Round], float | None]


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
    values = tuple(value for measured in rounds if (value := goal.figure(measured)) is not None)
    if not values:
        return Judged(goal, values, "not measured")
    return Judged(goal, values, _verdict(goal, statistics.median(values)))


def _verdict(goal: Goal, value: float) -> Verdict:
    def reached(limit: float) -> bool:
        return value <= limit if goal.most else value >= limit

    if goal.target is not None and reached(goal.target):
        return "target"
    return "floor" if reached(goal.floor) else "MISSED"


def _own(key: str) -> Callable[[Round], float | None]:
    return lambda measured: measured.get(GATEWAY, {}).get(key)


def _against(other: str, key: str) -> Callable[[Round], float | None]:
    """The gateway's figure divided by the other's of the same round."""

    def figure(measured: Round) -> float | None:
        mine, its = measured.get(GATEWAY, {}).get(key), measured.get(other, {}).get(key)
        return mine / its if mine is not None and its else None

    return figure


def _added(key: str) -> Callable[[Round], float | None]:
    """What the gateway adds to asking the stub directly."""

    def figure(measured: Round) -> float | None:
        mine, its = measured.get(GATEWAY, {}).get(key), measured.get(DIRECT, {}).get(key)
        return mine - its if mine is not None and its is not None else None

    return figure


def _goal(
    row: str,
    what: str,
    unit: str,
    sense: Literal[">=", "<="],
    target: float | None,
    floor: float,
    figure: Callable[[Round], float | None],
) -> Goal:
    return Goal(row, what, unit, sense == "<=", target, floor, figure)


ROUTER = "vllm-router"
GOALS = (
    _goal(
        "requests", "chat completions/s, 64 connections", f"× {ROUTER}", ">=", 1.0, 0.85, _against(ROUTER, "rps_64")
    ),
    _goal(
        "requests",
        "… against production-stack's recorded figure",
        "/s",
        ">=",
        None,
        10 * PRODUCTION_STACK_RPS,
        _own("rps_64"),
    ),
    _goal("requests", "… against LiteLLM", "× litellm", ">=", None, 80, _against("litellm", "rps_64")),
    _goal(
        "requests", "CPU per request, 64 connections", f"× {ROUTER}", "<=", 1.0, 1.25, _against(ROUTER, "cpu_us_64")
    ),
    _goal(
        "streams",
        "CPU per chunk, 64 streams at 5 ms",
        f"× {ROUTER}",
        "<=",
        1.0,
        1.3,
        _against(ROUTER, "cpu_us_chunk_64"),
    ),
    _goal("streams", "chunks delivered, 64 at 5 ms", "× direct", ">=", 0.99, 0.99, _against(DIRECT, "chunks_s_64")),
    _goal("streams", "p99 of the gap, 64 at 5 ms", "× direct", "<=", 1.05, 1.15, _against(DIRECT, "gap_p99_ms_64")),
    _goal("first-token", "added time to first token, 32 at once, p50", "ms", "<=", 2, 4, _added("first_p50_ms")),
    _goal("first-token", "added time to first token, 32 at once, p99", "ms", "<=", None, 10, _added("first_p99_ms")),
    _goal("leaving", "client gone → aborted, not streamed, slowest", "ms", "<=", 5, 50, _own("left_whole_max_ms")),
    _goal("leaving", "client gone → aborted, streamed, slowest", "ms", "<=", 5, 50, _own("left_streamed_max_ms")),
    _goal("leaving", "client gone, never noticed, not streamed", "", "<=", 0, 0, _own("left_whole_never")),
    _goal("leaving", "client gone, never noticed, streamed", "", "<=", 0, 0, _own("left_streamed_never")),
    _goal("memory", "resident memory after load", "MB", "<=", 60, 80, _own("memory_mb")),
    _goal("start", "start to first answer", "s", "<=", 0.6, 1, _own("start_s")),
    _goal("hold", "streams held open at once", "", ">=", 5000, 2000, _own("held")),
    _goal("hold", "of these dropped", "", "<=", 0, 0, _own("held_dropped")),
    _goal("hold", "of these silent for 5 s at the end", "", "<=", 0, 0, _own("held_silent")),
    _goal(
        "vllm",
        "tokens/s of a real vLLM under saturation",
        "× direct",
        ">=",
        0.99,
        0.97,
        _against(DIRECT, "vllm_tokens_s"),
    ),
)
