"""Progress of stages in the terminal: a bar with time left for each; plain lines where there is no terminal."""

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from alphatier_training.run.reporting import Report

LINE_SECONDS = 20.0
"""Without a terminal, a stage says how far it is at most this often."""


class Display:
    """Takes reports, from any thread, and shows them; a context manager."""

    def __init__(self, stages: Sequence[str], console: Console) -> None:
        self._console = console
        self._bars = _bars(console) if console.is_terminal else None
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        if self._bars is not None:
            self._tasks = {stage: self._bars.add_task(stage, total=None, start=False, note="") for stage in stages}

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, report: Report) -> None:
        """Show one report."""
        with self._lock:
            if report.warning:
                self._console.print(f"{report.stage}: {report.note}", style="yellow", highlight=False)
            if self._bars is not None:
                self._advance(self._bars, report)
            elif not report.warning:
                self._say(report)

    def already_done(self, stage: str) -> None:
        """Show that a stage was finished by an earlier run."""
        self(Report(stage, 1, 1, note="done before", finished=True))

    def _advance(self, bars: Progress, report: Report) -> None:
        task = self._tasks[report.stage]
        if not bars.tasks[task].started:
            bars.start_task(task)
        if report.finished:
            total = bars.tasks[task].total or 1
            bars.update(task, total=total, completed=total, note=report.note or bars.tasks[task].fields["note"])
            bars.stop_task(task)
        else:
            bars.update(task, total=report.total or None, completed=report.done, note=report.note)

    def _say(self, report: Report) -> None:
        now = time.monotonic()
        if report.finished:
            self._console.print(f"{report.stage}: {report.note or 'done'}")
        elif now - self._said.get(report.stage, -LINE_SECONDS) >= LINE_SECONDS:
            if report.total:
                self._said[report.stage] = now
            steps = f"{report.done} of {report.total} {report.unit}, " if report.unit else ""
            self._console.print(f"{report.stage}: {steps}{report.note}")


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<20}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
