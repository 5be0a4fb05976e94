"""How a stage tells how far it is: JSON lines from the stage's process to the one that draws the bars."""

import json
import os
from dataclasses import asdict, dataclass
from typing import Protocol


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


class Reporter(Protocol):
    """Takes reports."""

    def __call__(self, report: Report) -> None:
        """Take one report."""


class PipeReporter:
    """Writes each report as one JSON line to a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self, report: Report) -> None:
        """Write one line."""
        os.write(self._descriptor, json.dumps(asdict(report)).encode() + b"\n")


def parse_report(line: str) -> Report:
    """The report of one line."""
    return Report(**json.loads(line))


def silent(report: Report) -> None:
    """Take a report and drop it."""
