"""How far a run is: reports from the stages' processes, and who is shown them.

A report is a JSON line to the process that draws a bar for each stage, with the time left, or prints plain lines
where there is no terminal. TensorBoard gets the trainer's own figures where it is installed, W&B where asked for.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from alphatier_training.errors import TrainingError

LINE_SECONDS = 20.0
"""Without a terminal, a stage says how far it is at most this often."""

_WANDB = "ALPHATIER_WANDB"


@dataclass(frozen=True)
class Report:
    """How far a stage is."""

    stage: str
    done: int
    total: int
    unit: str = ""
    note: str = ""
    finished: bool = False
    """Whether the stage's outputs are complete, not only its steps."""
    warning: bool = False
    """Whether the note is something that a person should see, however much else is shown."""
    failed: bool = False
    """Whether the stage has failed, and the note says why in words for a person."""


Reporter = Callable[[Report], None]
"""Takes reports."""


def silent(report: Report) -> None:
    """Take a report and drop it."""


def reporter_to(descriptor: int) -> Reporter:
    """Writes each report as one JSON line to an open file descriptor."""

    def tell(report: Report) -> None:
        os.write(descriptor, json.dumps(asdict(report)).encode() + b"\n")

    return tell


def parse_report(line: bytes) -> Report | None:
    """The report of one line; None where it is something else that was printed."""
    try:
        return Report(**json.loads(line))
    except (ValueError, TypeError):
        return None


class Display(Progress):
    """Takes reports and shows them; a context manager, in which bars are drawn where there is a terminal."""

    def __init__(self, stages: Sequence[str], console: Console) -> None:
        """A bar a stage, which starts with its first report."""
        columns = (*self.get_default_columns(), TimeElapsedColumn(), TextColumn("{task.fields[note]}", markup=False))
        super().__init__(*columns, console=console, disable=not console.is_terminal)
        self._bars = {stage: self.add_task(stage, total=None, start=False, note="") for stage in stages}
        self._said: dict[str, float] = {}

    def __call__(self, report: Report) -> None:
        """Show one report."""
        if report.warning:
            self.console.print(f"{report.stage}: {report.note}", style="yellow", highlight=False, markup=False)
        if self.console.is_terminal:
            self._draw(report)
        elif not report.warning:
            self._say(report)

    def _draw(self, report: Report) -> None:
        bar = self._bars[report.stage]
        task = self.tasks[bar]
        if not task.started:
            self.start_task(bar)
        if report.finished:
            total = task.total or 1
            self.update(bar, total=total, completed=total, note=report.note or task.fields["note"])
            self.stop_task(bar)
        else:
            self.update(bar, total=report.total or None, completed=report.done, note=report.note)

    def _say(self, report: Report) -> None:
        now = time.monotonic()
        if report.finished:
            self.console.print(f"{report.stage}: {report.note or 'done'}", markup=False)
        elif now - self._said.get(report.stage, -LINE_SECONDS) >= LINE_SECONDS:
            if report.total:
                self._said[report.stage] = now
            steps = f"{report.done} of {report.total} {report.unit}, " if report.unit else ""
            self.console.print(f"{report.stage}: {steps}{report.note}", markup=False)


def log_to_wandb() -> None:
    """Have the runs started from here log to Weights & Biases; WANDB_PROJECT, WANDB_API_KEY and so on say where.

    Raises:
        TrainingError: it is not installed.
    """
    if find_spec("wandb") is None:
        raise TrainingError(
            "--wandb: Weights & Biases is not installed. Run `pip install wandb`, or leave --wandb out."
        )
    os.environ[_WANDB] = "1"


def watchers() -> list[str]:
    """The names of the trainer's own loggers."""
    return ["tensorboard"] * bool(find_spec("tensorboard")) + ["wandb"] * bool(os.environ.get(_WANDB))


def forget_after(folder: Path, step: int) -> None:
    """Have TensorBoard forget what a run that was killed logged into `folder` after the `step` it goes on from."""
    if find_spec("tensorboard") and folder.is_dir():
        from torch.utils.tensorboard import SummaryWriter

        SummaryWriter(str(folder), purge_step=step + 1).close()
