"""Moments in which the gateway may open no more files: neither its clients' connections nor its engines'."""

import random
import resource
import time
from collections.abc import Callable

PAUSE = (1.0, 5.0)
SECONDS = (0.1, 0.6)
SPARE = 3


class Scarcity:
    """Lowers a process's limit of open files (prlimit(2)) now and then. `step` is called often."""

    def __init__(self, pid: int, descriptors: Callable[[], int], seed: int) -> None:
        self._pid = pid
        self._descriptors = descriptors
        self._dice = random.Random(seed)
        self._before: tuple[int, int] | None = None
        self._due = time.monotonic() + PAUSE[0]
        self.times = 0

    def step(self) -> None:
        """Do what is due."""
        if time.monotonic() < self._due:
            return
        if self._before is not None:
            self.end()
            self._due = time.monotonic() + self._dice.uniform(*PAUSE)
            return
        self._before = resource.prlimit(self._pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self._pid, resource.RLIMIT_NOFILE, (self._descriptors() + SPARE, self._before[1]))
        self.times += 1
        self._due = time.monotonic() + self._dice.uniform(*SECONDS)

    def end(self) -> None:
        """The limit is what it was."""
        if self._before is not None:
            resource.prlimit(self._pid, resource.RLIMIT_NOFILE, self._before)
            self._before = None
