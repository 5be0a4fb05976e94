"""The tables on the terminal, and the same as one JSON object."""

import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.gateway.goals import Judged, Round

Columns = dict[str, tuple[str, str]]
"""Heading -> key of the figure and its format."""

TABLES: dict[str, tuple[str, Columns]] = {
    "requests": (
        "Not streamed: a second, p50 / p99 in ms, CPU in µs an answer",
        {
            "1 conn. /s": ("rps_1", ",.0f"),
            "p50": ("p50_ms_1", ".3f"),
            "p99": ("p99_ms_1", ".3f"),
            "16 conn. /s": ("rps_16", ",.0f"),
            "p50 ": ("p50_ms_16", ".2f"),
            "p99 ": ("p99_ms_16", ".2f"),
            "64 conn. /s": ("rps_64", ",.0f"),
            "p50  ": ("p50_ms_64", ".2f"),
            "p99  ": ("p99_ms_64", ".2f"),
            "CPU at 1": ("cpu_us_1", ".1f"),
            "CPU at 16": ("cpu_us_16", ".1f"),
            "CPU at 64": ("cpu_us_64", ".1f"),
            "failed": ("failed_64", ".0f"),
        },
    ),
    "streams": (
        "Streamed, paced: chunks a second, p99 of the gap in ms, CPU in µs a chunk",
        {
            "64 at 5 ms /s": ("chunks_s_64", ",.0f"),
            "gap p99": ("gap_p99_ms_64", ".2f"),
            "CPU": ("cpu_us_chunk_64", ".1f"),
            "32 at 10 ms /s": ("chunks_s_32", ",.0f"),
            "gap p99 ": ("gap_p99_ms_32", ".2f"),
            "CPU ": ("cpu_us_chunk_32", ".1f"),
            "broken": ("broken_streams_64", ".0f"),
        },
    ),
    "first-token": (
        "Time to first event of 32 streams that start at once, ms",
        {"p50": ("first_p50_ms", ".2f"), "p99": ("first_p99_ms", ".2f")},
    ),
    "leaving": (
        "Client gone → the engine's connection closed, ms",
        {
            "not streamed": ("left_whole", ".0f"),
            "p50": ("left_whole_p50_ms", ".2f"),
            "max": ("left_whole_max_ms", ".2f"),
            "never": ("left_whole_never", ".0f"),
            "streamed": ("left_streamed", ".0f"),
            "p50 ": ("left_streamed_p50_ms", ".2f"),
            "max ": ("left_streamed_max_ms", ".2f"),
            "never ": ("left_streamed_never", ".0f"),
        },
    ),
    "memory": ("Resident memory after load, MB of 10^6 bytes", {"MB": ("memory_mb", ".1f")}),
    "start": ("exec to the first answer, s", {"s": ("start_s", ".3f")}),
    "hold": (
        "Streams open at once, a token a second each",
        {
            "open": ("held", ".0f"),
            "at the engine": ("held_at_engine", ".0f"),
            "dropped": ("held_dropped", ".0f"),
            "silent for 5 s": ("held_silent", ".0f"),
            "longest gap ms": ("held_gap_max_ms", ".0f"),
            "kB a stream": ("held_kb_each", ".1f"),
        },
    ),
    "vllm": ("A real vLLM under saturation", {"tokens/s": ("vllm_tokens_s", ",.0f")}),
}


def print_tables(console: Console, rounds: Sequence[Round]) -> None:
    """A table a row group, a line a router: medians over the rounds."""
    names = list(dict.fromkeys(name for measured in rounds for name in measured))
    for title, columns in TABLES.values():
        table = Table(title=title, title_justify="left", title_style="bold")
        table.add_column("router")
        for heading in columns:
            table.add_column(heading.strip(), justify="right")
        for name in names:
            cells = [_median(rounds, name, key, form) for key, form in columns.values()]
            if any(cells):
                table.add_row(name, *cells)
        if table.row_count:
            console.print(table)


def _median(rounds: Sequence[Round], name: str, key: str, form: str) -> str:
    values = [measured[name][key] for measured in rounds if key in measured.get(name, {})]
    return format(statistics.median(values), form) if values else ""


def print_goals(console: Console, judged: Sequence[Judged]) -> None:
    """Target and floor of each goal, and what the medians reach; a table a way of running the gateway."""
    for router in dict.fromkeys(each.goal.router for each in judged):
        title = f"Goals of {router}: median over the rounds (smallest to largest)"
        table = Table(title=title, title_justify="left", title_style="bold")
        for heading in ("what", "unit", "measured", "target", "floor", "reached"):
            table.add_column(heading, justify="left" if heading in ("what", "unit", "reached") else "right")
        for each in judged:
            if each.goal.router == router:
                table.add_row(*_goal_cells(each))
        console.print(table)


def _goal_cells(judged: Judged) -> list[str]:
    goal, sign = judged.goal, "≤" if judged.goal.most else "≥"
    measured = (
        "" if judged.median is None else f"{judged.median:,.4g} ({min(judged.values):,.4g}–{max(judged.values):,.4g})"
    )
    target = "" if goal.target is None else f"{sign} {goal.target:,g}"
    style = {"target": "green", "floor": "yellow", "MISSED": "bold red", "not measured": "dim"}[judged.verdict]
    return [goal.what, goal.unit, measured, target, f"{sign} {goal.floor:,g}", f"[{style}]{judged.verdict}[/]"]


def as_json(
    rounds: Sequence[Round], judged: Sequence[Judged], versions: dict[str, str], notes: Sequence[str]
) -> dict[str, Any]:
    """Everything measured, for scripts."""
    return {
        "machine": machine(),
        "versions": versions,
        "notes": list(notes),
        "rounds": list(rounds),
        "goals": [
            {
                "router": each.goal.router,
                "row": each.goal.row,
                "what": each.goal.what,
                "unit": each.goal.unit,
                "median": each.median,
                "rounds": list(each.values),
                "target": each.goal.target,
                "floor": each.goal.floor,
                "smaller_is_better": each.goal.most,
                "reached": each.verdict,
            }
            for each in judged
        ],
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": model[0].partition(": ")[2] if model else platform.machine(),
        "cores": psutil.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
