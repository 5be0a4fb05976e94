"""How a stage tells how far it is: JSON lines from the stage's process to the one that draws the bars."""

import json
import os
from dataclasses import asdict, dataclass
from typing import Protocol, Self


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


class Reporter(Protocol):
    """Takes reports."""

    def __call__(self, report: Report) -> None:
        """Take one report."""


class PipeReporter:
    """Writes each report as one JSON line to a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def to(cls, place: str) -> Self:
        """To an open descriptor by its number, or to a named pipe, which a launcher's processes can open too."""
        return cls(int(place) if place.isdigit() else os.open(place, os.O_WRONLY))

    def __call__(self, report: Report) -> None:
        """Write one line."""
        os.write(self._descriptor, json.dumps(asdict(report)).encode() + b"\n")


def parse_report(line: str) -> Report:
    """The report of one line."""
    return Report(**json.loads(line))


def silent(report: Report) -> None:
    """Take a report and drop it."""
