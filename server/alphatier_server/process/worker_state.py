"""What the parent knows of one worker: the process that it is now, what it said, how often it died."""

import asyncio
import contextlib
import math
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from alphatier_server.process.link import Link

STEADY_SECONDS = 10.0
"""A worker that lived so long did not fail at its start."""
FAILURES_IN_A_ROW = 5

Busy = dict[str, dict[str, int]]
"""Replica -> the engine's model name -> requests in flight."""


@dataclass
class Worker:
    """One worker: its number, its listener, and the process that is it now."""

    index: int
    listener: socket.socket
    process: asyncio.subprocess.Process | None = None
    link: Link | None = None
    snapshot: int = -1
    """The number of the last one that the worker has taken over."""
    in_flight: Busy = field(default_factory=dict)
    began: float = 0.0
    failures: int = 0
    """Deaths in a row, none of them after a steady life."""
    reminded: float = -math.inf

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def is_failing(self) -> bool:
        """Whether it dies again and again, and does not live steadily now."""
        return self.failures >= FAILURES_IN_A_ROW and not (self.link is not None and self._is_steady)

    @property
    def _is_steady(self) -> bool:
        return time.monotonic() - self.began > STEADY_SECONDS

    def died(self) -> None:
        self.failures = 1 if self._is_steady else self.failures + 1

    def send(self, message: dict[str, Any]) -> None:
        if self.link is not None:
            self.link.send(message)

    def kill(self) -> None:
        if self.process is not None and self.runs:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    def take(self, message: dict[str, Any]) -> None:
        if "busy" in message:
            self.in_flight = message["busy"]
            self.snapshot = message["snapshot"]

    def busy(self, name: str, model: str | None, newest: int) -> int:
        """Requests that it has open; one at least as long as it may not know the `newest` snapshot."""
        if self.link is None:
            return 0
        models = self.in_flight.get(name, {})
        known = sum(models.values()) if model is None else models.get(model, 0)
        return known if self.snapshot >= newest else max(1, known)

    def begin(self, process: asyncio.subprocess.Process, link: Link) -> None:
        self.process, self.link = process, link
        self.snapshot = -1
        self.in_flight = {}
