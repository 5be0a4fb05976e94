"""The numbers behind the metrics: plain doubles, in memory of this process or in a file that others read too.

A series (a metric with its label values) has a place: the position of its first double. A place never moves and
is never given to another series, so that whoever holds one may count at any time, also after the series was
removed. What has no room is refused, never an error.
"""

import contextlib
import mmap
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import orjson

from alphatier_server.metrics.merge import (
    ALIVE,
    Labels,
    Merge,
    Series,
    SharedFolder,
    Values,
    index_file,
    numbers_file,
    parsed,
)

CAPACITY = 512 * 1024
"""Doubles: room for some thousand tiers. Memory is taken as it is used."""
RESERVED_BYTES = 64 * 1024
"""How much of a file is reserved at a time."""


class Store:
    """The numbers of this process alone."""

    def __init__(self, capacity: int = CAPACITY, memory: mmap.mmap | None = None) -> None:
        self.numbers: memoryview[float] = memoryview(memory or mmap.mmap(-1, capacity * 8)).cast("d")
        self.series: dict[tuple[str, Labels], Series] = {}
        self._free = ALIVE + 1

    def begin(self, metric: str, merge: Merge, labels: Labels, size: int) -> int | None:
        """The place of a series, which is shown from now on; None where there is no room for it."""
        known = self.series.get((metric, labels))
        if known is not None and known.shown:
            return known.place
        place = known.place if known is not None else self._free
        fresh = Series(metric, merge, labels, place, size, time.monotonic_ns(), shown=True)
        if place + size > len(self.numbers) or not self._note(fresh):
            return None
        self._enter(fresh)
        return place

    def remove(self, metric: str, labels: Labels) -> None:
        """Show the series no more; if it begins again, it goes on from where it was."""
        known = self.series.get((metric, labels))
        if known is not None and known.shown:
            gone = known._replace(noted=time.monotonic_ns(), shown=False)
            self._note(gone)
            self._enter(gone)

    def read(self) -> Values:
        """What every series that is shown is now."""
        found: dict[str, dict[Labels, Sequence[float]]] = {}
        for (metric, labels), series in self.series.items():
            if series.shown:
                values = self.numbers[series.place : series.place + series.size]
                found.setdefault(metric, {})[labels] = values.tolist()
        return found

    def _enter(self, series: Series) -> None:
        self.series[series.metric, series.labels] = series
        self._free = max(self._free, series.place + series.size)

    def _note(self, series: Series) -> bool:
        """Make it known to others. Returns whether there was room for that."""
        return True


class SharedStore(Store):
    """The numbers of one of several processes, in a file of fixed size that goes to the process's successor.

    What a killed process counted is in the file: its memory is the file's. Beside it is an index of its series,
    one line each, only ever appended to. The file is sparse, but a place is reserved before it is given out:
    where a file system is full, writing to memory would end the process (SIGBUS).
    """

    def __init__(self, folder: Path, process: str, capacity: int = CAPACITY) -> None:
        self._file = os.open(numbers_file(folder, process), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, capacity * 8)
        self._reserved = 0
        self._reserve(1)
        super().__init__(capacity, mmap.mmap(self._file, capacity * 8))
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._index = os.open(index_file(folder, process), flags, 0o600)
        self._succeed()
        self._folder = SharedFolder(folder)

    def read(self) -> Values:
        """What all processes together have."""
        return self._folder.read()

    def _succeed(self) -> None:
        """Go on where the process's predecessor ended: with its counters, not with its gauges."""
        written = os.pread(self._index, os.fstat(self._index).st_size, 0)
        whole = written[: written.rfind(b"\n") + 1]
        os.ftruncate(self._index, len(whole))  # the predecessor may have died while it wrote the last line
        for series in parsed(whole):
            self._enter(series)
            if series.merge != "sum":
                for place in range(series.place, series.place + series.size):
                    self.numbers[place] = 0.0
        self.numbers[ALIVE] = 1.0

    def _note(self, series: Series) -> bool:
        size = os.fstat(self._index).st_size
        line = orjson.dumps(tuple(series), option=orjson.OPT_APPEND_NEWLINE)
        try:
            self._reserve(series.place + series.size)
            if os.write(self._index, line) == len(line):
                return True
        except OSError:
            return False
        with contextlib.suppress(OSError):
            os.ftruncate(self._index, size)
        return False

    def _reserve(self, places: int) -> None:
        """Make sure that so many can be written. Raises OSError."""
        needed = -(-places * 8 // RESERVED_BYTES) * RESERVED_BYTES
        if needed > self._reserved and sys.platform == "linux":
            os.posix_fallocate(self._file, 0, min(needed, os.fstat(self._file).st_size))
        self._reserved = max(needed, self._reserved)
